"""NSP pairs exactly as google-research/bert makes them, planned one pass over the corpus at a time.

Kept for comparisons: it needs a whole pass planned before the first example of an epoch can be
read, more than half of its pairs are random (all of them where a sentence fills the target), and
a "random" B is from the same document when ten draws in a row hit it.
"""

from __future__ import annotations

import functools
from array import array
from collections.abc import Iterator, Sequence
from itertools import accumulate
from typing import Protocol

import numpy as np
import numpy.typing as npt

from bert_scratch.data.examples import ExampleBatch, ExampleFacts, Integers
from bert_scratch.data.pairs import IS_NEXT, IS_RANDOM, check_pairs_possible
from bert_scratch.data.philox import Purpose, RandomStream
from bert_scratch.data.split_text import SplitText
from bert_scratch.data.store import Shard

Range = tuple[int, int]


class Draws(Protocol):
    """The two draws Google's algorithm uses; `random.Random` has both."""

    def random(self) -> float:
        """Return a number in [0, 1)."""
        ...

    def randint(self, first: int, last: int, /) -> int:
        """Return an integer in [first, last]."""
        ...


class IndexedShard:
    """A shard with its sentence and document ends as plain integers."""

    def __init__(self, shard: Shard) -> None:
        # indexing a memoryview gives Python ints three times faster than indexing an array
        self.sentences = shard.sentences.data
        self.documents = shard.documents.data

    def document_sentences(self, document: int) -> tuple[int, int]:
        """Return the sentence range of a document."""
        return (self.documents[document - 1] if document else 0), self.documents[document]


class GooglePairs:
    """Google's pairs: an epoch is one pass over the documents with draws of its own.

    Passes differ by a few in their number of pairs; N is that of the first, so slot s of a later
    pass is its pair s modulo their number: at most that small difference is repeated or left out.

    Args:
        shards: of one split.
        max_tokens: M, tokens of A and B together.
        short_seq_prob: share of documents with a shorter target.
        seed: the key of all draws.
        split: which one, for error messages.

    Raises:
        InputError: if the split has no document of two sentences, or a single document.

    Source:
        google-research/bert create_pretraining_data.py. Deviation: the order of documents and pairs
        is the loader's permutation instead of two shuffles.
    """

    def __init__(
        self,
        shards: Sequence[Shard],
        *,
        max_tokens: int,
        short_seq_prob: float,
        seed: int,
        split: str,
    ) -> None:
        self._text = SplitText(shards)
        num_documents = int(self._text.num_documents.sum())
        num_single = int(self._text.num_one_sentence_documents.sum())
        check_pairs_possible(split, num_documents, num_single)
        self._shards = [IndexedShard(shard) for shard in shards]
        self._settings = (max_tokens, short_seq_prob, seed)
        self._plan = functools.lru_cache(maxsize=2)(self._plan_epoch)
        first_pass = self._plan(0)
        self.facts = ExampleFacts(
            num_examples=len(first_pass),
            num_documents=num_documents,
            num_one_sentence_documents=num_single,
            random_next_share=float(first_pass[:, 0].mean()),
        )

    def batch(self, epochs: Integers, slots: Integers) -> ExampleBatch:
        """Return the example of each (epoch, slot), both [B] int64."""
        pairs = np.array(
            [
                self._plan(epoch)[slot % len(self._plan(epoch))]
                for epoch, slot in zip(epochs.tolist(), slots.tolist(), strict=True)
            ]
        )
        shards, starts, ends = pairs[:, 1:].reshape(-1, 3).T
        return self._text.read(
            shards,
            starts,
            ends - starts,
            segments_per_row=np.full(len(slots), 2),
            labels=pairs[:, 0],
        )

    def _plan_epoch(self, epoch: int) -> npt.NDArray[np.int64]:
        max_tokens, short_seq_prob, seed = self._settings
        draws = RandomStream(seed, epoch, 0, Purpose.PLAN)
        return plan_pairs(self._shards, draws, max_tokens, short_seq_prob)


