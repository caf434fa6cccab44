"""Learn a WordPiece vocabulary: the same bytes for the same texts, whatever the machine.

The trainer of `tokenizers` numbers characters in the order of a hash table, which differs from
run to run, and breaks ties between equally frequent pairs by those numbers. So the alphabet is
found first and given to it in sorted order; what it learns is then put into a fresh tokenizer.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import islice

import numpy as np
from tokenizers import Tokenizer, models, pre_tokenizers, trainers

from bert_scratch.config import InputError, Settings, check_range
from bert_scratch.data.wordpiece import (
    MAX_WORD_CHARACTERS,
    SPECIAL_TOKENS,
    build_tokenizer,
    special_ids,
)

MAX_TRAINING_BYTES = 200_000_000
"""More text than this is sampled: it changes hardly a token, and memory stays bounded."""
MIN_FREQUENCY = 2
"""A pair of pieces seen once is never joined."""
ALPHABET_SHARE = 1 / 8
"""The share of the vocabulary that single characters may always take."""
ALPHABET_COVERAGE = 0.9998
"""Beyond that share, characters are taken until they cover so much of the text ..."""
MAX_ALPHABET_SHARE = 7 / 8
"""... or take this share of the vocabulary."""

_BLOCK_CHARACTERS = 1 << 14
_NUM_CODE_POINTS = 0x110000
_MAX_REPORTED_BLOCKS = 128


@dataclass(frozen=True, kw_only=True)
class VocabularyReport(Settings):
    """What was learned and what it leaves unknown, measured on a sample of the training text."""

    vocab_size: int
    """Entries, special tokens included."""
    requested_vocab_size: int
    """What was asked for; more than vocab_size where the text cannot fill it."""
    alphabet_size: int
    """Characters kept, each counted once."""
    continuing_size: int
    """Characters that also have a ## form, because they can stand inside a word."""
    characters_cut: int
    """Different characters left out, the rarest."""
    cut_share: float
    """Share of the text's characters, spaces not counted, that were left out."""
    unknown_word_share: float
    """Share of words that become [UNK]."""
    unknown_token_share: float
    """Share of [UNK] among the tokens."""
    pieces_per_word: float
    """Tokens per word."""
    training_bytes: int
    """UTF-8 bytes of normalised text that were learned from."""
    text_bytes: int
    """UTF-8 bytes of the text given; more than learned from where it was sampled."""

    def describe(self) -> str:
        """Return the report as one sentence."""
        cut = f", {self.characters_cut:,} rare ones cut" if self.characters_cut else ""
        asked = (
            f" (the text cannot fill the {self.requested_vocab_size:,} asked for)"
            if self.vocab_size < self.requested_vocab_size
            else ""
        )
        return (
            f"{self.vocab_size:,} tokens{asked}, {self.alphabet_size:,} characters{cut}; "
            f"[UNK] for {self.unknown_word_share:.3%} of words; "
            f"{self.pieces_per_word:.2f} tokens a word"
        )


@dataclass(frozen=True)
class _Character:
    """A character of the text, how often it stands there, and the ids it takes."""

    text: str
    count: int
    num_ids: int
    """1 for what is always a word of its own, else 2: the character and its ## form."""


@dataclass(frozen=True)
class _Alphabet:
    """The characters of a vocabulary, and those of the text that are not among them."""

    characters: list[str]
    continuing: list[str]
    cut: list[str]
    cut_share: float

    @property
    def num_ids(self) -> int:
        return len(self.characters) + len(self.continuing)


