"""NSP pairs exactly as google-research/bert makes them, planned one pass over the corpus at a time.

Kept for comparisons. Its drawbacks: the pairs are known only after a whole pass, more than half
are random (all of them where a sentence fills the target), and a "random" B comes from the same
document when ten draws in a row hit it.

A document is read in chunks of sentences that reach a target length; each chunk gives a pair. Each
chunk has its own random stream, so the plan of a pass holds only where chunks start, and a pair is
made when it is requested. A thread plans the next pass while the current one is read.
"""

from __future__ import annotations

import functools
import threading
from collections.abc import Sequence
from concurrent.futures import Future
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from bert_scratch.data.examples import ExampleBatch, ExampleFacts, Integers
from bert_scratch.data.pairs import IS_NEXT, IS_RANDOM, check_pairs_possible
from bert_scratch.data.philox import Purpose, below, philox4x32
from bert_scratch.data.shard import Shard
from bert_scratch.data.split_text import ShardLookup, SplitText, expanded

MAX_TRIES = 10
"""Maximum number of draws for a document other than A's."""


@dataclass(frozen=True)
class PassPlan:
    """The chunks of one pass over the documents, in their order."""

    starts: npt.NDArray[np.uint32]
    """[P] the first sentence of each chunk, counted in its shard."""
    shard_ends: Integers
    """[S] cumulative number of chunks, up to and including each shard."""
    random_share: float
    """Share of pairs with a random B."""


@dataclass(frozen=True)
class Chunks:
    """Runs of sentences of one document, cut in two; arrays of [n] int64."""

    first_token: Integers
    cut_sentence: Integers
    """The first sentence after A."""
    last_sentence: Integers
    is_random: npt.NDArray[np.bool_]
    """Whether B is random; if so, the next chunk starts at the cut."""
    bits: Integers
    """[4 * blocks, n], the first draws of each chunk's stream, 32 random bits each."""
    num_used: Integers
    """How many of those draws were used."""


