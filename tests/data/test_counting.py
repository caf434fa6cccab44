"""Pins how words and characters are counted: as `tokenizers` cuts them.

Run alone: pytest tests/data/test_counting.py.
"""

from __future__ import annotations

import sys
import unicodedata
from collections import Counter

from hypothesis import given
from hypothesis import strategies as st
from tokenizers import normalizers, pre_tokenizers

from bert_scratch.data.counting import CharacterCounts, blocks, count_words

NORMALIZER = normalizers.BertNormalizer(lowercase=False, strip_accents=False)
PRE_TOKENIZER = pre_tokenizers.BertPreTokenizer()


def assert_counted_as_tokenizers_cuts(text: str) -> None:
    normal = NORMALIZER.normalize_str(text)
    expected = Counter(word for word, _ in PRE_TOKENIZER.pre_tokenize_str(normal))
    assert count_words([normal]) == expected


@given(st.text(st.characters(exclude_categories=["Cs"])))
def test_words_are_counted_as_tokenizers_cuts_them(text: str) -> None:
    assert_counted_as_tokenizers_cuts(text)


def test_every_character_cuts_words_as_in_tokenizers() -> None:
    characters = map(chr, range(sys.maxunicode + 1))
    assert_counted_as_tokenizers_cuts(
        "".join(f"a{c}b" for c in characters if unicodedata.category(c) not in ("Cn", "Co", "Cs"))
    )


def test_blocks_hold_all_the_text_and_are_cut_at_spaces() -> None:
    texts = ["short", "word " * 20_000, "x" * 40_000, ""]
    found = list(blocks(texts))
    assert "".join(found).replace("\n", "") == "".join(texts)
    assert max(map(len, found)) < 40_000
    assert sum(block.count("word") for block in found) == 20_000


def test_characters_are_ranked_by_count_then_code_point() -> None:
    counts = CharacterCounts()
    counts.add("bab\U0001f600")
    counts.add("b")
    assert counts.ranked() == [("b", 3), ("a", 1), ("\U0001f600", 1)]
