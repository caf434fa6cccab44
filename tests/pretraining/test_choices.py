"""Pins the rules by which what the user leaves out is chosen. Runs anywhere:
`pytest tests/pretraining/test_choices.py`."""

from __future__ import annotations

import math

import pytest

from bert_scratch.config import BertConfig
from bert_scratch.pretraining import choices
from bert_scratch.pretraining.choices import Budget
from bert_scratch.pretraining.corpus_facts import CorpusFacts, unigram_loss


def facts(train_tokens: int = 2_000_000) -> CorpusFacts:
    return CorpusFacts(
        vocab_size=8192,
        train_documents=500,
        train_sentences=train_tokens // 20,
        train_tokens=train_tokens,
        eval_documents=20,
        eval_sentences=1000,
        eval_tokens=20_000,
        unknown_share=0.0,
        uniform_loss=math.log(8192),
        unigram_entropy=6.5,
    )


def budget(
    *, steps: int | None = None, seconds: float | None = None, tokens_per_s: float = 60_000.0
) -> Budget:
    def speed(config: BertConfig) -> float:
        tiny = choices.approximate_parameters(BertConfig.preset("tiny", vocab_size=8192))
        return tokens_per_s * tiny / choices.approximate_parameters(config)

    return Budget(num_train_steps=steps, max_train_seconds=seconds, tokens_per_s=speed)


@pytest.mark.parametrize(
    ("seconds", "preset"), [(240, "tiny"), (7200, "mini"), (1e5, "small"), (1e8, "large")]
)
def test_preset_grows_with_the_budget(seconds: float, preset: str) -> None:
    assert choices.choose_preset(budget(seconds=seconds), facts()).value == preset


def test_preset_counts_the_tokens_that_a_model_of_that_size_would_see() -> None:
    choice = choices.choose_preset(budget(seconds=7200), facts())
    config = choices.preset_shape(str(choice.value), facts())
    seen = choices.expected_tokens(budget(seconds=7200), facts(), config)
    assert seen / choices.approximate_parameters(config) >= choices.TOKENS_PER_PARAMETER


def test_without_a_budget_passes_over_the_corpus_count() -> None:
    config = choices.preset_shape("tiny", facts())
    tokens = choices.expected_tokens(budget(), facts(), config)
    assert tokens == choices.DEFAULT_PASSES * 2_000_000


def test_short_budgets_get_short_sequences() -> None:
    assert choices.choose_seq_length(budget(seconds=240), facts()).value == 64
    assert choices.choose_seq_length(budget(seconds=7200), facts()).value == 128


def test_batch_grows_with_the_tokens_to_see() -> None:
    sizes = [choices.choose_batch_size(t, seq_length=64).value for t in (1e7, 5e8, 2e9, 1e10, 1e11)]
    assert sizes == [32, 64, 256, 1024, 2048]


def test_learning_rate_falls_with_the_width() -> None:
    rates = [choices.choose_learning_rate(width, 2048).value for width in (128, 256, 768)]
    assert rates == [2e-3, 1e-3, 3.3e-4]


def test_initial_weights_spread_wider_in_narrow_models_only() -> None:
    assert choices.choose_initializer_range(128).value == 0.0625
    assert choices.choose_initializer_range(768).value == 0.02
    assert choices.choose_initializer_range(1024).value == 0.02


def test_dropout_is_left_out_while_the_text_is_seen_few_times() -> None:
    assert choices.choose_dropout(20 * 2e6, facts()).value == 0.0
    assert choices.choose_dropout(21 * 2e6, facts()).value == 0.1


@pytest.mark.parametrize(
    ("train_tokens", "tokens", "passes", "word"),
    [
        (100_000, 3e7, 30, "too small"),
        (2_000_000, 1e6, 1, "too large"),
        (2_000_000, 4e8, 200, "repetitive"),
        (2_000_000, 4e7, 20, "sound"),
    ],
)
def test_verdict_names_what_is_wrong(
    train_tokens: int, tokens: float, passes: float, word: str
) -> None:
    lines = choices.verdict(facts(train_tokens), parameters=1_500_000, tokens=tokens, passes=passes)
    assert any(line.startswith(word) for line in lines)


def test_approximate_parameters_are_those_of_the_published_base() -> None:
    assert choices.approximate_parameters(BertConfig.preset("base")) == 109_482_240


def test_unigram_loss_is_the_cross_entropy_of_smoothed_counts() -> None:
    import numpy as np

    counts, targets = np.array([0, 3, 6]), np.array([1, 2, 2, 0])
    share = [0.5 / 10.5, 3.5 / 10.5, 6.5 / 10.5]
    expected = -(math.log(share[1]) + 2 * math.log(share[2]) + math.log(share[0])) / 4
    assert unigram_loss(counts, targets) == pytest.approx(expected)
