"""The one contract between data and model: what a training step is given.

Letters: B examples, S positions, N predicted positions.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Self

import torch
from torch import Tensor

WIDTH_MULTIPLE = 8


def rounded_up(count: int, step: int) -> int:
    """Return the lowest multiple of a step that is not below a count."""
    return -(-count // step) * step


def padded_width(longest: int, limit: int) -> int:
    """Return how wide rows are laid out: as the longest, rounded up for the hardware's sake.

    Args:
        longest: tokens of the longest row.
        limit: no row is wider.
    """
    return min(rounded_up(longest, WIDTH_MULTIPLE), limit)


@dataclass(frozen=True, kw_only=True)
class TokenBatch:
    """Rows of tokens whose tensors go to a device together; a base of dataclasses."""

    input_ids: Tensor
    """[B, S] int64, [PAD] beyond each row's end; [B, C, S] with C choices."""
    token_type_ids: Tensor
    """As input_ids, 0 up to and including the first [SEP], then 1; 0 on padding."""
    attention_mask: Tensor
    """As input_ids, 1 on real tokens, 0 on padding."""

    @property
    def num_positions(self) -> int:
        """Positions that are computed: tokens and padding."""
        return self.input_ids.numel()

    def to(self, device: torch.device, *, non_blocking: bool = False) -> Self:
        """Return the batch with every tensor on the device."""
        return self._map(lambda tensor: tensor.to(device, non_blocking=non_blocking))

    def pin_memory(self) -> Self:
        """Return the batch in page-locked memory, from which a GPU copies by itself."""
        return self._map(Tensor.pin_memory)

    def _map(self, change: Callable[[Tensor], Tensor]) -> Self:
        changed: dict[str, Any] = {
            name: change(value) for name, value in vars(self).items() if isinstance(value, Tensor)
        }
        return dataclasses.replace(self, **changed)


@dataclass(frozen=True, kw_only=True)
class Batch(TokenBatch):
    """Examples of one step, masked and ready for `BertForPreTraining`.

    `masked_positions` are flat: row * S + column, ascending, so the vocabulary projection runs on
    N rows only and nothing is searched for inside the step. `input_ids` are those after masking.
    """

    masked_positions: Tensor
    """[N] int64, flat positions to predict, in reading order."""
    masked_labels: Tensor
    """[N] int64, the token that stood there; -100 marks a filler slot."""
    next_sentence_label: Tensor | None
    """[B] int64, 0 = B follows A, 1 = random (sop: 1 = swapped); None without pairs."""
    example_ids: Tensor
    """[B, 2] int64, (epoch, slot) of each example: what it is, whoever computes it."""
    num_tokens: int
    """Real tokens, [CLS] and [SEP] included, padding not."""
    row_starts: Tensor | None = None
    """[R+1] int32 of packed rows: S is all there is, B is 1, and row r is the positions from
    row_starts[r] up to row_starts[r+1]; `next_sentence_label` is [R] then. None: a row each."""
    longest_row: int | None = None
    """No packed row has more tokens."""

    def describe_examples(self) -> str:
        """Name the first few examples."""
        names = ", ".join(f"{epoch}:{slot}" for epoch, slot in self.example_ids[:4].tolist())
        return f"Examples (epoch:slot) {names}, ..."

    def split(self, micro_batch_size: int) -> list[Batch]:
        """Cut into micro-batches of rows of much the same length, the longest first.

        Which rows are computed together changes no sum over the step, and the less they differ,
        the less is padded. Works on a batch that is still on the CPU: it looks at lengths.

        Args:
            micro_batch_size: rows per piece, >= 1; the last piece may have fewer.
        """
        num_rows = len(self.input_ids)
        if micro_batch_size >= num_rows:
            return [self]
        ordered = self._longest_first()
        starts = range(0, num_rows, micro_batch_size)
        return [ordered.rows(start, min(start + micro_batch_size, num_rows)) for start in starts]

    def rows(self, start: int, stop: int) -> Batch:
        """Return the rows from start to stop, as wide as their longest needs."""
        width = self.input_ids.shape[1]
        lengths = self.attention_mask[start:stop].sum(dim=1)
        needed = padded_width(int(lengths.max()), width)
        bounds = torch.tensor([start * width, stop * width])
        first, last = torch.searchsorted(self.masked_positions, bounds).tolist()
        positions = self.masked_positions[first:last]
        row, column = positions // width, positions % width
        pairs = self.next_sentence_label
        return Batch(
            input_ids=self.input_ids[start:stop, :needed].contiguous(),
            token_type_ids=self.token_type_ids[start:stop, :needed].contiguous(),
            attention_mask=self.attention_mask[start:stop, :needed].contiguous(),
            masked_positions=(row - start) * needed + column,
            masked_labels=self.masked_labels[first:last],
            next_sentence_label=None if pairs is None else pairs[start:stop],
            example_ids=self.example_ids[start:stop],
            num_tokens=int(lengths.sum()),
        )

    def _longest_first(self) -> Batch:
        """Return the same rows by falling length; rows of one length keep their order."""
        width = self.input_ids.shape[1]
        order = self.attention_mask.sum(dim=1).argsort(descending=True, stable=True)
        place = order.argsort()
        positions = place[self.masked_positions // width] * width + self.masked_positions % width
        positions, predictions = positions.sort()
        pairs = self.next_sentence_label
        return dataclasses.replace(
            self,
            input_ids=self.input_ids[order],
            token_type_ids=self.token_type_ids[order],
            attention_mask=self.attention_mask[order],
            masked_positions=positions,
            masked_labels=self.masked_labels[predictions],
            next_sentence_label=None if pairs is None else pairs[order],
            example_ids=self.example_ids[order],
        )
