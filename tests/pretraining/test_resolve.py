"""Pins the precedence flag > recipe > rule, and what is filled in when. Runs anywhere:
`pytest tests/pretraining/test_resolve.py`."""

from __future__ import annotations

import math
import re
from typing import Any

import pytest
import torch

from bert_scratch.config import BertConfig, InputError
from bert_scratch.model import attention
from bert_scratch.pretraining.corpus_facts import CorpusFacts
from bert_scratch.pretraining.pretrain_config import PretrainConfig
from bert_scratch.pretraining.resolve import Resolved, resolve, why_not_packed
from bert_scratch.training.runtime import Runtime

FACTS = CorpusFacts(
    vocab_size=1000,
    train_documents=50,
    train_sentences=1000,
    train_tokens=20_000,
    eval_documents=5,
    eval_sentences=100,
    eval_tokens=2000,
    unknown_share=0.0,
    uniform_loss=math.log(1000),
    unigram_entropy=5.0,
)


def resolved(*, facts: CorpusFacts = FACTS, on: str = "cpu", **settings: Any) -> Resolved:
    return resolve(
        PretrainConfig(**settings),
        facts=facts,
        runtime=Runtime(device=torch.device(on), dtype=torch.float32, num_threads=1),
        tokens_per_s=lambda config: 10_000.0,
        pad_token_id=0,
        initial=None,
        world_size=1,
        free_bytes=8 * 10**9,
    )


def test_recipe_sets_every_difference_between_google_and_hugging_face() -> None:
    names = ("initializer", "train_pad_row", "adam_bias_correction", "lr_schedule", "mask_special")
    theirs = [getattr(resolved(preset="base").config, name) for name in names]
    googles = [getattr(resolved(recipe="google").config, name) for name in names]
    assert theirs == ["normal", False, True, "linear", False]
    assert googles == ["truncated_normal", True, False, "google", True]
    assert resolved(recipe="google").bert_config.hidden_act == "gelu_new"


def test_narrow_models_start_with_weights_that_attend_to_neighbours() -> None:
    assert resolved(preset="mini").config.initializer == "mimetic"
    assert resolved(preset="base").config.initializer == "normal"
    assert resolved(preset="mini", initializer="normal").config.initializer == "normal"


def test_narrow_models_start_with_word_vectors_of_the_corpus() -> None:
    assert resolved(preset="mini").config.init_word_vectors == "corpus"
    assert resolved(preset="base").config.init_word_vectors == "none"
    assert resolved(preset="mini", init_word_vectors="none").config.init_word_vectors == "none"
    assert resolved(preset="mini", recipe="google").config.init_word_vectors == "none"


def test_googles_recipe_leaves_the_words_of_a_checkpoint_alone() -> None:
    asked = PretrainConfig(recipe="google", init_checkpoint="somewhere")
    config = resolve(
        asked,
        facts=FACTS,
        runtime=Runtime(device=torch.device("cpu"), dtype=torch.float32, num_threads=1),
        tokens_per_s=lambda config: 10_000.0,
        pad_token_id=0,
        initial=BertConfig.preset("tiny"),
        world_size=1,
        free_bytes=8 * 10**9,
    ).config
    assert config.init_word_vectors is None and config.mask_special
    assert config.initializer is None  # so that the stored settings can be given again


def test_flag_wins_over_recipe() -> None:
    config = resolved(recipe="google", lr_schedule="linear", hidden_act="relu").config
    assert (config.lr_schedule, config.hidden_act, config.initializer) == (
        "linear",
        "relu",
        "truncated_normal",
    )


def test_flag_wins_over_preset() -> None:
    shape = resolved(preset="mini", num_hidden_layers=3).bert_config
    assert (shape.num_hidden_layers, shape.hidden_size) == (3, 256)


def test_flag_wins_over_rule_and_gives_no_reason() -> None:
    result = resolved(learning_rate=5e-4, train_batch_size=7)
    assert (result.config.learning_rate, result.config.train_batch_size) == (5e-4, 7)
    assert not [r for r in result.reasons if "learning-rate" in r or "train-batch-size" in r]


