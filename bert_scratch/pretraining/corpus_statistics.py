"""Statistics of a corpus, counted while its documents are read."""

from __future__ import annotations

import math
from bisect import bisect_left
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from tokenizers import Tokenizer

from bert_scratch.data.encoding import TextEncoder
from bert_scratch.data.segmenter import continuing_ids, ideograph_ids
from bert_scratch.data.wordpiece import special_ids
from bert_scratch.pretraining.characters import CharacterTally
from bert_scratch.pretraining.reading import ReadingRules, pieces_of
from bert_scratch.pretraining.repeats import Repeats

PERCENTILES = (5, 25, 50, 75, 95, 99)

_BATCH_CHARACTERS = 1 << 19
_NUM_EQUAL_BINS = 24


@dataclass(frozen=True, kw_only=True)
class Bin:
    """The number of lengths from first to last, inclusive."""

    first: int
    last: int
    count: int


@dataclass(frozen=True, kw_only=True)
class Lengths:
    """How long documents or sentences are."""

    mean: float
    percentiles: dict[str, int]
    longest: int
    histogram: list[Bin]

    @classmethod
    def of(cls, counts: Counter[int], *, doubling: bool) -> Lengths:
        """Summarise the counts of each length, in bins of doubling or of equal width."""
        lengths = np.array(sorted(counts), dtype=np.int64)
        ends = np.cumsum([counts[length] for length in lengths.tolist()])
        percentiles = {
            str(share): int(lengths[np.searchsorted(ends, math.ceil(share * ends[-1] / 100))])
            for share in PERCENTILES
        }
        longest = int(lengths[-1])
        ends_of_bins = (
            _doubling_ends(longest) if doubling else _equal_ends(percentiles["99"], longest)
        )
        return cls(
            mean=float(sum(n * count for n, count in counts.items()) / ends[-1]),
            percentiles=percentiles,
            longest=longest,
            histogram=_histogram(counts, ends_of_bins),
        )


@dataclass(frozen=True, kw_only=True)
class VocabularyUse:
    """How a vocabulary tokenises a text."""

    name: str
    vocab_size: int
    num_words: int
    """Words as BERT sees them: each punctuation mark and each ideograph is one."""
    num_tokens: int
    pieces_per_word: float
    unknown_word_share: float
    """The share of words that become [UNK]."""
    unknown_token_share: float
    """The share of [UNK] among the tokens."""
    unigram_entropy: float
    """The entropy of the tokens' frequencies, in nats."""
    ideograph_share: float
    """The share of single ideographs among the tokens."""


@dataclass
class SourceTally:
    """Counts of one source."""

    documents: int = 0
    sections: int = 0
    """Documents, after long ones are cut into sections, each then a document."""
    lines: int = 0
    sentences: int = 0
    bytes: int = 0
    one_line_documents: int = 0
    one_sentence_documents: int = 0
    largest_document_bytes: int = 0


@dataclass
class SplitTally:
    """Counts of the train or the held-out part; sections of long documents count as documents."""

    documents: int = 0
    sentences: int = 0
    tokens: int = 0


class TokenTally:
    """Tokens of a text in one vocabulary.

    Attributes:
        counts: [V] int64, how often each token occurred.
    """

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._encoder = TextEncoder(tokenizer)
        self._unknown = special_ids(tokenizer).unk
        self.vocab_size = self._encoder.vocab_size
        self.counts = np.zeros(self.vocab_size, dtype=np.int64)
        self._begins_word = np.ones(self.vocab_size, dtype=bool)
        self._begins_word[continuing_ids(tokenizer)] = False
        self._ideographs = ideograph_ids(tokenizer)

    def encode(self, texts: Sequence[str]) -> list[npt.NDArray[np.int32]]:
        """Return the ids of each text, and count them."""
        ids = self._encoder.encode(texts)
        if ids:
            self.counts += np.bincount(np.concatenate(ids), minlength=self.vocab_size)
        return ids

    def use(self, name: str) -> VocabularyUse:
        """Return the statistics, with a name for the vocabulary."""
        num_tokens, num_unknown = int(self.counts.sum()), int(self.counts[self._unknown])
        num_words = int(self.counts[self._begins_word].sum())
        share = self.counts[self.counts > 0] / max(1, num_tokens)
        return VocabularyUse(
            name=name,
            vocab_size=self.vocab_size,
            num_words=num_words,
            num_tokens=num_tokens,
            pieces_per_word=num_tokens / max(1, num_words),
            unknown_word_share=num_unknown / max(1, num_words),
            unknown_token_share=num_unknown / max(1, num_tokens),
            unigram_entropy=float(-(share * np.log(share)).sum()),
            ideograph_share=int(self.counts[self._ideographs].sum()) / max(1, num_tokens),
        )


