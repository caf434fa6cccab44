"""Saves a checkpoint over another again and again, each time killed at the next system call.

Run by test_checkpoint_failures.py in a process of its own, since it forks: prints one JSON object.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import sys
from pathlib import Path
from typing import Any

import torch

sys.path.insert(0, str(Path(__file__).parent))
from system_calls import going_wrong

from bert_scratch.config import BertConfig
from bert_scratch.model.heads import BertForPreTraining
from bert_scratch.training.checkpoint import find_checkpoint, save_checkpoint
from bert_scratch.training.optimizer import build_optimizer


class WritesOneFile:
    def save_pretrained(self, folder: Path) -> None:
        (folder / "tokenizer.json").write_text("{}", encoding="utf-8")


def kill_myself() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def main(scratch: Path) -> dict[str, Any]:
    torch.set_num_threads(1)
    config = BertConfig(
        vocab_size=30, hidden_size=8, num_hidden_layers=1, num_attention_heads=1,
        intermediate_size=8, max_position_embeddings=8,
    )  # fmt: skip
    model = BertForPreTraining(config)
    optimizer = build_optimizer(
        model, learning_rate=0.1, weight_decay=0.0, betas=(0.9, 0.99), epsilon=1e-6,
        bias_correction=True,
    )  # fmt: skip
    for parameter in model.parameters():
        parameter.grad = torch.ones_like(parameter)
    optimizer.step()

    def save(root: Path, step: int) -> None:
        save_checkpoint(
            root, step=step, model=model, optimizer=optimizer, tokenizer=WritesOneFile(),
            state={}, keep=1,
        )  # fmt: skip

    kills, found = 0, []
    while True:
        root = scratch / f"kill-{kills}"
        save(root, 1)
        child = os.fork()
        if child == 0:
            with going_wrong(kill_myself, kills):
                save(root, 2)
            os._exit(0)
        _, status = os.waitpid(child, 0)
        if os.WIFEXITED(status):
            break
        whole, _ = find_checkpoint(root)
        found.append(None if whole is None else whole.name)
        save(root, 3)  # what is left over is in nobody's way
        after, problems = find_checkpoint(root)
        assert after is not None and after.name == "step-00000003" and not problems
        assert [path.name for path in root.iterdir()] == ["step-00000003"]
        kills += 1
        shutil.rmtree(root)
    return {"kills": kills, "found": found, "exit": os.WEXITSTATUS(status)}


if __name__ == "__main__":
    print(json.dumps(main(Path(sys.argv[1]))))
