"""Count the characters and the words of a text, as BERT cuts them."""

from __future__ import annotations

import re
import sys
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from functools import cache

import numpy as np
from tokenizers import pre_tokenizers

_BLOCK_CHARACTERS = 1 << 14
_NUM_CODE_POINTS = 0x110000


def blocks(texts: Iterable[str]) -> Iterator[str]:
    """Join texts into blocks of equal length, cut at white space where a text is longer."""
    parts: list[str] = []
    size = 0
    for text in texts:
        for part in _cut(text):
            parts.append(part)
            size += len(part) + 1
            if size >= _BLOCK_CHARACTERS:
                yield "\n".join(parts)
                parts, size = [], 0
    if parts:
        yield "\n".join(parts)


def _cut(text: str) -> Iterator[str]:
    start = 0
    while len(text) - start > _BLOCK_CHARACTERS:
        end = start + _BLOCK_CHARACTERS
        space = text.rfind(" ", start, end)
        end = end if space <= start else space
        yield text[start:end]
        start = end
    yield text[start:]


class CharacterCounts:
    """How often each character stands in a text, added up block by block."""

    def __init__(self) -> None:
        """Start with none."""
        self._counts = np.zeros(_NUM_CODE_POINTS, dtype=np.int64)

    def add(self, block: str) -> None:
        """Count the characters of a block; short ones cost as much as long ones."""
        found = np.bincount(np.frombuffer(block.encode("utf-32-le"), dtype="<u4"))
        self._counts[: len(found)] += found

    def ranked(self) -> list[tuple[str, int]]:
        """Return (character, count) of all seen, most frequent first, then by code point."""
        seen = np.flatnonzero(self._counts)
        order = seen[np.argsort(-self._counts[seen], kind="stable")]
        return [(chr(c), int(self._counts[c])) for c in order.tolist()]


def count_words(texts: Iterable[str]) -> Counter[str]:
    """Count the words of texts in which ideographs stand between spaces already.

    Args:
        texts: read once; BertNormalizer's `handle_chinese_chars` puts the spaces there.

    Returns:
        How often each word and each punctuation mark stands there.

    Source:
        `tokenizers` BertPreTokenizer, which takes ten times as long: here only different
        stretches between white space are looked into.
    """
    stretches: Counter[str] = Counter()
    for text in texts:
        stretches.update(text.split())
    equally_frequent: defaultdict[int, list[str]] = defaultdict(list)
    for stretch, count in stretches.items():
        equally_frequent[count].append(stretch)
    pattern = _word_pattern()
    words: Counter[str] = Counter()
    for count, group in equally_frequent.items():
        for word, times in Counter(pattern.findall(" ".join(group))).items():
            words[word] += count * times
    return words


@cache
def _word_pattern() -> re.Pattern[str]:
    """Return what matches one punctuation mark, or a word up to the next mark or space.

    The Unicode tables of `tokenizers` and of Python are of different age, so it is asked which
    of the characters that are punctuation, symbols or marks to Python it cuts at.
    """
    marks = [
        character
        for character in map(chr, range(sys.maxunicode + 1))
        if unicodedata.category(character)[0] in "PSM"
    ]
    between_letters = "".join(f"a{mark}" for mark in marks) + "a"
    pieces = pre_tokenizers.BertPreTokenizer().pre_tokenize_str(between_letters)
    cut_at = re.escape("".join(piece for piece, (start, _) in pieces if start % 2))
    return re.compile(f"[{cut_at}]|[^{cut_at}\\s]+")
