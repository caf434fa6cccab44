"""Pins how a batch is cut into micro-batches. CPU only: `pytest tests/test_batch.py`."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from bert_scratch.batch import Batch, padded_width, passes_by_length


def make_batch(width: int = 8, lengths: Sequence[int] = (7, 3, 5, 2, 4)) -> Batch:
    column = torch.arange(width)
    mask = (column < torch.tensor(lengths)[:, None]).long()
    ids = (torch.arange(5)[:, None] * 100 + column) * mask
    positions = (mask.flatten() * (torch.arange(5 * width) % 3 == 1)).nonzero().flatten()
    return Batch(
        input_ids=ids,
        token_type_ids=(column >= 2).long() * mask,
        attention_mask=mask,
        masked_positions=positions,
        masked_labels=ids.flatten()[positions],
        next_sentence_label=torch.tensor([0, 1, 0, 1, 1]),
        example_ids=torch.stack([torch.zeros(5, dtype=torch.int64), torch.arange(5)], dim=1),
        num_tokens=sum(lengths),
    )


def rows_of(batch: Batch) -> dict[int, tuple]:
    """What belongs to each example, wherever in the batch it stands."""
    width = batch.input_ids.shape[1]
    found = {}
    for row, (slot, mask) in enumerate(
        zip(batch.example_ids[:, 1].tolist(), batch.attention_mask, strict=True)
    ):
        length = int(mask.sum())
        own = batch.masked_positions // width == row
        found[slot] = (
            batch.input_ids[row, :length].tolist(),
            batch.token_type_ids[row, :length].tolist(),
            (batch.masked_positions[own] % width).tolist(),
            batch.masked_labels[own].tolist(),
            int(batch.next_sentence_label[row]),
        )
    return found


def test_split_keeps_every_example_with_all_that_belongs_to_it() -> None:
    batch = make_batch()
    parts = batch.split(2)
    assert [part.input_ids.shape[0] for part in parts] == [2, 2, 1]
    found = [example for part in parts for example in rows_of(part).items()]
    assert len(found) == 5 and dict(found) == rows_of(batch)
    assert sum(part.num_tokens for part in parts) == batch.num_tokens


def test_split_points_at_the_same_tokens_in_reading_order() -> None:
    for part in make_batch().split(2):
        assert part.input_ids.flatten()[part.masked_positions].equal(part.masked_labels)
        assert (part.masked_positions.diff() > 0).all()


def test_split_puts_rows_of_like_length_together_the_longest_first() -> None:
    parts = make_batch(width=40, lengths=[3, 33, 4, 35, 9]).split(2)
    assert [part.example_ids[:, 1].tolist() for part in parts] == [[3, 1], [4, 2], [0]]
    # as wide as the longest row needs, rounded up to a multiple of 8
    assert [part.input_ids.shape[1] for part in parts] == [40, 16, 8]


def test_rows_of_one_length_keep_their_order() -> None:
    parts = make_batch(lengths=[4, 5, 4, 5, 4]).split(2)
    assert torch.cat([part.example_ids for part in parts])[:, 1].tolist() == [1, 3, 0, 2, 4]


def test_examples_are_named_as_far_as_there_is_room() -> None:
    batch = make_batch()
    names = [f"{epoch}:{slot}" for epoch, slot in batch.example_ids.tolist()]
    assert batch.describe_examples().endswith(f" {', '.join(names[:4])}, ...")
    assert batch.rows(0, 4).describe_examples().endswith(f" {', '.join(names[:4])}")


def test_split_larger_than_the_batch_is_the_batch() -> None:
    batch = make_batch()
    assert batch.split(5) == [batch]


@pytest.mark.parametrize(("longest", "limit", "width"), [(1, 61, 8), (8, 61, 8), (60, 61, 61)])
def test_width_is_rounded_up_but_not_beyond_the_limit(longest, limit, width) -> None:
    assert padded_width(longest, limit) == width


@given(st.lists(st.integers(1, 50), max_size=30), st.integers(1, 100))
def test_passes_hold_every_row_once_and_no_more_than_fits(
    lengths: list[int], tokens_per_pass: int
) -> None:
    passes = list(passes_by_length(lengths, tokens_per_pass))
    together = [index for rows in passes for index in rows]
    assert sorted(together) == list(range(len(lengths)))
    assert [lengths[index] for index in together] == sorted(lengths, reverse=True)
    for rows in passes:
        positions = len(rows) * lengths[rows[0]]
        assert len(rows) == 1 or positions <= tokens_per_pass
        is_last = rows is passes[-1]
        assert is_last or positions + lengths[rows[0]] > tokens_per_pass  # filled up
