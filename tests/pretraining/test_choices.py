"""Pins the rules by which what the user leaves out is chosen. Runs anywhere:
`pytest tests/pretraining/test_choices.py`."""

from __future__ import annotations

import functools
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
        tiny = choices.count_bert_parameters(BertConfig.preset("tiny", vocab_size=8192))
        return tokens_per_s * tiny / choices.count_bert_parameters(config)

    return Budget(num_train_steps=steps, max_train_seconds=seconds, tokens_per_s=speed)


@pytest.mark.parametrize(
    ("seconds", "preset"), [(240, "tiny"), (7200, "mini"), (5e4, "small"), (1e8, "large")]
)
def test_preset_grows_with_the_budget(seconds: float, preset: str) -> None:
    large = facts(100_000_000)
    assert choices.choose_preset(budget(seconds=seconds), large).value == preset


@pytest.mark.parametrize(("steps", "preset"), [(1_000, "tiny"), (60_000, "mini")])
def test_without_a_time_limit_each_parameter_sees_twenty_tokens(steps: int, preset: str) -> None:
    assert choices.choose_preset(budget(steps=steps), facts()).value == preset


@pytest.mark.parametrize("seconds", [300, 1800, 2400, 3600, 7200])
def test_size_within_a_time_is_the_largest_that_is_expected_to_end_lowest(seconds: float) -> None:
    asked = budget(seconds=seconds)
    expected = {}
    for name in ("tiny", "mini"):
        shape = choices.preset_shape(name, facts())
        tokens = choices.expected_tokens(asked, facts(), shape)
        expected[name] = choices.loss_by_default(shape, tokens=tokens, facts=facts())
    is_larger = expected["mini"] < expected["tiny"] + choices.ALIKE
    assert (choices.choose_preset(asked, facts()).value == "tiny") is not is_larger


@pytest.mark.parametrize("seconds", [0.1, 2, 20])
def test_a_run_too_short_to_learn_more_than_word_frequencies_is_of_the_smallest_size(
    seconds: float,
) -> None:
    assert choices.choose_preset(budget(seconds=seconds), facts()).value == "tiny"


def test_speed_is_asked_once_for_each_size() -> None:
    asked = []

    def speed(shape: BertConfig) -> float:
        asked.append(shape)
        return 20_000.0

    timed = Budget(
        num_train_steps=None, max_train_seconds=3600, tokens_per_s=functools.cache(speed)
    )
    shape = choices.preset_shape(str(choices.choose_preset(timed, facts()).value), facts())
    choices.expected_tokens(timed, facts(), shape.replace(initializer_range=0.5, pad_token_id=3))
    assert len(asked) == len({(s.num_hidden_layers, s.hidden_size) for s in asked})


def test_without_a_budget_passes_over_the_corpus_count() -> None:
    config = choices.preset_shape("tiny", facts())
    tokens = choices.expected_tokens(budget(), facts(), config)
    assert tokens == choices.DEFAULT_PASSES * 2_000_000


def test_short_runs_get_short_sequences() -> None:
    limit = choices.TOKENS_WORTH_LONG_SEQUENCES
    assert choices.choose_seq_length(limit - 1).value == 64
    assert choices.choose_seq_length(limit).value == 128


@pytest.mark.parametrize("tokens", [1e6, 1e9])
def test_the_reason_for_a_length_names_no_budget_where_there_may_be_none(tokens: float) -> None:
    assert "the run sees" in choices.choose_seq_length(tokens).reason


@pytest.mark.parametrize(("sentences", "task"), [(1_900, "nsp"), (1_100, "none"), (500, "none")])
def test_pairs_need_documents_of_two_sentences(sentences: int, task: str) -> None:
    found = facts().replace(train_documents=500 if sentences != 1_100 else 600)
    choice = choices.choose_pair_task(found.replace(train_sentences=sentences))
    assert choice.value == task


def test_batch_grows_with_the_tokens_to_see() -> None:
    sizes = [choices.choose_batch_size(t, seq_length=64).value for t in (1e7, 5e8, 2e9, 1e10, 1e11)]
    assert sizes == [32, 64, 256, 1024, 2048]


def test_learning_rate_falls_with_width_and_depth() -> None:
    presets = [BertConfig.preset(name) for name in BertConfig.PRESETS]
    rates = [choices.choose_learning_rate(shape, 2048).value for shape in presets]
    assert rates == [2e-3, 1e-3, 5e-4, 2.5e-4, 1e-4, 1e-4]


def test_learning_rate_of_a_deep_narrow_model_is_half_of_what_it_failed_at() -> None:
    shape = BertConfig.preset("mini", num_hidden_layers=8)
    assert choices.choose_learning_rate(shape, 2048).value == 5e-4


def test_batch_does_not_raise_the_learning_rate_of_published_depths() -> None:
    assert choices.choose_learning_rate(BertConfig.preset("base"), 131072).value == 1e-4


def test_initial_weights_spread_wider_in_narrow_models_only() -> None:
    assert choices.choose_initializer_range(128).value == 0.0625
    assert choices.choose_initializer_range(768).value == 0.02
    assert choices.choose_initializer_range(1024).value == 0.02


def test_narrow_models_predict_twice_as_many_tokens() -> None:
    assert choices.choose_masked_lm_prob(256).value == 0.3
    assert choices.choose_masked_lm_prob(768).value == 0.15
    assert choices.RECIPES["google"]["masked_lm_prob"] == 0.15


@pytest.mark.parametrize(
    ("preset", "passes", "dropout"),
    [("small", 40, 0.0), ("small", 41, 0.1), ("mini", 100, 0.0), ("tiny", 100, 0.0)],
)
def test_dropout_is_for_models_that_could_learn_the_text_by_heart(
    preset: str, passes: int, dropout: float
) -> None:
    shape = BertConfig.preset(preset)
    assert choices.choose_dropout(passes * 2e6, facts(), shape).value == dropout


@pytest.mark.parametrize(("preset", "passes"), [("small", 40), ("tiny", 100)])
def test_the_reason_for_no_dropout_names_both_conditions(preset: str, passes: int) -> None:
    reason = choices.choose_dropout(passes * 2e6, facts(), BertConfig.preset(preset)).reason
    assert f"about {passes} passes over the text" in reason
    assert "above 40 passes and above 2 parameters" in reason


def test_counted_parameters_are_those_of_the_published_base() -> None:
    assert choices.count_bert_parameters(BertConfig.preset("base")) == 109_482_240


def test_unigram_loss_is_the_cross_entropy_of_smoothed_counts() -> None:
    import numpy as np

    counts, targets = np.array([0, 3, 6]), np.array([1, 2, 2, 0])
    share = [0.5 / 10.5, 3.5 / 10.5, 6.5 / 10.5]
    expected = -(math.log(share[1]) + 2 * math.log(share[2]) + math.log(share[0])) / 4
    assert unigram_loss(counts, targets) == pytest.approx(expected)


def test_tokens_of_a_run_of_given_steps_follow_the_given_batch_and_length() -> None:
    assert choices.asked_tokens_per_step(None, None) == 2048
    assert choices.asked_tokens_per_step(None, 512) == 8 * 512
    assert choices.asked_tokens_per_step(256, None) == 256 * 64
    assert choices.asked_tokens_per_step(4, 16) == 64
