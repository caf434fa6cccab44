"""Pins that a save that fails or is killed at any of its writes, fsyncs and renames leaves a
checkpoint to go on from. CPU only: `pytest tests/training/test_checkpoint_failures.py`."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from bert_scratch.model.heads import BertForPreTraining
from bert_scratch.training.checkpoint import find_checkpoint, load_optimizer, save_checkpoint
from bert_scratch.training.optimizer import build_optimizer

from .system_calls import Harm, disk_broken, disk_full, going_wrong


@pytest.fixture
def save(model: BertForPreTraining, tokenizer: Any, tmp_path: Path) -> Any:
    optimizer = build_optimizer(
        model, learning_rate=0.1, weight_decay=0.0, betas=(0.9, 0.99), epsilon=1e-6,
        bias_correction=True,
    )  # fmt: skip
    for parameter in model.parameters():
        parameter.grad = torch.ones_like(parameter)
    optimizer.step()

    def at(root: Path, step: int) -> Path:
        return save_checkpoint(
            root, step=step, model=model, optimizer=optimizer, tokenizer=tokenizer, state={},
            keep=1,
        )  # fmt: skip

    at.optimizer = optimizer  # type: ignore[attr-defined]
    return at


@pytest.mark.parametrize("harm", [disk_full, disk_broken])
def test_failure_of_any_call_leaves_one_to_go_on_from(
    save: Any, model: BertForPreTraining, tmp_path: Path, harm: Harm
) -> None:
    save(tmp_path / "counted", 1)
    with going_wrong(harm, -1) as counted:
        save(tmp_path / "counted", 2)
    for number, name in enumerate(counted.done):
        root = tmp_path / str(number)
        save(root, 1)
        with going_wrong(harm, number):
            try:
                save(root, 2)
                is_saved = True  # a failure of what only tidies up is none
            except OSError:
                is_saved = False
        whole, _ = find_checkpoint(root)
        assert whole is not None, f"call {number}, {name}: nothing left"
        assert not is_saved or whole.name == "step-00000002"
        BertForPreTraining.from_pretrained(whole)
        load_optimizer(whole, model, fresh(save.optimizer, model), num_updates=1)
        assert save(root, 3).is_dir()
    print(f"{len(counted.done)} calls: {' '.join(counted.done)}")
    assert {"fsync", "rename", "replace", "save_file", "write_text"} <= set(counted.done)


def fresh(optimizer: torch.optim.Optimizer, model: BertForPreTraining) -> torch.optim.Optimizer:
    return type(optimizer)(model.parameters(), lr=0.1)


def test_full_disk_is_given_back_what_was_written(save: Any, tmp_path: Path) -> None:
    root = tmp_path / "checkpoints"
    save(root, 1)
    with going_wrong(disk_full, 20), pytest.raises(OSError, match="No space left"):
        save(root, 2)
    assert [path.name for path in root.iterdir()] == ["step-00000001"]


def test_kill_at_any_call_leaves_one_to_go_on_from(tmp_path: Path) -> None:
    script = Path(__file__).with_name("killed_saves.py")
    ended = subprocess.run(
        [sys.executable, "-W", "ignore", str(script), str(tmp_path)],
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert ended.returncode == 0, ended.stderr
    told = json.loads(ended.stdout)
    assert told["kills"] > 30 and told["exit"] == 0
    assert set(told["found"]) == {"step-00000001", "step-00000002"}
