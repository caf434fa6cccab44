"""Search and read the shards of one split for a whole batch of rows at once.

A place in the text is a shard and a token in it. A shard stores its sentence and document ends in
two sorted arrays, so finding a token's sentence is a binary search, and numpy searches for many
rows forty times faster than Python does one by one.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt

from bert_scratch.data.examples import ExampleBatch, Integers
from bert_scratch.data.shard import Shard

Ends = npt.NDArray[np.uint32]


class SplitText:
    """All shards of a split.

    Args:
        shards: in order; some may be empty.
        word_starts: read word starts along with the tokens; the store must have them.

    Attributes:
        num_tokens: [S] int64, of each shard.
        num_documents: [S] int64, of each shard.
        num_one_sentence_documents: [S] int64, documents of each shard that have one sentence.
        first_places: [S] int64, number of tokens in the shards before.
    """

    def __init__(self, shards: Sequence[Shard], *, word_starts: bool = False) -> None:
        self.num_tokens = np.array([s.num_tokens for s in shards], np.int64)
        self.num_documents = np.array([s.num_documents for s in shards], np.int64)
        self.num_one_sentence_documents = np.array(
            [s.num_one_sentence_documents for s in shards], np.int64
        )
        self._ends = np.cumsum(self.num_tokens)
        self.first_places = self._ends - self.num_tokens
        self._shards = shards
        self._indices = [ShardIndex(shard) for shard in shards]
        self._word_starts = word_starts

    def lookup(self, shards: Integers) -> ShardLookup:
        """Return what answers n questions about the given shards, [n] int64."""
        return ShardLookup(self._indices, shards)

    def locate(self, places: Integers) -> tuple[Integers, Integers]:
        """Return shard and token in it for places counted through all shards, [n] int64."""
        shards = np.searchsorted(self._ends, places, side="right")
        return shards, places - self.first_places[shards]

    def read(
        self,
        shards: Integers,
        starts: Integers,
        lengths: Integers,
        segments_per_row: Integers,
        labels: Integers | None,
    ) -> ExampleBatch:
        """Read segments given by shard, first token and length ([G] int64 each) as a batch."""
        ranges = [
            (self._shards[shard], start, end)
            for shard, start, end in zip(
                shards.tolist(), starts.tolist(), (starts + lengths).tolist(), strict=True
            )
        ]
        tokens = [shard.read(start, end) for shard, start, end in ranges]
        word_starts = None
        if self._word_starts:
            flags = [shard.read_word_starts(start, end) for shard, start, end in ranges]
            word_starts = np.concatenate(flags)
        return ExampleBatch(
            tokens=np.concatenate(tokens, dtype=np.int32),
            segment_lengths=lengths,
            segments_per_row=segments_per_row,
            labels=labels,
            word_starts=word_starts,
        )


class ShardIndex:
    """The sentence and document ends of a shard, each mapped on first use."""

    def __init__(self, shard: Shard) -> None:
        self._shard = shard

    @functools.cached_property
    def sentences(self) -> Ends:
        """The end of each sentence in tokens."""
        return self._shard.sentences

    @functools.cached_property
    def documents(self) -> Ends:
        """The end of each document in sentences."""
        return self._shard.documents

    @functools.cached_property
    def documents_of_two(self) -> Ends:
        """The documents of two sentences or more."""
        sizes = np.diff(self.documents, prepend=np.uint32(0))
        return np.flatnonzero(sizes > 1).astype(np.uint32)


class ShardLookup:
    """Finds sentences and documents for n rows, each in one shard, asking each shard only once.

    Questions and answers are [n] int64, in the order of the rows.
    """

    def __init__(self, indices: Sequence[ShardIndex], shards: Integers) -> None:
        self.shards = shards
        self._order = np.argsort(shards, kind="stable")
        ordered = shards[self._order]
        bounds = [*np.flatnonzero(np.diff(ordered, prepend=-1)).tolist(), len(ordered)]
        self._groups = [
            (indices[ordered[start]], slice(start, end)) for start, end in pairwise(bounds)
        ]

    def sentence_at(self, tokens: Integers) -> Integers:
        """Return the index of the sentence that holds each token."""
        keys = self._keys(tokens)
        return self._answer(
            [shard.sentences.searchsorted(keys[rows], "right") for shard, rows in self._groups]
        )

    def document_of(self, sentences: Integers) -> Integers:
        """Return the index of the document that holds each sentence."""
        keys = self._keys(sentences)
        return self._answer(
            [shard.documents.searchsorted(keys[rows], "right") for shard, rows in self._groups]
        )

    def sentence_start(self, sentences: Integers) -> Integers:
        """Return the first token of each sentence."""
        return np.where(sentences > 0, self.sentence_end(sentences - 1), 0)

    def sentence_end(self, sentences: Integers) -> Integers:
        """Return the token after the last of each sentence."""
        asked = sentences[self._order]
        return self._answer([shard.sentences[asked[rows]] for shard, rows in self._groups])

    def document_sentences(self, documents: Integers) -> tuple[Integers, Integers]:
        """Return the first sentence of each document and that after its last."""
        asked = documents[self._order]
        ends = self._answer([shard.documents[asked[rows]] for shard, rows in self._groups])
        before = self._answer([shard.documents[asked[rows] - 1] for shard, rows in self._groups])
        return np.where(documents > 0, before, 0), ends

    def document_range(self, documents: Integers) -> tuple[Integers, Integers]:
        """Return the first token of each document and that after its last."""
        first, last = self.document_sentences(documents)
        return self.sentence_start(first), self.sentence_end(last - 1)

    def next_document_of_two(self, documents: Integers) -> Integers:
        """Return the next document of two sentences or more, wrapping around in the shard."""
        keys = self._keys(documents)
        parts = []
        for shard, rows in self._groups:
            candidates = shard.documents_of_two
            parts.append(candidates[candidates.searchsorted(keys[rows]) % len(candidates)])
        return self._answer(parts)

    def _keys(self, questions: Integers) -> Ends:
        """Return questions by shard, in the arrays' dtype, or numpy would convert the arrays."""
        return questions[self._order].astype(np.uint32)

    def _answer(self, parts: list[npt.NDArray[Any]]) -> Integers:
        """Return the answers of all shards in the order of the rows."""
        answer = np.empty(len(self.shards), np.int64)
        if parts:
            answer[self._order] = np.concatenate(parts)
        return answer


def expanded(counts: Integers) -> tuple[Integers, Integers]:
    """Return each index repeated as often as counts says, and 0, 1, ... within each repeat."""
    index = np.repeat(np.arange(len(counts)), counts)
    return index, np.arange(len(index)) - (np.cumsum(counts) - counts)[index]
