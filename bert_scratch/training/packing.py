"""Pack rows one after the other, so that almost no padding is computed."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F

from bert_scratch.batch import SIZE_MULTIPLE, WIDTH_MULTIPLE, Batch, rounded_up
from bert_scratch.model.losses import IGNORED_LABEL

NUM_SIZES = 16
"""Number of sizes of full micro-batches for the compiler, which compiles each anew."""


@dataclass(frozen=True, kw_only=True)
class PackedRows:
    """Packs micro-batches and pads them to a few sizes with filler rows that have no labels."""

    max_seq_length: int
    masked_lm_prob: float
    for_compiler: bool
    """Use only `NUM_SIZES` sizes, which takes more filler."""

    def __call__(self, batch: Batch) -> Batch:
        """Return the same examples packed into one row; losses and gradients do not change."""
        step = SIZE_MULTIPLE
        if self.for_compiler:
            most_tokens = len(batch.input_ids) * self.max_seq_length
            step = rounded_up(math.ceil(most_tokens / NUM_SIZES), WIDTH_MULTIPLE)
        # Each filler row has at least one token and is no longer than a row may be.
        num_fillers = math.ceil((step + WIDTH_MULTIPLE) / (self.max_seq_length - 1))
        least_filler = rounded_up(num_fillers, WIDTH_MULTIPLE)
        num_tokens = rounded_up(batch.num_tokens, step) + least_filler
        usual = math.ceil(num_tokens * self.masked_lm_prob)
        unusual = max(0, len(batch.masked_positions) - usual)
        return packed(
            batch,
            num_tokens=num_tokens,
            num_predictions=usual + rounded_up(unusual, math.ceil(step * self.masked_lm_prob)),
            num_fillers=num_fillers,
            longest_row=self.max_seq_length,
        )


def packed(
    batch: Batch, *, num_tokens: int, num_predictions: int, num_fillers: int, longest_row: int
) -> Batch:
    """Concatenate the rows of a batch without padding, and append filler rows.

    Filler rows are of similar length, all [PAD] and without labels. The last of them is left out
    of `row_starts`, since `BertModel` treats tokens after the last row as one more row.

    Args:
        batch: one row per example, on the CPU.
        num_tokens: S of the result, exceeding the batch's by at least one per filler row.
        num_predictions: N of the result, at least the batch's; additional ones have no label.
        num_fillers: number of filler rows, at least 1.
        longest_row: no row is longer, filler included.
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
        longest_row=longest_row,
    )
