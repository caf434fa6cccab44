"""Pins what a profile counts to each part of a step, from events as torch's profiler gives them.
The whole, in a run: tests/integration/test_pretrain.py. Anywhere: `pytest
tests/training/test_profiling.py`."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace as Named

import pytest
import torch
from torch import nn

from bert_scratch.training.profiling import DATA, _spent, _table, profiled
from bert_scratch.training.step import BACKWARD, FORWARD, UPDATE


def event(name: str, start: int, end: int, *kernels: int, inside: int = 0) -> Named:
    """Return an event of the host with the microseconds of its kernels, and of those inside it."""
    return Named(
        name=name,
        device_type=Named(name="CPU"),
        time_range=Named(start=start, end=end),
        cpu_time_total=end - start,
        device_time_total=sum(kernels) + inside,
        kernels=[Named(duration=us) for us in kernels],
    )


EVENTS = [
    event(DATA, 0, 5),
    event(FORWARD, 10, 20, inside=70),
    event("aten::mm", 12, 13, 70),
    event(BACKWARD, 20, 30),  # the kernels are those of autograd's thread
    event("aten::mm", 22, 23, 90),
    event("aten::mul", 24, 25, 40),
    event(UPDATE, 30, 35, inside=20),
    event("aten::_fused_adamw_", 31, 32, 20),
]


def test_backward_on_a_gpu_is_the_time_of_the_kernels_that_were_started_meanwhile() -> None:
    spent = _spent(EVENTS, on_gpu=True)
    assert (spent[FORWARD], spent[BACKWARD], spent[UPDATE]) == (70, 130, 20)
    assert spent[DATA] == 5  # no kernel reads data


def test_on_a_cpu_each_part_is_its_own_time() -> None:
    spent = _spent(EVENTS, on_gpu=False)
    assert [spent[name] for name in (DATA, FORWARD, BACKWARD, UPDATE)] == [5, 10, 10, 5]


def test_what_is_computed_outside_of_an_updates_forward_pass_is_no_part_of_it() -> None:
    attention = "forward: attention"
    events = [*EVENTS, *(event(attention, start, start + 2) for start in (11, 24, 50))]
    spent = _spent(events, on_gpu=False)
    assert spent[attention] == 2  # not what backward computes again, nor an evaluation
    assert spent[FORWARD] == 10


def test_a_compiled_pass_shows_no_parts_that_it_does_not_have() -> None:
    lines = list(_table(_spent(EVENTS, on_gpu=True), num_steps=1, wall_us=300.0))
    assert not any("attention" in line for line in lines)
    assert any(line.startswith(BACKWARD) and "0.13" in line for line in lines)


def run_of(num_steps: int, trace: Path, *, num_profiled: int = 2) -> list[str]:
    """Return what is said when the loop takes this many batches and leaves, as a run does."""
    said: list[str] = []
    batches = profiled(
        iter(range(100)),
        nn.Linear(1, 1),
        num_steps=num_profiled,
        trace=trace,
        device=torch.device("cpu"),
        say=said.append,
    )
    assert [next(batches) for _ in range(num_steps)] == list(range(num_steps))
    batches.close()
    return said


@pytest.mark.parametrize(
    ("num_steps", "found"), [(6, "1 update "), (7, "2 updates "), (20, "2 updates ")]
)
def test_a_run_that_ends_early_is_profiled_as_far_as_it_got(
    num_steps: int, found: str, tmp_path: Path
) -> None:
    said = run_of(num_steps, tmp_path / "trace.json.gz")
    assert f"every event of {found}" in said[-1]
    assert (tmp_path / "trace.json.gz").exists()


@pytest.mark.parametrize("num_steps", [1, 5])
def test_a_run_without_a_profiled_step_says_so_in_a_line(num_steps: int, tmp_path: Path) -> None:
    (line,) = run_of(num_steps, tmp_path / "trace.json.gz")
    assert "nothing was profiled" in line
    assert not (tmp_path / "trace.json.gz").exists()
