"""Pins that a checkpoint is whole or absent, verified before use, and enough to go on from.
CPU only: `pytest tests/training/test_checkpoint.py`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from bert_scratch import durable
from bert_scratch.batch import Batch
from bert_scratch.model.heads import BertForPreTraining
from bert_scratch.training.checkpoint import (
    MANIFEST,
    find_checkpoint,
    load_optimizer,
    problem_with,
    save_checkpoint,
)
from bert_scratch.training.objective import PRETRAINING
from bert_scratch.training.optimizer import build_optimizer, clip_and_step


def make_optimizer(model: BertForPreTraining) -> torch.optim.Optimizer:
    return build_optimizer(
        model,
        learning_rate=0.01,
        weight_decay=0.01,
        betas=(0.9, 0.999),
        epsilon=1e-6,
        bias_correction=True,
    )


def take_step(model: BertForPreTraining, optimizer: torch.optim.Optimizer, batch: Batch) -> None:
    loss, _ = PRETRAINING.loss(model, batch, PRETRAINING.counts(batch))
    loss.backward()
    clip_and_step(optimizer, learning_rate=0.01, max_grad_norm=1.0)
    optimizer.zero_grad()


@pytest.fixture
def save(model: BertForPreTraining, batch: Batch, tokenizer: Any, tmp_path: Path) -> Any:
    optimizer = make_optimizer(model)
    take_step(model, optimizer, batch)

    def at(step: int, keep: int = 2) -> Path:
        return save_checkpoint(
            tmp_path / "checkpoints",
            step=step,
            model=model,
            optimizer=optimizer,
            tokenizer=tokenizer,
            state={"tokens": 5},
            keep=keep,
        )

    at.optimizer = optimizer  # type: ignore[attr-defined]
    return at


def test_checkpoint_is_a_model_folder_with_moments_and_state(save: Any) -> None:
    folder = save(7)
    assert folder.name == "step-00000007"
    assert {path.name for path in folder.iterdir()} == {
        "config.json",
        "manifest.json",
        "model.safetensors",
        "optimizer.safetensors",
        "state.json",
        "tokenizer.json",
    }
    assert problem_with(folder) is None
    assert json.loads((folder / "state.json").read_text())["step"] == 7
    assert isinstance(BertForPreTraining.from_pretrained(folder), BertForPreTraining)


def test_step_after_loading_is_bit_identical(
    save: Any, model: BertForPreTraining, batch: Batch
) -> None:
    folder = save(1)
    resumed = BertForPreTraining.from_pretrained(folder).train()
    optimizer = make_optimizer(resumed)
    load_optimizer(folder, resumed, optimizer, num_updates=1)
    take_step(model, save.optimizer, batch)
    take_step(resumed, optimizer, batch)
    for (name, a), (_, b) in zip(model.named_parameters(), resumed.named_parameters(), strict=True):
        assert torch.equal(a, b), name


def test_decoder_stays_tied_after_loading(save: Any) -> None:
    resumed = BertForPreTraining.from_pretrained(save(1))
    assert resumed.mlm_head.decoder.weight is resumed.bert.embeddings.word_embeddings.weight


def test_only_the_newest_are_kept(save: Any, tmp_path: Path) -> None:
    for step in (1, 2, 3):
        save(step, keep=2)
    names = sorted(path.name for path in (tmp_path / "checkpoints").iterdir())
    assert names == ["step-00000002", "step-00000003"]


@pytest.mark.parametrize(
    "name", ["model.safetensors", "optimizer.safetensors", "state.json", "config.json", MANIFEST]
)
@pytest.mark.parametrize("harm", ["truncate", "flip", "remove"])
def test_harmed_newest_is_named_and_the_one_before_found(
    save: Any, tmp_path: Path, name: str, harm: str
) -> None:
    older, newer = save(1), save(2)
    path = newer / name
    content = bytearray(path.read_bytes())
    if harm == "remove":
        path.unlink()
    elif harm == "truncate":
        path.write_bytes(content[: len(content) // 2])
    else:
        content[len(content) // 2] ^= 1
        path.write_bytes(content)
    found, problems = find_checkpoint(tmp_path / "checkpoints")
    assert found == older
    assert len(problems) == 1 and newer.name in problems[0] and name in problems[0]


def test_unfinished_folder_is_not_a_checkpoint_and_is_cleared_by_the_next(
    save: Any, tmp_path: Path
) -> None:
    older = save(1)
    unfinished = tmp_path / "checkpoints" / "step-00000002.tmp"
    unfinished.mkdir()
    (unfinished / "model.safetensors").write_bytes(b"half")
    assert find_checkpoint(tmp_path / "checkpoints") == (older, [])
    save(3)
    assert not unfinished.exists()


@pytest.mark.parametrize("failing_call", range(8))
def test_failure_at_any_write_leaves_the_checkpoint_before(
    save: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, failing_call: int
) -> None:
    older = save(1, keep=1)
    calls = 0
    real = durable.fsync

    def fails(path: Path) -> None:
        nonlocal calls
        calls += 1
        if calls == failing_call + 1:
            raise OSError(28, "No space left on device")
        real(path)

    monkeypatch.setattr(durable, "fsync", fails)
    with pytest.raises(OSError, match="No space left"):
        save(2, keep=1)
    found, _ = find_checkpoint(tmp_path / "checkpoints")
    assert found is not None
    assert found == older or problem_with(found) is None


def test_manifest_cannot_name_a_file_outside(save: Any) -> None:
    folder = save(1)
    manifest = json.loads((folder / MANIFEST).read_text())
    manifest["files"]["../outside"] = {"bytes": 1, "sha256": "0"}
    (folder / MANIFEST).write_text(json.dumps(manifest))
    problem = problem_with(folder)
    assert problem is not None and "outside the folder" in problem


def test_saving_a_step_again_leaves_the_whole_checkpoint_untouched(save: Any) -> None:
    folder = save(1, keep=1)
    written = (folder / MANIFEST).stat().st_ino
    assert save(1, keep=1) == folder
    assert (folder / MANIFEST).stat().st_ino == written


def test_no_checkpoint_in_a_folder_that_does_not_exist(tmp_path: Path) -> None:
    assert find_checkpoint(tmp_path / "nowhere") == (None, [])
