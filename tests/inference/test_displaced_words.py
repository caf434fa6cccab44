"""Pins the probe that needs no labels: the words are the same ones, only their places are not.
CPU, needs scikit-learn: `pytest tests/inference/test_displaced_words.py`."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from tokenizers import Tokenizer

from bert_scratch import embed
from bert_scratch.inference.displaced_words import displace_words, word_states
from bert_scratch.inference.linear_probe import probe_layers
from bert_scratch.model.heads import BertForPreTraining

NOUNS, VERBS = "cat dog bird fish horse".split(), "sees finds eats wants likes".split()
SENTENCES = [
    f"The {NOUNS[n % 5]} {VERBS[n * 7 % 5]} a {NOUNS[n * 3 % 5]}, and Anna {VERBS[n % 4]} it{n}."
    for n in range(60)
]


def test_words_only_change_places() -> None:
    found = displace_words(SENTENCES, seed=2)
    before, after = (
        Counter(" ".join(part).replace(",", " ,").replace(".", " .").split())
        for part in (SENTENCES, found.sentences)
    )
    assert before == after
    assert found.sentences != SENTENCES


def test_capitals_stay_where_capitals_were() -> None:
    found = displace_words(SENTENCES, seed=2)
    assert all(sentence[0].isupper() for sentence in found.sentences)
    assert not any(" The" in sentence.replace("and The", "") for sentence in found.sentences)


def test_as_many_words_of_a_sentence_belong_as_do_not() -> None:
    found = displace_words(SENTENCES, seed=2)
    for old, new, spans, displaced in zip(
        SENTENCES, found.sentences, found.spans, found.displaced, strict=True
    ):
        assert 2 * sum(displaced) == len(displaced) == len(spans)
        kept = [new[s:e] for (s, e), moved in zip(spans, displaced, strict=True) if not moved]
        assert all(word in old for word in kept)


def test_seed_decides_the_words() -> None:
    assert displace_words(SENTENCES, seed=2) == displace_words(SENTENCES, seed=2)
    assert displace_words(SENTENCES, seed=2) != displace_words(SENTENCES, seed=3)


def test_states_are_the_mean_of_a_words_pieces_in_every_layer(
    model: BertForPreTraining, tokenizer: Tokenizer
) -> None:
    sentences = ["a believables cat", "the dog"] * 40
    spans = [[(2, 13)], [(4, 7), (0, 3)][::-1]] * 40
    states = list(word_states(model, tokenizer, sentences, spans))
    tokens = embed(model, tokenizer, sentences[:2], unit="token", layers=("all",))
    assert states[0].shape == (1, 3, 24) and len(states) == 80
    np.testing.assert_allclose(states[78][0], tokens[0][1:4].mean(axis=0), atol=1e-5)
    np.testing.assert_allclose(states[79], tokens[1], atol=1e-5)


def test_probe_finds_what_a_layer_knows_and_nothing_else() -> None:
    random = np.random.default_rng(0)
    labels = random.random(800) < 0.5
    states = random.standard_normal((800, 2, 8)).astype(np.float32)
    states[:, 1, 3] += 3 * labels
    blind, knowing = probe_layers(states, labels, num_train=400)
    assert len(blind) == 400
    assert blind.mean() == pytest.approx(0.5, abs=0.08) and knowing.mean() > 0.9


def test_words_beyond_a_row_have_states_too(
    model: BertForPreTraining, tokenizer: Tokenizer
) -> None:
    sentence = " ".join(["the cat sees a garden"] * 20)  # 100 tokens, of which a row holds 29
    starts = [n for n in range(len(sentence)) if sentence.startswith("cat", n)]
    (states,) = word_states(model, tokenizer, [sentence], [[(n, n + 3) for n in starts]])
    assert states.shape == (20, 3, 24) and np.abs(states).max(axis=-1).all()
