"""From what the user asked for to settings in which nothing is left out."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TypeVar

from bert_scratch.config import BertConfig, InputError
from bert_scratch.pretraining import choices
from bert_scratch.pretraining.choices import Budget, Choice
from bert_scratch.pretraining.corpus_facts import CorpusFacts
from bert_scratch.pretraining.pretrain_config import ModelSettings, PretrainConfig
from bert_scratch.training.runtime import Runtime

T = TypeVar("T")


@dataclass(frozen=True, kw_only=True)
class Resolved:
    """Settings with nothing left out, the model's shape, and why each value was chosen."""

    config: PretrainConfig
    bert_config: BertConfig
    reasons: list[str]


def resolve(
    asked: PretrainConfig,
    *,
    facts: CorpusFacts,
    runtime: Runtime,
    peak_flops: float,
    pad_token_id: int,
    initial: BertConfig | None,
) -> Resolved:
    """Fill in everything but the length of the run: flag, then recipe, then preset, then rule.

    Args:
        asked: what the user gave; None marks what was left out.
        facts: of the prepared corpus.
        runtime: the device and dtype chosen.
        peak_flops: measured operations per second, for what depends on a time budget.
        pad_token_id: the tokenizer's.
        initial: the shape of `--init-checkpoint`, when there is one.

    Raises:
        InputError: if values exclude each other, naming the flags.
    """
    reasons: list[str] = []

    def choose(config: PretrainConfig, name: str, choice: Choice) -> PretrainConfig:
        if getattr(config, name) is not None:
            return config
        reasons.append(f"--{name.replace('_', '-')} {choice.value}: {choice.reason}")
        return config.replace(**{name: choice.value})

    config = _apply_recipe(asked)
    config = config.replace(
        device=str(runtime.device),
        dtype=str(runtime.dtype).removeprefix("torch."),
        num_threads=runtime.num_threads,
    )
    budget = Budget(
        num_train_steps=asked.num_train_steps,
        max_train_seconds=asked.max_train_seconds,
        peak_flops=peak_flops,
    )
    config = choose(config, "pair_task", _pair_task(facts))
    config = choose(config, "max_seq_length", choices.choose_seq_length(budget, facts))
    seq_length = filled(config.max_seq_length)
    if initial is None and config.hidden_size is None:
        preset = choices.choose_preset(budget, facts, seq_length=seq_length)
        config = choose(config, "preset", preset)
    bert_config = initial or _shape(config, facts, pad_token_id)
    if seq_length > bert_config.max_position_embeddings:
        raise InputError(
            f"--max-seq-length {seq_length} is longer than the model's "
            f"{bert_config.max_position_embeddings} positions; lower it"
            + ("" if initial else " or raise --max-position-embeddings")
        )
    tokens = choices.expected_tokens(
        budget, facts, config.preset or "base", bert_config, seq_length=seq_length
    )
    batch = choices.choose_batch_size(tokens, seq_length=seq_length)
    config = choose(config, "train_batch_size", batch)
    batch_size = filled(config.train_batch_size)
    rate = choices.choose_learning_rate(bert_config.hidden_size, batch_size * seq_length)
    config = choose(config, "learning_rate", rate)
    if config.micro_batch_size is None:
        tokens_that_fit = 65536 if runtime.device.type == "cuda" else 16384
        rows = max(1, tokens_that_fit // seq_length)
        config = config.replace(micro_batch_size=min(batch_size, rows))
    config = _with_shape(config, bert_config)
    return Resolved(config=config, bert_config=bert_config, reasons=reasons)


def resolve_length(
    config: PretrainConfig, *, num_examples: int, step_s: float
) -> tuple[PretrainConfig, list[str]]:
    """Fill in the number of steps and the warm-up; a time limit leaves the steps open.

    Args:
        config: as `resolve` left it.
        num_examples: of one pass over the corpus.
        step_s: measured seconds of one update.
    """
    reasons = []
    if config.num_train_steps is None and config.max_train_seconds is None:
        examples = choices.DEFAULT_PASSES * num_examples
        steps = math.ceil(examples / filled(config.train_batch_size))
        config = config.replace(num_train_steps=steps)
        passes = f"{choices.DEFAULT_PASSES} passes over the corpus"
        reasons.append(f"--num-train-steps {steps}: {passes}")
    if config.num_train_steps is not None:
        expected = float(config.num_train_steps)
    else:
        expected = max(1.0, filled(config.max_train_seconds) / step_s)
    if config.num_warmup_steps is None:
        warmup = choices.choose_warmup_steps(expected)
        config = config.replace(num_warmup_steps=warmup.value)
        reasons.append(f"--num-warmup-steps {warmup.value}: {warmup.reason}")
    if config.num_train_steps is not None:
        config = with_intervals(config, step_s=step_s)
    return config, reasons


def with_intervals(config: PretrainConfig, *, step_s: float) -> PretrainConfig:
    """Fill in how often to log, evaluate and save, once the number of steps is known."""
    steps = filled(config.num_train_steps)
    quarter_hour = max(1, round(900 / max(step_s, 1e-9)))
    return config.replace(
        logging_steps=config.logging_steps or max(1, steps // 50),
        eval_steps=config.eval_steps or max(1, steps // 10),
        save_steps=config.save_steps or max(1, min(steps // 5, quarter_hour)),
    )


def filled(value: T | None) -> T:
    """Return a setting that resolving has filled in."""
    assert value is not None
    return value


def _apply_recipe(config: PretrainConfig) -> PretrainConfig:
    recipe = dict(choices.RECIPES[config.recipe])
    if config.init_checkpoint is not None:
        del recipe["hidden_act"]  # the checkpoint's shape decides
    return config.replace(**{k: v for k, v in recipe.items() if getattr(config, k) is None})


def _pair_task(facts: CorpusFacts) -> Choice:
    if facts.pairs_possible:
        return Choice("nsp", "the corpus has documents of several sentences")
    return Choice("none", "the corpus has no documents of several sentences to make pairs from")


def _shape(config: PretrainConfig, facts: CorpusFacts, pad_token_id: int) -> BertConfig:
    """Return the preset's shape with the user's fields on top."""
    given = {
        name: getattr(config, name)
        for name in BertConfig.__dataclass_fields__
        if getattr(config, name, None) is not None and name != "vocab_size"
    }
    given |= {"vocab_size": facts.vocab_size, "pad_token_id": pad_token_id}
    return BertConfig.preset(config.preset or "tiny", **given)


def _with_shape(config: PretrainConfig, bert_config: BertConfig) -> PretrainConfig:
    """Return the settings with every field of the model's shape written out."""
    if config.init_checkpoint is not None:
        return config
    names = set(ModelSettings.__dataclass_fields__) & set(BertConfig.__dataclass_fields__)
    return config.replace(**{name: getattr(bert_config, name) for name in names})
