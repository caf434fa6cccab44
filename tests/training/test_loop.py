"""Pins which updates the loop leaves out, when it saves, and that reading late changes nothing.
CPU only: `pytest tests/training/test_loop.py`."""

from __future__ import annotations

import copy
import json
import time
from collections.abc import Iterator
from dataclasses import replace
from itertools import repeat
from pathlib import Path
from typing import Any

import pytest
import torch

from bert_scratch.batch import Batch
from bert_scratch.model.heads import BertForPreTraining
from bert_scratch.training.interruption import StopRequest
from bert_scratch.training.loop import Hooks, Plan, Progress, settled_step_s, train
from bert_scratch.training.metrics import Display, MetricsLog
from bert_scratch.training.objective import PretrainingObjective
from bert_scratch.training.optimizer import build_optimizer, load_moments, moments
from bert_scratch.training.runtime import Runtime
from bert_scratch.training.step import NonFinite, Updater

PLAN = Plan(
    num_train_steps=10,
    num_warmup_steps=2,
    learning_rate=1e-3,
    lr_schedule="linear",
    logging_steps=100,
    eval_steps=100,
    save_steps=4,
)
RUNTIME = Runtime(device=torch.device("cpu"), dtype=torch.float32, num_threads=1)


class LateRuntime(Runtime):
    """A CPU whose steps are read one step late, as a GPU's are."""

    reads_late = True


LATE = LateRuntime(device=torch.device("cpu"), dtype=torch.float32, num_threads=1)


class InfiniteAt(PretrainingObjective):
    """Multiplies the loss of some steps by infinity."""

    def __init__(self, *steps: int, first: int = 0) -> None:
        self.steps, self.now = steps, first - 1

    def loss(self, *arguments: Any) -> tuple[torch.Tensor, torch.Tensor]:
        self.now += 1
        loss, sums = super().loss(*arguments)
        factor = float("inf") if self.now in self.steps else 1.0
        return loss * factor, sums * factor


class Run:
    def __init__(self, model: BertForPreTraining, batch: Batch, folder: Path) -> None:
        self.model, self.batch, self.folder = model, batch, folder
        self.optimizer = build_optimizer(
            model, learning_rate=0.0, weight_decay=0.1, betas=(0.9, 0.98), epsilon=1e-6,
            bias_correction=True,
        )  # fmt: skip
        self.saved: list[int] = []
        self.measured_step_s: list[float] = []
        self.progress = Progress()
        self.stop = StopRequest()

    def go(self, plan: Plan, objective: PretrainingObjective, runtime: Runtime = RUNTIME) -> None:
        def fix_horizon(_: Progress, step_s: float) -> Plan:
            self.measured_step_s.append(step_s)
            return PLAN

        def batches(_: int) -> Iterator[Batch]:
            return (self.batch for _ in repeat(None))

        train(
            Updater(
                model=self.model,
                optimizer=self.optimizer,
                objective=objective,
                runtime=runtime,
                seed=1,
                micro_batch_size=6,
                max_grad_norm=1.0,
            ),
            plan=plan,
            progress=self.progress,
            hooks=Hooks(
                batches=batches,
                evaluate=lambda _: {},
                on_evaluated=lambda *_: True,
                save=lambda progress: self.saved.append(progress.step),
                fix_horizon=fix_horizon,
            ),
            log=MetricsLog(self.folder / "metrics.jsonl", keep_through_step=-1),
            display=Display(first_step=0),
            stop=self.stop,
            peak_tokens_per_s=1.0,
        )


@pytest.fixture
def run(model: BertForPreTraining, batch: Batch, tmp_path: Path) -> Run:
    return Run(model, batch, tmp_path)


def test_non_finite_update_is_not_made_and_ends_the_run(run: Run) -> None:
    before = {name: p.detach().clone() for name, p in run.model.named_parameters()}
    with pytest.raises(NonFinite, match="step 0"):
        run.go(PLAN, InfiniteAt(0))
    assert all(torch.equal(p, before[name]) for name, p in run.model.named_parameters())


