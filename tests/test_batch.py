"""Pins how a batch is cut into micro-batches. CPU only: `pytest tests/test_batch.py`."""

from __future__ import annotations

import torch

from bert_scratch.batch import Batch

LENGTHS = [7, 3, 5, 2, 4]


def make_batch() -> Batch:
    width = 8
    column = torch.arange(width)
    mask = (column < torch.tensor(LENGTHS)[:, None]).long()
    ids = (torch.arange(5)[:, None] * 100 + column) * mask
    positions = torch.tensor([1, 6, 9, 17, 20, 25, 33, 35])
    return Batch(
        input_ids=ids,
        token_type_ids=(column >= 2).long() * mask,
        attention_mask=mask,
        masked_positions=positions,
        masked_labels=ids.flatten()[positions],
        next_sentence_label=torch.tensor([0, 1, 0, 1, 1]),
        example_ids=torch.stack([torch.zeros(5, dtype=torch.int64), torch.arange(5)], dim=1),
        num_tokens=sum(LENGTHS),
    )


def test_split_keeps_every_example_prediction_and_token_once() -> None:
    batch = make_batch()
    parts = batch.split(2)
    assert [part.input_ids.shape[0] for part in parts] == [2, 2, 1]
    assert torch.cat([part.example_ids for part in parts]).equal(batch.example_ids)
    assert torch.cat([part.masked_labels for part in parts]).equal(batch.masked_labels)
    assert sum(part.num_tokens for part in parts) == batch.num_tokens


def test_split_points_at_the_same_tokens() -> None:
    for part in make_batch().split(2):
        assert part.input_ids.flatten()[part.masked_positions].equal(part.masked_labels)


def test_split_drops_columns_that_are_all_padding() -> None:
    assert [part.input_ids.shape[1] for part in make_batch().split(2)] == [7, 5, 4]


def test_split_larger_than_the_batch_is_the_batch() -> None:
    batch = make_batch()
    assert batch.split(5) == [batch]
