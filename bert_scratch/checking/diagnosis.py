"""Which mistake explains a stranger's numbers: each is made in ours, until both give the same."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations

import torch
from torch import Tensor

from bert_scratch.checking.mistakes import Weights
from bert_scratch.checking.parts import Part
from bert_scratch.checking.strangers import outputs_of

TOLERANCE = 1e-5
"""The largest difference between equal computations, in units of the largest value (or of 1)."""


def difference(ours: Sequence[Tensor], theirs: Sequence[Tensor], part: Part) -> float:
    """Return the largest difference of outputs; infinite where shapes differ or values are NaN."""
    worst = 0.0 if theirs else torch.inf
    for mine, other in zip(ours, theirs, strict=False):
        try:
            mine, other = part.look(mine).double(), part.look(other).double()
        except RuntimeError:
            return torch.inf
        if mine.shape != other.shape:
            return torch.inf
        scale = max(1.0, mine.abs().max().item())
        gap = ((mine - other).abs().max() / scale).item()
        worst = max(worst, gap if gap == gap else torch.inf)
    return worst


def find_mistakes(
    part: Part, weights: Weights, theirs: Sequence[tuple[Tensor, ...]]
) -> tuple[str, ...]:
    """Return the mistake, or the two, with which ours gives a stranger's outputs in every case.

    Args:
        part: what the stranger's is checked as.
        weights: those that the stranger was given.
        theirs: what it returned, for each of the part's cases.

    Returns:
        Keys of MISTAKES; () when no one and no two of them explain it.
    """
    known = tuple(dict.fromkeys(part.mistakes))
    for made in (*combinations(known, 1), *combinations(known, 2)):
        if all(
            difference(outputs_of(part.formula(weights, case, made)), outputs, part) <= TOLERANCE
            for case, outputs in zip(part.cases, theirs, strict=True)
        ):
            return made
    return ()
