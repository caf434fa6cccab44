"""The fast gradient method moves embeddings where the loss grows, and adds that loss.
Runs anywhere: `pytest tests/finetuning/test_adversarial.py`."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from bert_scratch.finetuning.adversarial import AdversarialObjective
from bert_scratch.finetuning.assemble import assemble
from bert_scratch.finetuning.finetune_config import FinetuneConfig
from bert_scratch.finetuning.objective import TaskObjective


@pytest.mark.parametrize("epsilon", [0.05, 0.5])
def test_moved_embeddings_have_a_larger_loss(
    settings: Callable[..., FinetuneConfig], epsilon: float
) -> None:
    parts = assemble(settings(dropout=0.0))
    model, batch = parts.build_model(), next(parts.batches(0))
    counts = torch.tensor([16.0])
    plain, sums = TaskObjective(parts.task).loss(model, batch, counts)
    both, sums_beside = AdversarialObjective(parts.task, epsilon).loss(model, batch, counts)
    assert both.item() > 2 * plain.item()
    torch.testing.assert_close(sums, sums_beside)
    both.backward()
    assert all(p.grad is not None for p in model.parameters())
    again, _ = TaskObjective(parts.task).loss(model, batch, counts)
    torch.testing.assert_close(plain, again)
