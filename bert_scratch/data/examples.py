"""What every example source returns: a batch as flat arrays, and the facts of an epoch."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Integers = npt.NDArray[np.int64]


@dataclass(frozen=True, kw_only=True)
class ExampleBatch:
    """Rows to lay out as [CLS] segment [SEP] segment [SEP] ..., and their labels.

    Attributes:
        tokens: [T] int32, the segments of all rows concatenated in order, without special
            tokens or padding.
        segment_lengths: [G] int64, each at least 1, in the same order.
        segments_per_row: [B] int64; 2 everywhere for pairs.
        labels: [B] int64: 0 = B follows A, 1 = random (nsp) or swapped (sop); None without pairs.
        word_starts: [T] bool, True where a word starts; None unless requested.
    """

    tokens: npt.NDArray[np.int32]
    segment_lengths: Integers
    segments_per_row: Integers
    labels: Integers | None
    word_starts: npt.NDArray[np.bool_] | None = None

    def take(self, rows: Integers) -> ExampleBatch:
        """Return the examples at the given rows, [n] int64, in their order."""
        segments = _ranges(self.segments_per_row, rows)
        tokens = _ranges(self.segment_lengths, segments)
        return ExampleBatch(
            tokens=self.tokens[tokens],
            segment_lengths=self.segment_lengths[segments],
            segments_per_row=self.segments_per_row[rows],
            labels=None if self.labels is None else self.labels[rows],
            word_starts=None if self.word_starts is None else self.word_starts[tokens],
        )


def _ranges(lengths: Integers, order: Integers) -> Integers:
    """Return the indices of the elements of the wanted ranges, range by range.

    Args:
        lengths: [n] int64, the lengths of adjacent ranges.
        order: [m] int64, the ranges wanted.
    """
    starts = (np.cumsum(lengths) - lengths)[order]
    wanted = lengths[order]
    shift = starts - (np.cumsum(wanted) - wanted)
    return np.repeat(shift, wanted) + np.arange(wanted.sum())


@dataclass(frozen=True, kw_only=True)
class ExampleFacts:
    """What one epoch of a split consists of."""

    num_examples: int
    """N, examples in an epoch."""
    num_documents: int
    """Documents of the split."""
    num_one_sentence_documents: int
    """Documents of a single sentence, which serve only as a random B."""
    random_next_share: float | None
    """Share of pairs whose label is 1; None without pairs."""