def test_so_many_non_finite_updates_are_left_out_and_said(
    run: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    run.go(replace(PLAN, skip_non_finite=2), InfiniteAt(3, 5))
    assert (run.progress.step, run.progress.skipped) == (10, 2)
    assert "skipped    2 of at most 2 updates: step 5" in capsys.readouterr().out
    assert all(torch.isfinite(p).all() for p in run.model.parameters())
    first = next(iter(run.optimizer.state.values()))
    assert first["step"] == 8


def test_a_time_limit_becomes_steps_by_the_mean_of_the_later_half(run: Run) -> None:
    pauses_s = [0.5, 0.5, 0.5, 0.5, 0.0, 0.08, 0.0, 0.0]

    class Pausing(PretrainingObjective):
        def loss(self, *arguments: Any) -> tuple[torch.Tensor, torch.Tensor]:
            time.sleep(pauses_s.pop(0) if pauses_s else 0.0)
            return super().loss(*arguments)

    run.go(replace(PLAN, num_train_steps=None, num_warmup_steps=8), Pausing())
    (step_s,) = run.measured_step_s
    assert 0.02 < step_s < 0.2
    assert run.progress.step == 10


def test_a_step_that_compiled_does_not_shorten_a_run() -> None:
    seconds = [9.0] * 50 + [0.003] * 49 + [20.0]
    assert settled_step_s(seconds) < 0.01
    assert settled_step_s([1.0, 1.0, 0.1, 0.3]) == pytest.approx(0.2)


def test_one_more_than_allowed_ends_the_run(run: Run) -> None:
    with pytest.raises(NonFinite, match="step 7"):
        run.go(replace(PLAN, skip_non_finite=2), InfiniteAt(3, 5, 7))


def test_resumed_after_a_skip_ends_with_the_same_bits(
    run: Run, model: BertForPreTraining, batch: Batch, tmp_path: Path
) -> None:
    plan = replace(PLAN, skip_non_finite=1)
    resumed = Run(BertForPreTraining(model.config).train(), batch, tmp_path)
    run.go(replace(plan, num_train_steps=6, lr_schedule="wsd"), InfiniteAt(3))
    resumed.model.load_state_dict(run.model.state_dict())
    resumed.progress = replace(run.progress)
    updates = run.progress.step - run.progress.skipped
    saved = moments(run.model, run.optimizer)
    load_moments(resumed.model, resumed.optimizer, saved, num_updates=updates)
    for each in (run, resumed):
        each.go(plan, PretrainingObjective())
    for one, other in zip(run.model.parameters(), resumed.model.parameters(), strict=True):
        assert torch.equal(one, other)


def test_reading_late_changes_neither_weights_nor_log(
    run: Run, model: BertForPreTraining, batch: Batch, tmp_path: Path
) -> None:
    plan = replace(PLAN, logging_steps=3, skip_non_finite=2)
    late = Run(copy.deepcopy(model), batch, tmp_path / "late")
    late.folder.mkdir()
    run.go(plan, InfiniteAt(3, 4))
    late.go(plan, InfiniteAt(3, 4), LATE)
    for one, other in zip(run.model.parameters(), late.model.parameters(), strict=True):
        assert torch.equal(one, other)
    assert late.saved == run.saved == [4, 8, 10]
    for each in (run, late):
        progress = each.progress
        assert (progress.step, progress.skipped, progress.tokens) == (10, 2, 10 * batch.num_tokens)
    timed = ("elapsed_s", "tokens_per_s", "data_wait_fraction", "mfu")
    lines, late_lines = (
        [json.loads(line) for line in (each.folder / "metrics.jsonl").read_text().splitlines()]
        for each in (run, late)
    )
    assert len(lines) == 4
    for line in (*lines, *late_lines):
        for name in timed:
            del line[name]
    assert late_lines == lines


def test_what_is_read_late_reaches_neither_weights_nor_checkpoints(run: Run) -> None:
    with pytest.raises(NonFinite, match="step 4: the update was not made"):
        run.go(PLAN, InfiniteAt(4), LATE)
    assert run.saved == [4] and run.progress.step == 4
    assert all(torch.isfinite(p).all() for p in run.model.parameters())


def test_a_stop_leaves_no_update_unread(run: Run) -> None:
    class StopsAt(PretrainingObjective):
        def loss(self, *arguments: Any) -> tuple[torch.Tensor, torch.Tensor]:
            if run.progress.step == 5:
                run.stop.signal_name = "SIGTERM"
            return super().loss(*arguments)

    run.go(PLAN, StopsAt(), LATE)
    assert run.progress.step == run.progress.window.steps == 6
    assert run.progress.tokens == 6 * run.batch.num_tokens


def test_wsd_run_also_saves_where_its_learning_rate_begins_to_fall(run: Run) -> None:
    plan = replace(PLAN, lr_schedule="wsd", lr_decay_share=0.3)
    assert plan.stable_step == 7
    run.go(plan, PretrainingObjective())
    assert run.saved == [4, 7, 8, 10]


def test_time_goes_on_from_what_a_checkpoint_says(run: Run) -> None:
    run.progress = Progress(elapsed_s=1000.0)
    run.go(PLAN, PretrainingObjective())
    assert 1000.0 < run.progress.elapsed_s < 1100.0


def test_a_checkpoint_waits_for_the_update_before_it(run: Run) -> None:
    with pytest.raises(NonFinite, match="step 3: the update was not made"):
        run.go(PLAN, InfiniteAt(3), LATE)  # what the checkpoint after step 4 would hold
    assert run.saved == []
