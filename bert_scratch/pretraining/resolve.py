"""Turn what the user asked for into settings with nothing left out."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

import torch

from bert_scratch.config import BertConfig, InputError, flag_of
from bert_scratch.model.attention import has_packed_attention
from bert_scratch.model.devices import DTYPES
from bert_scratch.pretraining import choices
from bert_scratch.pretraining.choices import Budget, Choice
from bert_scratch.pretraining.corpus_facts import CorpusFacts
from bert_scratch.pretraining.pretrain_config import ModelSettings, PretrainConfig
from bert_scratch.training.memory import StepMemory
from bert_scratch.training.runtime import Runtime
from bert_scratch.training.schedule import DECAY_SHARE

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
    tokens_per_s: Callable[[BertConfig], float],
    pad_token_id: int,
    initial: BertConfig | None,
    world_size: int,
    free_bytes: int,
) -> Resolved:
    """Fill in all settings but the run's length: by flag, then recipe, then preset, then rule.

    Args:
        asked: what the user gave; None marks what was left out.
        facts: of the prepared corpus.
        runtime: the device and dtype chosen.
        tokens_per_s: measures a shape's training speed, for choices that depend on a time budget.
        pad_token_id: the tokenizer's.
        initial: the shape of `--init-checkpoint`, if given.
        world_size: ranks that share each batch.
        free_bytes: memory that each of them may take.

    Raises:
        InputError: if values exclude each other, naming the flags.
    """
    budget = Budget(
        num_train_steps=asked.num_train_steps,
        tokens_per_step=choices.asked_tokens_per_step(asked.train_batch_size, asked.max_seq_length),
        max_train_seconds=asked.max_train_seconds,
        tokens_per_s=tokens_per_s,
    )
    chooser = _Chooser(_apply_recipe(asked))
    chooser.config = chooser.config.replace(
        device=str(runtime.device),
        dtype=str(runtime.dtype).removeprefix("torch."),
        num_threads=runtime.num_threads,
    )
    chooser.fill("pair_task", lambda: choices.choose_pair_task(facts))
    bert_config = initial or _fill_shape(chooser, budget, facts, pad_token_id)
    chooser.fill("masked_lm_prob", lambda: choices.choose_masked_lm_prob(bert_config.hidden_size))
    _fill_optimization(chooser, budget, facts, bert_config)
    memory = step_memory(chooser.config, bert_config, runtime, world_size=world_size)
    batch_size = math.ceil(filled(chooser.config.train_batch_size) / world_size)
    chooser.fill(
        "micro_batch_size", lambda: choices.choose_micro_batch(batch_size, memory, free_bytes)
    )
    _check_together(chooser.config, bert_config, shape_is_fixed=initial is not None)
    config = _with_shape(chooser.config, bert_config)
    return Resolved(config=config, bert_config=bert_config, reasons=chooser.reasons)


def _check_together(config: PretrainConfig, shape: BertConfig, *, shape_is_fixed: bool) -> None:
    """Refuse settings that exclude each other, and examples that the model cannot take."""
    if config.lr_schedule != "wsd" and config.lr_decay_share != DECAY_SHARE:
        raise InputError(
            f"--lr-decay-share has no effect with --lr-schedule {config.lr_schedule}; leave it "
            f"out, or give --lr-schedule wsd"
        )
    if config.optimizer == "muon" and not config.adam_bias_correction:
        raise InputError(
            "--optimizer muon works only with torch's AdamW, which corrects its moments; leave it "
            "out with --recipe google and with --no-adam-bias-correction"
        )
    if config.compile and config.deterministic and config.device != "cpu":
        raise InputError(
            "--compile on a GPU measures which kernels are fastest, and --deterministic promises "
            "the same bits; leave one of them out"
        )
    if config.packed and (obstacle := why_not_packed(config, shape)) is not None:
        raise InputError(f"--packed: {obstacle}; leave it out")
    if config.pair_task != "none" and shape.type_vocab_size < 2:
        raise InputError(
            f"--pair-task {config.pair_task} needs two token types, the model has "
            f"{shape.type_vocab_size}; use --pair-task none"
        )
    seq_length = filled(config.max_seq_length)
    if seq_length > shape.max_position_embeddings:
        raise InputError(
            f"--max-seq-length {seq_length} is longer than the model's "
            f"{shape.max_position_embeddings} positions; lower it"
            + ("" if shape_is_fixed else " or raise --max-position-embeddings")
        )


class _Chooser:
    """Settings being filled in, and one line for each value that a rule chose."""

    def __init__(self, config: PretrainConfig) -> None:
        self.config = config
        self.reasons: list[str] = []

    def fill(self, name: str, rule: Callable[[], Choice]) -> None:
        """Apply the rule only if the user left the field out, since it may have to measure."""
        if getattr(self.config, name) is None:
            choice = rule()
            self.reasons.append(f"{flag_of(name)} {choice.value}: {choice.reason}")
            self.config = self.config.replace(**{name: choice.value})


def _fill_shape(
    chooser: _Chooser, budget: Budget, facts: CorpusFacts, pad_token_id: int
) -> BertConfig:
    """Fill in the settings of the model's shape and initial weights; return the shape."""
    if chooser.config.hidden_size is None:
        chooser.fill("preset", lambda: choices.choose_preset(budget, facts))
    shape = _shape(chooser.config, facts, pad_token_id)
    chooser.fill("initializer", lambda: choices.choose_initializer(shape.hidden_size))
    chooser.fill("initializer_range", lambda: choices.choose_initializer_range(shape.hidden_size))
    chooser.fill("init_word_vectors", lambda: choices.choose_word_vectors(shape.hidden_size))
    for name in ("hidden_dropout_prob", "attention_probs_dropout_prob"):
        chooser.fill(
            name,
            lambda: choices.choose_dropout(
                choices.expected_tokens(budget, facts, shape), facts, shape
            ),
        )
    return _shape(chooser.config, facts, pad_token_id)


