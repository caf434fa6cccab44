"""A small pretrained model beside a real tokenizer, and files of labelled texts it can learn."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from bert_scratch.config import BertConfig
from bert_scratch.data.wordpiece import TokenizerFolder, build_tokenizer
from bert_scratch.finetuning.finetune_config import FinetuneConfig
from bert_scratch.model.heads import BertForPreTraining

GOOD, BAD, OTHERS = "good fine great", "bad poor dull", 'the a film plot actor is was . and " not'
SEED = 11


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model folder with pretraining heads, as `pretrain` leaves it."""
    words = f"{GOOD} {BAD} {OTHERS}".split()
    tokens = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *words, *"xyz", "##x", "##y", "##z"]
    vocab = {token: index for index, token in enumerate(tokens)}
    tokenizer = build_tokenizer(vocab, lowercase=True, strip_accents=False, nfc=False)
    torch.manual_seed(SEED)
    config = BertConfig(
        vocab_size=len(vocab),
        hidden_size=24,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=48,
        max_position_embeddings=40,
        initializer_range=0.1,
    )
    path = tmp_path_factory.mktemp("finetuning") / "model"
    BertForPreTraining(config).save_pretrained(path, TokenizerFolder(tokenizer))
    return path


def reviews(num_rows: int, seed: int) -> list[tuple[str, str]]:
    """Return texts that say in one word whether they are good."""
    draw = random.Random(seed)
    rows = []
    for _ in range(num_rows):
        label = draw.choice(["0", "1"])
        words = draw.choices(OTHERS.split(), k=draw.randint(2, 14))
        words.insert(draw.randint(0, len(words)), draw.choice((BAD, GOOD)[int(label)].split()))
        rows.append((" ".join(words), label))
    return rows


@pytest.fixture
def write(tmp_path: Path) -> Callable[[str, str], str]:
    """Write a file of examples; returns its path."""

    def to(name: str, text: str) -> str:
        (tmp_path / name).write_text(text, encoding="utf-8")
        return str(tmp_path / name)

    return to


@pytest.fixture
def settings(
    folder: Path, tmp_path: Path, write: Callable[[str, str], str]
) -> Callable[..., FinetuneConfig]:
    """Return the settings of a run that learns in a second which reviews are good."""

    def table(num_rows: int, seed: int) -> str:
        return "sentence\tlabel\n" + "".join(f"{t}\t{n}\n" for t, n in reviews(num_rows, seed))

    files = {
        "train_file": write("train.tsv", table(96, 0)),
        "eval_file": write("dev.tsv", table(40, 1)),
        "test_file": write("test.tsv", "sentence\na good film\nthe plot was dull\n"),
    }

    def of(name: str = "run", **changes: Any) -> FinetuneConfig:
        values: dict[str, Any] = {
            "task": "classification",
            "model": str(folder),
            "output_dir": str(tmp_path / name),
            "num_train_epochs": 4,
            "learning_rate": 3e-3,
            "train_batch_size": 16,
            "max_seq_length": 24,
            "dtype": "float32",
            "device": "cpu",
            "num_threads": 1,
            **files,
        }
        return FinetuneConfig(**(values | changes))

    return of