def train_tokenizer(
    texts: Iterable[str], vocab_size: int, *, lowercase: bool = False, strip_accents: bool = False
) -> Tokenizer:
    """Learn a WordPiece tokenizer; ids are [PAD] 0, [UNK] 1, [CLS] 2, [SEP] 3, [MASK] 4.

    Args:
        texts: read once, streamed; every k-th block is used above MAX_TRAINING_BYTES.
        vocab_size: entries wanted, > 5; fewer come out only where the text cannot fill them.
        lowercase: lower-case the text.
        strip_accents: remove combining marks. Apart from lowercase, since in many scripts these
            are vowels or tones.

    Returns:
        A tokenizer whose JSON is byte-identical every time.

    Raises:
        InputError: if the texts hold no word, or vocab_size has no room for characters.

    Source:
        `tokenizers` WordPieceTrainer (byte-pair merges over ## pieces). Deviations: the sorted
        alphabet comes first; no ## form for characters that are always words of their own.
    """
    learner = VocabularyLearner(texts, lowercase=lowercase, strip_accents=strip_accents)
    tokenizer, _ = learner.learn(vocab_size)
    return tokenizer


class VocabularyLearner:
    """Text taken in and its characters counted, ready to learn vocabularies of any size.

    Attributes:
        alphabet_ids: the ids that the characters covering ALPHABET_COVERAGE of the text take.
    """

    def __init__(
        self, texts: Iterable[str], *, lowercase: bool = False, strip_accents: bool = False
    ) -> None:
        """Take in the texts, as `train_tokenizer` describes them."""
        self._rules = {"lowercase": lowercase, "strip_accents": strip_accents, "nfc": True}
        blank = build_tokenizer({token: i for i, token in enumerate(SPECIAL_TOKENS)}, **self._rules)
        self._sample = _Sample()
        for block in _blocks(texts):
            normal = blank.normalizer.normalize_str(block)
            self._sample.add(normal.encode(), text_bytes=len(block.encode()))
        self._characters = _rank_characters(self._sample, blank)
        self.alphabet_ids = _choose(self._characters, coverage=ALPHABET_COVERAGE).num_ids

    def learn(self, vocab_size: int) -> tuple[Tokenizer, VocabularyReport]:
        """Learn a tokenizer as `train_tokenizer` does, and say what came out."""
        check_range("--vocab-size", vocab_size, above=len(SPECIAL_TOKENS))
        alphabet = _choose(
            self._characters,
            coverage=ALPHABET_COVERAGE,
            free_ids=ALPHABET_SHARE * vocab_size,
            max_ids=MAX_ALPHABET_SHARE * (vocab_size - len(SPECIAL_TOKENS)),
        )
        if not alphabet.characters:
            raise InputError(f"--vocab-size {vocab_size} leaves no room for characters; raise it")
        vocab = _train(self._sample, alphabet, vocab_size)
        tokenizer = build_tokenizer(vocab, **self._rules)
        return tokenizer, _report(tokenizer, self._sample, alphabet, vocab_size)


class _Sample:
    """Blocks of UTF-8 text, thinned out evenly whenever they come to more than the limit."""

    def __init__(self) -> None:
        self._blocks: list[bytes] = []
        self._stride = 1
        self._num_seen = 0
        self.num_bytes = 0
        self.text_bytes = 0

    def __iter__(self) -> Iterator[str]:
        return (block.decode() for block in self._blocks)

    def __len__(self) -> int:
        return len(self._blocks)

    def add(self, block: bytes, *, text_bytes: int) -> None:
        """Take every stride-th block; the stride doubles when there are too many."""
        self.text_bytes += text_bytes
        if self._num_seen % self._stride == 0:
            self._blocks.append(block)
            self.num_bytes += len(block)
        self._num_seen += 1
        if self.num_bytes > MAX_TRAINING_BYTES:
            self._stride *= 2
            self._blocks = self._blocks[::2]
            self.num_bytes = sum(map(len, self._blocks))


def _blocks(texts: Iterable[str]) -> Iterator[str]:
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


def _rank_characters(sample: _Sample, blank: Tokenizer) -> list[_Character]:
    """Return all characters but white space, most frequent first, then by code point."""
    counts = np.zeros(_NUM_CODE_POINTS, dtype=np.int64)
    for block in sample:
        code_points = np.frombuffer(block.encode("utf-32-le"), dtype="<u4")
        found = np.bincount(code_points)
        counts[: len(found)] += found
    seen = np.flatnonzero(counts)
    ranked = seen[np.argsort(-counts[seen], kind="stable")].tolist()
    characters = [_Character(chr(c), int(counts[c]), _num_forms(chr(c), blank)) for c in ranked]
    characters = [character for character in characters if character.num_ids]
    if not characters:
        raise InputError("the texts hold no words to learn a vocabulary from")
    return characters


