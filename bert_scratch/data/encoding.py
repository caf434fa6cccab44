"""Convert text to token ids, identical to `tokenizers` and several times faster.

BERT cuts text at white space and around punctuation marks and ideographs, whatever their context.
So a unit, the text between two cuts, has the same ids everywhere. `tokenizers` is asked once for
the ids of each unit; from then on encoding is a look-up.
"""

from __future__ import annotations

import functools
import json
import re
import threading
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import chain, count, islice
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from tokenizers import AddedToken, Encoding, Tokenizer, models, pre_tokenizers

from bert_scratch.data.wordpiece import vocab_size_of

Ids = npt.NDArray[np.int32]
Places = npt.NDArray[np.int64]

# The arrays of one block fit in a core's cache.
_BLOCK_CHARACTERS = 1 << 17
_LEARNED_TOGETHER = 2048
_MAX_UNITS = 300_000
_MAX_CHARACTERS = 4_000_000
_SEPARATOR = "[SEP]"
# A word's first letters suffice to find it too long; every tokenizer used here has a lower limit.
_LONG_WORD = 1000
_LONG_WORDS = re.compile(f"([0-9A-Za-z]{{{_LONG_WORD}}})[0-9A-Za-z]+")

# Whether special tokens are text is a state of the tokenizer, which threads may share.
_SWITCHED = threading.Lock()

# Written as character classes. A mark is a unit of its own: punctuation that has long been in
# Unicode and composes with no other character (<, = and > do, with U+0338).
_SPACES = "\t\n\r \u00a0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000"
_MARKS = (
    r"!-/:;?@\[-`{-~"
    "¡«»¿\u055a-\u055f\u0589\u05be\u060c\u061b\u061f\u066a-\u066d\u06d4\u0964\u0965\u0e5a\u0e5b"
    "\u0f0b\u0f0d\u104a-\u104f\u1361-\u1368\u17d4-\u17d6"
    "\u2010-\u2027\u2030-\u2043\u2045-\u2051\u3001-\u3003\u3008-\u3011\u3014-\u301f\u30fb"
    "\uff01-\uff03\uff05-\uff0a\uff0c-\uff0f\uff1a\uff1b\uff1f\uff20\uff3b-\uff3d\uff5b\uff5d"
    "\uff5f-\uff65"
)
_IDEOGRAPHS = "\u3400-\u4dbf\u4e00-\u9fff"
# BERT drops these, but str.split() cuts at them. U+0001 is dropped as well and cuts nothing.
_DROPPED_SPACES = "\x0b\x0c\x1c-\x1f\x85"


class TextEncoder:
    """Encode texts, caching the words seen: several times faster than `tokenizers` alone.

    Units not seen before go to `tokenizers`, so ids are identical by construction. A tokenizer
    that does not work like BERT's is used directly. Memory does not grow with the text, except
    for a stretch of millions of non-ASCII letters without a space or a mark.

    Attributes:
        vocab_size: every id is below it.
    """

    def __init__(self, tokenizer: Tokenizer) -> None:
        """Start with an empty cache.

        Args:
            tokenizer: from `load_tokenizer` or `train_tokenizer`; it neither pads nor truncates.
        """
        self.vocab_size = vocab_size_of(tokenizer)
        self._tokenizer = tokenizer
        self._units = _units_of(tokenizer)
        self._memory = _Memory(tokenizer)

    def encode(self, texts: Sequence[str]) -> list[Ids]:
        """Return the token ids of each text, without [CLS] and [SEP].

        A special token written out in a text, such as "[MASK]", is text.

        Args:
            texts: any number of strings.

        Returns:
            One [n] int32 array per text.

        Raises:
            UnicodeEncodeError: if a text has half of a surrogate pair, which is no character.
        """
        if not texts:
            return []
        if self._units is None:
            return encode_texts(self._tokenizer, texts)
        # To BERT a line end is white space; here it separates texts.
        text = "\n".join(texts)
        if text.count("\n") >= len(texts):
            text = "\n".join(text.replace("\n", " ") for text in texts)
        parts: list[Ids] = []
        ends: list[int] = []
        size = 0
        for block in _blocks(text, self._units.border):
            ids, ends_in_block = self._encode_block(block, self._units)
            parts.append(ids)
            ends += (ends_in_block + size).tolist()
            size += len(ids)
        ids = np.concatenate(parts)
        ends.append(size)
        return [ids[start:end] for start, end in zip([0, *ends], ends, strict=False)]

    def _encode_block(self, block: str, units: _Units) -> tuple[Ids, Places]:
        """Return the ids of a block, and where the texts that end in it end."""
        codes = np.frombuffer(block.encode("utf-16-le"), dtype="<u2")
        words = units.words[codes]
        in_word = words != ord(" ")
        is_start = units.is_mark[codes]
        is_start |= in_word
        is_start[1:] &= ~(in_word[1:] & in_word[:-1])
        starts = np.flatnonzero(is_start)
        is_word = in_word[starts]
        numbers = np.empty(len(starts), dtype=np.int64)
        memory = self._memory
        numbers[is_word] = memory.number_words(str(words.data, "utf-16-le").split())
        numbers[~is_word] = memory.number_marks(codes[starts[~is_word]])
        ids, ends = memory.ids_of(numbers)
        if memory.is_full:
            self._memory = _Memory(self._tokenizer)
        units_before = np.searchsorted(starts, np.flatnonzero(codes == ord("\n")))
        return ids, np.append(0, ends)[units_before]


