"""Writes step-00000003/, a checkpoint of today's format, which later versions must load.

Run once from the repository's root: `python tests/training/golden/make_checkpoint.py`.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path

from bert_scratch.pretraining.pretrain import pretrain
from bert_scratch.pretraining.pretrain_config import PretrainConfig

HERE = Path(__file__).resolve().parent


def main() -> None:
    documents = ["\n".join(f"The cat {i} sees dog {j}." for j in range(4)) for i in range(40)]
    with tempfile.TemporaryDirectory() as scratch:
        os.chdir(scratch)  # so that no path of this machine is stored
        Path("text.txt").write_text("\n\n".join(documents), encoding="utf-8")
        settings = PretrainConfig(
            corpus=("text.txt",),
            output_dir="run",
            vocab_size=80,
            eval_fraction=0.1,
            num_processes=1,
            hidden_size=16,
            num_hidden_layers=1,
            num_attention_heads=2,
            intermediate_size=32,
            max_position_embeddings=16,
            max_seq_length=16,
            train_batch_size=4,
            num_train_steps=3,
            device="cpu",
            dtype="float32",
            num_threads=1,
        )
        pretrain(settings)
        target = HERE / "step-00000003"
        shutil.rmtree(target, ignore_errors=True)
        shutil.copytree(Path("run/checkpoints/step-00000003"), target)


if __name__ == "__main__":
    main()
