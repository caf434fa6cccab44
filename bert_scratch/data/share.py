"""A rank's share of a step's examples, dealt out by length so that all ranks have equal work."""

from __future__ import annotations

import numpy as np

from bert_scratch.data.examples import ExampleBatch, Integers


def examples_of_rank(
    examples: ExampleBatch, example_ids: Integers, *, num_steps: int, rank: int, world_size: int
) -> tuple[ExampleBatch, Integers]:
    """Return one rank's examples of several steps, the longest of each step first.

    The examples of a step are sorted by descending length and dealt to the ranks back and forth,
    so the shares are of similar length. Together the ranks have each example once.

    Args:
        examples: of all ranks, `num_steps` batches of the same size in sequence.
        example_ids: [num_steps * B, 2] int64.
        num_steps: at least 1.
        rank: whose share.
        world_size: at most B.

    Returns:
        The same number of examples of every step, and their ids.
    """
    row_ends = np.cumsum(examples.segment_lengths)[np.cumsum(examples.segments_per_row) - 1]
    lengths = np.diff(row_ends, prepend=0).reshape(num_steps, -1)
    longest_first = np.argsort(-lengths, axis=1, kind="stable")
    first_rows = np.arange(num_steps)[:, None] * lengths.shape[1]
    places = _dealt(lengths.shape[1], rank, world_size)
    rows = (longest_first[:, places] + first_rows).ravel()
    return examples.take(rows), example_ids[rows]


def _dealt(num_places: int, rank: int, world_size: int) -> Integers:
    """Return the places that one rank is dealt: 0, 1, 2, 2, 1, 0, 0, ... for three ranks."""
    rounds, seats = np.divmod(np.arange(num_places), world_size)
    return np.flatnonzero(np.where(rounds % 2 == 0, seats, world_size - 1 - seats) == rank)
