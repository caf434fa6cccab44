"""Find windows of text by index arithmetic: nothing is planned, cached or replayed.

Slot k of a shard starts k windows into its text, moved to the start of a sentence; everything else
follows from hash(seed, epoch, slot). So any window is found in constant time, whatever was read
before.

Terms: a window is a run of consecutive tokens of one document; cutting it at a sentence end gives
segments A and B; M = max_seq_length less the special tokens.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from bert_scratch.config import InputError, check_range
from bert_scratch.data.examples import Integers
from bert_scratch.data.philox import MAX_SLOTS, WORD, Purpose, below, philox4x32
from bert_scratch.data.split_text import ShardLookup, SplitText


@dataclass(frozen=True)
class Draws:
    """The random draws for (epoch, slot) pairs; arrays of [B] int64."""

    shards: Integers
    tokens: Integers
    """A token of the shard; the window starts with its sentence."""
    targets: Integers
    """The length of the window in tokens."""
    bits: Integers
    """[6, B], further draws of 32 random bits each."""


class TokenWindows:
    """The windows of one split: slots, where each starts, and the draws that shape it.

    Args:
        text: the split.
        usable: [S] bool, whether windows may start in each shard.
        max_tokens: M.
        short_seq_prob: share of windows with a shorter target.
        seed: the key of all draws.

    Raises:
        InputError: on a share outside [0, 1], or more windows than there are slots.
    """

    def __init__(
        self,
        text: SplitText,
        usable: npt.ArrayLike,
        *,
        max_tokens: int,
        short_seq_prob: float,
        seed: int,
    ) -> None:
        check_range("short_seq_prob", short_seq_prob, at_least=0, at_most=1)
        self._num_tokens = text.num_tokens
        self._max_tokens = max_tokens
        self._seed = seed
        self._short_below = round(short_seq_prob * 2**32)
        slots = np.where(usable, -(-text.num_tokens // max_tokens), 0)
        self._slot_ends = np.cumsum(slots)
        self._slot_starts = self._slot_ends - slots
        self.num_slots = int(slots.sum())
        if self.num_slots > MAX_SLOTS:
            raise InputError(
                f"the corpus holds {self.num_slots:,} windows of {max_tokens} tokens, the limit "
                f"is {MAX_SLOTS:,}: split it, or raise --max-seq-length"
            )
        shards = np.arange(len(slots))
        self._offsets: Integers = philox4x32(seed, (shards, 0, 0, Purpose.PHASE))[0]

    def draws(self, epochs: Integers, slots: Integers) -> Draws:
        """Draw for each (epoch, slot).

        The token is phase(seed, epoch, shard) + k * M for the shard's k-th slot, modulo the
        shard's tokens. The target is M, or with probability short_seq_prob from 2 to M.
        """
        shards = np.searchsorted(self._slot_ends, slots, side="right")
        # golden-ratio steps spread out the phases of a few epochs; random ones would clump
        phase = self._offsets[shards] + epochs * 0x9E3779B9 & WORD
        within = slots - self._slot_starts[shards]
        tokens = below(phase, self._max_tokens) + within * self._max_tokens
        blocks = np.arange(2)[:, None]
        bits = np.concatenate(philox4x32(self._seed, (epochs, slots, blocks, Purpose.PAIR)))
        short = 2 + below(bits[1], self._max_tokens - 1)
        targets = np.where(bits[0] < self._short_below, short, self._max_tokens)
        return Draws(shards, tokens % self._num_tokens[shards], targets, bits[2:])

    def windows(
        self,
        lookup: ShardLookup,
        tokens: Integers,
        sentences: Integers,
        targets: Integers,
        first: npt.ArrayLike,
        last: Integers,
    ) -> tuple[Integers, Integers]:
        """Return where the windows of the given tokens start and end, within [first, last).

        A window starts with the token's sentence, or at the token itself if the sentence is longer
        than a window. Near the end of the text it ends with the text instead, so that no row is
        short and the last words are not left out.
        """
        start = lookup.sentence_start(sentences)
        is_long = lookup.sentence_end(sentences) - start > self._max_tokens
        at_end = tokens > last - targets
        starts = np.where(
            at_end, np.maximum(first, last - targets), np.where(is_long, tokens, start)
        )
        return starts, np.where(at_end, last, starts + targets)