def plan_pairs(
    shards: Sequence[IndexedShard], draws: Draws, max_tokens: int, short_seq_prob: float
) -> npt.NDArray[np.int64]:
    """Plan one pass over all documents in their order.

    Args:
        shards: of one split.
        draws: where random numbers come from, in Google's order.
        max_tokens: M.
        short_seq_prob: share of documents with a shorter target, drawn once per document.

    Returns:
        [P, 7] int64: label, shard of A, start and end of A in its tokens, and the same three of B.
    """
    document_ends = list(accumulate(len(shard.documents) for shard in shards))
    plan = array("q")
    document_index = 0
    for shard_index, shard in enumerate(shards):
        for document in range(len(shard.documents)):
            target = max_tokens
            if draws.random() < short_seq_prob:
                target = draws.randint(2, max_tokens)
            for range_a, range_b in _document_pairs(shard, document, target, draws):
                label, shard_b = IS_NEXT, shard_index
                if range_b is None:
                    label = IS_RANDOM
                    length = target - (range_a[1] - range_a[0])
                    shard_b, range_b = _random_b(
                        shards, document_ends, document_index, length, draws
                    )
                range_a, range_b = _truncated(range_a, range_b, max_tokens, draws)
                plan.extend((label, shard_index, *range_a, shard_b, *range_b))
            document_index += 1
    return np.frombuffer(plan, np.int64).reshape(-1, 7)


def _document_pairs(
    shard: IndexedShard, document: int, target: int, draws: Draws
) -> Iterator[tuple[Range, Range | None]]:
    """Yield the token ranges of A and the actual B, or None where B is to be random."""
    first, last = shard.document_sentences(document)
    ends = shard.sentences
    start = ends[first - 1] if first else 0
    sentence = chunk = first
    while sentence < last:
        if sentence < last - 1 and ends[sentence] - start < target:
            sentence += 1
            continue
        num_segments = sentence - chunk + 1
        a_segments = draws.randint(1, num_segments - 1) if num_segments > 1 else 1
        cut = ends[chunk + a_segments - 1]
        if num_segments == 1 or draws.random() < 0.5:
            yield (start, cut), None
            # the sentences not used open the next chunk
            sentence, start = chunk + a_segments, cut
        else:
            yield (start, cut), (cut, ends[sentence])
            start = ends[sentence]
            sentence += 1
        chunk = sentence


def _random_b(
    shards: Sequence[IndexedShard],
    document_ends: Sequence[int],
    avoid: int,
    length: int,
    draws: Draws,
) -> tuple[int, Range]:
    """Return the shard and token range of sentences from a random document, up to `length`."""
    for _ in range(10):
        index = draws.randint(0, document_ends[-1] - 1)
        if index != avoid:
            break
    shard_index = int(np.searchsorted(document_ends, index, side="right"))
    shard = shards[shard_index]
    document = index - document_ends[shard_index] + len(shard.documents)
    first, last = shard.document_sentences(document)
    sentence = draws.randint(first, last - 1)
    start = shard.sentences[sentence - 1] if sentence else 0
    while sentence < last - 1 and shard.sentences[sentence] - start < length:
        sentence += 1
    return shard_index, (start, shard.sentences[sentence])


def _truncated(
    range_a: Range, range_b: Range, max_tokens: int, draws: Draws
) -> tuple[Range, Range]:
    """Drop tokens from the longer range (a tie: from B), at its front or back by coin."""
    start_a, end_a = range_a
    start_b, end_b = range_b
    while end_a - start_a + end_b - start_b > max_tokens:
        front = draws.random() < 0.5
        if end_a - start_a > end_b - start_b:
            start_a, end_a = (start_a + 1, end_a) if front else (start_a, end_a - 1)
        else:
            start_b, end_b = (start_b + 1, end_b) if front else (start_b, end_b - 1)
    return (start_a, end_a), (start_b, end_b)
