"""Rows laid one behind the other, so that no padding is computed."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F

from bert_scratch.batch import Batch
from bert_scratch.model.losses import IGNORED_LABEL

NUM_SIZES = 32
"""Steps in which a full micro-batch grows: a 32nd of it is filler at most, and a compiled loss
meets few shapes."""


@dataclass(frozen=True, kw_only=True)
class PackedRows:
    """Packs micro-batches, filled up to few sizes by rows that have no labels."""

    max_seq_length: int
    masked_lm_prob: float

    def __call__(self, batch: Batch) -> Batch:
        """Return the same examples as one row: no loss and no gradient changes."""
        num_rows = len(batch.input_ids)
        step = math.ceil(num_rows * self.max_seq_length / NUM_SIZES)
        num_fillers = math.ceil(step / (self.max_seq_length - 1))  # none longer than a row can be
        num_tokens = _rounded_up(batch.num_tokens + num_fillers, step)
        usual = math.ceil(num_tokens * self.masked_lm_prob)  # more is rare: one size, one shape
        num_predictions = _rounded_up(
            max(usual, len(batch.masked_positions)), math.ceil(step * self.masked_lm_prob)
        )
        return packed(
            batch, num_tokens=num_tokens, num_predictions=num_predictions, num_fillers=num_fillers
        )


def packed(batch: Batch, *, num_tokens: int, num_predictions: int, num_fillers: int) -> Batch:
    """Lay the rows of a batch one behind the other, without padding, and fill up behind them.

    The filler is rows of much the same length, [PAD] throughout and without labels. The last of
    them is left out of `row_starts`: what is behind the last row is one by itself (`BertModel`).

    Args:
        batch: a row each example, on the CPU.
        num_tokens: S of the result, more than there are by one for each filler row at least.
        num_predictions: N of the result, not less than there are; more have no label.
        num_fillers: rows of filler, at least 1.
    """
    is_real = batch.attention_mask.bool()
    place = is_real.flatten().cumsum(0) - 1
    behind = (0, num_tokens - batch.num_tokens)
    more = (0, num_predictions - len(batch.masked_positions))
    even, left = divmod(behind[1], num_fillers)
    fillers = even + (torch.arange(num_fillers - 1) < left).long()
    lengths = torch.cat([is_real.sum(dim=1), fillers])
    pairs = batch.next_sentence_label
    if pairs is not None:
        pairs = F.pad(pairs, (0, len(fillers)), value=IGNORED_LABEL)
    return replace(
        batch,
        input_ids=F.pad(batch.input_ids[is_real], behind)[None],
        token_type_ids=F.pad(batch.token_type_ids[is_real], behind)[None],
        attention_mask=F.pad(batch.attention_mask[is_real], behind)[None],
        masked_positions=F.pad(place[batch.masked_positions], more),
        masked_labels=F.pad(batch.masked_labels, more, value=IGNORED_LABEL),
        next_sentence_label=pairs,
        row_starts=F.pad(lengths.cumsum(0), (1, 0)).int(),
    )


def _rounded_up(count: int, step: int) -> int:
    return step * math.ceil(count / step)
