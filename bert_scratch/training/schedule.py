"""The learning rate as a function of the step, so that a resumed run needs no schedule state."""

from __future__ import annotations

import math

LEARNING_RATE_SCHEDULES = ("linear", "google", "wsd")
DECAY_SHARE = 0.2
"""Share of a wsd run's steps in which the learning rate falls."""


def learning_rate_at(
    step: int,
    *,
    peak: float,
    num_warmup_steps: int,
    num_train_steps: int | None,
    schedule: str = "linear",
    decay_share: float = DECAY_SHARE,
) -> float:
    """Return the learning rate of the update made at a step (the first step is 0).

    `linear` climbs to the peak over the warm-up, then falls to zero at the end, continuously;
    `google` counts its fall from step 0, so it drops by warm-up / total when the warm-up ends;
    `wsd` (warm-up, stable, decay) stays at the peak until its last share of steps, so that a run
    can be extended from there as if it had been planned longer from the beginning.

    Args:
        step: 0-based index of the update.
        peak: the highest learning rate.
        num_warmup_steps: updates of linear climb from zero.
        num_train_steps: total updates; None while a time-limited run has not fixed its horizon,
            which is safe during the warm-up, since the climb does not depend on it.
        schedule: linear, google or wsd.
        decay_share: share of a wsd run's steps in which the learning rate falls.

    Source:
        Hugging Face `get_linear_schedule_with_warmup`; google-research/bert `optimization.py`.
        In both, the first update has learning rate 0. wsd falls as 1 - sqrt(share of the decay
        done), the best form in Haegele et al. 2024, section 3; in transformers it is
        `get_wsd_schedule(decay_type="1-sqrt")`.
    """
    if step < num_warmup_steps:
        return peak * step / num_warmup_steps
    if num_train_steps is None:
        return peak
    if schedule == "google":
        return peak * max(0.0, 1.0 - step / num_train_steps)
    if schedule == "wsd":
        start = decay_start(num_warmup_steps, num_train_steps, decay_share)
        done = max(0, step - start) / max(1, num_train_steps - start)
        return peak * (1.0 - math.sqrt(min(1.0, done)))
    return peak * max(0, num_train_steps - step) / max(1, num_train_steps - num_warmup_steps)


def decay_start(num_warmup_steps: int, num_train_steps: int, decay_share: float) -> int:
    """Return the step from which a wsd schedule depends on where the run ends."""
    return max(num_warmup_steps, num_train_steps - round(decay_share * num_train_steps))
