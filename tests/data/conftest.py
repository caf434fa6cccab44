"""A small corpus whose order of sentences is known, its tokenizer and its store."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
from tokenizers import Tokenizer

from bert_scratch.data.encoding import encode_texts
from bert_scratch.data.shard import SPLITS, write_shard
from bert_scratch.data.store import TokenStore, write_manifest
from bert_scratch.data.vocabulary import train_tokenizer
from bert_scratch.data.wordpiece import save_tokenizer, vocab_size_of

Corpus = list[list[str]]

WORDS = (
    "apple bridge candle dragon engine forest garden hammer island jacket kettle ladder mirror "
    "needle orange pencil quarry ribbon saddle temple umbrella valley window yellow zebra"
).split()


@pytest.fixture(scope="session")
def documents() -> Corpus:
    """60 documents of 1 to 12 sentences; "d7 s3" begins sentence 3 of document 7."""
    draw = random.Random(0)
    return [
        [
            f"d{document} s{sentence} {' '.join(draw.choices(WORDS, k=draw.randint(2, 14)))}."
            for sentence in range(draw.randint(1, 12))
        ]
        for document in range(60)
    ]


@pytest.fixture(scope="session")
def tokenizer(documents: Corpus) -> Tokenizer:
    """A WordPiece tokenizer learned from the documents."""
    return train_tokenizer((sentence for d in documents for sentence in d), 300)


@pytest.fixture(scope="session")
def store_folder(
    documents: Corpus, tokenizer: Tokenizer, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """Two shards: documents 0-29 and 30-59, every fifth held out; not to be written to."""
    folder = tmp_path_factory.mktemp("store")
    vocab_size = vocab_size_of(tokenizer)
    records = []
    for index in range(2):
        part = documents[30 * index : 30 * index + 30]
        record = {}
        for split in SPLITS:
            with write_shard(folder, index, split, vocab_size) as writer:
                for number, sentences in enumerate(part):
                    if (number % 5 == 0) == (split == "eval"):
                        writer.add_document(encode_texts(tokenizer, sentences))
            record[split] = writer.record
        records.append(record)
    write_manifest(folder, records, vocab_size=vocab_size, facts={})
    save_tokenizer(tokenizer, folder / "tokenizer")
    return folder


@pytest.fixture
def store(store_folder: Path) -> TokenStore:
    """The store, freshly opened."""
    return TokenStore(store_folder)
