"""Pins what new rows and word vectors make of a model's first weights.
Anywhere: `pytest tests/pretraining/test_starting_model.py`."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from tokenizers import Tokenizer
from tokenizers.models import WordPiece

from bert_scratch.config import BertConfig, InputError
from bert_scratch.data.shard import write_shard
from bert_scratch.data.store import TokenStore, write_manifest
from bert_scratch.inference.word_embeddings import InitialEmbeddings
from bert_scratch.model.heads import BertForPreTraining
from bert_scratch.pretraining.pretrain_config import PretrainConfig
from bert_scratch.pretraining.starting_model import (
    check_initial_model,
    drawn_model,
    with_new_rows,
    word_vectors_of,
)

SHAPE = BertConfig(
    vocab_size=12,
    hidden_size=8,
    num_hidden_layers=1,
    num_attention_heads=2,
    intermediate_size=16,
    max_position_embeddings=8,
)
IDS = torch.tensor([[2, 7, 9, 8, 3]])


def model() -> BertForPreTraining:
    torch.manual_seed(0)
    made = BertForPreTraining(SHAPE)
    torch.nn.init.normal_(made.mlm_head.decoder.bias)
    return made.eval()


def test_new_rows_are_means_and_nothing_else_changes() -> None:
    before = model()
    after = with_new_rows(before, {12: [6, 7], 13: [8]}, train_pad_row=False)
    assert after.config.vocab_size == 14 and not after.training
    assert after.mlm_head.decoder.weight is after.bert.embeddings.word_embeddings.weight
    old, new = before(IDS).prediction_logits, after(IDS).prediction_logits
    torch.testing.assert_close(new[..., :12], old)
    torch.testing.assert_close(new[..., 12], old[..., 6:8].mean(dim=-1))
    torch.testing.assert_close(new[..., 13], old[..., 8])


def test_a_model_with_fewer_rows_than_its_own_tokenizer_is_refused(tmp_path: Path) -> None:
    tokens = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *"abcdefgh"]
    model().save_pretrained(tmp_path)
    (tmp_path / "vocab.txt").write_text("\n".join(tokens[: SHAPE.vocab_size]) + "\n")
    check_initial_model(PretrainConfig(init_checkpoint=str(tmp_path)))
    (tmp_path / "vocab.txt").write_text("\n".join(tokens) + "\n")
    for added in ((), ("kitchen",)):
        config = PretrainConfig(init_checkpoint=str(tmp_path), add_tokens=added)
        with pytest.raises(
            InputError, match="has 12 word embeddings, but its own tokenizer has 13"
        ):
            check_initial_model(config)


def test_spare_rows_behind_the_vocabulary_are_used_first() -> None:
    before = model()
    after = with_new_rows(before, {10: [6, 7]}, train_pad_row=False)
    assert after.config.vocab_size == 12
    rows = [m.bert.embeddings.word_embeddings.weight for m in (before, after)]
    torch.testing.assert_close(rows[1][10], rows[0][6:8].mean(dim=0))
    assert torch.equal(rows[1][11], rows[0][11])


@pytest.mark.parametrize(
    ("source", "kind"), [(None, "drawn"), ("none", "drawn"), ("corpus", "counted")]
)
def test_word_vectors_are_counted_where_the_corpus_is_asked_for(
    source: str | None, kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "corpus").write_text("a file of that name is not read")
    monkeypatch.chdir(tmp_path)
    with write_shard(tmp_path, 0, "train", SHAPE.vocab_size) as train:
        train.add_document([np.array([5, 6, 7, 5, 6, 8])])
    with write_shard(tmp_path, 0, "eval", SHAPE.vocab_size) as held_out:
        held_out.add_document([np.array([5, 6])])
    record = {"train": train.record, "eval": held_out.record}
    write_manifest(tmp_path, [record], vocab_size=SHAPE.vocab_size, facts={})
    config = PretrainConfig(init_word_vectors=source)
    vectors = word_vectors_of(config, SHAPE, Tokenizer(WordPiece()), TokenStore(tmp_path))
    assert (vectors is not None) == (kind == "counted")
    if vectors is not None:
        assert vectors() is vectors() and vectors().decoder_bias is not None


def test_word_vectors_take_the_place_of_their_rows_alone() -> None:
    config = PretrainConfig(initializer="normal", train_pad_row=False)
    vectors = np.arange(16, dtype=np.float32).reshape(2, 8)
    found = InitialEmbeddings(np.array([5, 9]), vectors, "")
    torch.manual_seed(0)
    drawn = drawn_model(config, SHAPE, None).state_dict()
    torch.manual_seed(0)
    started = drawn_model(config, SHAPE, found).state_dict()
    name = "bert.embeddings.word_embeddings.weight"
    assert torch.equal(started[name][[5, 9]], torch.from_numpy(vectors))
    others = [row for row in range(12) if row not in (5, 9)]
    assert torch.equal(started[name][others], drawn[name][others])
    changed = {key for key in drawn if not torch.equal(drawn[key], started[key])}
    assert changed == {name, "mlm_head.decoder.weight"}
