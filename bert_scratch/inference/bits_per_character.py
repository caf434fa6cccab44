"""Bits per character: how surprising text is to a model, in a unit that all vocabularies share.

Each sentence has three costs in bits, divided by its number of characters without white space:
- its tokens: -log2 P(token | the rest of the sentence), within words from left to right;
- what the tokenizer cannot read: each character inside an [UNK], and each that it drops, costs
  log2(A), as if drawn uniformly from the A characters of the text;
- what it reads as something else: telling which of "A", "a" and "á" it was costs the entropy
  that is left by counting these forms in this text.
The last is kept apart, since a model is not to blame for it but cannot be compared without it.
"""

from __future__ import annotations

import lzma
import math
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from tokenizers import Tokenizer

from bert_scratch.data.encoding import encode_with_offsets
from bert_scratch.data.wordpiece import special_ids
from bert_scratch.inference.estimate import Estimate, ratio_of
from bert_scratch.inference.pseudo_likelihood import pseudo_log_likelihoods
from bert_scratch.model.heads import BertForMaskedLM, BertForPreTraining

Bits = npt.NDArray[np.float64]
_SENTENCES_AT_ONCE = 16


@dataclass(frozen=True, kw_only=True)
class SentenceBits:
    """The costs of N sentences."""

    characters: Bits
    """[N] characters, without white space."""
    tokens: Bits
    """[N] bits of the tokens."""
    unread: Bits
    """[N] bits of what is [UNK] or dropped."""
    restoring: Bits
    """[N] bits to distinguish the letters that the normaliser merges."""

    @property
    def total(self) -> Bits:
        """[N] bits in total."""
        return self.tokens + self.unread + self.restoring

    def per_character(self) -> Estimate:
        """Return the total bits per character."""
        return ratio_of(self.total, self.characters)

    def better_by(self, other: SentenceBits) -> Estimate:
        """Return how many bits per character fewer this is than another on the same sentences."""
        return ratio_of(other.total - self.total, self.characters)


def sentence_bits(
    model: BertForMaskedLM | BertForPreTraining,
    tokenizer: Tokenizer,
    sentences: Sequence[str],
    characters: Mapping[str, int],
) -> Iterator[tuple[list[int], SentenceBits]]:
    """Yield (indices of sentences, their costs), a few sentences at a time.

    Args:
        model: on any device.
        tokenizer: the model's.
        sentences: N.
        characters: count of each character in the text, including these sentences; see
            `count_characters`.
    """
    read_as = {c: _read_as(tokenizer, c) for c in characters}
    form_bits = _form_bits(characters, read_as)
    unknown = special_ids(tokenizer).unk
    alphabet_bits = uniform_bits(characters)
    order = sorted(range(len(sentences)), key=lambda index: len(sentences[index]))
    for start in range(0, len(order), _SENTENCES_AT_ONCE):
        chosen = order[start : start + _SENTENCES_AT_ONCE]
        texts = [sentences[index] for index in chosen]
        found = pseudo_log_likelihoods(model, tokenizer, texts, within_word_left_to_right=True)
        read = [_split_by_reading(tokenizer, text, read_as, unknown) for text in texts]
        yield (
            chosen,
            SentenceBits(
                characters=_array(len(known) + len(unread) for known, unread in read),
                tokens=_array(-values.sum(dtype=np.float64) / math.log(2) for values in found),
                unread=_array(len(unread) * alphabet_bits for _, unread in read),
                restoring=_array(sum(map(form_bits.__getitem__, known)) for known, _ in read),
            ),
        )


def joined_bits(parts: Sequence[tuple[list[int], SentenceBits]]) -> SentenceBits:
    """Join the parts from `sentence_bits` in the order of the sentences."""
    order = np.argsort([index for chosen, _ in parts for index in chosen])
    names = ("characters", "tokens", "unread", "restoring")
    return SentenceBits(
        **{n: np.concatenate([getattr(part, n) for _, part in parts])[order] for n in names}
    )


def count_characters(texts: Sequence[str]) -> Counter[str]:
    """Return the count of each character in the texts, without white space."""
    counts: Counter[str] = Counter()
    for text in texts:
        counts.update(text)
    return Counter({c: n for c, n in counts.items() if not c.isspace()})


def lost_by(tokenizer: Tokenizer) -> tuple[str, ...]:
    """Return which distinctions the normaliser removes: case, accents."""
    merged = {"case": ("A", "a"), "accents": ("\u00e9", "e")}
    return tuple(
        name for name, (letter, plain) in merged.items() if _read_as(tokenizer, letter) == plain
    )


def uniform_bits(characters: Mapping[str, int]) -> float:
    """Return the bits of a character drawn uniformly from the alphabet."""
    return math.log2(len(characters))


def character_count_bits(
    sentences: Sequence[str], rest: Mapping[str, int], alphabet_size: int
) -> float:
    """Return bits per character when only the counts of characters are known.

    Args:
        sentences: the text to encode.
        rest: counts from other text; one is added to each.
        alphabet_size: A.
    """
    told = count_characters(sentences)
    total = sum(rest.values()) + alphabet_size
    bits = sum(n * -math.log2((rest.get(c, 0) + 1) / total) for c, n in told.items())
    return bits / told.total()


def compressed_bits(sentences: Sequence[str], rest: Sequence[str]) -> float:
    """Return bits per character of xz, once it has read the rest of the text.

    Spaces and line ends cost bits here, but are not counted as characters.
    """
    before = "\n".join([*rest, ""]).encode()
    after = before + "\n".join(sentences).encode()
    num_bytes = len(lzma.compress(after)) - len(lzma.compress(before))
    return 8 * num_bytes / count_characters(sentences).total()


def _split_by_reading(
    tokenizer: Tokenizer, text: str, read_as: Mapping[str, str], unknown: int
) -> tuple[str, str]:
    """Return the characters that are read, and those inside an [UNK] or dropped."""
    encoding = encode_with_offsets(tokenizer, [text])[0]
    in_unknown = {
        place
        for index, (start, end) in zip(encoding.ids, encoding.offsets, strict=True)
        if index == unknown
        for place in range(start, end)
    }
    known: list[str] = []
    unread: list[str] = []
    for place, character in enumerate(text):
        if not character.isspace():
            is_read = place not in in_unknown and read_as[character]
            (known if is_read else unread).append(character)
    return "".join(known), "".join(unread)


def _read_as(tokenizer: Tokenizer, character: str) -> str:
    """Return what a tokenizer normalises a character to, '' if it drops it."""
    if tokenizer.normalizer is None:
        return character
    text: str = tokenizer.normalizer.normalize_str(character)
    return text.strip()


def _form_bits(characters: Mapping[str, int], read_as: Mapping[str, str]) -> dict[str, float]:
    """Return for each character -log2 of its share among those that are read the same."""
    groups: Counter[str] = Counter()
    for character, count in characters.items():
        groups[read_as[character]] += count
    return {c: -math.log2(n / groups[read_as[c]]) for c, n in characters.items()}


def _array(values: Iterable[float]) -> Bits:
    return np.fromiter(values, np.float64)
