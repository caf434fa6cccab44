"""Lay examples out as padded rows of a batch: [CLS] A [SEP] B [SEP]."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from bert_scratch.batch import padded_width
from bert_scratch.data.examples import ExampleBatch, Integers
from bert_scratch.data.wordpiece import SpecialIds


class Rows(NamedTuple):
    """Examples laid out; B rows, S positions."""

    input_ids: Integers
    """[B, S] int64, [PAD] beyond each row's end."""
    token_type_ids: Integers
    """[B, S] int64: 0 up to and including the first [SEP] of a pair, then 1; 0 on padding."""
    attention_mask: Integers
    """[B, S] int64, 1 on tokens."""
    lengths: Integers
    """[B] int64, tokens of each row."""
    word_starts: npt.NDArray[np.bool_] | None
    """[B, S] bool, True where a word starts; None if the examples do not say."""


def lay_out(examples: ExampleBatch, special: SpecialIds, max_seq_length: int) -> Rows:
    """Lay examples out, padded to the longest.

    Args:
        examples: at least one.
        special: ids of [CLS], [SEP] and [PAD].
        max_seq_length: no row is longer.
    """
    # each segment with its [SEP], all rows concatenated without their [CLS]
    ends = np.cumsum(examples.segment_lengths + 1)
    last_segments = np.cumsum(examples.segments_per_row) - 1
    row_ends = ends[last_segments]
    lengths = np.diff(row_ends, prepend=0) + 1
    width = padded_width(int(lengths.max()), max_seq_length)
    column = np.arange(width)
    is_real = column < lengths[:, None]
    is_content = is_real & (column > 0)
    is_token = np.ones(row_ends[-1], bool)
    is_token[ends - 1] = False

    content = np.full(row_ends[-1], special.sep, np.int32)
    content[is_token] = examples.tokens
    input_ids = np.full(is_real.shape, special.pad, np.int64)
    input_ids[:, 0] = special.cls
    input_ids[is_content] = content

    word_starts = None
    if examples.word_starts is not None:
        starts = np.ones(row_ends[-1], bool)
        starts[is_token] = examples.word_starts
        word_starts = np.ones(is_real.shape, bool)
        word_starts[is_content] = starts

    token_type_ids = np.zeros(is_real.shape, np.int64)
    if examples.labels is not None:
        first_segments = last_segments + 1 - examples.segments_per_row
        second = column >= 2 + examples.segment_lengths[first_segments][:, None]
        token_type_ids += second & is_real
    return Rows(input_ids, token_type_ids, is_real.astype(np.int64), lengths, word_starts)
