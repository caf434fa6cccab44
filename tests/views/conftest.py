"""A small model with random weights and its tokenizer, as folders; and a browser."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from tokenizers import Tokenizer

from bert_scratch.config import BertConfig
from bert_scratch.data.wordpiece import TokenizerFolder, build_tokenizer
from bert_scratch.model.heads import BertForPreTraining

WORDS = (
    "the cat dog sees finds a garden house in . , ! ? < > / ( ) 1 script al ##er ##t 北 京 天 气"
)


@pytest.fixture(scope="session")
def tokenizer() -> Tokenizer:
    tokens = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *WORDS.split()]
    vocab = {token: index for index, token in enumerate(tokens)}
    return build_tokenizer(vocab, lowercase=True, strip_accents=False, nfc=False)


@pytest.fixture(scope="session")
def model(tokenizer: Tokenizer) -> BertForPreTraining:
    torch.manual_seed(4)
    config = BertConfig(
        vocab_size=tokenizer.get_vocab_size(),
        hidden_size=24,
        num_hidden_layers=2,
        num_attention_heads=3,
        intermediate_size=48,
        max_position_embeddings=160,
    )
    model = BertForPreTraining(config).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter), alpha=0.2)
    return model


@pytest.fixture(scope="session")
def model_folder(
    model: BertForPreTraining, tokenizer: Tokenizer, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    path = tmp_path_factory.mktemp("views") / "model"
    model.save_pretrained(path, TokenizerFolder(tokenizer))
    return path


@pytest.fixture(scope="session")
def browser() -> Iterator[Any]:
    """The Chromium of the machine, without a window."""
    playwright = pytest.importorskip("playwright.sync_api")
    path = shutil.which("chromium") or shutil.which("chromium-browser")
    if path is None:
        pytest.skip("this machine has no chromium")
    with playwright.sync_playwright() as started:
        opened = started.chromium.launch(executable_path=path, args=["--no-sandbox"])
        yield opened
        opened.close()
