"""Which token ranges make the examples of an epoch, by index arithmetic.

Slot k of a shard starts k windows of text into it, moved to a sentence's start; everything else
follows from hash(seed, epoch, slot). So any example is found in constant time, whatever was read
before: nothing is planned, cached or replayed.

Terms: a window is a run of consecutive tokens of one document; cutting it at a sentence end gives
the segments A and B; M = max_seq_length less the special tokens.
"""

from __future__ import annotations

import functools
from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from bert_scratch.config import InputError, check_range
from bert_scratch.data.philox import MAX_SLOTS, WORD, Purpose, below, philox4x32
from bert_scratch.data.store import Shard

Tokens = npt.NDArray[np.integer]

# for sop: in order, swapped
IS_NEXT, IS_RANDOM = 0, 1


class Example(NamedTuple):
    """Segments to be laid out as [CLS] segment [SEP] segment [SEP] ..., and the pair's label."""

    segments: list[Tokens]
    label: int | None
    """0 = B follows A, 1 = random (nsp) or swapped (sop); None without pairs."""


@dataclass(frozen=True, kw_only=True)
class ExampleFacts:
    """What one epoch of a split consists of."""

    num_examples: int
    """N, examples of an epoch."""
    num_documents: int
    """Documents of the split."""
    num_one_sentence_documents: int
    """Documents of a single sentence: they serve only as a random B."""
    random_next_share: float | None
    """Share of pairs whose label is 1; None without pairs."""


class IndexedShard:
    """A shard with its sentence and document ends as plain integers, found by binary search."""

    def __init__(self, shard: Shard) -> None:
        self.read = shard.read
        self.num_tokens = shard.num_tokens
        # indexing a memoryview gives Python ints three times faster than indexing an array
        self.documents = shard.documents.data
        self._shard = shard

    @functools.cached_property
    def sentences(self) -> memoryview:
        """The end of each sentence in tokens, read when first needed: opening many is slow."""
        return self._shard.sentences.data

    def sentence_at(self, token: int) -> tuple[int, int]:
        """Return the token range of the sentence that holds a token."""
        sentence = bisect_right(self.sentences, token)
        return self._start(sentence), self.sentences[sentence]

    def document_at(self, token: int) -> int:
        """Return the index of the document that holds a token."""
        return bisect_right(self.documents, bisect_right(self.sentences, token))

    def document_range(self, document: int) -> tuple[int, int]:
        """Return the token range of a document."""
        first, last = self.document_sentences(document)
        return self._start(first), self.sentences[last - 1]

    def document_sentences(self, document: int) -> tuple[int, int]:
        """Return the sentence range of a document."""
        return (self.documents[document - 1] if document else 0), self.documents[document]

    def num_one_sentence_documents(self) -> int:
        """Count the documents of a single sentence."""
        return int((self._document_sizes() == 1).sum())

    @functools.cached_property
    def documents_of_two(self) -> npt.NDArray[np.uint32]:
        """The indices of the documents of two sentences or more."""
        return np.flatnonzero(self._document_sizes() > 1).astype(np.uint32)

    def _document_sizes(self) -> npt.NDArray[np.int64]:
        sizes = np.array(self.documents, np.int64)
        sizes[1:] -= sizes[:-1].copy()
        return sizes

    def _start(self, sentence: int) -> int:
        return self.sentences[sentence - 1] if sentence else 0


