"""Add words to a tokenizer's vocabulary, after the last id, so that all other ids stay."""

from __future__ import annotations

import json
import unicodedata
from collections.abc import Iterator, Sequence
from pathlib import Path

from tokenizers import Tokenizer

from bert_scratch.config import InputError
from bert_scratch.data.records import read_text
from bert_scratch.data.wordpiece import vocab_size_of


def with_added_tokens(tokenizer: Tokenizer, asked: Sequence[str]) -> Tokenizer:
    """Return a tokenizer with more words, which are ordinary entries, in vocab.txt too.

    Args:
        tokenizer: left unchanged.
        asked: the words, or files with one word per line.

    Raises:
        InputError: naming file:line, if a word already exists or could never be found in text.
    """
    parts = json.loads(tokenizer.to_str())
    if parts["model"]["type"] != "WordPiece":
        raise InputError(f"--add-tokens: needs a WordPiece tokenizer, not {parts['model']['type']}")
    first, known, vocab = vocab_size_of(tokenizer), tokenizer.get_vocab(), parts["model"]["vocab"]
    new: dict[str, int] = {}
    places: dict[str, str] = {}
    for place, token in _read(asked):
        _check_word(tokenizer, token, place)
        if token in new:
            raise InputError(f"{place}: {token!r} is given twice")
        if token in known:
            raise InputError(f"{place}: {token!r} is in the vocabulary already; leave it out")
        new[token], places[token] = first + len(new), place
    vocab.update(new)
    larger = Tokenizer.from_str(json.dumps(parts))
    for token, number in new.items():
        if larger.encode(token, add_special_tokens=False).ids != [number]:
            raise InputError(f"{places[token]}: the tokenizer never finds {token[:100]!r} in text")
    return larger


def pieces_of_added(before: Tokenizer, after: Tokenizer) -> dict[int, list[int]]:
    """Return {id: ids of its former pieces} of each word that only the second tokenizer has."""
    known = before.get_vocab()
    added = {number: token for token, number in after.get_vocab().items() if token not in known}
    return {
        number: before.encode(token, add_special_tokens=False).ids
        for number, token in sorted(added.items())
    }


def _read(asked: Sequence[str]) -> Iterator[tuple[str, str]]:
    """Yield each word with its place."""
    for value in asked:
        if not Path(value).is_file():
            yield "--add-tokens", value
            continue
        name, text = read_text(value)
        lines = text.splitlines()
        if not lines:
            raise InputError(f"{name}: holds no words; --add-tokens wants one per line")
        for number, line in enumerate(lines, start=1):
            yield f"{name}:{number}", line


def _check_word(tokenizer: Tokenizer, token: str, place: str) -> None:
    """Refuse a word that the tokenizer's normaliser or pre-tokenizer would change or cut."""
    if not token.strip():
        raise InputError(
            f"{place}: is empty; --add-tokens wants words, or a file with one per line"
        )
    if any(letter.isspace() for letter in token):
        raise InputError(f"{place}: {token[:100]!r} has spaces; only single words can be added")
    normal = token if tokenizer.normalizer is None else tokenizer.normalizer.normalize_str(token)
    found = tokenizer.pre_tokenizer.pre_tokenize_str(normal) if tokenizer.pre_tokenizer else []
    words = [word for word, _ in found]
    if len(words) > 1:
        raise InputError(
            f"{place}: the tokenizer cuts {token[:100]!r} into {' '.join(words)} before it looks "
            f"for words: only words without punctuation, and single ideographs, can be added (no "
            f"such file either)"
        )
    if words and words != [token]:
        alike = unicodedata.normalize("NFC", token) == words[0]  # looks the same on a screen
        given = ascii(token) if alike else repr(token)
        raise InputError(f"{place}: the tokenizer makes {words[0]!r} of {given}; write that")
