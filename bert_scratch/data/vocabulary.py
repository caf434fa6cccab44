"""Learn a WordPiece vocabulary: the same bytes for the same texts on any machine.

The trainer of `tokenizers` numbers characters in the order of a hash table, which differs from
run to run, and breaks ties between equally frequent pairs by those numbers. So the alphabet is
found first and passed to it in sorted order; what it learns then goes into a fresh tokenizer.
It also keeps every word in memory, some hundred bytes per character. So words are counted first,
and the trainer is given only the frequent ones, as often as they were counted.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from tokenizers import Tokenizer, models, pre_tokenizers, trainers

from bert_scratch.config import InputError, Settings, check_range
from bert_scratch.data.alphabet import (
    Alphabet,
    covering_alphabet,
    fitting_alphabet,
    rank_characters,
)
from bert_scratch.data.counting import blocks_of, count_text
from bert_scratch.data.wordpiece import SPECIAL_TOKENS, build_tokenizer, special_ids

MAX_TRAINING_BYTES = 100_000_000
"""More text than this hardly changes a token, so `prepare` samples this much of a larger corpus."""
MAX_TRAINING_WORDS = 5_000_000
"""Words given to the trainer; it counts pairs of pieces in 32 bits, and this many fit."""

_MAX_SAMPLED_BLOCKS = 128
_WORDS_AT_ONCE = 1_000
_NUM_CUT_SHOWN = 10


@dataclass(frozen=True, kw_only=True)
class VocabularyReport(Settings):
    """What was learned and what stays unknown, measured on a sample of the training text."""

    vocab_size: int
    """Entries, special tokens included."""
    requested_vocab_size: int
    """The requested size; more than vocab_size if the text cannot fill it."""
    alphabet_size: int
    """Characters kept, each counted once."""
    continuing_size: int
    """Characters that also have a ## form, because they occur inside words."""
    characters_cut: int
    """Number of different characters left out, the rarest."""
    cut_share: float
    """Share of the text's characters, spaces not counted, that were left out."""
    cut_examples: str
    """A few of the characters left out, the most frequent first."""
    unknown_word_share: float
    """Share of words that become [UNK]."""
    unknown_token_share: float
    """Share of [UNK] among the tokens."""
    pieces_per_word: float
    """Tokens per word."""
    training_bytes: int
    """UTF-8 bytes of text that the vocabulary was learned from."""
    text_bytes: int
    """UTF-8 bytes of the text that the training text was sampled from."""

    def describe(self) -> str:
        """Return the report as one sentence."""
        asked = (
            f" (the text cannot fill the {self.requested_vocab_size:,} asked for)"
            if self.vocab_size < self.requested_vocab_size
            else ""
        )
        cut = (
            f", {self.characters_cut:,} rare ones cut ({self.cut_examples})"
            if self.characters_cut
            else ""
        )
        drawn = (
            f"; learned from {self.training_bytes / 1e6:,.1f} of {self.text_bytes / 1e6:,.1f} MB, "
            "evenly spread"
            if self.training_bytes < self.text_bytes
            else ""
        )
        return (
            f"{self.vocab_size:,} tokens{asked}, {self.alphabet_size:,} characters{cut}; "
            f"[UNK] for {self.unknown_word_share:.3%} of words; "
            f"{self.pieces_per_word:.2f} tokens per word{drawn}"
        )


def train_tokenizer(
    texts: Iterable[str], vocab_size: int, *, lowercase: bool = False, strip_accents: bool = False
) -> Tokenizer:
    """Learn a WordPiece tokenizer; ids are [PAD] 0, [UNK] 1, [CLS] 2, [SEP] 3, [MASK] 4.

    Args:
        texts: read once, streamed; memory is bounded, whatever they hold.
        vocab_size: entries wanted, > 5; there are fewer only if the text cannot fill them.
        lowercase: lower-case the text.
        strip_accents: remove combining marks; separate from lowercase, since in many scripts
            these are vowels or tones.

    Returns:
        A tokenizer whose JSON is byte-identical every time.

    Raises:
        InputError: if the texts hold no word or are one string, or vocab_size has no room for
            characters.

    Source:
        `tokenizers` WordPieceTrainer (byte-pair merges over ## pieces). Deviations: the sorted
        alphabet comes first; no ## form for characters that are always words of their own;
        words that would be [UNK] are ignored; of very many words only the frequent ones count.
    """
    if isinstance(texts, str):
        raise InputError("texts must be a list of texts; got one string")
    learner = VocabularyLearner(texts, lowercase=lowercase, strip_accents=strip_accents)
    tokenizer, _ = learner.learn(vocab_size)
    return tokenizer


