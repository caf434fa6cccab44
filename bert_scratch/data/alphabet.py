"""Which characters a vocabulary holds, and which of them also inside words, as ## pieces."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from tokenizers import Tokenizer

from bert_scratch.config import InputError
from bert_scratch.data.wordpiece import SPECIAL_TOKENS

ALPHABET_SHARE = 1 / 8
"""The share of the vocabulary that single characters may always take."""
ALPHABET_COVERAGE = 0.9998
"""Beyond that share, characters are added until they cover this much of the text ..."""
MAX_ALPHABET_SHARE = 7 / 8
"""... or fill this share of the vocabulary."""


@dataclass(frozen=True)
class Character:
    """A character of the text, its count, and the number of ids it takes."""

    text: str
    count: int
    num_ids: int
    """1 if the character is always a word of its own, else 2: the character and its ## form."""


@dataclass(frozen=True)
class Alphabet:
    """The characters of a vocabulary, sorted, and those of the text that are not among them."""

    characters: list[str]
    continuing: list[str]
    cut: list[str]
    cut_share: float

    @property
    def num_ids(self) -> int:
        """The number of ids the alphabet takes."""
        return len(self.characters) + len(self.continuing)


def rank_characters(counts: Mapping[str, int], blank: Tokenizer) -> list[Character]:
    """Return the characters most frequent first, then by code point.

    Args:
        counts: how often each character occurs in the normalised text.
        blank: a tokenizer that normalises and splits like the one to be learned.

    Raises:
        InputError: if there are no characters.
    """
    ranked = sorted(counts, key=lambda character: (-counts[character], character))
    characters = [Character(c, counts[c], _num_forms(c, blank)) for c in ranked]
    if not characters:
        raise InputError("the texts hold no words to learn a vocabulary from")
    return characters


def _num_forms(character: str, blank: Tokenizer) -> int:
    """Return 1 if the character is always a word of its own, else 2 (with its ## form)."""
    inside = blank.normalizer.normalize_str(f"a{character}a")
    return 1 if len(blank.pre_tokenizer.pre_tokenize_str(inside)) > 1 else 2


def covering_alphabet(ranked: list[Character]) -> Alphabet:
    """Return the most frequent characters up to ALPHABET_COVERAGE of the text."""
    return _choose(ranked, free_ids=0, max_ids=math.inf)


def fitting_alphabet(ranked: list[Character], vocab_size: int) -> Alphabet:
    """Return the alphabet of a vocabulary; empty if there is no room for a single character."""
    return _choose(
        ranked,
        free_ids=ALPHABET_SHARE * vocab_size,
        max_ids=MAX_ALPHABET_SHARE * (vocab_size - len(SPECIAL_TOKENS)),
    )


def _choose(ranked: list[Character], *, free_ids: float, max_ids: float) -> Alphabet:
    """Keep the most frequent characters: all that fit free_ids, then up to coverage or max_ids."""
    total = sum(character.count for character in ranked)
    num_ids = covered = num_kept = 0
    for character in ranked:
        num_ids += character.num_ids
        wanted = num_ids <= free_ids or covered < ALPHABET_COVERAGE * total
        if not wanted or num_ids > max_ids:
            break
        covered += character.count
        num_kept += 1
    kept = sorted(ranked[:num_kept], key=lambda character: character.text)
    return Alphabet(
        characters=[character.text for character in kept],
        continuing=[character.text for character in kept if character.num_ids == 2],
        cut=[character.text for character in ranked[num_kept:]],
        cut_share=1 - covered / total,
    )
