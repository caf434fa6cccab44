"""Pins that a checkpoint an earlier version wrote is still whole, loads, and can be gone on from.
CPU only: `pytest tests/training/test_golden_checkpoint.py`."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from bert_scratch.config import read_json_object
from bert_scratch.data.wordpiece import load_tokenizer
from bert_scratch.model.heads import BertForPreTraining
from bert_scratch.pretraining.pretrain_config import PretrainConfig
from bert_scratch.pretraining.resume import progress_of
from bert_scratch.training.checkpoint import find_checkpoint, load_optimizer
from bert_scratch.training.optimizer import build_optimizer, moments

GOLDEN = Path(__file__).parent / "golden"


@pytest.fixture
def folder() -> Path:
    found, problems = find_checkpoint(GOLDEN)
    assert found is not None and problems == []
    return found


def test_its_state_and_settings_are_understood(folder: Path) -> None:
    progress = progress_of(folder)
    assert (progress.step, progress.skipped) == (3, 0)
    assert progress.tokens > 0 and progress.elapsed_s > 0
    config = PretrainConfig.from_dict(read_json_object(folder / "state.json")["config"])
    assert (config.num_train_steps, config.hidden_size) == (3, 16)
    assert load_tokenizer(folder).get_vocab_size() <= 80


def test_its_weights_and_moments_are_those_that_were_written(folder: Path) -> None:
    model = BertForPreTraining.from_pretrained(folder)
    optimizer = build_optimizer(
        model, learning_rate=0.1, weight_decay=0.0, betas=(0.9, 0.98), epsilon=1e-6,
        bias_correction=True,
    )  # fmt: skip
    load_optimizer(folder, model, optimizer, num_updates=3)
    loaded = moments(model, optimizer)
    sums = [sum(t.double().abs().sum().item() for t in group.values()) for group in loaded.values()]
    weights = sum(p.double().abs().sum().item() for p in model.parameters())
    assert [weights, *sums] == pytest.approx(EXPECTED, rel=1e-12)
    for parameter in model.parameters():
        parameter.grad = torch.ones_like(parameter)
    optimizer.step()
    assert all(torch.isfinite(parameter).all() for parameter in model.parameters())


EXPECTED = [642.942447984243, 6.701076996374605, 0.05880797304232446]
