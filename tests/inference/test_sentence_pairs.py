"""Pins the pairs of the next-sentence and nearest-sentence questions. CPU, needs scikit-learn:
`pytest tests/inference/test_sentence_pairs.py`."""

from __future__ import annotations

import numpy as np
import pytest

from bert_scratch.inference.sentence_pairs import (
    nearer_than_others,
    pair_sentences,
    told_by_shared_words,
)
from bert_scratch.inference.text_sample import TextSample

TOPICS = "cat dog bird fish horse".split()


def sample(num_documents: int) -> TextSample:
    return TextSample(
        sentences=[f"The {TOPICS[n % 5]} number {n} is here." for n in range(30)],
        followers=[f"A {TOPICS[n % 5]} of number {n} wants more." for n in range(30)],
        documents=[n % num_documents for n in range(30)],
        rest=[],
    )


def test_random_pairs_have_the_same_sentences_of_other_documents() -> None:
    found = sample(5)
    pairs = pair_sentences(found, fits=lambda a, b: True)
    assert pairs.following == list(zip(found.sentences, found.followers, strict=True))
    assert [a for a, _ in pairs.random] == found.sentences
    for first, second in pairs.random:
        own = found.documents[found.sentences.index(first)]
        assert found.documents[found.followers.index(second)] != own


def test_pair_that_a_model_cannot_take_is_left_out_of_both() -> None:
    pairs = pair_sentences(sample(5), fits=lambda a, b: "cat" not in b)
    assert len(pairs.following) == len(pairs.random) < 30
    assert not [b for _, b in pairs.following + pairs.random if "cat" in b]


@pytest.mark.parametrize("followers", [[], None])
def test_one_document_or_no_followers_give_no_pairs(followers: list[str] | None) -> None:
    found = sample(1)
    if followers is not None:
        found.followers.clear()
    assert pair_sentences(found, fits=lambda a, b: True).following == []


def test_shared_words_tell_pairs_that_share_their_topic() -> None:
    pairs = pair_sentences(sample(5), fits=lambda a, b: True)
    assert told_by_shared_words(pairs).all()


def test_nearness_is_the_share_of_others_that_are_farther() -> None:
    random = np.random.default_rng(1)
    firsts, seconds = random.standard_normal((2, 9, 4)).astype(np.float32)
    found = nearer_than_others(firsts, seconds)
    for n, first in enumerate(firsts):
        cosines = seconds @ first / np.linalg.norm(seconds, axis=1)
        assert found[n] == pytest.approx((cosines < cosines[n]).sum() / 8)


def test_vectors_all_alike_are_at_chance() -> None:
    same = np.ones((5, 3), np.float32)
    assert nearer_than_others(same, same).tolist() == [0.5] * 5