class VocabularyLearner:
    """Counted text, ready to learn vocabularies of any size.

    Attributes:
        alphabet_ids: number of ids taken by characters that cover ALPHABET_COVERAGE of the text.
    """

    def __init__(
        self,
        texts: Iterable[str],
        *,
        lowercase: bool = False,
        strip_accents: bool = False,
        text_bytes: int = 0,
    ) -> None:
        """Count the texts, as `train_tokenizer` describes them.

        Args:
            texts: to learn from.
            lowercase: lower-case the text.
            strip_accents: remove combining marks.
            text_bytes: size of the text that `texts` were sampled from, if larger.
        """
        self._rules = {"lowercase": lowercase, "strip_accents": strip_accents, "nfc": True}
        blank = build_tokenizer({token: i for i, token in enumerate(SPECIAL_TOKENS)}, **self._rules)
        self._sample = _Sample()
        counts = count_text(self._sample.watch(blocks_of(texts)), blank.normalizer.normalize_str)
        self._text_bytes = text_bytes
        self._words = counts.words
        self._characters = rank_characters(counts.characters, blank)
        self.alphabet_ids = covering_alphabet(self._characters).num_ids

    def learn(self, vocab_size: int) -> tuple[Tokenizer, VocabularyReport]:
        """Learn a tokenizer as `train_tokenizer` does, and report on it."""
        check_range("--vocab-size", vocab_size, above=len(SPECIAL_TOKENS))
        alphabet = fitting_alphabet(self._characters, vocab_size)
        if not alphabet.characters:
            raise InputError(f"--vocab-size {vocab_size} leaves no room for characters; raise it")
        vocab = _train(self._words, alphabet, vocab_size)
        tokenizer = build_tokenizer(vocab, **self._rules)
        unknown_words, pieces = _coverage(tokenizer, self._sample)
        return tokenizer, VocabularyReport(
            vocab_size=tokenizer.get_vocab_size(),
            requested_vocab_size=vocab_size,
            alphabet_size=len(alphabet.characters),
            continuing_size=len(alphabet.continuing),
            characters_cut=len(alphabet.cut),
            cut_share=alphabet.cut_share,
            cut_examples=_shown(alphabet.cut),
            unknown_word_share=unknown_words,
            unknown_token_share=unknown_words / pieces,
            pieces_per_word=pieces,
            training_bytes=self._sample.num_bytes,
            text_bytes=max(self._text_bytes, self._sample.num_bytes),
        )


def _shown(characters: Sequence[str]) -> str:
    """Name the first few characters, with "..." if there are more."""
    more = ["..."] if len(characters) > _NUM_CUT_SHOWN else []
    return " ".join([*characters[:_NUM_CUT_SHOWN], *more])


class _Sample:
    """A few blocks from all over a text, to measure on."""

    def __init__(self) -> None:
        self.blocks: list[str] = []
        self.num_bytes = 0

    def watch(self, blocks: Iterable[str]) -> Iterator[str]:
        """Pass blocks through, keeping every stride-th; the stride doubles if too many are kept."""
        stride = 1
        for number, block in enumerate(blocks):
            self.num_bytes += len(block.encode())
            if number % stride == 0:
                self.blocks.append(block)
            if len(self.blocks) > _MAX_SAMPLED_BLOCKS:
                stride *= 2
                self.blocks = self.blocks[::2]
            yield block


def _train(words: Mapping[str, int], alphabet: Alphabet, vocab_size: int) -> dict[str, int]:
    """Run the trainer over the words, passing every character it will meet first."""
    trainer = trainers.WordPieceTrainer(
        vocab_size=vocab_size,
        min_frequency=1,
        show_progress=False,
        special_tokens=[
            *SPECIAL_TOKENS,
            *alphabet.characters,
            *(f"##{character}" for character in alphabet.continuing),
        ],
    )
    learner = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    learner.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    learner.train_from_iterator(_repeated(words, set(alphabet.continuing)), trainer)
    return dict(learner.get_vocab())


def _repeated(words: Mapping[str, int], continuing: set[str]) -> Iterator[str]:
    """Yield the words made of these characters as often as counted, or in proportion."""
    total = max(MAX_TRAINING_WORDS, sum(words.values()))
    for word, count in words.items():
        if len(word) == 1 or not continuing.issuperset(word):
            continue
        # A fraction is rounded up or down by a hash, so that rare words count too.
        draw = zlib.crc32(word.encode()) * total >> 32
        times = (count * MAX_TRAINING_WORDS + draw) // total
        while times > 0:
            yield f"{word} " * min(times, _WORDS_AT_ONCE)
            times -= _WORDS_AT_ONCE


def _coverage(tokenizer: Tokenizer, sample: _Sample) -> tuple[float, float]:
    """Return the share of words that become [UNK], and the tokens per word."""
    counts = count_text(sample.blocks, tokenizer.normalizer.normalize_str)
    encodings = tokenizer.encode_batch_fast(list(counts.words), add_special_tokens=False)
    unknown = special_ids(tokenizer).unk
    num_words = num_pieces = num_unknown = 0
    for encoding, count in zip(encodings, counts.words.values(), strict=True):
        num_words += count
        num_pieces += count * len(encoding.ids)
        num_unknown += count * encoding.ids.count(unknown)
    num_long = counts.num_long_words
    num_words += num_long
    return (num_unknown + num_long) / num_words, (num_pieces + num_long) / num_words
