"""Pins how words and characters are counted: as `tokenizers` cuts them.

Run alone: pytest tests/data/test_counting.py.
"""

from __future__ import annotations

import sys
import unicodedata
from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import normalizers, pre_tokenizers

from bert_scratch.data import counting
from bert_scratch.data.counting import blocks_of, count_text

NORMALIZER = normalizers.BertNormalizer(lowercase=False, strip_accents=False)
PRE_TOKENIZER = pre_tokenizers.BertPreTokenizer()


def assert_counted_as_tokenizers_cuts(text: str) -> None:
    normal = NORMALIZER.normalize_str(text)
    expected = Counter(word for word, _ in PRE_TOKENIZER.pre_tokenize_str(normal))
    counts = count_text([text], NORMALIZER.normalize_str)
    assert counts.words == {word: n for word, n in expected.items() if len(word) <= 100}
    assert counts.num_long_words == expected.total() - counts.words.total()
    assert counts.characters == Counter(normal.replace(" ", ""))


@settings(deadline=None)  # the first call looks at every character of Unicode
@given(st.text(st.characters(exclude_categories=["Cs"])))
def test_words_are_counted_as_tokenizers_cuts_them(text: str) -> None:
    assert_counted_as_tokenizers_cuts(text)


def test_every_character_cuts_words_as_in_tokenizers() -> None:
    characters = map(chr, range(sys.maxunicode + 1))
    assert_counted_as_tokenizers_cuts(
        " ".join(f"a{c}b" for c in characters if unicodedata.category(c) not in ("Cn", "Co", "Cs"))
    )


def test_blocks_hold_all_the_text_and_are_cut_at_spaces() -> None:
    texts = ["short", "word " * 20_000, "x" * 40_000, ""]
    found = list(blocks_of(texts))
    assert "".join(found).replace(" ", "") == "".join(texts).replace(" ", "")
    assert max(map(len, found)) < 40_000
    assert sum(block.count("word") for block in found) == 20_000


def test_text_is_counted_the_same_in_one_go_and_in_many(monkeypatch: pytest.MonkeyPatch) -> None:
    texts = [f"word{n % 97} 中文{n % 7}, and so on." for n in range(3000)]
    at_once = count_text(texts, NORMALIZER.normalize_str)
    monkeypatch.setattr(counting, "_BLOCKS_AT_ONCE", 7)
    assert count_text(texts, NORMALIZER.normalize_str) == at_once


def test_of_too_many_words_the_frequent_ones_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(counting, "_STRETCHES_AT_ONCE", 1_000)
    texts = [f"rare{n:05d} common{n % 10} usual{n % 100:02d}" for n in range(20_000)]
    monkeypatch.setattr(counting, "MAX_WORDS_WEIGHT", 5_000)
    counts = count_text(texts, NORMALIZER.normalize_str)
    assert sum(len(word) + counting.WORD_WEIGHT for word in counts.words) <= 5_000
    common = {word: n for word, n in counts.words.items() if not word.startswith("rare")}
    assert common == {
        **{f"common{n}": 2_000 for n in range(10)},
        **{f"usual{n:02d}": 200 for n in range(100)},
    }
    assert counts.characters["c"] == 20_000


def test_of_equally_rare_words_those_kept_come_from_all_over_the_text(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(counting, "MAX_WORDS_WEIGHT", 13 * 1_000)
    texts = [f"w{n:04d}" for n in range(4_000)]
    kept = count_text(texts, NORMALIZER.normalize_str).words
    per_quarter = Counter(int(word[1:]) // 1_000 for word in kept)
    assert kept.total() == 1_000
    assert all(200 < per_quarter[quarter] < 300 for quarter in range(4))
