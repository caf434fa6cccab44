"""Pins that a folder is loaded with each head it has. Run alone:
`pytest tests/inference/test_whole_model.py`.
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from tokenizers import Tokenizer

from bert_scratch.config import InputError
from bert_scratch.data.wordpiece import TokenizerFolder
from bert_scratch.inference.whole_model import load_whole_model
from bert_scratch.model.encoder import BertModel
from bert_scratch.model.heads import BertForMaskedLM, BertForPreTraining


def test_folder_is_loaded_with_the_heads_it_has(
    folder: Path, model: BertForPreTraining, tokenizer: Tokenizer, tmp_path: Path
) -> None:
    masked = BertForMaskedLM.from_pretrained(folder)
    without_pooler = BertModel(model.config, add_pooling_layer=False)
    for given in (model, masked, model.bert, without_pooler):
        given.save_pretrained(tmp_path, TokenizerFolder(tokenizer))
        found, found_tokenizer = load_whole_model(str(tmp_path))
        assert type(found) is type(given)
        assert found_tokenizer.get_vocab() == tokenizer.get_vocab()


def test_folder_that_does_not_fit_is_refused(folder: Path, tmp_path: Path) -> None:
    for path in folder.iterdir():
        if path.is_file():
            (tmp_path / path.name).write_bytes(path.read_bytes())
    config = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps(config | {"intermediate_size": 40}))
    with pytest.raises(InputError, match=r"intermediate.dense.* has shape"):
        load_whole_model(str(tmp_path))
