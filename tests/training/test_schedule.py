"""Pins the learning rate at every kind of step. Runs anywhere:
`pytest tests/training/test_schedule.py`."""

from __future__ import annotations

import pytest

from bert_scratch.training.schedule import decay_start, learning_rate_at


def rate(
    step: int, *, total: int | None = 100, warmup: int = 10, schedule: str = "linear"
) -> float:
    return learning_rate_at(
        step, peak=1.0, num_warmup_steps=warmup, num_train_steps=total, schedule=schedule
    )


def test_linear_climbs_from_zero_to_the_peak_when_the_warmup_ends() -> None:
    assert [rate(0), rate(5), rate(10)] == [0.0, 0.5, 1.0]


def test_linear_falls_from_the_peak_to_one_step_above_zero() -> None:
    assert rate(55) == 0.5
    assert rate(99) == pytest.approx(1 / 90)
    assert rate(100) == 0.0


def test_linear_equals_hugging_face() -> None:
    torch = pytest.importorskip("torch")
    transformers = pytest.importorskip("transformers")
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=1.0)
    theirs = transformers.get_linear_schedule_with_warmup(optimizer, 10, 100)
    hugging_face = []
    for _ in range(100):
        hugging_face.append(theirs.get_last_lr()[0])
        optimizer.step()
        theirs.step()
    assert [rate(step) for step in range(100)] == pytest.approx(hugging_face)


def test_google_drops_by_warmup_over_total_when_the_warmup_ends() -> None:
    assert rate(0, schedule="google") == 0.0
    assert rate(9, schedule="google") == 0.9
    assert rate(10, schedule="google") == 0.9
    assert rate(55, schedule="google") == pytest.approx(0.45)


def test_within_the_warmup_the_horizon_does_not_matter() -> None:
    for schedule in ("linear", "google"):
        for step in range(10):
            open_ended = rate(step, total=None, schedule=schedule)
            assert open_ended == rate(step, total=77, schedule=schedule)


def test_no_warmup_starts_at_the_peak() -> None:
    assert rate(0, warmup=0) == 1.0
    assert rate(0, warmup=0, total=None) == 1.0


def test_wsd_stays_at_the_peak_until_its_last_share() -> None:
    assert [rate(step, schedule="wsd") for step in (5, 10, 50, 80)] == [0.5, 1.0, 1.0, 1.0]
    assert rate(85, schedule="wsd") == pytest.approx(0.5)
    assert 0 < rate(99, schedule="wsd") < 0.03
    assert rate(100, schedule="wsd") == 0.0


def test_wsd_equals_hugging_face() -> None:
    torch = pytest.importorskip("torch")
    transformers = pytest.importorskip("transformers")
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=1.0)
    theirs = transformers.get_wsd_schedule(
        optimizer, num_warmup_steps=10, num_decay_steps=20, num_training_steps=100,
        decay_type="1-sqrt",
    )  # fmt: skip
    hugging_face = []
    for _ in range(100):
        hugging_face.append(theirs.get_last_lr()[0])
        optimizer.step()
        theirs.step()
    assert [rate(step, schedule="wsd") for step in range(100)] == pytest.approx(hugging_face)


def test_before_the_decay_of_wsd_the_horizon_does_not_matter() -> None:
    start = decay_start(10, 100, 0.2)
    assert start == 80
    for step in range(start):
        assert rate(step, schedule="wsd") == rate(step, total=1000, schedule="wsd")


def test_decay_of_wsd_never_begins_within_the_warmup() -> None:
    assert decay_start(90, 100, 0.2) == 90
