"""Pins which words are hidden and when one counts as restored. CPU: `pytest
tests/inference/test_masked_words.py`."""

from __future__ import annotations

import copy
import itertools

import numpy as np
import pytest
import torch
from tokenizers import Tokenizer

from bert_scratch.inference.count_models import EDGE
from bert_scratch.inference.masked_guesses import MaskedRow, answer_rows
from bert_scratch.inference.masked_words import hide_words, restored_by_counts, restored_by_model
from bert_scratch.inference.pseudo_likelihood import pseudo_log_likelihoods
from bert_scratch.model.heads import BertForPreTraining

SENTENCES = ["The cat sees a dog in the garden, a dog!", "北京 é", "unbelievable cat", ". , !"] * 5


def always(model: BertForPreTraining, tokenizer: Tokenizer, token: str) -> BertForPreTraining:
    """A model that puts one token everywhere."""
    fixed = copy.deepcopy(model)
    with torch.no_grad():
        fixed.mlm_head.decoder.bias[tokenizer.token_to_id(token)] += 1000
    return fixed


def restored(
    model: BertForPreTraining, tokenizer: Tokenizer, sentences: list[str]
) -> dict[str, set[bool]]:
    hidden = hide_words(sentences, seed=3)
    words = iter(hidden.words())
    by_sentence = {
        index: flags
        for indices, found in restored_by_model(model, tokenizer, hidden)
        for index, flags in zip(indices, found, strict=True)
    }
    result: dict[str, set[bool]] = {}
    for index in range(len(sentences)):
        for flag in by_sentence[index]:
            result.setdefault(next(words), set()).add(flag)
    return result


def test_hidden_words_are_words_and_never_neighbours() -> None:
    hidden = hide_words(SENTENCES, seed=3)
    assert hidden == hide_words(SENTENCES, seed=3) != hide_words(SENTENCES, seed=4)
    assert not {".", ",", "!"} & set(hidden.words())
    for chosen in hidden.chosen:
        assert all(b - a > 1 for a, b in itertools.pairwise(chosen))
    assert [len(chosen) for chosen in hidden.chosen[:4]] == [2, 1, 1, 0]


def test_word_is_restored_by_its_token_alone(
    model: BertForPreTraining, tokenizer: Tokenizer
) -> None:
    found = restored(always(model, tokenizer, "dog"), tokenizer, SENTENCES)
    assert found["dog"] == {True}
    assert all(flags == {False} for word, flags in found.items() if word != "dog")


def test_case_does_not_matter(model: BertForPreTraining, tokenizer: Tokenizer) -> None:
    found = restored(always(model, tokenizer, "dog"), tokenizer, ["DOG dog Dog"] * 9)
    assert found == {"dog": {True}}


def test_word_of_several_pieces_needs_all_of_them(
    model: BertForPreTraining, tokenizer: Tokenizer
) -> None:
    for token in ("believ", "##able"):
        found = restored(always(model, tokenizer, token), tokenizer, ["believable"] * 3)
        assert found == {"believable": {False}}


def test_neighbours_come_from_the_words_beside() -> None:
    hidden = hide_words(["The Cat"] * 20, seed=1)
    assert {*zip(hidden.words(), hidden.contexts(), strict=True)} == {
        ("the", (EDGE, "cat")),
        ("cat", ("the", EDGE)),
    }
    frequent, neighbours = restored_by_counts(hidden, ["the a the a the", "the dog", "The cat"])
    assert frequent.tolist() == [word == "the" for word in hidden.words()]
    assert neighbours.all()


def test_answers_of_a_row_are_those_of_one_mask_alone(
    model: BertForPreTraining, tokenizer: Tokenizer
) -> None:
    texts = ["the cat sees a dog", "a cat", "in the house the dog sees the cat"]
    losses = pseudo_log_likelihoods(model, tokenizer, texts, within_word_left_to_right=False)
    ids = [encoding.ids for encoding in tokenizer.encode_batch(texts, add_special_tokens=False)]
    rows = [MaskedRow(own, [1]) for own in ids]
    for indices, answers in answer_rows(model, tokenizer, rows):
        for index, answer in zip(indices, answers, strict=True):
            assert answer.losses == pytest.approx(-losses[index][1:2], abs=1e-5)
            assert np.log(answer.probabilities) >= -answer.losses - 1e-6
