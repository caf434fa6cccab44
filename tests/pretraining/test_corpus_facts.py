"""Pins the facts of a prepared corpus.

Anywhere: `pytest tests/pretraining/test_corpus_facts.py`."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest

from bert_scratch.data.shard import SPLITS, write_shard
from bert_scratch.data.store import TokenStore, write_manifest
from bert_scratch.data.wordpiece import SPECIAL_TOKENS, build_tokenizer
from bert_scratch.pretraining.corpus_facts import corpus_facts

VOCAB = (*SPECIAL_TOKENS, "中", "国", "the", "##s")


def test_facts_of_tokens_are_shares_of_the_train_part(tmp_path: Path) -> None:
    train = {"[UNK]": 1, "中": 4, "国": 3, "the": 1, "##s": 1}
    parts = {"train": [VOCAB.index(token) for token in train for _ in range(train[token])]}
    record = {}
    for split in SPLITS:
        with write_shard(tmp_path, 0, split, len(VOCAB)) as writer:
            writer.add_document([np.array(parts.get(split, [VOCAB.index("the")]))])
        record[split] = writer.record
    write_manifest(tmp_path, [record], vocab_size=len(VOCAB), facts={})
    tokenizer = build_tokenizer(
        {token: number for number, token in enumerate(VOCAB)},
        lowercase=False,
        strip_accents=False,
        nfc=True,
    )
    facts = corpus_facts(TokenStore(tmp_path), tokenizer)
    assert (facts.train_tokens, facts.eval_tokens) == (10, 1)
    assert facts.unknown_share == pytest.approx(0.1)
    assert facts.ideograph_share == pytest.approx(0.7)
    shares = [0.1, 0.4, 0.3, 0.1, 0.1]
    assert facts.unigram_entropy == pytest.approx(-sum(x * math.log(x) for x in shares))
