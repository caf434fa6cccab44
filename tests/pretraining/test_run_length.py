"""Pins how many updates a run makes and what follows from it. Runs anywhere:
`pytest tests/pretraining/test_run_length.py`."""

from __future__ import annotations

import math

import pytest

from bert_scratch.config import InputError
from bert_scratch.pretraining.pretrain_config import PretrainConfig
from bert_scratch.pretraining.run_length import (
    check_warmup,
    expected_steps,
    fixed_length,
    resolve_length,
    steps_that_fit,
    with_intervals,
)


def test_without_a_limit_forty_passes_are_made() -> None:
    config, reasons = resolve_length(
        PretrainConfig(train_batch_size=8), num_examples=100, step_s=0.1
    )
    assert config.num_train_steps == 500
    assert "40 passes" in reasons[0]
    assert (config.logging_steps, config.eval_steps, config.save_steps) == (10, 50, 100)


def test_time_limit_leaves_steps_and_intervals_open() -> None:
    limited = PretrainConfig(max_train_seconds=100.0)
    config, _ = resolve_length(limited, num_examples=100, step_s=0.1)
    assert config.num_train_steps is None and config.save_steps is None
    assert config.num_warmup_steps == 80


def test_checkpoints_are_a_quarter_of_an_hour_apart_at_most() -> None:
    config = PretrainConfig(num_train_steps=100_000)
    assert with_intervals(config, step_s=1.0).save_steps == 900


def test_a_warm_up_longer_than_the_run_is_refused() -> None:
    check_warmup(PretrainConfig(num_train_steps=10, num_warmup_steps=10), steps=10)
    for settings, length in (
        ({"num_train_steps": 10}, "the run's 10 steps"),
        ({"max_train_seconds": 100.0}, "the 1,000 steps that fit"),
        ({"train_batch_size": 8}, "the run's 500 steps"),
    ):
        given = PretrainConfig(**{"train_batch_size": 8, **settings}, num_warmup_steps=2000)
        config = resolve_length(given, num_examples=100, step_s=0.1)[0]
        assert config.num_warmup_steps == 2000
        with pytest.raises(InputError, match=f"--num-warmup-steps 2,000 is more than {length}"):
            check_warmup(config, steps=expected_steps(config, 0.1), step_s=0.1)


def test_steps_that_fit_leave_time_for_all_evaluations() -> None:
    usual = steps_that_fit(111.0, step_s=0.5, evaluation_s=1.0, eval_steps=None)
    assert usual == 200  # ten evaluations on the way and one at the end
    often = steps_that_fit(101.0, step_s=0.5, evaluation_s=1.0, eval_steps=2)
    assert often == 100  # 50 s of steps, 50 evaluations
    assert steps_that_fit(-5.0, step_s=0.5, evaluation_s=1.0, eval_steps=2) == 1


@pytest.mark.parametrize(("evaluation_s", "number"), [(0.5, 10), (1.25, 8), (3.0, 4)])
def test_slow_evaluations_of_a_short_run_are_fewer(evaluation_s: float, number: int) -> None:
    config = PretrainConfig(max_train_seconds=200.0, num_warmup_steps=0)
    config, _ = fixed_length(
        config, steps_made=0, left_s=200.0, step_s=1.0, evaluation_s=evaluation_s
    )
    assert config.num_train_steps is not None and config.eval_steps is not None
    assert math.ceil(config.num_train_steps / config.eval_steps) == number
    all_of_them = (number + 1) * evaluation_s  # and one over all held-out examples
    assert config.num_train_steps == int(200.0 - all_of_them)


def test_a_fixed_length_counts_the_steps_made_and_warns_of_a_longer_warm_up() -> None:
    config = PretrainConfig(max_train_seconds=100.0, num_warmup_steps=300)
    config, lines = fixed_length(config, steps_made=50, left_s=90.0, step_s=0.5, evaluation_s=0.0)
    assert (config.num_train_steps, config.logging_steps) == (230, 4)
    assert lines[0].startswith("horizon    230 steps fit in 100 s at 500.0 ms per step")
    assert lines[1].startswith("warning    --num-warmup-steps 300 is more than these steps")
    assert len(lines) == 2
