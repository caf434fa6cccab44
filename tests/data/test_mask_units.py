"""Pins whole words and spans: equal to plain loops over Google's and SpanBERT's rules given the
same draws, whole, inside their segments and budgets, of the right lengths.

Run alone: pytest tests/data/test_mask_units.py.
"""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bert_scratch.data.mask_units import (
    LAST_KEY,
    MAX_SPAN_WORDS,
    POSITION_BITS,
    span_lengths,
    spans,
    whole_words,
)


class Case:
    """Random rows: which tokens may be chosen, where words start, budgets, draws."""

    def __init__(self, seed: int, rows: int = 6, width: int = 40) -> None:
        rng = np.random.default_rng(seed)
        shape = (rows, width)
        # every so many tokens something special cuts the row into segments
        self.candidate = rng.random(shape) > rng.choice([0.02, 0.2, 0.9])
        self.candidate[:, 0] = False
        self.starts = rng.random(shape) < rng.choice([0.1, 0.6, 1.0])
        self.budgets = rng.integers(1, max(2, width // 3), rows)
        self.length_words = rng.integers(0, 2**32, shape)
        order = rng.integers(0, 2**32, shape) << POSITION_BITS | np.arange(width)
        self.keys = np.where(self.candidate, order, LAST_KEY)

    def words(self, row: int) -> list[list[int]]:
        """The words of a row: as Google makes them, but a special token ends a word."""
        words: list[list[int]] = []
        for column in np.flatnonzero(self.candidate[row]).tolist():
            if words and words[-1][-1] == column - 1 and not self.starts[row, column]:
                words[-1].append(column)
            else:
                words.append([column])
        return words

    def googles(self, row: int) -> set[int]:
        """Columns as Google's loop over shuffled words chooses them."""
        masked: set[int] = set()
        for word in sorted(self.words(row), key=lambda word: self.keys[row, word[0]]):
            if len(masked) >= self.budgets[row]:
                break
            if len(masked) + len(word) > self.budgets[row]:
                continue
            masked |= set(word)
        return masked

    def span_berts(self, row: int) -> set[int]:
        """Columns as SpanBERT's loop chooses them, but no word is cut."""
        words = self.words(row)
        number_of = {column: number for number, word in enumerate(words) for column in word}
        masked: set[int] = set()
        for anchor in sorted(number_of, key=lambda column: self.keys[row, column]):
            if len(masked) >= self.budgets[row]:
                break
            if anchor in masked:
                continue
            first = number_of[anchor]
            length = int(span_lengths(self.length_words[row, anchor : anchor + 1])[0])
            for number in range(first, min(first + length, len(words))):
                word = words[number]
                crosses = number > first and words[number - 1][-1] != word[0] - 1
                if crosses or len(masked | set(word)) > self.budgets[row]:
                    break
                masked |= set(word)
        return masked


def columns(chosen: np.ndarray) -> list[set[int]]:
    return [set(np.flatnonzero(row).tolist()) for row in chosen]


@given(st.integers(0, 10**9))
def test_whole_words_are_googles_given_the_same_order(seed: int) -> None:
    case = Case(seed)
    chosen = whole_words(case.keys, case.starts, case.budgets)
    assert columns(chosen) == [case.googles(row) for row in range(len(chosen))]


@given(st.integers(0, 10**9))
def test_spans_are_span_berts_given_the_same_draws(seed: int) -> None:
    case = Case(seed)
    chosen = spans(case.keys, case.starts, case.budgets, case.length_words)
    assert columns(chosen) == [case.span_berts(row) for row in range(len(chosen))]


@given(st.integers(0, 10**9))
def test_only_whole_words_within_the_budget_are_chosen(seed: int) -> None:
    case = Case(seed)
    for chosen in (
        whole_words(case.keys, case.starts, case.budgets),
        spans(case.keys, case.starts, case.budgets, case.length_words),
    ):
        assert (chosen.sum(1) <= case.budgets).all()
        for row, found in enumerate(columns(chosen)):
            whole = [set(word) for word in case.words(row) if found & set(word)]
            assert set().union(*whole) == found


@pytest.mark.parametrize("unit", ["word", "span"])
def test_a_row_fills_its_budget_as_far_as_words_fit(unit: str) -> None:
    case = Case(3, rows=400, width=128)
    case.budgets[:] = 19
    draws = (case.length_words,) if unit == "span" else ()
    choose = spans if unit == "span" else whole_words
    for row, chosen in enumerate(choose(case.keys, case.starts, case.budgets, *draws)):
        left = 19 - chosen.sum()
        unchosen = [len(word) for word in case.words(row) if not chosen[word[0]]]
        assert left == 0 or not unchosen or min(unchosen) > left


def test_a_row_whose_words_are_all_too_long_predicts_nothing() -> None:
    keys = np.arange(1, 9)[None] << POSITION_BITS | np.arange(8)
    starts = np.zeros((1, 8), bool)
    assert not whole_words(keys, starts, np.array([7])).any()
    assert not spans(keys, starts, np.array([7]), keys).any()


def test_rows_without_candidates_have_nothing_chosen() -> None:
    keys = np.full((2, 8), LAST_KEY)
    starts = np.ones((2, 8), bool)
    assert not whole_words(keys, starts, np.array([3, 3])).any()
    assert not spans(keys, starts, np.array([3, 3]), keys * 0).any()


def test_span_lengths_are_geometric_up_to_ten() -> None:
    words = np.random.default_rng(0).integers(0, 2**32, 1_000_000)
    lengths = span_lengths(words)
    assert lengths.min() == 1 and lengths.max() == MAX_SPAN_WORDS
    weights = np.array([0.2 * 0.8**number for number in range(MAX_SPAN_WORDS)])
    for length, share in enumerate(weights / weights.sum(), 1):
        deviation = abs((lengths == length).sum() - len(words) * share)
        assert deviation < 4 * math.sqrt(len(words) * share * (1 - share))
    assert lengths.mean() == pytest.approx(3.797, abs=0.01)


def test_span_lengths_of_the_outermost_words() -> None:
    assert span_lengths(np.array([0, 2**32 - 1])).tolist() == [1, 10]
