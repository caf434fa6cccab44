"""Pins that a checkpoint is whole or absent, verified before use, and enough to go on from.
CPU only: `pytest tests/training/test_checkpoint.py`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from bert_scratch.batch import Batch
from bert_scratch.model.heads import BertForPreTraining
from bert_scratch.training.checkpoint import (
    MANIFEST,
    checkpoint_folders,
    find_checkpoint,
    load_optimizer,
    problem_with,
    save_checkpoint,
    step_of,
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

    def at(step: int, keep: int = 2, also_keep: tuple[int, ...] = ()) -> Path:
        return save_checkpoint(
            tmp_path / "checkpoints",
            step=step,
            model=model,
            optimizer=optimizer,
            tokenizer=tokenizer,
            state={"tokens": 5},
            keep=keep,
            also_keep=also_keep,
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


@pytest.mark.parametrize("length", [0, 1, 8, 0.5, -3])
@pytest.mark.parametrize("name", ["model.safetensors", "optimizer.safetensors", MANIFEST])
def test_truncation_to_any_length_is_found(
    save: Any, tmp_path: Path, name: str, length: float
) -> None:
    older, newer = save(1), save(2)
    content = (newer / name).read_bytes()
    end = int(length * len(content)) if length == 0.5 else int(length)
    (newer / name).write_bytes(content[:end])
    found, problems = find_checkpoint(tmp_path / "checkpoints")
    assert found == older
    assert len(problems) == 1 and newer.name in problems[0] and name in problems[0]


def test_broken_checkpoint_of_a_later_step_does_not_count_as_kept(
    save: Any, tmp_path: Path
) -> None:
    save(10), save(20)
    root = tmp_path / "checkpoints"
    (root / "step-00000020" / "model.safetensors").write_bytes(b"")
    whole = save(15, keep=1)  # of a run that went on from step 10
    assert find_checkpoint(root) == (whole, [])
    assert checkpoint_folders(root) == [whole]


def test_steps_to_keep_are_kept_beside_the_newest(save: Any, tmp_path: Path) -> None:
    for step in range(1, 6):
        save(step, keep=2, also_keep=(2,))
    assert [step_of(f) for f in checkpoint_folders(tmp_path / "checkpoints")] == [2, 4, 5]


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
