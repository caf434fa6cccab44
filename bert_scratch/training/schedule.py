"""The learning rate as a function of the step, so that a resumed run needs no schedule state."""

from __future__ import annotations

LEARNING_RATE_SCHEDULES = ("linear", "google")


def learning_rate_at(
    step: int,
    *,
    peak: float,
    num_warmup_steps: int,
    num_train_steps: int | None,
    schedule: str = "linear",
) -> float:
    """Return the learning rate of the update that step makes (the first step is 0).

    `linear` climbs to the peak over the warm-up and falls to zero at the end, continuously;
    `google` counts its fall from step 0, so it drops by warm-up / total when the warm-up ends.

    Args:
        step: 0-based index of the update.
        peak: the highest learning rate.
        num_warmup_steps: updates of linear climb from zero.
        num_train_steps: updates in all; None while a time-limited run has not fixed its horizon
            yet, which is sound as long as step is within the warm-up: the climb ignores it.
        schedule: linear or google.

    Source:
        Hugging Face `get_linear_schedule_with_warmup`; google-research/bert `optimization.py`.
        In both the first update has learning rate 0.
    """
    if step < num_warmup_steps:
        return peak * step / num_warmup_steps
    if num_train_steps is None:
        return peak
    if schedule == "google":
        return peak * max(0.0, 1.0 - step / num_train_steps)
    return peak * max(0, num_train_steps - step) / max(1, num_train_steps - num_warmup_steps)