def _fill_optimization(
    chooser: _Chooser, budget: Budget, facts: CorpusFacts, shape: BertConfig
) -> None:
    """Fill in sequence length, batch and learning rate."""
    chooser.fill(
        "max_seq_length",
        lambda: choices.choose_seq_length(choices.expected_tokens(budget, facts, shape)),
    )
    seq_length = filled(chooser.config.max_seq_length)
    chooser.fill(
        "train_batch_size",
        lambda: choices.choose_batch_size(
            choices.expected_tokens(budget, facts, shape), seq_length=seq_length
        ),
    )
    batch_size = filled(chooser.config.train_batch_size)
    chooser.fill(
        "learning_rate",
        lambda: choices.choose_learning_rate(shape, batch_size * seq_length),
    )


def step_memory(
    config: PretrainConfig, shape: BertConfig, runtime: Runtime, *, world_size: int = 1
) -> StepMemory:
    """Return the memory that an update of a run takes on each rank, computed from shapes."""
    return StepMemory(
        config=shape,
        runtime=runtime,
        seq_length=filled(config.max_seq_length),
        masked_lm_prob=filled(config.masked_lm_prob),
        activation_checkpointing=config.activation_checkpointing,
        world_size=world_size,
    )


def filled(value: T | None) -> T:
    """Return a setting that has been filled in by resolving."""
    assert value is not None
    return value


def micro_batch_size(config: PretrainConfig) -> int:
    """Return the examples per forward pass, filled in by resolving."""
    assert isinstance(config.micro_batch_size, int)
    return config.micro_batch_size


def why_not_packed(config: PretrainConfig, shape: BertConfig) -> str | None:
    """Return why `packed_attention` cannot compute a run with these settings; None if it can."""
    device, dtype = torch.device(config.device), DTYPES[config.dtype]
    if not has_packed_attention(device, dtype, shape.head_size):
        return (
            "its attention kernels are for GPUs of compute capability 8.0 and newer, float16 or "
            "bfloat16, and head sizes that are multiples of 8, at most 256; here "
            f"{device}, {config.dtype} and {shape.head_size}"
        )
    if config.deterministic:
        return "--deterministic promises the same bits, and its attention kernels do not"
    if shape.attention_probs_dropout_prob:
        return "its attention kernels have no dropout; --attention-probs-dropout-prob 0 has none"
    return None


def _apply_recipe(config: PretrainConfig) -> PretrainConfig:
    recipe = dict(choices.RECIPES[config.recipe])
    if config.init_checkpoint is not None:
        # the checkpoint determines these
        for name in ("hidden_act", "init_word_vectors", "initializer"):
            recipe.pop(name, None)
    return config.replace(**{k: v for k, v in recipe.items() if getattr(config, k) is None})


def _shape(config: PretrainConfig, facts: CorpusFacts, pad_token_id: int) -> BertConfig:
    """Return the preset's shape, overridden by the user's fields."""
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
