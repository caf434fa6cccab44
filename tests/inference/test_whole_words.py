"""Pins what a word is and how words are compared. CPU: `pytest
tests/inference/test_whole_words.py`."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer

from bert_scratch.data.encoding import encode_with_offsets
from bert_scratch.inference.whole_words import fold, folded_words, tokens_of_words, word_spans


def test_marks_and_ideographs_are_words_of_their_own() -> None:
    text = "The café's 北京, 3.5"
    spans = word_spans([text])[0]
    words = [text[start:end] for start, end in spans]
    assert words == ["The", "café", "'", "s", "北", "京", ",", "3", ".", "5"]


def test_words_are_compared_without_case_and_accents() -> None:
    assert folded_words(["The CAFÉ"]) == [["the", "cafe"]]
    assert fold("CAFÉ") == "cafe"


def test_tokens_belong_to_the_word_they_overlap(tokenizer: Tokenizer) -> None:
    text = "believables, q cat"
    encoding = encode_with_offsets(tokenizer, [text])[0]
    tokens = tokens_of_words(encoding.offsets, word_spans([text])[0])
    pieces = [[encoding.tokens[token] for token in own] for own in tokens]
    assert pieces == [["believ", "##able", "##s"], [","], ["[UNK]"], ["cat"]]


Spans = list[tuple[int, int]]


@st.composite
def apart(draw: st.DrawFn) -> Spans:
    borders = sorted(draw(st.sets(st.integers(0, 40), max_size=16)))
    return list(zip(borders[::2], borders[1::2], strict=False))


@given(offsets=apart(), words=apart())
def test_overlaps_are_found_as_by_comparing_all(offsets: Spans, words: Spans) -> None:
    every = [
        [n for n, (a, b) in enumerate(offsets) if a < end and start < b] for start, end in words
    ]
    assert tokens_of_words(offsets, words) == every
