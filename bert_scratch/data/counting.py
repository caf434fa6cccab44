"""Count words (as BERT splits them) and characters of any amount of text in bounded memory."""

from __future__ import annotations

import re
import sys
import unicodedata
import zlib
from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache

import numpy as np
from tokenizers import pre_tokenizers

from bert_scratch.data.wordpiece import MAX_WORD_CHARACTERS

MAX_WORDS_WEIGHT = 1_500_000
"""Limit on the total weight of the words kept, each its length plus WORD_WEIGHT."""
WORD_WEIGHT = 8
"""Memory that a word costs beyond its characters, measured in characters."""

_BLOCK_CHARACTERS = 1 << 14
_BLOCKS_AT_ONCE = 512
_STRETCHES_AT_ONCE = 150_000


@dataclass
class TextCounts:
    """How often each word and each character occurs in a text."""

    words: Counter[str] = field(default_factory=Counter)
    """Words and punctuation marks; if there are too many different ones, only the frequent."""
    num_long_words: int = 0
    """Words longer than MAX_WORD_CHARACTERS, which no vocabulary knows; not in `words`."""
    characters: Counter[str] = field(default_factory=Counter)
    """All characters but white space, including those of words left out."""


def count_text(blocks: Iterable[str], normalize: Callable[[str], str]) -> TextCounts:
    """Count the words and characters of normalised text, processing each repeated stretch once.

    Args:
        blocks: text, read once; no word continues from one block into the next.
        normalize: BertNormalizer with `handle_chinese_chars`, which puts spaces around
            ideographs; it must work stretch by stretch, and leave no white space but spaces.

    Returns:
        All characters, and words up to MAX_WORDS_WEIGHT. The rarest words are dropped whenever
        the total reaches twice that; among equally frequent words a hash decides.

    Source:
        `tokenizers` BertPreTokenizer, which takes ten times as long for the same words.
    """
    counts = TextCounts()
    stretches: Counter[str] = Counter()
    for number, block in enumerate(blocks, start=1):
        stretches.update(block.split(" "))
        if number % _BLOCKS_AT_ONCE == 0 or len(stretches) > _STRETCHES_AT_ONCE:
            _look_into(stretches, normalize, counts)
            if _weight(counts.words) > 2 * MAX_WORDS_WEIGHT:
                _keep_frequent(counts.words)
    _look_into(stretches, normalize, counts)
    _keep_frequent(counts.words)
    return counts


def blocks_of(texts: Iterable[str]) -> Iterator[str]:
    """Join texts into blocks of equal length; cut a longer text at white space."""
    parts: list[str] = []
    size = 0
    for text in texts:
        # Most texts are short; a generator for each would take longer than everything else.
        is_short = len(text) <= _BLOCK_CHARACTERS and "\n" not in text
        for part in (text,) if is_short else _cut(text):
            parts.append(part)
            size += len(part) + 1
            if size >= _BLOCK_CHARACTERS:
                yield " ".join(parts)
                parts, size = [], 0
    if parts:
        yield " ".join(parts)


def _cut(text: str) -> Iterator[str]:
    text = text.replace("\n", " ")
    start = 0
    while len(text) - start > _BLOCK_CHARACTERS:
        end = start + _BLOCK_CHARACTERS
        space = text.rfind(" ", start, end)
        end = end if space <= start else space
        yield text[start:end]
        start = end
    yield text[start:]


def _look_into(
    stretches: Counter[str], normalize: Callable[[str], str], counts: TextCounts
) -> None:
    """Count the words and characters of stretches between spaces, and forget the stretches."""
    equally_frequent: defaultdict[int, list[str]] = defaultdict(list)
    for stretch, count in stretches.items():
        equally_frequent[count].append(stretch)
    stretches.clear()
    found: defaultdict[str, int] = defaultdict(int)  # a Counter calls Python for each new word
    cut = _word_pattern().findall
    for count, group in equally_frequent.items():
        for block in blocks_of(group):  # the normaliser needs 50 bytes per character
            for word, times in Counter(cut(normalize(block))).items():
                found[word] += count * times
    _add_characters(found, counts.characters)
    for word, count in found.items():
        if len(word) > MAX_WORD_CHARACTERS:
            counts.num_long_words += count
        else:
            counts.words[word] = counts.words.get(word, 0) + count


def _add_characters(words: Mapping[str, int], characters: Counter[str]) -> None:
    """Count the characters of words, each as often as its word."""
    codes = np.frombuffer("".join(words).encode("utf-32-le"), dtype="<u4")
    lengths = np.fromiter(map(len, words), dtype=np.int64, count=len(words))
    frequencies = np.fromiter(words.values(), dtype=np.int64, count=len(words))
    totals = np.bincount(codes, np.repeat(frequencies, lengths))
    for code in np.flatnonzero(totals).tolist():
        characters[chr(code)] += int(totals[code])


def _weight(words: Collection[str]) -> int:
    """Return the memory that words take, in characters."""
    return sum(map(len, words)) + WORD_WEIGHT * len(words)


def _keep_frequent(words: Counter[str]) -> None:
    """Drop the rarest words until the rest weigh at most MAX_WORDS_WEIGHT."""
    texts = list(words)
    frequency = np.fromiter(words.values(), dtype=np.int64, count=len(texts))
    weights = np.fromiter(map(len, texts), dtype=np.int64, count=len(texts)) + WORD_WEIGHT
    if weights.sum() <= MAX_WORDS_WEIGHT:
        return
    # A hash breaks ties: order of appearance would favour the beginning of the text.
    draws = np.fromiter((zlib.crc32(text.encode()) for text in texts), dtype=np.int64)
    order = np.lexsort((draws, -frequency))
    num_kept = int(np.searchsorted(np.cumsum(weights[order]), MAX_WORDS_WEIGHT, side="right"))
    for index in order[num_kept:].tolist():
        del words[texts[index]]


@cache
def _word_pattern() -> re.Pattern[str]:
    """Return a pattern for one punctuation mark, or a word up to the next mark or space.

    Ideographs have spaces around them by then.

    The Unicode tables of `tokenizers` and of Python differ in age, so `tokenizers` is asked at
    which of Python's punctuation, symbol and mark characters it cuts.
    """
    marks = [
        character
        for character in map(chr, range(sys.maxunicode + 1))
        if unicodedata.category(character)[0] in "PSM"
    ]
    between_letters = "".join(f"a{mark}" for mark in marks) + "a"
    pieces = pre_tokenizers.BertPreTokenizer().pre_tokenize_str(between_letters)
    cut_at = re.escape("".join(piece for piece, (start, _) in pieces if start % 2))
    # Looking a letter up among all marks is slow, and most words are plain ones.
    plain = r"[0-9A-Za-z]++(?=[ !-/:-@\[-`{-~]|\Z)"
    return re.compile(f"{plain}|[^ {cut_at}]+|[{cut_at}]")
