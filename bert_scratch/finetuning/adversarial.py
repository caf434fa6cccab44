"""Adversarial training: each update also learns from embeddings moved to where the loss grows most.

Letters: R rows, S positions, D hidden.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from bert_scratch.finetuning.objective import TaskObjective
from bert_scratch.finetuning.rows import RowBatch
from bert_scratch.finetuning.task import Task


class AdversarialObjective(TaskObjective):
    """The task's loss, plus that of the same rows with perturbed embeddings.

    Args:
        task: the task whose loss is minimised.
        epsilon: length of each row's perturbation, over all its positions.

    Source:
        Miyato et al. 2017, "Adversarial training methods for semi-supervised text
        classification" (the fast gradient method). Deviation: embeddings are not normalised. The
        paper's epsilon of 5 is 1.6 % of the norm of a row of 400 words of width 256. The default
        here is 1.3 % of that of 128 tokens of BERT-base, and 5 % of that of a sentence in a small
        model of ours, which 1.0 made worse.
    """

    def __init__(self, task: Task[Any, Any], epsilon: float) -> None:
        super().__init__(task)
        self._epsilon = epsilon

    def loss(
        self, model: nn.Module, micro_batch: RowBatch, counts: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Return the sum of both losses, and the sums of the plain one for the log.

        The backward pass that finds the perturbation also adds the plain loss's gradients to those
        of the parameters. The returned loss only adds the gradients of the perturbed rows.
        """
        num_rows = micro_batch.input_ids.flatten(0, -2).shape[0]
        width = model.get_parameter("bert.embeddings.layer_norm.weight").shape[0]
        shape = (num_rows, micro_batch.input_ids.shape[-1], width)
        zero = torch.zeros(shape, device=counts.device, requires_grad=True)
        with _moved(model, zero):
            plain, sums = super().loss(model, micro_batch, counts)
        with torch.autocast(counts.device.type, enabled=False):
            plain.backward()  # type: ignore[no-untyped-call]
        assert zero.grad is not None
        length = zero.grad.flatten(1).norm(dim=1).clamp(min=1e-12)
        with _moved(model, self._epsilon * zero.grad / length[:, None, None]):
            moved, _ = super().loss(model, micro_batch, counts)
        return plain.detach() + moved, sums


@contextmanager
def _moved(model: nn.Module, perturbation: Tensor) -> Iterator[None]:
    """Add [R, S, D] to the embeddings inside the block."""

    def add(_module: nn.Module, arguments: Any, keywords: dict[str, Any]) -> Any:
        return arguments, {**keywords, "extra_embeddings": perturbation}

    embeddings = model.get_submodule("bert.embeddings")
    handle = embeddings.register_forward_pre_hook(add, with_kwargs=True)
    try:
        yield
    finally:
        handle.remove()
