"""How many updates a run makes: as many as asked, or as 40 passes take, or as fit in its time."""

from __future__ import annotations

import math

from bert_scratch.config import InputError
from bert_scratch.pretraining import choices
from bert_scratch.pretraining.pretrain_config import PretrainConfig
from bert_scratch.pretraining.resolve import filled

MOST_EVALUATIONS = 10
FEWEST_EVALUATIONS = 4
EVALUATION_SHARE = 0.05
"""A time-limited run evaluates less often if `MOST_EVALUATIONS` would take a larger share of it."""


def resolve_length(
    config: PretrainConfig, *, num_examples: int, step_s: float
) -> tuple[PretrainConfig, list[str]]:
    """Fill in the number of steps and the warm-up; a time limit leaves the steps open.

    Args:
        config: from `resolve`.
        num_examples: examples in one pass over the corpus.
        step_s: measured seconds of one update.
    """
    reasons = []
    if config.num_train_steps is None and config.max_train_seconds is None:
        examples = choices.DEFAULT_PASSES * num_examples
        steps = math.ceil(examples / filled(config.train_batch_size))
        config = config.replace(num_train_steps=steps)
        passes = f"{choices.DEFAULT_PASSES} passes over the corpus"
        reasons.append(f"--num-train-steps {steps}: {passes}")
    if config.num_train_steps is not None:
        expected = float(config.num_train_steps)
    else:
        expected = max(1.0, filled(config.max_train_seconds) / step_s)
    if config.num_warmup_steps is None:
        warmup = choices.choose_warmup_steps(expected)
        config = config.replace(num_warmup_steps=warmup.value)
        reasons.append(f"--num-warmup-steps {warmup.value}: {warmup.reason}")
    if config.num_train_steps is not None:
        config = with_intervals(config, step_s=step_s)
    return config, reasons


def expected_steps(config: PretrainConfig, step_s: float) -> int:
    """Return the steps a run will make, as far as known before it starts."""
    if config.num_train_steps is not None:
        return config.num_train_steps
    return max(1, math.floor(filled(config.max_train_seconds) / step_s))


def check_warmup(config: PretrainConfig, *, steps: float, step_s: float | None = None) -> None:
    """Refuse a warm-up longer than the run: its learning rate would never reach the peak.

    Args:
        config: settings of a new run.
        steps: updates that the run makes, or is expected to make in its time.
        step_s: measured seconds of one update; None if not needed.

    Raises:
        InputError: naming both lengths.
    """
    warmup = config.num_warmup_steps
    if warmup is None or warmup <= steps:
        return
    length = f"the run's {steps:,.0f} steps"
    if config.num_train_steps is None and step_s is not None:
        length = (
            f"the {steps:,.0f} steps that fit in --max-train-seconds {config.max_train_seconds:g} "
            f"at {step_s * 1e3:.1f} ms per step"
        )
    raise InputError(
        f"--num-warmup-steps {warmup:,} is more than {length}, so the learning rate would never "
        f"reach its peak; lower it, leave it out, or make the run longer"
    )


def fixed_length(
    config: PretrainConfig, *, steps_made: int, left_s: float, step_s: float, evaluation_s: float
) -> tuple[PretrainConfig, list[str]]:
    """Turn what is left of a time limit into a number of steps.

    Args:
        config: of a run with a time limit.
        steps_made: updates made so far.
        left_s: seconds left.
        step_s: measured seconds of one update.
        evaluation_s: of an evaluation.

    Returns:
        The settings with steps and intervals filled in, and lines for the user.
    """
    num_evaluations = evaluations_in(left_s, evaluation_s)
    steps = steps_made + steps_that_fit(
        left_s,
        step_s=step_s,
        evaluation_s=evaluation_s,
        eval_steps=config.eval_steps,
        num_evaluations=num_evaluations,
    )
    lines = [
        f"horizon    {steps:,} steps fit in {config.max_train_seconds:g} s at "
        f"{step_s * 1e3:.1f} ms per step; the number is now fixed"
    ]
    if (config.num_warmup_steps or 0) > steps:
        lines.append(
            f"warning    --num-warmup-steps {config.num_warmup_steps:,} is more than these steps: "
            f"the learning rate never reaches its peak"
        )
    config = config.replace(num_train_steps=steps)
    return with_intervals(config, step_s=step_s, num_evaluations=num_evaluations), lines


def evaluations_in(left_s: float, evaluation_s: float) -> int:
    """Return how many evaluations to make in the seconds left."""
    affordable = EVALUATION_SHARE * left_s / max(evaluation_s, 1e-9)
    return int(min(MOST_EVALUATIONS, max(FEWEST_EVALUATIONS, affordable)))


def steps_that_fit(
    left_s: float,
    *,
    step_s: float,
    evaluation_s: float,
    eval_steps: int | None,
    num_evaluations: int = MOST_EVALUATIONS,
) -> int:
    """Return the steps that fit in the time left, evaluations included; at least 1.

    Args:
        left_s: seconds left.
        step_s: of a step.
        evaluation_s: of an evaluation; one over all held-out examples follows the last step.
        eval_steps: steps between evaluations; None for num_evaluations in all.
        num_evaluations: used without eval_steps.
    """
    left_s -= evaluation_s
    if eval_steps is None:
        return max(1, int((left_s - num_evaluations * evaluation_s) / step_s))
    return max(1, int(left_s / (step_s + evaluation_s / eval_steps)))


def with_intervals(
    config: PretrainConfig, *, step_s: float, num_evaluations: int = MOST_EVALUATIONS
) -> PretrainConfig:
    """Fill in how often to log, evaluate and save, once the number of steps is known."""
    steps = filled(config.num_train_steps)
    quarter_hour = max(1, round(900 / max(step_s, 1e-9)))
    return config.replace(
        logging_steps=config.logging_steps or max(1, steps // 50),
        eval_steps=config.eval_steps or math.ceil(steps / num_evaluations),
        save_steps=config.save_steps or max(1, min(steps // 5, quarter_hour)),
    )