def _choose(
    ranked: list[_Character],
    *,
    coverage: float,
    free_ids: float = 0,
    max_ids: float = math.inf,
) -> _Alphabet:
    """Keep the most frequent characters: what fits free_ids, then up to coverage or max_ids."""
    total = sum(character.count for character in ranked)
    num_ids = covered = num_kept = 0
    for character in ranked:
        num_ids += character.num_ids
        wanted = num_ids <= free_ids or covered < coverage * total
        if not wanted or num_ids > max_ids:
            break
        covered += character.count
        num_kept += 1
    kept = sorted(ranked[:num_kept], key=lambda character: character.text)
    return _Alphabet(
        characters=[character.text for character in kept],
        continuing=[character.text for character in kept if character.num_ids == 2],
        cut=[character.text for character in ranked[num_kept:]],
        cut_share=1 - covered / total,
    )


def _num_forms(character: str, blank: Tokenizer) -> int:
    """Return 0 for white space, 1 for what is always a word of its own, else 2 (with ##)."""
    inside = blank.normalizer.normalize_str(f"a{character}a")
    num_pieces = len(blank.pre_tokenizer.pre_tokenize_str(inside))
    return {1: 2, 2: 0, 3: 1}[num_pieces]


def _train(blocks: Iterable[str], alphabet: _Alphabet, vocab_size: int) -> dict[str, int]:
    """Run the trainer over normalised text, with every character it will meet given first."""
    trainer = trainers.WordPieceTrainer(
        vocab_size=vocab_size,
        min_frequency=MIN_FREQUENCY,
        show_progress=False,
        special_tokens=[
            *SPECIAL_TOKENS,
            *alphabet.characters,
            *(f"##{character}" for character in alphabet.continuing),
        ],
    )
    learner = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    learner.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    learner.train_from_iterator(_learnable(blocks, alphabet), trainer)
    return dict(learner.get_vocab())


def _learnable(blocks: Iterable[str], alphabet: _Alphabet) -> Iterator[str]:
    """Yield text without the characters cut and the words too long to be ever looked up."""
    without_cut = {ord(character): " " for character in alphabet.cut}
    inside = re.escape("".join(alphabet.continuing))
    too_long = re.compile(f"[{inside}]{{{MAX_WORD_CHARACTERS + 1},}}") if inside else None
    for block in blocks:
        if without_cut:
            block = block.translate(without_cut)
        yield too_long.sub(" ", block) if too_long else block


def _report(
    tokenizer: Tokenizer, sample: _Sample, alphabet: _Alphabet, requested_vocab_size: int
) -> VocabularyReport:
    every = -(-len(sample) // _MAX_REPORTED_BLOCKS)
    unknown = special_ids(tokenizer).unk
    num_words = num_tokens = num_unknown = 0
    for block in islice(sample, 0, None, every):
        encoding = tokenizer.encode(block, add_special_tokens=False)
        words = encoding.word_ids
        num_words += len(set(words))
        num_tokens += len(words)
        num_unknown += encoding.ids.count(unknown)
    return VocabularyReport(
        vocab_size=tokenizer.get_vocab_size(),
        requested_vocab_size=requested_vocab_size,
        alphabet_size=len(alphabet.characters),
        continuing_size=len(alphabet.continuing),
        characters_cut=len(alphabet.cut),
        cut_share=alphabet.cut_share,
        unknown_word_share=num_unknown / max(1, num_words),
        unknown_token_share=num_unknown / max(1, num_tokens),
        pieces_per_word=num_tokens / max(1, num_words),
        training_bytes=sample.num_bytes,
        text_bytes=sample.text_bytes,
    )
