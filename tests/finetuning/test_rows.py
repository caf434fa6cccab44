"""Rows become padded tensors, and micro-batches keep every row and its label.
Runs anywhere: `pytest tests/finetuning/test_rows.py`."""

from __future__ import annotations

import numpy as np
import torch

from bert_scratch.data.wordpiece import SpecialIds
from bert_scratch.finetuning.rows import Row, RowBatch, token_sequence

SPECIAL = SpecialIds(pad=0, unk=1, cls=2, sep=3, mask=4)


def ids(*values: int) -> np.ndarray:
    return np.array(values, dtype=np.int32)


def row(number: int, length: int, **fields: object) -> Row:
    sequence = token_sequence(np.full(length, 10 + number, np.int32), None, SPECIAL)
    return Row(sequences=(sequence,), example=number, place=f"f:{number}", **fields)  # type: ignore[arg-type]


def test_a_pair_is_laid_out_as_bert_does() -> None:
    pair = token_sequence(ids(7, 8), ids(9), SPECIAL)
    single = token_sequence(ids(5), None, SPECIAL)
    rows = [
        Row(sequences=(pair,), example=0, place="f:1", label=1),
        Row(sequences=(single,), example=1, place="f:2", label=0),
    ]
    batch = RowBatch.of(rows, pad_id=0)
    assert batch.input_ids.tolist() == [[2, 7, 8, 3, 9, 3], [2, 5, 3, 0, 0, 0]]
    assert batch.token_type_ids.tolist() == [[0, 0, 0, 0, 1, 1], [0, 0, 0, 0, 0, 0]]
    assert batch.attention_mask.tolist() == [[1] * 6, [1, 1, 1, 0, 0, 0]]
    assert batch.labels is not None and batch.labels.tolist() == [1, 0]
    assert (batch.num_tokens, batch.num_positions) == (9, 12)


def test_choices_have_an_axis_of_their_own() -> None:
    a, b = token_sequence(ids(7), ids(8), SPECIAL), token_sequence(ids(7), ids(8, 9), SPECIAL)
    batch = RowBatch.of([Row(sequences=(a, b), example=0, place="f:1", label=1)], pad_id=0)
    assert batch.input_ids.shape == (1, 2, 6)
    assert batch.input_ids[0, 1].tolist() == [2, 7, 3, 8, 9, 3]


def test_labels_of_tokens_are_ignored_beyond_a_rows_end() -> None:
    labels = [np.arange(n + 2, dtype=np.int64) for n in (1, 3)]
    rows = [row(i, n, token_labels=labels[i]) for i, n in enumerate((1, 3))]
    batch = RowBatch.of(rows, pad_id=0)
    assert batch.labels is not None
    assert batch.labels.tolist() == [[0, 1, 2, -100, -100], [0, 1, 2, 3, 4]]


def test_examples_are_named_as_far_as_there_is_room() -> None:
    rows = [row(i, 2, label=0) for i in range(5)]
    names = ", ".join(each.place for each in rows[:4])
    assert RowBatch.of(rows[:4], pad_id=0).describe_examples() == f"Examples {names}"
    assert RowBatch.of(rows, pad_id=0).describe_examples() == f"Examples {names}, ..."


def test_labels_keep_their_kind() -> None:
    whole = RowBatch.of([row(0, 2, label=3)], pad_id=0).labels
    several = RowBatch.of([row(0, 2, label=[1.0, 0.0])], pad_id=0).labels
    assert whole is not None and whole.dtype == torch.int64
    assert several is not None and several.dtype == torch.float32 and several.shape == (1, 2)
    assert RowBatch.of([row(0, 2)], pad_id=0).labels is None


def test_micro_batches_keep_every_row_and_pad_less() -> None:
    lengths = (3, 20, 4, 19, 5, 2, 21)
    rows = [row(i, n, label=i) for i, n in enumerate(lengths)]
    whole = RowBatch.of(rows, pad_id=0)
    pieces = whole.split(3)
    assert [len(piece.rows) for piece in pieces] == [3, 3, 1]
    labels = torch.cat([piece.labels for piece in pieces if piece.labels is not None])
    assert sorted(labels.tolist()) == list(range(7))
    assert sum(piece.num_tokens for piece in pieces) == whole.num_tokens
    assert sum(piece.num_positions for piece in pieces) < whole.num_positions
    assert whole.split(7) == [whole]
