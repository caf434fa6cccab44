"""Choose whole words and spans of words to mask together, for a whole batch at once.

A unit never crosses a special token, so never reaches from A into B. Words are taken in a random
order, given by one key per position. A word that would exceed the row's budget is skipped, as
Google does, so a row may predict less than its budget, even nothing.
Letters: B rows, S positions, W words.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

POSITION_BITS = 16
"""Low bits of a key that hold the position; a row has at most 65,536 positions."""
LAST_KEY = np.iinfo(np.int64).max
"""The key of a position that is not a candidate."""
MAX_SPAN_WORDS = 10
SPAN_STOP_PROB = 0.2

Integers = npt.NDArray[np.int64]
Flags = npt.NDArray[np.bool_]


def whole_words(keys: Integers, word_starts: Flags, budgets: Integers) -> Flags:
    """Choose words in the order of their first token's key.

    Args:
        keys: [B, S] int64, random bits above the position; LAST_KEY where nothing may be chosen.
        word_starts: [B, S] bool, where words start.
        budgets: [B] int64, tokens to choose in each row.

    Returns:
        [B, S] bool, the tokens of the chosen words.

    Source:
        google-research/bert create_pretraining_data.py, `create_masked_lm_predictions` with
        do_whole_word_mask. Deviation: a `##` piece does not join a word beyond [SEP].
    """
    words = _Words(keys, word_starts)
    taken = np.zeros(len(words.sizes), bool)
    left = budgets.copy()
    for rows, tokens in _in_order(np.where(words.opens, keys, LAST_KEY), left):
        chosen = words.of_token[tokens]
        fits = words.sizes[chosen] <= left[rows]
        taken[chosen[fits]] = True
        left[rows[fits]] -= words.sizes[chosen[fits]]
    return words.tokens_of(taken)


def spans(keys: Integers, word_starts: Flags, budgets: Integers, length_bits: Integers) -> Flags:
    """Choose spans: from each token's word on, as many words as are drawn for that token.

    Tokens are taken in the order of their keys, skipping those already chosen. A span ends with
    its segment, or before the first word that would exceed the budget.

    Args:
        keys: [B, S] int64, random bits above the position; LAST_KEY where nothing may be chosen.
        word_starts: [B, S] bool, where words start.
        budgets: [B] int64, tokens to choose in each row.
        length_bits: [B, S] int64, 32 random bits each, for the length of the span from each token.

    Returns:
        [B, S] bool, the tokens of the chosen spans.

    Source:
        Joshi et al. 2020 (SpanBERT), section 3.1; facebookresearch/SpanBERT
        `PairWithSpanMaskingScheme`. Deviation: there the last word is cut where the budget ends;
        here words stay whole and other spans fill the budget as far as words fit.
    """
    words = _Words(keys, word_starts)
    # padding, so that looking beyond the last word finds words of no segment
    sizes, segments = (np.pad(a, (0, MAX_SPAN_WORDS)) for a in (words.sizes, words.segments))
    taken = np.zeros(len(sizes), bool)
    left = budgets.copy()
    steps = np.arange(MAX_SPAN_WORDS)
    for rows, tokens in _in_order(keys, left):
        first = words.of_token[tokens]
        fresh = ~taken[first]
        rows, first = rows[fresh], first[fresh]
        span = first[:, None] + steps
        new = segments[span] == segments[first][:, None]
        new &= steps < span_lengths(length_bits.ravel()[tokens[fresh]])[:, None]
        new &= ~taken[span]
        # non-decreasing along a span, so what fits is its beginning
        used = np.cumsum(sizes[span] * new, axis=1)
        fits = used <= left[rows][:, None]
        taken[span[new & fits]] = True
        left[rows] -= np.max(used * fits, axis=1, initial=0)
    return words.tokens_of(taken[: len(words.sizes)])


def span_lengths(bits: Integers) -> Integers:
    """Return span lengths in words: geometric with p = 0.2, redrawn if above 10.

    Args:
        bits: 32 random bits each.

    Returns:
        int64 in [1, 10], the same shape.
    """
    lengths: Integers = 1 + np.searchsorted(_LENGTH_BOUNDS, bits, side="right")
    return lengths


def _length_bounds() -> Integers:
    """Return the upper bounds of the 32-bit draws that give the lengths 1 to 9."""
    share_above = (1 - SPAN_STOP_PROB) ** np.arange(1, MAX_SPAN_WORDS + 1)
    bounds: npt.NDArray[np.float64] = np.ceil((1 - share_above) / (1 - share_above[-1]) * 2**32)
    return bounds[:-1].astype(np.int64)


_LENGTH_BOUNDS = _length_bounds()


class _Words:
    """The words among the candidates of all rows, numbered in reading order.

    Attributes:
        opens: [B, S] bool, the first token of each word: a word start or the start of a run.
        of_token: [B * S] int64, the word of each candidate; arbitrary for other tokens.
        sizes: [W] int64, tokens of each word.
        segments: [W] int64, from 1, the unbroken run of candidates that a word lies in.
    """

    def __init__(self, keys: Integers, word_starts: Flags) -> None:
        self._candidate: Flags = keys != LAST_KEY
        begins = self._candidate.copy()
        begins[:, 1:] &= ~self._candidate[:, :-1]
        self.opens = self._candidate & word_starts | begins
        self.of_token = np.cumsum(self.opens) - 1
        self.segments = np.cumsum(begins)[self.opens.ravel()]
        self.sizes = np.bincount(self.of_token[self._candidate.ravel()])

    def tokens_of(self, taken: Flags) -> Flags:
        """Return the tokens, [B, S] bool, of the words that are taken, [W] bool."""
        if not len(taken):
            return self._candidate
        tokens: Flags = taken[self.of_token].reshape(self._candidate.shape)
        tokens &= self._candidate
        return tokens


def _in_order(keys: Integers, left: Integers) -> Any:
    """Yield (rows, their next tokens) in key order, for rows that have budget left.

    Args:
        keys: [B, S] int64; LAST_KEY is never yielded.
        left: [B] int64, lowered by the caller.

    Yields:
        [n] int64 rows, and the flat [n] int64 positions row * S + column.
    """
    width = keys.shape[1]
    ordered = np.sort(keys, axis=1)
    rows = np.arange(len(keys))
    for rank in range(width):
        rows = rows[(left[rows] > 0) & (ordered[rows, rank] != LAST_KEY)]
        if not len(rows):
            return
        yield rows, rows * width + (ordered[rows, rank] & (1 << POSITION_BITS) - 1)
