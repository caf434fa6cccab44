"""Means with the uncertainty that comes from using only a sample."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt


@dataclass(frozen=True, kw_only=True)
class Estimate:
    """A mean and its standard error: another sample would typically differ by about as much."""

    mean: float
    standard_error: float


def proportion(flags: npt.ArrayLike) -> Estimate:
    """Return the share of true flags, [N] bool."""
    found = np.asarray(flags, np.float64)
    return ratio_of(found, np.ones_like(found))


def ratio_of(parts: npt.ArrayLike, wholes: npt.ArrayLike) -> Estimate:
    """Return the sum of the parts over the sum of the wholes.

    Args:
        parts: [N], one per sentence or question, N at least 2.
        wholes: [N], with a positive sum.

    Source:
        Cochran 1977, "Sampling Techniques", section 6.3: the ratio estimator.
    """
    numerators, denominators = np.asarray(parts, np.float64), np.asarray(wholes, np.float64)
    mean = float(numerators.sum() / denominators.sum())
    deviations = numerators - mean * denominators
    error = float(deviations.std(ddof=1) * np.sqrt(len(deviations)) / denominators.sum())
    return Estimate(mean=mean, standard_error=error)
