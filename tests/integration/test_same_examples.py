"""Pins that every step sees the same examples and every resume the same bits, however often a run
is stopped and whoever builds the batches. `pytest tests/integration/test_same_examples.py`."""

from __future__ import annotations

import os
import random
import signal
from collections.abc import Callable
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from bert_scratch.pretraining import run
from bert_scratch.pretraining.pretrain import pretrain
from bert_scratch.pretraining.pretrain_config import PretrainConfig
from bert_scratch.training.checkpoint import checkpoint_folders, step_of
from bert_scratch.training.interruption import Interrupted
from bert_scratch.training.loop import train
from bert_scratch.training.step import Updater

MakeSettings = Callable[..., PretrainConfig]


class Record:
    """What each update was made from, by step; and where a signal arrives."""

    def __init__(self) -> None:
        self.examples: dict[int, list[list[int]]] = {}
        self.rates: dict[int, float] = {}
        self.losses: dict[int, list[float]] = {}
        self.stop_after: int | None = None

    def update(self, updater: Any, batch: Any, **options: Any) -> Any:
        step, rate = options["step"], options["learning_rate"]
        ids = batch.example_ids.tolist()
        assert self.examples.setdefault(step, ids) == ids
        assert self.rates.setdefault(step, rate) == rate
        made = updater.update(batch, **options)

        def recorded_result() -> Any:
            result = made.result()
            assert self.losses.setdefault(step, result.sums) == result.sums
            if step == self.stop_after:
                os.kill(os.getpid(), signal.SIGTERM)
            return result

        return SimpleNamespace(result=recorded_result)


@pytest.fixture
def record(monkeypatch: pytest.MonkeyPatch) -> Record:
    recorded = Record()

    def recorded_train(updater: Updater[Any], **options: Any) -> None:
        recording = SimpleNamespace(
            model=updater.model,
            objective=updater.objective,
            runtime=updater.runtime,
            update=partial(recorded.update, updater),
        )
        train(recording, **options)

    monkeypatch.setattr(run, "train", recorded_train)
    return recorded


def bits(asked: PretrainConfig) -> list[bytes]:
    newest = checkpoint_folders(Path(str(asked.output_dir)) / "checkpoints")[-1]
    return [(newest / name).read_bytes() for name in ("model.safetensors", "optimizer.safetensors")]


@pytest.mark.parametrize("workers", [0, pytest.param(2, marks=pytest.mark.slow)])
def test_examples_rates_and_losses_of_every_step_are_equal_over_five_resumes(
    workers: int, settings: MakeSettings, record: Record
) -> None:
    # 12 steps of 8 examples are within one epoch: the corpus gives more than 96.
    through = settings("through", hidden_dropout_prob=0.1)
    pretrain(through)
    examples = [tuple(example) for ids in record.examples.values() for example in ids]
    assert len(record.examples) == 12 and len(set(examples)) == len(examples)
    assert {epoch for epoch, _ in examples} == {0}
    stopped = settings("stopped", hidden_dropout_prob=0.1, num_workers=workers)
    for step in sorted(random.Random(3).sample(range(11), 5)):
        record.stop_after = step
        with pytest.raises(Interrupted):
            pretrain(stopped)
    record.stop_after = None
    pretrain(stopped)
    assert bits(stopped) == bits(through)


@pytest.mark.parametrize(
    "how", [{"optimizer": "muon"}, pytest.param({"compile": True}, marks=pytest.mark.slow)]
)
def test_other_ways_to_make_a_step_resume_to_the_same_bits(
    how: dict[str, object], settings: MakeSettings, record: Record
) -> None:
    through, stopped = (
        settings(name, hidden_dropout_prob=0.1, **how) for name in ("through", "stopped")
    )
    pretrain(through)
    record.stop_after = 7
    with pytest.raises(Interrupted):
        pretrain(stopped)
    record.stop_after = None
    pretrain(stopped)
    assert bits(stopped) == bits(through)


def test_time_limited_run_stopped_before_its_horizon_is_stored_starts_again(
    settings: MakeSettings, record: Record
) -> None:
    asked = settings(num_train_steps=None, max_train_seconds=1.0, num_warmup_steps=6)
    record.stop_after = 2
    with pytest.raises(Interrupted, match="starts over"):
        pretrain(asked)
    assert checkpoint_folders(Path(str(asked.output_dir)) / "checkpoints") == []
    record.stop_after = None
    result = pretrain(asked)
    assert result is not None and result.num_train_steps > 6
    assert sorted(record.examples) == list(range(result.num_train_steps))


def test_time_limited_run_stopped_after_a_checkpoint_before_its_horizon_says_that_it_goes_on(
    settings: MakeSettings, record: Record
) -> None:
    asked = settings(num_train_steps=None, max_train_seconds=1.0, num_warmup_steps=6, save_steps=1)
    record.stop_after = 2
    with pytest.raises(Interrupted, match="run the same command again to resume"):
        pretrain(asked)
    newest = checkpoint_folders(Path(str(asked.output_dir)) / "checkpoints")[-1]
    first = step_of(newest)
    record.examples.clear()
    record.stop_after = None
    result = pretrain(asked)
    assert result is not None
    assert sorted(record.examples) == list(range(first, result.num_train_steps))


def test_stop_within_an_evaluation_changes_nothing(
    settings: MakeSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    from bert_scratch.pretraining import run as module

    through, stopped = settings("through"), settings("stopped")
    pretrain(through)
    real, calls = module.evaluation_sums, 0

    def evaluated(model: Any, batches: Any, **options: Any) -> list[float]:
        nonlocal calls
        calls += 1
        if calls == 2:  # the one after step 6, half-way
            os.kill(os.getpid(), signal.SIGTERM)
        return real(model, batches, **options)

    monkeypatch.setattr(module, "evaluation_sums", evaluated)
    with pytest.raises(Interrupted, match="after 6 steps"):
        pretrain(stopped)
    pretrain(stopped)
    assert bits(stopped) == bits(through)
    logs = [(Path(str(c.output_dir)) / "metrics.jsonl") for c in (through, stopped)]
    steps = [[line.split(", ")[:3] for line in log.read_text().splitlines()] for log in logs]
    assert steps[0] == steps[1]


def test_best_model_is_the_result_when_the_last_is_worse(
    settings: MakeSettings, capsys: pytest.CaptureFixture[str]
) -> None:
    # A rate at which the loss on this corpus falls first and then blows up.
    asked = settings(num_train_steps=60, eval_steps=5, learning_rate=2.0, lr_schedule="wsd",
                     lr_decay_share=0.01, max_grad_norm=0.0, num_warmup_steps=59)  # fmt: skip
    pretrain(asked)
    folder = Path(str(asked.output_dir))
    out = capsys.readouterr().out
    assert "best       keeping the model of step" in out
    result, best = (folder / name / "model.safetensors" for name in ("model", "best"))
    assert result.read_bytes() == best.read_bytes()
    assert "the lowest held-out loss" in (folder / "model" / "README.md").read_text()
