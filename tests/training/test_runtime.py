"""Pins the arithmetic count of a step, seeds, and what device and dtype are taken.
CPU only: `pytest tests/training/test_runtime.py`."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from bert_scratch.config import BertConfig, InputError
from bert_scratch.model.devices import resolve_device, resolve_dtype
from bert_scratch.training.runtime import (
    Runtime,
    measure_peak_flops_per_s,
    seed_dropout,
    seed_for,
    set_up,
    train_flops_per_token,
)


@pytest.mark.parametrize(
    ("preset", "seq_length", "predicted", "millions"),
    [
        ("base", 128, 1.0, 668.0),
        ("base", 128, 0.15, 545.4 - 0.85 * 31.85),
        ("base", 512, 0.15, 587.9 - 0.85 * 31.85),
        ("large", 512, 0.3, 2021.1 - 0.7 * 56.62),
        ("mini", 128, 0.15, 27.5 - 0.85 * 3.54),
        ("tiny", 128, 0.15, 6.3 - 0.85 * 0.88),
    ],
)
def test_operations_of_a_token_are_the_published_ones_less_those_left_out_of_the_last_layer(
    preset: str, seq_length: int, predicted: float, millions: float
) -> None:
    config = BertConfig.preset(preset, vocab_size=30528)
    flops = train_flops_per_token(config, seq_length=seq_length, masked_lm_prob=predicted)
    assert flops / 1e6 == pytest.approx(millions, abs=0.06)


def test_seed_is_a_function_of_its_parts_alone() -> None:
    assert seed_for("weights", 42) == seed_for("weights", 42)
    assert len({seed_for("a", 12), seed_for("a", 1, 2), seed_for("b", 12)}) == 3
    assert 0 <= seed_for("x") < 2**63


def test_dropout_seed_differs_between_steps_micro_steps_and_ranks() -> None:
    draws = set()
    for step, micro_step, rank in ((0, 0, 0), (1, 0, 0), (0, 1, 0), (0, 0, 1)):
        seed_dropout(42, step=step, micro_step=micro_step, rank=rank)
        draws.add(torch.rand(()).item())
    assert len(draws) == 4


def test_dropout_seed_fixes_what_is_drawn() -> None:
    torch.manual_seed(seed_for("dropout", 42, 1, 2, 3))
    expected = torch.rand(5)
    seed_dropout(42, step=1, micro_step=2, rank=3)
    assert torch.equal(torch.rand(5), expected)


@pytest.mark.parametrize("name", ["gpu", "cuda:99", "mps"])
def test_device_that_is_not_there_is_refused(name: str) -> None:
    with pytest.raises(InputError, match="--device"):
        resolve_device(name)


def test_dtype_that_is_unknown_is_refused() -> None:
    with pytest.raises(InputError, match="--dtype must be auto, .*; got 'float8'"):
        resolve_dtype("float8", torch.device("cpu"))


def test_automatic_dtype_says_why() -> None:
    dtype, reason = resolve_dtype("auto", torch.device("cpu"))
    assert dtype in ("float32", "bfloat16")
    assert "CPU has" in reason


@pytest.mark.parametrize(
    ("capability", "dtype"), [((7, 5), "float16"), ((8, 0), "bfloat16"), ((9, 0), "bfloat16")]
)
def test_compute_capability_decides_on_a_gpu(
    capability: tuple[int, int], dtype: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _: capability)
    assert resolve_dtype("auto", torch.device("cuda"))[0] == dtype


def test_autocast_computes_in_the_runtime_dtype() -> None:
    runtime = Runtime(device=torch.device("cpu"), dtype=torch.bfloat16, num_threads=1)
    with runtime.autocast():
        assert (torch.ones(2, 2) @ torch.ones(2, 2)).dtype == torch.bfloat16


def test_measured_peak_is_a_plausible_speed() -> None:
    runtime = Runtime(device=torch.device("cpu"), dtype=torch.float32, num_threads=1)
    assert 1e8 < measure_peak_flops_per_s(runtime, budget_s=0.05) < 1e14


def test_the_gpu_that_was_asked_for_is_the_one_that_events_and_seeds_mean(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    chosen: list[torch.device] = []
    monkeypatch.setattr(torch.cuda, "set_device", chosen.append)
    second = Runtime(device=torch.device("cuda:1"), dtype=torch.float32, num_threads=1)
    set_up(second, deterministic=False)
    assert chosen == [torch.device("cuda:1")]
    set_up(replace(second, device=torch.device("cuda")), deterministic=False)  # the current one
    assert len(chosen) == 1
