"""Small models with random weights beside a real tokenizer, as folders."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from tokenizers import Tokenizer

from bert_scratch.config import BertConfig
from bert_scratch.data.wordpiece import TokenizerFolder, build_tokenizer
from bert_scratch.model.heads import BertForPreTraining

WORDS = "the cat dog sees finds a garden house in . , ! ? un believ ##able ##s ##er é 北 京 x y z"
NUM_EXTRA_ROWS = 3


@pytest.fixture(scope="session")
def tokenizer() -> Tokenizer:
    tokens = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *WORDS.split(), *"bcdfgh"]
    vocab = {token: index for index, token in enumerate(tokens)}
    return build_tokenizer(vocab, lowercase=True, strip_accents=False, nfc=False)


@pytest.fixture(scope="session")
def model(tokenizer: Tokenizer) -> BertForPreTraining:
    """A model with a few more embeddings than the tokenizer has tokens."""
    torch.manual_seed(4)
    config = BertConfig(
        vocab_size=tokenizer.get_vocab_size() + NUM_EXTRA_ROWS,
        hidden_size=24,
        num_hidden_layers=2,
        num_attention_heads=3,
        intermediate_size=48,
        max_position_embeddings=31,
    )
    model = BertForPreTraining(config).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter), alpha=0.2)
    return model


@pytest.fixture(scope="session")
def folder(
    model: BertForPreTraining, tokenizer: Tokenizer, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    path = tmp_path_factory.mktemp("inference") / "model"
    model.save_pretrained(path, TokenizerFolder(tokenizer))
    return path


@pytest.fixture(scope="session")
def old_folder(
    folder: Path, tokenizer: Tokenizer, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """The same model as Hugging Face kept it once: vocab.txt, no tokenizer.json."""
    path = tmp_path_factory.mktemp("inference") / "old"
    path.mkdir()
    for name in ("config.json", "model.safetensors", "vocab.txt"):
        (path / name).write_bytes((folder / name).read_bytes())
    (path / "tokenizer_config.json").write_text('{"do_lower_case": true, "strip_accents": false}')
    return path
