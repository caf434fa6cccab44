"""Pins the count models that a BERT has to be above. CPU: `pytest
tests/inference/test_count_models.py`."""

from __future__ import annotations

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from bert_scratch.inference.count_models import EDGE, NeighbourCounts

SENTENCES = [
    "the cat sees the dog .",
    "the cat sees a dog .",
    "the dog sees a bird .",
    "the cat sees a fish .",
    "no cat eats a bird .",
]


def counted(*contexts: tuple[str, str]) -> NeighbourCounts:
    counts = NeighbourCounts(contexts)
    for sentence in SENTENCES:
        counts.add(sentence.split())
    return counts


def test_word_between_both_neighbours_is_guessed() -> None:
    assert counted(("cat", "a")).guess(("cat", "a")) == "sees"
    assert counted((EDGE, "cat")).guess((EDGE, "cat")) == "the"


def test_one_neighbour_helps_where_both_were_never_seen_together() -> None:
    assert counted(("sees", "whale")).guess(("sees", "whale")) == "a"
    assert counted(("whale", "eats")).guess(("whale", "eats")) == "cat"


def test_unknown_neighbours_leave_the_most_frequent_word() -> None:
    counts = counted(("whale", "whale"))
    assert counts.guess(("whale", "whale")) == counts.most_frequent() == "the"


def test_marks_are_neighbours_and_never_guesses() -> None:
    counts = counted(("dog", EDGE), ("a", "."))
    assert counts.guess(("a", ".")) == "bird"
    assert counts.guess(("dog", EDGE)) == "sees"


def test_without_text_nothing_is_guessed() -> None:
    counts = NeighbourCounts([("a", "b")])
    assert counts.most_frequent() == counts.guess(("a", "b")) == ""


@given(
    sentences=st.lists(st.lists(st.sampled_from("abc"), max_size=8), max_size=8),
    left=st.sampled_from(["a", "b", EDGE]),
    right=st.sampled_from(["a", "c", EDGE]),
)
def test_guess_has_the_highest_count_of_all_words(
    sentences: list[list[str]], left: str, right: str
) -> None:
    counts = NeighbourCounts([(left, right)])
    between: Counter[str] = Counter()
    for words in sentences:
        counts.add(words)
        padded = [EDGE, *words, EDGE]
        between.update(
            b
            for a, b, c in zip(padded, padded[1:], padded[2:], strict=False)
            if (a, c) == (left, right)
        )
    if between:
        assert between[counts.guess((left, right))] == max(between.values())
