"""Pairs of sentences that follow each other or do not, and baselines that tell them apart."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from bert_scratch.extras import import_extra
from bert_scratch.inference.text_sample import TextSample
from bert_scratch.inference.whole_words import folded_words

Pair = tuple[str, str]


@dataclass(frozen=True, kw_only=True)
class SentencePairs:
    """Each first sentence twice: with the sentence after it, and with one after another."""

    following: list[Pair]
    """P pairs as they occur in the text."""
    random: list[Pair]
    """P pairs of the same first and the same second sentences, from different documents."""


def pair_sentences(sample: TextSample, *, fits: Callable[[str, str], bool]) -> SentencePairs:
    """Make pairs of a sample's sentences; none if it has no followers.

    Args:
        sample: N sentences.
        fits: tells whether every model can take a pair.
    """
    pairs = SentencePairs(following=[], random=[])
    num_pairs = len(sample.followers)
    for index, (first, second) in enumerate(zip(sample.sentences, sample.followers, strict=False)):
        # the sample is in random order, so the next one from another document is a random one
        others = ((index + step) % num_pairs for step in range(1, num_pairs))
        document = sample.documents[index]
        other = next((n for n in others if sample.documents[n] != document), None)
        if other is None:
            continue
        wrong = sample.followers[other]
        if fits(first, second) and fits(first, wrong):
            pairs.following.append((first, second))
            pairs.random.append((first, wrong))
    return pairs


def told_by_shared_words(pairs: SentencePairs) -> npt.NDArray[np.bool_]:
    """Return [2 P], which pairs are classified correctly by their shared words.

    Words are weighted by rarity (TF-IDF); the half of pairs that share most is taken to follow.
    """
    vectors = word_weights([text for pair in [*pairs.following, *pairs.random] for text in pair])
    shared = np.asarray(vectors[0::2].multiply(vectors[1::2]).sum(axis=1)).ravel()
    half = len(pairs.following)
    follows = np.zeros(2 * half, bool)
    follows[np.argsort(-shared, kind="stable")[:half]] = True
    told: npt.NDArray[np.bool_] = follows == np.repeat([True, False], half)
    return told


def nearer_than_others(
    firsts: npt.NDArray[np.float32], seconds: npt.NDArray[np.float32]
) -> npt.NDArray[np.float64]:
    """Return [N], the share of other seconds that are farther from a first than its own.

    Args:
        firsts: [N, D], compared by cosine.
        seconds: [N, D], of the sentence after each.
    """
    lengths = (np.linalg.norm(part, axis=1, keepdims=True) for part in (firsts, seconds))
    a, b = (p / np.maximum(n, 1e-12) for p, n in zip((firsts, seconds), lengths, strict=True))
    similarity = (a @ b.T).astype(np.float64)
    own = np.diag(similarity)[:, None]
    farther = (similarity < own).sum(axis=1) + 0.5 * ((similarity == own).sum(axis=1) - 1)
    shares: npt.NDArray[np.float64] = farther / (len(firsts) - 1)
    return shares


def word_weights(texts: Sequence[str]) -> Any:
    """Return a sparse [N, words] matrix: TF-IDF of each text's words, scaled to length 1."""
    text = import_extra("sklearn.feature_extraction.text", "comparing sentences", "sklearn")
    vectorizer = text.TfidfVectorizer(analyzer=lambda words: words, dtype=np.float32)
    return vectorizer.fit_transform(folded_words(texts))
