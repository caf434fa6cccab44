"""The one contract between data and model: what a training step is given.

Letters: B examples, S positions, N predicted positions.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor


@dataclass(frozen=True, kw_only=True)
class Batch:
    """Examples of one step, masked and ready for `BertForPreTraining`.

    `masked_positions` are flat: row * S + column, ascending, so the vocabulary projection runs on
    N rows only and nothing is searched for inside the step.
    """

    input_ids: Tensor
    """[B, S] int64, tokens after masking; [PAD] beyond each row's end."""
    token_type_ids: Tensor
    """[B, S] int64, 0 up to and including the first [SEP], then 1; 0 on padding."""
    attention_mask: Tensor
    """[B, S] int64, 1 on real tokens, 0 on padding."""
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

    def to(self, device: torch.device, *, non_blocking: bool = False) -> Batch:
        """Return the batch with every tensor on the device."""
        return self._map(lambda tensor: tensor.to(device, non_blocking=non_blocking))

    def pin_memory(self) -> Batch:
        """Return the batch in page-locked memory (torch's DataLoader calls this by name)."""
        return self._map(Tensor.pin_memory)

    def split(self, micro_batch_size: int) -> list[Batch]:
        """Cut into micro-batches of consecutive rows, each as wide as its longest row needs.

        Works on a batch that is still on the CPU: the cut looks at lengths.

        Args:
            micro_batch_size: rows per piece, >= 1; the last piece may have fewer.
        """
        rows, width = self.input_ids.shape
        if micro_batch_size >= rows:
            return [self]
        starts = range(0, rows, micro_batch_size)
        return [self._rows(start, min(start + micro_batch_size, rows), width) for start in starts]

    def _rows(self, start: int, stop: int, width: int) -> Batch:
        lengths = self.attention_mask[start:stop].sum(dim=1)
        longest = int(lengths.max())
        row, column = self.masked_positions // width, self.masked_positions % width
        kept = (row >= start) & (row < stop)
        pairs = self.next_sentence_label
        return Batch(
            input_ids=self.input_ids[start:stop, :longest].contiguous(),
            token_type_ids=self.token_type_ids[start:stop, :longest].contiguous(),
            attention_mask=self.attention_mask[start:stop, :longest].contiguous(),
            masked_positions=((row - start) * longest + column)[kept],
            masked_labels=self.masked_labels[kept],
            next_sentence_label=None if pairs is None else pairs[start:stop],
            example_ids=self.example_ids[start:stop],
            num_tokens=int(lengths.sum()),
        )

    def _map(self, change: Callable[[Tensor], Tensor]) -> Batch:
        values: dict[str, Any] = {f.name: getattr(self, f.name) for f in dataclasses.fields(self)}
        for name, value in values.items():
            if isinstance(value, Tensor):
                values[name] = change(value)
        return Batch(**values)
