"""What a run does where the user says nothing, as functions of model and data."""

from __future__ import annotations

import math

EPOCHS = 3
"""Passes over a training file that is large enough."""
MIN_STEPS = 500
"""A small file is gone through more often, until there are so many updates,"""
MAX_EPOCHS = 20
"""but no more often than this."""


def learning_rate_for(hidden_size: int) -> float:
    """Return the peak learning rate for a model's width."""
    return float(f"{2e-5 * (768 / hidden_size):.1g}")


def num_epochs_for(steps_per_epoch: int) -> int:
    """Return the passes over the training file."""
    return max(EPOCHS, min(MAX_EPOCHS, math.ceil(MIN_STEPS / steps_per_epoch)))
