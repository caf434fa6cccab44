"""Pins the law of the expected loss. Anywhere: `pytest tests/pretraining/test_plan_loss.py`."""

from __future__ import annotations

import math

import pytest

from bert_scratch.config import BertConfig
from bert_scratch.pretraining.corpus_facts import CorpusFacts
from bert_scratch.pretraining.plan_loss import encoder_parameters, expected_loss, tokens_worth


def facts(train_tokens: int, unigram_entropy: float = 7.1) -> CorpusFacts:
    return CorpusFacts(
        vocab_size=8192,
        train_documents=500,
        train_sentences=70_000,
        train_tokens=train_tokens,
        eval_documents=24,
        eval_sentences=3_000,
        eval_tokens=110_000,
        unknown_share=0.0,
        uniform_loss=math.log(8192),
        unigram_entropy=unigram_entropy,
    )


def expected(preset: str, tokens: float, known: CorpusFacts, masked_lm_prob: float = 0.15) -> float:
    shape = BertConfig.preset(preset)
    return expected_loss(shape, tokens=tokens, facts=known, masked_lm_prob=masked_lm_prob)


def test_encoder_parameters_are_those_of_the_published_base() -> None:
    assert encoder_parameters(BertConfig.preset("base")) == 12 * 12 * 768 * 768


def test_more_tokens_more_text_and_more_parameters_all_lower_the_loss() -> None:
    short = expected("tiny", 10e6, facts(2_000_000))
    assert expected("tiny", 20e6, facts(2_000_000)) < short
    assert expected("tiny", 10e6, facts(20_000_000)) < short
    assert expected("mini", 10e6, facts(2_000_000)) < short
    assert expected("tiny", 10e6, facts(2_000_000), masked_lm_prob=0.3) < short


@pytest.mark.parametrize(
    ("preset", "tokens", "train_tokens", "unigram_entropy", "loss"),
    [
        ("tiny", 7.82e6, 2_457_551, 7.11, 4.483),
        ("tiny", 7.82e6, 1_217_796, 6.75, 4.126),
        ("tiny", 17.58e6, 1_217_796, 6.75, 3.700),
        ("tiny", 99.6e6, 6_653_442, 7.08, 3.296),
        ("mini", 28.1e6, 6_653_442, 7.08, 3.576),
    ],
)
def test_law_meets_measured_runs_that_predict_thirty_percent(
    preset: str, tokens: float, train_tokens: int, unigram_entropy: float, loss: float
) -> None:
    assert expected(preset, tokens, facts(train_tokens, unigram_entropy), 0.3) == pytest.approx(
        loss, abs=0.25
    )


@pytest.mark.parametrize(
    ("preset", "tokens", "train_tokens", "unigram_entropy", "loss"),
    [
        ("tiny", 3.81e6, 2_457_551, 7.11, 5.576),
        ("tiny", 9.77e6, 2_457_551, 7.11, 4.582),
        ("tiny", 12.87e6, 2_457_551, 7.11, 4.370),
        ("tiny", 19.7e6, 1_220_000, 6.76, 3.834),
        ("mini", 69.5e6, 13_995_031, 7.33, 3.505),
        ("mini", 36.0e6, 6_653_442, 7.08, 3.515),
    ],
)
def test_law_meets_the_runs_that_it_was_fitted_to(
    preset: str, tokens: float, train_tokens: int, unigram_entropy: float, loss: float
) -> None:
    assert expected(preset, tokens, facts(train_tokens, unigram_entropy), 0.15) == pytest.approx(
        loss, abs=0.3
    )


def test_size_matters_once_a_model_has_seen_much_for_its_size() -> None:
    gains = [
        expected("tiny", tokens, facts(10**9)) - expected("mini", tokens, facts(10**9))
        for tokens in (4e6, 40e6, 400e6)
    ]
    assert 0 < gains[0] < gains[1] < gains[2]


def test_model_that_sees_nothing_knows_word_frequencies_at_best() -> None:
    assert expected("tiny", 0, facts(2_000_000)) == 7.1


def test_repeated_text_is_worth_less_than_new_text_and_never_more_than_a_limit() -> None:
    assert tokens_worth(1e6, 1_000_000) == 1e6
    worth = [tokens_worth(n * 1e6, 1_000_000) for n in (2, 4, 40, 4000)]
    assert worth == sorted(worth)
    assert worth[0] == pytest.approx(2e6, rel=0.05)
    assert worth[-1] < worth[-2] * 1.5