class CorpusTally:
    """Counts documents as they are read.

    Args:
        tokenizer: makes the tokens.
        others: tokenizers whose pieces per word are counted for comparison.
        rules: how lines become sentences, and which documents are held out.

    Attributes:
        sources: counts of each source.
        train: counts of the train part.
        held_out: counts of the held-out part.
        tokens: token counts of the tokenizer; `others`: those of the others.
        characters: characters of the lines as they are in the files.
        lines, documents: which of them repeat.
        document_sentences: length in sentences -> number of documents.
        sentence_tokens: length in tokens -> number of sentences.
        pair_document_tokens: length in tokens -> number of documents of two sentences or more,
            long ones in sections.
    """

    def __init__(
        self,
        tokenizer: Tokenizer,
        *,
        others: Sequence[Tokenizer],
        rules: ReadingRules,
    ) -> None:
        self.sources = [SourceTally() for _ in rules.sources]
        self.train, self.held_out = SplitTally(), SplitTally()
        self.tokens = TokenTally(tokenizer)
        self.others = [TokenTally(other) for other in others]
        self.characters = CharacterTally()
        self.lines, self.documents = Repeats(), Repeats()
        self.document_sentences: Counter[int] = Counter()
        self.sentence_tokens: Counter[int] = Counter()
        self.pair_document_tokens: Counter[int] = Counter()
        self._rules = rules
        self._batch: list[tuple[list[str], bool]] = []
        self._batch_lines: list[str] = []
        self._batch_characters = 0

    @property
    def num_documents(self) -> int:
        """Documents with at least one token, long ones in sections."""
        return self.train.documents + self.held_out.documents

    @property
    def num_sentences(self) -> int:
        """Sentences with at least one token."""
        return self.train.sentences + self.held_out.sentences

    def add(self, source_index: int, lines: list[str]) -> None:
        """Count one document.

        Args:
            source_index: the source it is from.
            lines: its lines or paragraphs, as they were read.
        """
        source = self.sources[source_index]
        rule = self._rules.sentence_rules[source_index]
        num_bytes = sum(len(line.encode()) + 1 for line in lines)
        num_sentences = 0
        for piece in pieces_of(lines, rule):
            sentences = piece.sentences(rule)
            self._batch.append((sentences, self._rules.holds_out(piece.hash)))
            num_sentences += len(sentences)
            source.sections += 1
        source.documents += 1
        source.lines += len(lines)
        source.sentences += num_sentences
        source.bytes += num_bytes
        source.one_line_documents += len(lines) == 1
        source.one_sentence_documents += num_sentences == 1
        source.largest_document_bytes = max(source.largest_document_bytes, num_bytes)
        self.document_sentences[num_sentences] += 1
        for line in lines:
            self.lines.add(line)
        self.documents.add("\n".join(lines))
        self._batch_lines += lines
        self._batch_characters += sum(map(len, lines))
        if self._batch_characters >= _BATCH_CHARACTERS:
            self.finish()

    def finish(self) -> None:
        """Count what is pending; call this after the last document."""
        self.characters.add("\n".join(self._batch_lines))
        texts = [sentence for sentences, _ in self._batch for sentence in sentences]
        for other in self.others:
            other.encode(texts)
        lengths = iter([len(ids) for ids in self.tokens.encode(texts)])
        for sentences, is_held_out in self._batch:
            # a sentence without tokens (only control characters) does not count
            in_tokens = [n for _ in sentences if (n := next(lengths))]
            if not in_tokens:
                continue
            self.sentence_tokens.update(in_tokens)
            split = self.held_out if is_held_out else self.train
            split.documents += 1
            split.sentences += len(in_tokens)
            split.tokens += sum(in_tokens)
            if len(in_tokens) > 1:
                self.pair_document_tokens[sum(in_tokens)] += 1
        self._batch, self._batch_lines, self._batch_characters = [], [], 0


def _doubling_ends(longest: int) -> list[int]:
    """Return 1, 2, 4, 8 ... up to the longest, for lengths of different orders of magnitude."""
    ends = [1]
    while ends[-1] < longest:
        ends.append(2 * ends[-1])
    return ends


def _equal_ends(usual: int, longest: int) -> list[int]:
    """Return the ends of bins of equal width up to a usual length, and of one for the rest."""
    width = math.ceil(usual / _NUM_EQUAL_BINS)
    ends = list(range(width, usual + width, width))
    return ends if ends[-1] >= longest else [*ends, longest]


def _histogram(counts: Counter[int], ends: Sequence[int]) -> list[Bin]:
    in_bins = [0] * len(ends)
    for length, count in counts.items():
        in_bins[bisect_left(ends, length)] += count
    firsts = [1, *(end + 1 for end in ends[:-1])]
    return [
        Bin(first=first, last=last, count=count)
        for first, last, count in zip(firsts, ends, in_bins, strict=True)
    ]
