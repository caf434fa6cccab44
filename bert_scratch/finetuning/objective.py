"""A task's loss as the training loop sees it."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from bert_scratch.finetuning.rows import RowBatch
from bert_scratch.finetuning.task import Task


class TaskObjective:
    """The mean of a task's loss over the labels of a step.

    Args:
        task: the task whose loss is minimised.
    """

    sum_names = ("loss", "weight")

    def __init__(self, task: Task[Any, Any]) -> None:
        self._task = task

    def counts(self, batch: RowBatch) -> Tensor:
        """Return [1] float32, the divisor of the step's summed loss."""
        return torch.tensor([max(self._task.loss_weight(batch), 1e-9)])

    def loss(
        self, model: nn.Module, micro_batch: RowBatch, counts: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Return a micro-batch's part of the step's loss, and its sums for the log."""
        logits = self._task.logits(model, micro_batch).float()
        total = self._task.loss(logits, micro_batch)
        weight = torch.full_like(total, self._task.loss_weight(micro_batch))
        return total / counts[0], torch.stack([total.detach(), weight])

    def means(self, sums: list[float]) -> dict[str, float]:
        """Return the mean loss."""
        total, weight = sums
        return {"loss": total / max(weight, 1e-9)}
