"""Pairs are cut as `tokenizers` cuts them, long texts as asked.
Runs anywhere: `pytest tests/finetuning/test_texts.py`."""

from __future__ import annotations

from pathlib import Path

import pytest
from tokenizers import Tokenizer, models, pre_tokenizers

from bert_scratch.data.wordpiece import load_tokenizer
from bert_scratch.finetuning.texts import encode_text, longest_first


def test_the_longer_text_is_cut_first_as_in_tokenizers() -> None:
    vocab = {"a": 0, "b": 1, "[UNK]": 2}
    tokenizer = Tokenizer(models.WordLevel(vocab, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    for limit in range(1, 9):
        tokenizer.enable_truncation(limit, strategy="longest_first")
        for first in range(11):
            for second in range(11):
                ids = tokenizer.encode(" ".join("a" * first), " ".join("b" * second)).ids
                kept = (ids.count(0), ids.count(1))
                assert longest_first(first, second, limit) == kept


LONG = "good fine great bad poor dull the a film plot actor is was"


@pytest.mark.parametrize(
    ("long_text", "expected"),
    [
        ("truncate", ["good fine great bad poor dull the a"]),
        ("head-tail", ["good fine a film plot actor is was"]),
        (
            "window",
            [
                "good fine great bad poor dull the a",
                "poor dull the a film plot actor is",
                "dull the a film plot actor is was",
            ],
        ),
    ],
)
def test_a_long_text_is_cut_as_asked(folder: Path, long_text: str, expected: list[str]) -> None:
    tokenizer = load_tokenizer(folder)
    (rows, short) = encode_text(tokenizer, [LONG, "a film"], max_seq_length=10, long_text=long_text)
    assert [tokenizer.decode(row.ids[1:-1].tolist()) for row in rows] == expected
    assert [tokenizer.decode(row.ids.tolist()) for row in short] == ["a film"]
