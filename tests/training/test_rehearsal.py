"""Pins that the checkpoint before the first step finds what would fail later and leaves nothing.
CPU only: `pytest tests/training/test_rehearsal.py`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from bert_scratch.batch import Batch
from bert_scratch.model.heads import BertForPreTraining
from bert_scratch.training import rehearsal
from bert_scratch.training.objective import PRETRAINING
from bert_scratch.training.optimizer import build_optimizer, clip_and_step
from bert_scratch.training.rehearsal import rehearse_checkpoint


@pytest.fixture
def optimizer(model: BertForPreTraining, batch: Batch) -> torch.optim.Optimizer:
    made = build_optimizer(
        model, learning_rate=0.01, weight_decay=0.01, betas=(0.9, 0.999), epsilon=1e-6,
        bias_correction=True,
    )  # fmt: skip
    loss, _ = PRETRAINING.loss(model, batch, PRETRAINING.counts(batch))
    loss.backward()
    clip_and_step(made, learning_rate=0.01, max_grad_norm=1.0)
    return made


def test_rehearsal_measures_and_leaves_nothing(
    model: BertForPreTraining, optimizer: Any, tokenizer: Any, tmp_path: Path
) -> None:
    root = tmp_path / "rehearsal"
    cost = rehearse_checkpoint(root, model=model, optimizer=optimizer, tokenizer=tokenizer)
    assert cost.num_parameters == sum(p.numel() for p in model.parameters())
    assert cost.num_bytes > 12 * cost.num_parameters
    assert cost.write_s > 0 and cost.read_s > 0
    assert not root.exists()


def test_what_is_read_back_differently_is_refused_before_the_run(
    model: BertForPreTraining, optimizer: Any, tokenizer: Any, tmp_path: Path, monkeypatch: Any
) -> None:
    real = rehearsal.read_safetensors

    def bad_disk(path: Path) -> dict[str, torch.Tensor]:
        tensors = real(path)
        first = next(iter(tensors))
        tensors[first] = tensors[first] + 1
        return tensors

    monkeypatch.setattr(rehearsal, "read_safetensors", bad_disk)
    with pytest.raises(OSError, match="not what was written"):
        rehearse_checkpoint(
            tmp_path / "rehearsal", model=model, optimizer=optimizer, tokenizer=tokenizer
        )
    assert not (tmp_path / "rehearsal").exists()