class TokenWindows:
    """The windows of one split: slots, where each starts, and the draws that shape it."""

    def __init__(
        self,
        shards: Sequence[IndexedShard],
        usable: Sequence[bool],
        *,
        max_tokens: int,
        short_seq_prob: float,
        seed: int,
    ) -> None:
        check_range("short_seq_prob", short_seq_prob, at_least=0, at_most=1)
        self.shards = shards
        self.max_tokens = max_tokens
        self.seed = seed
        self._short_below = round(short_seq_prob * 2**32)
        slots = [
            -(-shard.num_tokens // max_tokens) if use else 0
            for shard, use in zip(shards, usable, strict=True)
        ]
        self._slot_ends = np.cumsum(slots)
        self.num_slots = int(self._slot_ends[-1]) if slots else 0
        if self.num_slots > MAX_SLOTS:
            raise InputError(
                f"the corpus holds {self.num_slots:,} windows of {max_tokens} tokens, the limit "
                f"is {MAX_SLOTS:,}: split it, or raise --max-seq-length"
            )

    def draws(
        self, epochs: npt.NDArray[np.int64], slots: npt.NDArray[np.int64]
    ) -> list[tuple[int, int, int, list[int]]]:
        """Return (shard, token, target length, six more random words) of each (epoch, slot).

        The token is phase(seed, epoch, shard) + k * max_tokens for the shard's k-th slot, modulo
        the shard's tokens. The target is max_tokens, or with short_seq_prob 2 to max_tokens.
        """
        shards = np.searchsorted(self._slot_ends, slots, side="right")
        within = slots - np.where(shards > 0, self._slot_ends[shards - 1], 0)
        offset = philox4x32(self.seed, (shards, 0, 0, Purpose.PHASE))[0]
        # golden-ratio steps: a few epochs' phases lie spread out, where random ones would clump
        phase = offset + epochs * 0x9E3779B9 & WORD
        tokens = below(phase, self.max_tokens) + within * self.max_tokens
        blocks = np.arange(2)[:, None]
        words = np.concatenate(philox4x32(self.seed, (epochs, slots, blocks, Purpose.PAIR)))
        short = 2 + below(words[1], self.max_tokens - 1)
        targets = np.where(words[0] < self._short_below, short, self.max_tokens)
        return [
            (shard, token % self.shards[shard].num_tokens, target, rest)
            for shard, token, target, rest in zip(
                shards.tolist(),
                tokens.tolist(),
                targets.tolist(),
                words[2:].T.tolist(),
                strict=True,
            )
        ]

    def window(
        self, shard: IndexedShard, token: int, target: int, first: int, last: int
    ) -> tuple[int, int]:
        """Return the window of `target` tokens within [first, last) that a slot's token asks for.

        It starts with the token's sentence, or at the token itself if the sentence is longer than
        a window. Near the end of the text it ends with the text instead, so that no row is short
        and no last words are left out.
        """
        if token > last - target:
            return max(first, last - target), last
        start, end = shard.sentence_at(token)
        if end - start > self.max_tokens:
            start = token
        return start, start + target


class BalancedPairs:
    """Pairs for NSP or SOP whose two labels are equally frequent and always true.

    The window and its cut do not depend on the label, so neither A nor the lengths betray it. With
    label 0, B is the rest of the window. With label 1, nsp takes a B of the same length
    from another document, found by a token drawn uniformly from all others of the split; sop
    swaps the two. Where no sentence ends inside the window (sentences longer than it, and most
    short windows), the cut, and the start of a random B, fall on any token.

    Args:
        shards: of one split.
        max_tokens: M, tokens of A and B together.
        short_seq_prob: share of windows with a shorter target.
        seed: the key of all draws.
        split: which one, for error messages.
        swap: False: nsp; True: sop.

    Raises:
        InputError: if the split has no document of two sentences, or (nsp) a single document.

    Source:
        Devlin et al. 2018, appendix A.2; Lan et al. 2020 (sop). Deviations from
        google-research/bert create_pretraining_data.py: labels are even, a random B is never of
        the same document and is drawn by tokens rather than by documents, and nothing is
        truncated after the cut.
    """

    def __init__(
        self,
        shards: Sequence[IndexedShard],
        *,
        max_tokens: int,
        short_seq_prob: float,
        seed: int,
        split: str,
        swap: bool,
    ) -> None:
        num_documents = [len(shard.documents) for shard in shards]
        num_single = [shard.num_one_sentence_documents() for shard in shards]
        check_pairs_possible(split, sum(num_documents), sum(num_single), need_two=not swap)
        usable = [single < total for single, total in zip(num_single, num_documents, strict=True)]
        self._windows = TokenWindows(
            shards, usable, max_tokens=max_tokens, short_seq_prob=short_seq_prob, seed=seed
        )
        self._shards = shards
        self._swap = swap
        self._token_ends = list(accumulate(shard.num_tokens for shard in shards))
        self.facts = ExampleFacts(
            num_examples=self._windows.num_slots,
            num_documents=sum(num_documents),
            num_one_sentence_documents=sum(num_single),
            random_next_share=0.5,
        )

    def examples(
        self, epochs: npt.NDArray[np.int64], slots: npt.NDArray[np.int64]
    ) -> list[Example]:
        """Return the example of each (epoch, slot), both [B] int64."""
        return [self._example(*draw) for draw in self._windows.draws(epochs, slots)]

    def _example(self, shard_index: int, token: int, target: int, words: list[int]) -> Example:
        label_word, cut_word, high_word, low_word, start_word, _ = words
        label = label_word >> 31
        shard = self._shards[shard_index]
        document, token = self._document_of_two(shard, token, start_word)
        home = shard.document_range(document)
        start, end = self._windows.window(shard, token, target, *home)
        cut, at_sentence = _cut(shard, start, end, cut_word)
        if label == IS_NEXT or self._swap:
            window = shard.read(start, end)
            segments = [window[: cut - start], window[cut - start :]]
            return Example(segments if label == IS_NEXT else segments[::-1], label)
        other, token = self._token_elsewhere(high_word << 32 | low_word, shard_index, *home)
        random_b = _random_segment(other, token, end - cut, at_sentence)
        return Example([shard.read(start, cut), random_b], label)

    def _document_of_two(self, shard: IndexedShard, token: int, start_word: int) -> tuple[int, int]:
        """Return the token's document, or the next of two sentences and a token drawn in it."""
        document = shard.document_at(token)
        first, last = shard.document_sentences(document)
        if last - first > 1:
            return document, token
        following = shard.documents_of_two.searchsorted(np.uint32(document))
        document = int(shard.documents_of_two[following % len(shard.documents_of_two)])
        start, end = shard.document_range(document)
        return document, start + below(start_word, end - start)

    def _token_elsewhere(
        self, word64: int, shard_index: int, start: int, end: int
    ) -> tuple[IndexedShard, int]:
        """Return a shard and token drawn from all tokens but a shard's from start to end."""
        base = self._token_ends[shard_index] - self._shards[shard_index].num_tokens
        place = word64 * (self._token_ends[-1] - (end - start)) >> 64
        if place >= base + start:
            place += end - start
        index = bisect_right(self._token_ends, place)
        shard = self._shards[index]
        return shard, place - self._token_ends[index] + shard.num_tokens


def _random_segment(shard: IndexedShard, token: int, length: int, at_sentence: bool) -> Tokens:
    """Read up to `length` tokens of the token's document, from its sentence's start if asked."""
    start, end = shard.document_range(shard.document_at(token))
    start = max(start, min(token, end - length))
    if at_sentence:
        start, _ = shard.sentence_at(start)
    return shard.read(start, min(start + length, end))


def _cut(shard: IndexedShard, start: int, end: int, word: int) -> tuple[int, bool]:
    """Return where the window is cut, and whether that is a sentence's end."""
    first = bisect_right(shard.sentences, start)
    last = bisect_left(shard.sentences, end)
    if first < last:
        return shard.sentences[first + (word * (last - first) >> 32)], True
    return start + 1 + below(word, end - start - 1), False


class JoinedText:
    """Consecutive text without pairs: documents joined by [SEP] until the row is full.

    Args:
        shards: of one split.
        max_tokens: M, tokens and inner [SEP] together.
        short_seq_prob: share of windows with a shorter target.
        seed: the key of all draws.
        split: which one, for error messages.

    Raises:
        InputError: if the split is empty.

    Source:
        Liu et al. 2019 (RoBERTa), section 4.2, FULL-SENTENCES.
    """

    def __init__(
        self,
        shards: Sequence[IndexedShard],
        *,
        max_tokens: int,
        short_seq_prob: float,
        seed: int,
        split: str,
    ) -> None:
        usable = [shard.num_tokens > 0 for shard in shards]
        if not any(usable):
            raise InputError(f"the {split} split of the corpus holds no text")
        self._windows = TokenWindows(
            shards, usable, max_tokens=max_tokens, short_seq_prob=short_seq_prob, seed=seed
        )
        self.facts = ExampleFacts(
            num_examples=self._windows.num_slots,
            num_documents=sum(len(shard.documents) for shard in shards),
            num_one_sentence_documents=sum(s.num_one_sentence_documents() for s in shards),
            random_next_share=None,
        )

    def examples(
        self, epochs: npt.NDArray[np.int64], slots: npt.NDArray[np.int64]
    ) -> list[Example]:
        """Return the example of each (epoch, slot), both [B] int64."""
        return [self._example(*draw) for draw in self._windows.draws(epochs, slots)]

    def _example(self, shard_index: int, token: int, target: int, _: list[int]) -> Example:
        shard = self._windows.shards[shard_index]
        start = self._windows.window(shard, token, target, 0, shard.num_tokens)[0]
        document = shard.document_at(start)
        segments = []
        while target > 0 and start < shard.num_tokens:
            end = min(shard.document_range(document)[1], start + target)
            segments.append(shard.read(start, end))
            target -= end - start + 1
            start, document = end, document + 1
        return Example(segments, None)


def check_pairs_possible(
    split: str, num_documents: int, num_one_sentence: int, *, need_two: bool = True
) -> None:
    """Raise `InputError` if the documents of a split cannot give pairs with true labels."""
    remedy = "--documents (and --eval-fraction for eval), or train without pairs: --pair-task none"
    if need_two and num_documents < 2:
        raise InputError(
            "next sentence prediction needs at least two documents, for a random B must come from "
            f"another one; the {split} split has {num_documents}. Check {remedy}"
        )
    if num_one_sentence == num_documents:
        raise InputError(
            f"sentence pairs need documents of two sentences or more; all {num_documents} "
            f"documents of the {split} split have one. Check --sentences, {remedy}"
        )