class _Memory:
    """The ids of the units seen so far; each unit has a number.

    It is discarded when full: most words never recur, and the others are soon back.
    """

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer
        # Faster than [SEP] as a separator, and safe: nothing in a word becomes a full stop.
        has_full_stop = tokenizer.token_to_id(".") is not None
        self._word_separator = "." if has_full_stop else _SEPARATOR
        self._numbers: defaultdict[str, int] = defaultdict(count().__next__)
        self._mark_numbers = np.full(0x10000, -1, dtype=np.int64)
        self._num_characters = 0
        # For each number: where its ids start in `_ids`, and how many there are.
        self._starts: Places = np.empty(0, dtype=np.int64)
        self._counts: Places = np.empty(0, dtype=np.int64)
        self._ids: Ids = np.empty(0, dtype=np.int32)

    @property
    def is_full(self) -> bool:
        return len(self._numbers) > _MAX_UNITS or self._num_characters > _MAX_CHARACTERS

    def number_words(self, words: list[str]) -> npt.NDArray[np.int64]:
        """Return the number of each word; a new word gets the next number."""
        numbers = np.fromiter(map(self._numbers.__getitem__, words), np.int64, len(words))
        self._learn(self._word_separator)
        return numbers

    def number_marks(self, codes: npt.NDArray[np.uint16]) -> npt.NDArray[np.int64]:
        """Return the number of each mark; a new mark gets the next number."""
        for code in np.unique(codes[self._mark_numbers[codes] < 0]).tolist():
            self._mark_numbers[code] = self._numbers[chr(code)]
        self._learn(_SEPARATOR)
        return self._mark_numbers[codes]

    def ids_of(self, numbers: npt.NDArray[np.int64]) -> tuple[Ids, Places]:
        """Return the ids of all numbers, concatenated, and where each number's ids end."""
        counts = self._counts[numbers]
        ends = np.cumsum(counts)
        places = np.repeat(self._starts[numbers] + counts - ends, counts)
        places += np.arange(len(places))
        return self._ids[places], ends

    def _learn(self, separator: str) -> None:
        """Ask `tokenizers` for the ids of the units numbered since the last call."""
        num_new = len(self._numbers) - len(self._counts)
        if not num_new:
            return
        new = list(islice(reversed(self._numbers), num_new))[::-1]
        self._num_characters += sum(map(len, new))
        starts = range(0, num_new, _LEARNED_TOGETHER)
        joined = [separator.join([*new[i : i + _LEARNED_TOGETHER], ""]) for i in starts]
        is_text = separator != _SEPARATOR
        encoded = _encode_plainly(self._tokenizer, joined, special_is_text=is_text)
        ids = np.fromiter(chain.from_iterable(encoded), dtype=np.int32)
        is_separator = ids == self._tokenizer.token_to_id(separator)
        ends = np.flatnonzero(is_separator) - np.arange(num_new)
        counts = np.diff(ends, prepend=0)
        self._starts = np.append(self._starts, len(self._ids) + ends - counts)
        self._counts = np.append(self._counts, counts)
        self._ids = np.append(self._ids, ids[~is_separator])


def encode_texts(
    tokenizer: Tokenizer, texts: Sequence[str], *, tokens: Sequence[str] = ()
) -> list[Ids]:
    """Return the token ids of each text, as `TextEncoder` does, for a few texts.

    Args:
        tokenizer: from `load_tokenizer` or `train_tokenizer`.
        texts: any number of strings.
        tokens: special tokens to recognise where a text spells them out; any other special
            token spelt out is text.

    Returns:
        One [n] int32 array per text, without [CLS] and [SEP].
    """
    longest_first = "|".join(map(re.escape, sorted(tokens, key=len, reverse=True)))
    # For each text: text, token, text, token, ..., text.
    pieces = [re.split(f"({longest_first})", text) if tokens else [text] for text in texts]
    plain_texts = [piece for text in pieces for piece in text[::2]]
    plain = iter(_encode_plainly(tokenizer, plain_texts, special_is_text=True))
    arrays = []
    for text in pieces:
        ids = next(plain)
        for token in text[1::2]:
            number = tokenizer.token_to_id(token)
            assert number is not None, token
            ids += [number, *next(plain)]
        arrays.append(np.array(ids, dtype=np.int32))
    return arrays


