"""A loss compiled by torch: fewer and larger kernels, for a few fixed shapes."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Generic

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from bert_scratch.batch import WIDTH_MULTIPLE, Batch, rounded_up
from bert_scratch.model.losses import IGNORED_LABEL
from bert_scratch.training.objective import BatchT, Objective
from bert_scratch.training.packing import NUM_SIZES

NUM_WIDTHS = 4
MAX_PADDED_SHAPES = 2 * NUM_WIDTHS
"""Most shapes of padded micro-batches: a step's last one may have fewer rows, of any width."""
MAX_PACKED_SHAPES = 4 * NUM_SIZES
"""Most shapes of packed micro-batches; a few have room for more predictions than usual."""


@dataclass(frozen=True, kw_only=True)
class FewShapes:
    """Pads micro-batches to a few shapes, since each new shape is compiled anew.

    Rows are padded to a quarter, half, three quarters or all of max_seq_length. Predictions are
    padded to as many as rows of that width may have; padding predicts the first position, without
    a label.
    """

    max_seq_length: int
    masked_lm_prob: float

    def __call__(self, batch: Batch) -> Batch:
        """Return the same examples with more padding; losses and gradients do not change."""
        num_rows, width = batch.input_ids.shape
        wide = self._width(width)
        right = (0, wide - width)
        room = num_rows * max(1, round(wide * self.masked_lm_prob))
        more = (0, room - len(batch.masked_positions))
        row, column = batch.masked_positions // width, batch.masked_positions % width
        return replace(
            batch,
            input_ids=F.pad(batch.input_ids, right),
            token_type_ids=F.pad(batch.token_type_ids, right),
            attention_mask=F.pad(batch.attention_mask, right),
            masked_positions=F.pad(row * wide + column, more),
            masked_labels=F.pad(batch.masked_labels, more, value=IGNORED_LABEL),
        )

    def _width(self, width: int) -> int:
        quarter = -(-self.max_seq_length // NUM_WIDTHS)
        step = rounded_up(quarter, WIDTH_MULTIPLE)
        return min(rounded_up(width, step), self.max_seq_length)


class Compiled(Generic[BatchT]):
    """An objective whose training loss is compiled, forward and backward; otherwise the same.

    Evaluation is not compiled, since it has many shapes and few batches. CUDA graphs are not used:
    torch's (mode reduce-overhead) lose the gradients of earlier micro-batches (pytorch issues
    96693 and 169545).

    Args:
        objective: its `loss` is compiled, once per input shape.
        backend: of `torch.compile`.
    """

    def __init__(self, objective: Objective[BatchT], *, backend: str = "inductor") -> None:
        self.eager = objective
        self.sum_names = objective.sum_names
        self.counts, self.means = objective.counts, objective.means
        self._loss = torch.compile(
            objective.loss,
            backend=backend,
            dynamic=False,
            fullgraph=True,
        )
        dynamo = torch._dynamo.config
        # a trial before the run may already have compiled the same shapes for another model
        dynamo.recompile_limit = max(dynamo.recompile_limit, 2 * MAX_PACKED_SHAPES)

    def loss(self, model: nn.Module, micro_batch: BatchT, counts: Tensor) -> tuple[Tensor, Tensor]:
        """Return what the objective's `loss` returns."""
        loss = self._loss if model.training else self.eager.loss
        return loss(model, micro_batch, counts)