def test_every_rule_that_chose_gives_its_reason() -> None:
    reasons = " ".join(resolved().reasons)
    for flag in ("--pair-task", "--preset", "--max-seq-length", "--learning-rate"):
        assert f"{flag} " in reasons


def test_resolving_what_was_resolved_changes_nothing() -> None:
    once = resolved(max_train_seconds=60.0).config
    again = resolved(**{k: v for k, v in once.to_dict().items() if v != []})
    assert again.config == once
    assert again.reasons == []


def test_corpus_without_pairs_is_trained_without_them() -> None:
    single = FACTS.replace(train_sentences=50, eval_sentences=5)
    assert resolved(facts=single).config.pair_task == "none"


def test_packed_rows_are_refused_on_a_cpu() -> None:
    with pytest.raises(
        InputError, match="--packed: its attention kernels are for GPUs .*; leave it"
    ):
        resolved(packed=True)
    assert resolved(packed=False).config.packed is False


@pytest.mark.parametrize(
    ("settings", "shape", "why"),
    [
        ({}, {}, None),
        ({"dtype": "float16"}, {}, None),
        ({"device": "cpu"}, {}, "here cpu, bfloat16 and 64"),
        ({"dtype": "float32"}, {}, "here cuda:0, float32 and 64"),
        ({"deterministic": True}, {}, "same bits"),
        ({}, {"attention_probs_dropout_prob": 0.1}, "no dropout"),
        ({}, {"hidden_size": 60, "num_attention_heads": 5}, "here cuda:0, bfloat16 and 12"),
    ],
)
def test_rows_are_packed_only_where_the_kernels_can(
    settings: dict[str, Any],
    shape: dict[str, Any],
    why: str | None,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(attention, "_is_ampere_or_newer", lambda _: True)
    config = PretrainConfig(**{"device": "cuda:0", "dtype": "bfloat16"} | settings)
    plain = {"vocab_size": 99, "attention_probs_dropout_prob": 0.0}
    obstacle = why_not_packed(config, BertConfig.preset("mini", **plain | shape))
    assert obstacle is None if why is None else obstacle and re.search(why, obstacle)


def test_sequence_longer_than_the_positions_is_refused() -> None:
    with pytest.raises(InputError, match="--max-seq-length 600 is longer than the model's 512"):
        resolved(max_seq_length=600)


def test_shape_takes_vocabulary_and_pad_of_the_tokenizer() -> None:
    shape: BertConfig = resolved().bert_config
    assert (shape.vocab_size, shape.pad_token_id) == (1000, 0)


def test_settings_that_contradict_each_other_are_refused() -> None:
    for settings in ({"recipe": "google"}, {"adam_bias_correction": False}):
        with pytest.raises(InputError, match="--optimizer muon works only with"):
            resolved(optimizer="muon", **settings)
    with pytest.raises(InputError, match="--compile on a GPU"):
        resolved(on="cuda", compile=True, deterministic=True, preset="tiny")


def test_share_of_the_decay_is_refused_with_a_schedule_that_has_none() -> None:
    assert resolved(lr_schedule="wsd", lr_decay_share=0.5).config.lr_decay_share == 0.5
    for settings, schedule in (({}, "linear"), ({"recipe": "google"}, "google")):
        with pytest.raises(InputError, match=f"no effect with --lr-schedule {schedule}; leave"):
            resolved(lr_decay_share=0.5, **settings)


def test_given_steps_count_with_the_given_batch_and_length() -> None:
    few = resolved(preset="tiny", num_train_steps=100, train_batch_size=4, max_seq_length=16)
    reason = next(r for r in few.reasons if r.startswith("--hidden-dropout-prob"))
    assert "about 0 passes" in reason
    many = resolved(preset="tiny", num_train_steps=100, train_batch_size=4096, max_seq_length=128)
    reason = next(r for r in many.reasons if r.startswith("--hidden-dropout-prob"))
    assert "about 0 passes" not in reason