class GooglePairs:
    """Google's pairs: an epoch is one pass over the documents with its own draws.

    Passes differ slightly in their number of pairs; N is that of the first. Slot s of a later pass
    is its pair s modulo its number of pairs, so only that difference is repeated or left out.

    Args:
        shards: of one split.
        max_tokens: M, tokens of A and B together.
        short_seq_prob: share of documents with a shorter target.
        seed: the key of all draws.
        split: its name, for error messages.
        word_starts: also return where words start; the store must have them.

    Raises:
        InputError: if the split has no document of two sentences, or a single document.

    Source:
        google-research/bert create_pretraining_data.py. Deviations: the order of documents and
        pairs is the loader's permutation instead of two shuffles; random numbers come from one
        stream for each document (its target) and one for each chunk, read in Google's order.
    """

    def __init__(
        self,
        shards: Sequence[Shard],
        *,
        max_tokens: int,
        short_seq_prob: float,
        seed: int,
        split: str,
        word_starts: bool = False,
    ) -> None:
        self._text = SplitText(shards, word_starts=word_starts)
        num_documents = int(self._text.num_documents.sum())
        num_single = int(self._text.num_one_sentence_documents.sum())
        check_pairs_possible(split, num_documents, num_single)
        self._document_ends = np.cumsum(self._text.num_documents)
        self._max_tokens = max_tokens
        self._short_seq_prob = short_seq_prob
        self._seed = seed
        self._planning = functools.lru_cache(maxsize=3)(self._start_planning)
        first_pass = self._planning(0).result()
        self.facts = ExampleFacts(
            num_examples=len(first_pass.starts),
            num_documents=num_documents,
            num_one_sentence_documents=num_single,
            random_next_share=first_pass.random_share,
        )

    def batch(self, epochs: Integers, slots: Integers) -> ExampleBatch:
        """Return the example of each (epoch, slot), both [B] int64."""
        shards, sentences = np.empty_like(slots), np.empty_like(slots)
        for epoch in np.unique(epochs).tolist():
            self._planning(epoch)
            self._planning(epoch + 1)
            plan = self._planning(epoch).result()
            rows = epochs == epoch
            pairs = slots[rows] % len(plan.starts)
            shards[rows] = np.searchsorted(plan.shard_ends, pairs, side="right")
            sentences[rows] = plan.starts[pairs]
        return self._pairs(epochs, shards, sentences)

    def _start_planning(self, epoch: int) -> Future[PassPlan]:
        """Plan a pass in a thread; nearly all of it is numpy, which releases the GIL."""
        future: Future[PassPlan] = Future()

        def run() -> None:
            try:
                future.set_result(self._planned(epoch))
            except BaseException as error:
                future.set_exception(error)

        threading.Thread(target=run, name=f"plan of epoch {epoch}", daemon=True).start()
        return future

    def _planned(self, epoch: int) -> PassPlan:
        """Step through all documents of a shard in parallel, one chunk of each at a time."""
        starts: list[npt.NDArray[np.uint32]] = []
        num_random = 0
        for shard, num_documents in enumerate(self._text.num_documents.tolist()):
            shards = np.full(num_documents, shard)
            lookup = self._text.lookup(shards)
            sentence, last = lookup.document_sentences(np.arange(num_documents))
            target = self._targets(epoch, shards, sentence)
            chunk_starts = []
            while len(sentence):
                chunk_starts.append(sentence.astype(np.uint32))
                chunks = self._chunks(lookup, epoch, sentence, last, target, num_blocks=1)
                num_random += int(chunks.is_random.sum())
                sentence = np.where(chunks.is_random, chunks.cut_sentence, chunks.last_sentence + 1)
                going_on = sentence < last
                sentence, last, target = sentence[going_on], last[going_on], target[going_on]
                lookup = self._text.lookup(lookup.shards[going_on])
            starts.append(np.sort(np.concatenate([np.empty(0, np.uint32), *chunk_starts])))
        shard_ends = np.cumsum([len(part) for part in starts])
        return PassPlan(np.concatenate(starts), shard_ends, num_random / int(shard_ends[-1]))

    def _targets(self, epochs: Integers | int, shards: Integers, sentences: Integers) -> Integers:
        """Return the target length of documents that start with the given sentences."""
        bits = self._bits(epochs, shards, sentences, 0, Purpose.TARGET)
        short = 2 + below(bits[1], self._max_tokens - 1)
        return np.where(bits[0] / 2**32 < self._short_seq_prob, short, self._max_tokens)

    def _chunks(
        self,
        lookup: ShardLookup,
        epochs: Integers | int,
        sentence: Integers,
        last: Integers,
        target: Integers,
        num_blocks: int,
    ) -> Chunks:
        """Return the chunks that start with the given sentences, in documents ending at `last`."""
        first_token = lookup.sentence_start(sentence)
        reached = np.minimum(first_token + target, lookup.sentence_end(last - 1))
        last_sentence = lookup.sentence_at(reached - 1)
        more = last_sentence - sentence
        blocks = np.arange(num_blocks)[:, None]
        bits = self._bits(epochs, lookup.shards, sentence, blocks, Purpose.PLAN)
        bits = bits.swapaxes(0, 1).reshape(4 * num_blocks, -1)
        return Chunks(
            first_token=first_token,
            cut_sentence=sentence + 1 + np.where(more > 0, below(bits[0], more), 0),
            last_sentence=last_sentence,
            is_random=(more == 0) | (bits[1] < 1 << 31),
            bits=bits,
            num_used=np.where(more > 0, 2, 0),
        )

    def _pairs(self, epochs: Integers, shards: Integers, sentences: Integers) -> ExampleBatch:
        """Return the pairs of the chunks that start with the given sentences of shards."""
        lookup = self._text.lookup(shards)
        documents = lookup.document_of(sentences)
        first, last = lookup.document_sentences(documents)
        target = self._targets(epochs, shards, first)
        chunks = self._chunks(lookup, epochs, sentences, last, target, num_blocks=4)
        cut = lookup.sentence_start(chunks.cut_sentence)
        # [B, 2], A and B of each row
        shards_ab = np.stack([shards, shards], axis=1)
        starts = np.stack([chunks.first_token, cut], axis=1)
        ends = np.stack([cut, lookup.sentence_end(chunks.last_sentence)], axis=1)
        drawn = np.flatnonzero(chunks.is_random)
        homes = documents + (self._document_ends - self._text.num_documents)[shards]
        shards_ab[drawn, 1], starts[drawn, 1], ends[drawn, 1], chunks.num_used[drawn] = (
            self._random_b(
                homes[drawn],
                (target - (cut - chunks.first_token))[drawn],
                chunks.bits[:, drawn],
                chunks.num_used[drawn],
            )
        )
        drops = self._drops(ends - starts, chunks.num_used, epochs, shards, sentences)
        return self._text.read(
            shards_ab.ravel(),
            (starts + drops[0]).ravel(),
            (ends - starts - drops.sum(axis=0)).ravel(),
            segments_per_row=np.full(len(shards), 2),
            labels=np.where(chunks.is_random, IS_RANDOM, IS_NEXT),
        )

    def _random_b(
        self, homes: Integers, lengths: Integers, bits: Integers, num_used: Integers
    ) -> tuple[Integers, Integers, Integers, Integers]:
        """Return shard, first token and end token of a random B, and the draws used, per row.

        B runs from a random sentence of a document until it reaches the length.
        """
        each = np.arange(len(homes))
        tries = bits[num_used + np.arange(MAX_TRIES)[:, None], each]
        others = below(tries, int(self._document_ends[-1]))
        found = others != homes
        tried = np.where(found.any(axis=0), found.argmax(axis=0), MAX_TRIES - 1)
        num_used = num_used + tried + 1
        document = others[tried, each]
        shards = np.searchsorted(self._document_ends, document, side="right")
        document = document - (self._document_ends - self._text.num_documents)[shards]
        lookup = self._text.lookup(shards)
        first, last = lookup.document_sentences(document)
        start = lookup.sentence_start(first + below(bits[num_used, each], last - first))
        reached = np.minimum(start + np.maximum(lengths, 1), lookup.sentence_end(last - 1))
        return shards, start, lookup.sentence_end(lookup.sentence_at(reached - 1)), num_used + 1

    def _drops(
        self,
        lengths: Integers,
        num_used: Integers,
        epochs: Integers,
        shards: Integers,
        sentences: Integers,
    ) -> Integers:
        """Return [2, B, 2], the tokens dropped at the front and the back of each A and B.

        Tokens are dropped one at a time from the longer segment (from B on a tie), at the front
        or back by coin toss, until the pair fits: first from the longer, then from each in turn.
        """
        num_drops = np.maximum(lengths.sum(axis=1) - self._max_tokens, 0)
        # which blocks of the chunk's stream hold the row's coin tosses
        first_block = num_used // 4
        num_blocks = np.where(num_drops > 0, (num_used + num_drops - 1) // 4 - first_block + 1, 0)
        row, rank = expanded(num_blocks)
        block = first_block[row] + rank
        bits = self._bits(epochs[row], shards[row], sentences[row], block, Purpose.PLAN)
        step = 4 * block + np.arange(4)[:, None] - num_used[row]
        length_a, length_b = lengths[row].T
        a_is_longer = length_a > length_b
        lead = np.where(a_is_longer, length_a - length_b, length_b - length_a + 1)
        from_longer = (step < lead) | ((step - lead) % 2 == 1)
        segment = 2 * row + (from_longer != a_is_longer)
        is_drop = (step >= 0) & (step < num_drops[row])
        is_front = bits < 1 << 31
        sides = [segment[is_drop & is_front], segment[is_drop & ~is_front]]
        counts = [np.bincount(side, minlength=lengths.size) for side in sides]
        return np.stack(counts).reshape(2, *lengths.shape)

    def _bits(
        self,
        epochs: Integers | int,
        shards: Integers,
        sentences: Integers,
        blocks: Integers | int,
        purpose: Purpose,
    ) -> Integers:
        """Return [4, ...], blocks of the streams keyed by the given first sentences."""
        bits = philox4x32(self._seed, (epochs, sentences, shards, (blocks << 8) + purpose))
        return np.stack(bits)
