"""Pins the law of the expected loss. Anywhere: `pytest tests/pretraining/test_plan_loss.py`."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest

from bert_scratch.config import BertConfig
from bert_scratch.pretraining.corpus_facts import CorpusFacts
from bert_scratch.pretraining.plan_loss import (
    LARGEST_MISS,
    expected_loss,
    layer_matrix_parameters,
    tokens_worth,
)


def facts(
    train_tokens: int,
    unigram_entropy: float = 7.1,
    vocab_size: int = 8192,
    ideograph_share: float = 0.0,
) -> CorpusFacts:
    return CorpusFacts(
        vocab_size=vocab_size,
        train_documents=500,
        train_sentences=70_000,
        train_tokens=train_tokens,
        eval_documents=24,
        eval_sentences=3_000,
        eval_tokens=110_000,
        unknown_share=0.0,
        uniform_loss=math.log(vocab_size),
        unigram_entropy=unigram_entropy,
        ideograph_share=ideograph_share,
    )


def expected(
    preset: str,
    tokens: float,
    known: CorpusFacts,
    masked_lm_prob: float = 0.15,
    *,
    counted_vectors: bool = False,
) -> float:
    return expected_loss(
        BertConfig.preset(preset),
        tokens=tokens,
        facts=known,
        masked_lm_prob=masked_lm_prob,
        counted_vectors=counted_vectors,
    )


def test_layer_matrix_parameters_are_those_of_the_published_base() -> None:
    assert layer_matrix_parameters(BertConfig.preset("base")) == 12 * 12 * 768 * 768


def test_more_tokens_more_text_and_more_parameters_all_lower_the_loss() -> None:
    short = expected("tiny", 10e6, facts(2_000_000))
    assert expected("tiny", 20e6, facts(2_000_000)) < short
    assert expected("tiny", 10e6, facts(20_000_000)) < short
    assert expected("mini", 10e6, facts(2_000_000)) < short
    assert expected("tiny", 10e6, facts(2_000_000), masked_lm_prob=0.3) < short
    assert expected("tiny", 10e6, facts(2_000_000), counted_vectors=True) < short


def test_counted_vectors_matter_less_the_longer_a_run_is() -> None:
    gains = [
        expected("tiny", tokens, facts(10**9))
        - expected("tiny", tokens, facts(10**9), counted_vectors=True)
        for tokens in (1e6, 5e6, 50e6)
    ]
    assert gains[0] > 2 * gains[1] > 4 * gains[2] > 0


def test_law_meets_the_measured_runs(repository: Path) -> None:
    lines = (repository / "benchmarks" / "scaling.jsonl").read_text(encoding="utf-8").splitlines()
    assert len(lines) >= 46
    missed = []
    for point in map(json.loads, lines):
        known = facts(
            point["distinct_tokens"],
            point["unigram_entropy"],
            point["vocab_size"],
            point.get("ideograph_share", 0.0),
        )
        found = expected(
            point["model"],
            point["tokens"],
            known,
            point["masked_lm_prob"],
            counted_vectors=point.get("init_word_vectors") == "corpus",
        )
        missed.append(found - point["mlm_loss"])
    assert max(map(abs, missed)) < LARGEST_MISS
    assert sum(error**2 for error in missed) / len(missed) < 0.135**2


def test_a_larger_vocabulary_needs_more_tokens() -> None:
    small, large = (facts(10_000_000, vocab_size=size) for size in (4096, 16384))
    assert expected("tiny", 20e6, small) < expected("tiny", 20e6, large)


def test_few_ideographs_are_no_easier_than_many() -> None:
    """A small vocabulary is easier only where it cuts words into pieces."""
    few, many = (
        facts(10_000_000, vocab_size=size, ideograph_share=1.0) for size in (5_000, 20_000)
    )
    assert expected("tiny", 20e6, few) == pytest.approx(expected("tiny", 20e6, many))
    mixed = facts(10_000_000, vocab_size=5_000, ideograph_share=0.5)
    words = facts(10_000_000, vocab_size=5_000)
    assert expected("tiny", 20e6, words) < expected("tiny", 20e6, mixed)
    assert expected("tiny", 20e6, mixed) < expected("tiny", 20e6, few)


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
