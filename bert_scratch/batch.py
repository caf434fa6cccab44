"""The contract between data and model: the inputs of a training step.

Letters: B examples, S positions, N predicted positions.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Self

import torch
from torch import Tensor

from bert_scratch.config import first_few

WIDTH_MULTIPLE = 8
EXAMPLES_NAMED = 4
"""Most examples that an error names."""
SIZE_MULTIPLE = 64
"""Numbers of tokens or positions that differ from step to step are padded to a multiple of this:
a few sizes reuse memory and kernels."""
PREDICTION_MULTIPLE = 32
"""Numbers of predicted positions are padded to a multiple of this: a CPU compiles the products of
the vocabulary anew for each number, and more slowly for one that is no multiple of 32."""


def rounded_up(count: int, step: int) -> int:
    """Round a count up to a multiple of step."""
    return -(-count // step) * step


def padded_width(longest: int, limit: int) -> int:
    """Return the padded width of rows: that of the longest, rounded up for the hardware.

    Args:
        longest: tokens of the longest row.
        limit: the largest width.
    """
    return min(rounded_up(longest, WIDTH_MULTIPLE), limit)


def passes_by_length(lengths: Sequence[int], tokens_per_pass: int) -> Iterator[list[int]]:
    """Yield the indices of rows for each forward pass, the longest rows first.

    Rows of similar length share a pass, so little of it is padding, and every pass takes about the
    same memory.

    Args:
        lengths: positions of each row, >= 1.
        tokens_per_pass: positions per pass, padding included; a single row may exceed it.
    """
    order = sorted(range(len(lengths)), key=lambda index: -lengths[index])
    start = 0
    while start < len(order):
        count = max(1, tokens_per_pass // lengths[order[start]])
        yield order[start : start + count]
        start += count


@dataclass(frozen=True, kw_only=True)
class TokenBatch:
    """Rows of tokens whose tensors move to a device together; a base for dataclasses."""

    input_ids: Tensor
    """[B, S] int64, [PAD] beyond each row's end; [B, C, S] with C choices."""
    token_type_ids: Tensor
    """As input_ids, 0 up to and including the first [SEP], then 1; 0 on padding."""
    attention_mask: Tensor
    """As input_ids, 1 on real tokens, 0 on padding."""

    @property
    def num_positions(self) -> int:
        """Number of positions to compute: tokens and padding."""
        return self.input_ids.numel()

    def to(self, device: torch.device, *, non_blocking: bool = False) -> Self:
        """Return the batch with every tensor on the device."""
        return self._map(lambda tensor: tensor.to(device, non_blocking=non_blocking))

    def pin_memory(self) -> Self:
        """Return the batch in page-locked memory, so that copies to a GPU can be asynchronous."""
        return self._map(Tensor.pin_memory)

    def _map(self, change: Callable[[Tensor], Tensor]) -> Self:
        changed: dict[str, Any] = {
            name: change(value) for name, value in vars(self).items() if isinstance(value, Tensor)
        }
        return dataclasses.replace(self, **changed)


@dataclass(frozen=True, kw_only=True)
class Batch(TokenBatch):
    """Examples of one step, masked and ready for `BertForPreTraining`.

    `masked_positions` are flat (row * S + column) and ascending, so the vocabulary projection runs
    on N rows only and the step needs no search. `input_ids` are those after masking.
    """

    masked_positions: Tensor
    """[N] int64, flat positions to predict, in reading order."""
    masked_labels: Tensor
    """[N] int64, the original token there; -100 marks a padding slot."""
    next_sentence_label: Tensor | None
    """[B] int64, 0 = B follows A, 1 = random (sop: 1 = swapped); None without pairs."""
    example_ids: Tensor
    """[B, 2] int64, (epoch, slot) of each example, which identify it on any rank."""
    num_tokens: int
    """Number of real tokens, including [CLS] and [SEP] but not padding."""
    row_starts: Tensor | None = None
    """[R+1] int32 for packed rows: B is 1, S holds all rows, and row r is the positions from
    row_starts[r] up to row_starts[r+1]; `next_sentence_label` is then [R]. None: not packed."""
    longest_row: int | None = None
    """Upper bound on the tokens of a packed row."""

    def describe_examples(self) -> str:
        """Name the first few examples."""
        names = [f"{epoch}:{slot}" for epoch, slot in self.example_ids.tolist()]
        return f"Examples (epoch:slot) {first_few(names, EXAMPLES_NAMED)}"

    def split(self, micro_batch_size: int) -> list[Batch]:
        """Split into micro-batches of rows of similar length, the longest first.

        Grouping rows does not change any sum over the step, and similar lengths need less padding.
        The batch must still be on the CPU, because lengths are read.

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
        """Return the rows from start to stop, trimmed to the width their longest needs."""
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
        """Return the same rows by descending length; rows of equal length keep their order."""
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
