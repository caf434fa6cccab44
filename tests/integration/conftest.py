"""A small corpus and the smallest run that is still a whole one."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path

import pytest

from bert_scratch.pretraining.pretrain_config import PretrainConfig

SUBJECTS = "cat dog bird fish horse mouse sheep goat".split()
VERBS = "sees hears finds follows likes meets helps calls".split()
PLACES = "garden house river forest market street field kitchen".split()


@pytest.fixture(scope="session")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A text file of 120 documents, each about one animal in one place."""
    draw = random.Random(1)
    documents = []
    for _ in range(120):
        subject, place = draw.choice(SUBJECTS), draw.choice(PLACES)
        lines = [
            f"The {subject} {draw.choice(VERBS)} the {draw.choice(SUBJECTS)} in the {place}."
            for _ in range(draw.randint(5, 12))
        ]
        documents.append("\n".join(lines))
    path = tmp_path_factory.mktemp("corpus") / "animals.txt"
    path.write_text("\n\n".join(documents) + "\n", encoding="utf-8")
    return path


@pytest.fixture
def settings(corpus: Path, tmp_path: Path) -> Callable[..., PretrainConfig]:
    """Return a function that builds the settings of a run of 12 steps, dropout on."""

    def build(name: str = "run", **changes: object) -> PretrainConfig:
        values: dict[str, object] = {
            "corpus": (str(corpus),),
            "documents": "blank-lines",
            "output_dir": str(tmp_path / name),
            "vocab_size": 150,
            "eval_fraction": 0.1,
            "num_processes": 1,
            "hidden_size": 32,
            "num_hidden_layers": 2,
            "num_attention_heads": 2,
            "intermediate_size": 64,
            "max_position_embeddings": 32,
            "max_seq_length": 32,
            "train_batch_size": 8,
            "learning_rate": 1e-3,
            "num_train_steps": 12,
            "num_warmup_steps": 2,
            "logging_steps": 4,
            "eval_steps": 6,
            "save_steps": 5,
            "device": "cpu",
            "dtype": "float32",
            "num_threads": 1,
        }
        return PretrainConfig.from_dict({**values, **changes})

    return build