def encode_with_offsets(tokenizer: Tokenizer, texts: Sequence[str]) -> list[Encoding]:
    """Return the full encoding of each text by `tokenizers`: ids, words and character offsets.

    Args:
        tokenizer: from `load_tokenizer` or `train_tokenizer`.
        texts: any number of strings; special tokens spelt out in them are text.
    """
    with _special_tokens(tokenizer, are_text=True):
        return list(tokenizer.encode_batch(list(texts), add_special_tokens=False))


def _encode_plainly(
    tokenizer: Tokenizer, texts: list[str], *, special_is_text: bool
) -> list[list[int]]:
    with _special_tokens(tokenizer, are_text=special_is_text):
        encodings = tokenizer.encode_batch_fast(texts, add_special_tokens=False)
    return [encoding.ids for encoding in encodings]


@contextmanager
def _special_tokens(tokenizer: Tokenizer, *, are_text: bool) -> Iterator[None]:
    with _SWITCHED:
        before = tokenizer.encode_special_tokens
        tokenizer.encode_special_tokens = are_text
        try:
            yield
        finally:
            tokenizer.encode_special_tokens = before


class _Units(NamedTuple):
    """How text splits into units, by UTF-16 code; halves of surrogate pairs belong to words."""

    words: npt.NDArray[np.uint16]
    """[65536] the code itself where it is part of a word, else a space."""
    is_mark: npt.NDArray[np.bool_]
    """[65536] whether the code is a unit of its own."""
    border: re.Pattern[str]
    """Finds a character before which text can be cut."""


@functools.cache
def _units(marks: str) -> _Units:
    codes = np.arange(0x10000, dtype="<u2")
    is_mark = _is_in(marks)
    words = np.where(is_mark | _is_in(_SPACES), np.uint16(ord(" ")), codes)
    words[_is_in(_DROPPED_SPACES)] = 1
    return _Units(words, is_mark, re.compile(f"[{_SPACES}{marks}]"))


def _is_in(characters: str) -> npt.NDArray[np.bool_]:
    every_code = "".join(map(chr, range(0x10000)))
    found = np.zeros(0x10000, dtype=np.bool_)
    found[[match.start() for match in re.finditer(f"[{characters}]", every_code)]] = True
    return found


def _units_of(tokenizer: Tokenizer) -> _Units | None:
    """Return how text splits into units; None if the tokenizer does not work like BERT's."""
    state = json.loads(tokenizer.normalizer.__getstate__()) if tokenizer.normalizer else {}
    steps = state.get("normalizers", [state])
    added = tokenizer.get_added_tokens_decoder().values()
    if not (
        [step.get("type") for step in steps] in (["BertNormalizer"], ["BertNormalizer", "NFC"])
        and steps[0]["clean_text"]
        and isinstance(tokenizer.pre_tokenizer, pre_tokenizers.BertPreTokenizer)
        and isinstance(tokenizer.model, models.WordPiece)
        and tokenizer.model.max_input_chars_per_word < _LONG_WORD
        and any(token.content == _SEPARATOR for token in added)
    ):
        return None
    units = _units(_MARKS + _IDEOGRAPHS if steps[0]["handle_chinese_chars"] else _MARKS)
    return units if all(_stays_apart(token, units) for token in added) else None


def _stays_apart(token: AddedToken, units: _Units) -> bool:
    """Tell whether an added token is never found in text, nor in a unit beside separators."""
    has_rules = token.normalized or token.single_word or token.lstrip or token.rstrip
    spans_units = len(token.content) > 1 and units.border.search(token.content)
    return bool(token.special and not has_rules and spans_units)


def _blocks(text: str, border: re.Pattern[str]) -> Iterator[str]:
    """Cut a text between units, so that memory does not grow with it."""
    start = 0
    while start + _BLOCK_CHARACTERS < len(text):
        found = border.search(text, start + _BLOCK_CHARACTERS)
        end = found.start() if found else len(text)
        block = text[start:end]
        # A stretch without any border, such as a hex dump, is [UNK] at any length.
        yield block if len(block) < 2 * _BLOCK_CHARACTERS else _LONG_WORDS.sub(r"\1", block)
        start = end
    yield text[start:]
