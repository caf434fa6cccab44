"""Rows of consecutive text without pairs."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from bert_scratch.config import InputError
from bert_scratch.data.examples import ExampleBatch, ExampleFacts, Integers
from bert_scratch.data.shard import Shard
from bert_scratch.data.split_text import SplitText, expanded
from bert_scratch.data.windows import TokenWindows


class JoinedText:
    """Consecutive text without pairs: documents joined by [SEP] until the row is full.

    An epoch reads as many tokens as the text has, less what short windows leave out. One epoch
    covers some nine tenths of the text, five epochs 99 %.

    Args:
        shards: of one split.
        max_tokens: M, tokens and inner [SEP] together.
        short_seq_prob: share of windows with a shorter target.
        seed: the key of all draws.
        split: its name, for error messages.
        word_starts: also return where words start; the store must have them.

    Raises:
        InputError: if the split is empty.

    Source:
        Liu et al. 2019 (RoBERTa), section 4.2, FULL-SENTENCES.
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
        usable = self._text.num_tokens > 0
        if not usable.any():
            raise InputError(f"the {split} split of the corpus holds no text")
        self._windows = TokenWindows(
            self._text, usable, max_tokens=max_tokens, short_seq_prob=short_seq_prob, seed=seed
        )
        self.facts = ExampleFacts(
            num_examples=self._windows.num_slots,
            num_documents=int(self._text.num_documents.sum()),
            num_one_sentence_documents=int(self._text.num_one_sentence_documents.sum()),
            random_next_share=None,
        )

    def batch(self, epochs: Integers, slots: Integers) -> ExampleBatch:
        """Return the example of each (epoch, slot), both [B] int64."""
        draws = self._windows.draws(epochs, slots)
        lookup = self._text.lookup(draws.shards)
        last = self._text.num_tokens[draws.shards]
        sentences = lookup.sentence_at(draws.tokens)
        # without the [SEP] between documents, which `room` takes off below
        starts, ends = self._windows.windows(
            lookup, draws.tokens, sentences, draws.targets, 0, last
        )
        first_document = lookup.document_of(lookup.sentence_at(starts))
        last_document = lookup.document_of(lookup.sentence_at(ends - 1))
        row, rank = expanded(last_document - first_document + 1)
        shards = draws.shards[row]
        start, end = self._text.lookup(shards).document_range(first_document[row] + rank)
        start = np.maximum(start, starts[row])
        room = draws.targets[row] - (start - starts[row]) - rank
        kept = room > 0
        return self._text.read(
            shards[kept],
            start[kept],
            np.minimum(end - start, room)[kept],
            segments_per_row=np.bincount(row[kept], minlength=len(slots)),
            labels=None,
        )
