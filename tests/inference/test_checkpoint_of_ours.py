"""Pins that the model in data/ is small, loads here and in transformers, and has learned.
Run alone: `pytest tests/inference/test_checkpoint_of_ours.py`.
"""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from bert_scratch.inference.fill_mask import fill_mask
from bert_scratch.inference.inputs import load_with_tokenizer
from bert_scratch.model.heads import BertForPreTraining
from bert_scratch.testing import compare_with_huggingface


def test_the_checkpoint_takes_at_most_three_megabytes(repository: Path) -> None:
    files = (repository / "data" / "checkpoint").rglob("*")
    assert sum(path.stat().st_size for path in files if path.is_file()) <= 3_000_000


def test_the_checkpoint_is_read_as_float32_and_fills_in_what_fits(repository: Path) -> None:
    model, tokenizer = load_with_tokenizer(
        BertForPreTraining, str(repository / "data" / "checkpoint")
    )
    assert {parameter.dtype for parameter in model.parameters()} == {torch.float32}
    guesses = fill_mask(model, tokenizer, "If the file does not [MASK], it is created.", 4)[0]
    assert "exist" in [guess.token for guess in guesses]


def test_the_checkpoint_is_the_same_in_transformers(repository: Path) -> None:
    pytest.importorskip("transformers")
    text = "Return a new list. The items are sorted in place."
    found = compare_with_huggingface(repository / "data" / "checkpoint", text)
    assert found.max_difference < 1e-4
