"""Pins the verdict in words. Anywhere: `pytest tests/pretraining/test_plan_verdict.py`."""

from __future__ import annotations

import math

import pytest

from bert_scratch.pretraining.corpus_facts import CorpusFacts
from bert_scratch.pretraining.plan_verdict import verdict

FACTS = CorpusFacts(
    vocab_size=8192,
    train_documents=500,
    train_sentences=100_000,
    train_tokens=2_000_000,
    eval_documents=20,
    eval_sentences=1000,
    eval_tokens=20_000,
    unknown_share=0.0,
    uniform_loss=math.log(8192),
    unigram_entropy=7.0,
)


@pytest.mark.parametrize(
    ("changes", "passes", "loss", "begins"),
    [
        ({}, 20, 4.0, "train: 20.0 passes"),
        ({"train_sentences": 500}, 20, 4.0, "train without pairs (--pair-task none)"),
        ({"train_sentences": 900}, 20, 4.0, "train without pairs (--pair-task none)"),
        ({"train_tokens": 100_000}, 20, 4.0, "too small: 100,000 train tokens"),
        ({}, 20, 6.9, "too short: "),
        ({}, 200, 4.0, "repetitive: 200 passes"),
        ({"eval_documents": 0}, 20, 4.0, "too few documents: 500 for training, 0 held out"),
    ],
)
def test_verdict_names_what_is_wrong_and_what_to_do(
    changes: dict[str, int], passes: float, loss: float, begins: str
) -> None:
    (line,) = verdict(FACTS.replace(**changes), passes=passes, loss=loss)
    assert line.startswith(begins)


def test_run_that_begins_with_a_trained_model_may_have_little_text() -> None:
    small = FACTS.replace(train_tokens=100_000)
    assert verdict(small, passes=20, loss=None)[0].startswith("train: ")
