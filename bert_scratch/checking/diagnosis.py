"""Find the mistake that explains a user's numbers by making each in our code until they match."""

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
    """Return the largest difference of outputs; infinite if shapes differ or values are NaN."""
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
    """Return the one or two mistakes with which our code gives the user's outputs in every case.

    Args:
        part: the part that the user's component is checked as.
        weights: the weights that it was given.
        theirs: its outputs for each of the part's cases.

    Returns:
        Keys of MISTAKES; () if no one or two of them explain the outputs.
    """
    known = tuple(dict.fromkeys(part.mistakes))
    for made in (*combinations(known, 1), *combinations(known, 2)):
        if all(
            difference(outputs_of(part.formula(weights, case, made)), outputs, part) <= TOLERANCE
            for case, outputs in zip(part.cases, theirs, strict=True)
        ):
            return made
    return ()
