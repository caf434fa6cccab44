"""What the user leaves out is chosen here, each value by a stated rule with its reason.

The rules were set from runs of a few minutes on two CPU cores (docs/decisions.md): under a short
budget the smallest model learns fastest, and a model wants some twenty tokens seen for each of
its parameters before a larger one pays.
"""

from __future__ import annotations

from dataclasses import dataclass

from bert_scratch.config import BertConfig
from bert_scratch.pretraining.corpus_facts import CorpusFacts
from bert_scratch.training.runtime import train_flops_per_token

RECIPES: dict[str, dict[str, object]] = {
    "huggingface": {
        "initializer": "normal",
        "train_pad_row": False,
        "adam_bias_correction": True,
        "lr_schedule": "linear",
        "mask_special": False,
        "hidden_act": "gelu",
    },
    "google": {
        "initializer": "truncated_normal",
        "train_pad_row": True,
        "adam_bias_correction": False,
        "lr_schedule": "google",
        "mask_special": True,
        "hidden_act": "gelu_new",
    },
}
"""Every place where Google's code and Hugging Face's differ, as the fields that say so."""

DEFAULT_PASSES = 40
TOKENS_PER_PARAMETER = 20
# Share of the matrix-product peak that a training step of each size reaches on a CPU.
EXPECTED_UTILISATION = {
    "tiny": 0.05,
    "mini": 0.12,
    "small": 0.2,
    "medium": 0.25,
    "base": 0.35,
    "large": 0.4,
}


@dataclass(frozen=True, kw_only=True)
class Budget:
    """How much training the user asked for, in the one unit the choices need."""

    num_train_steps: int | None
    max_train_seconds: float | None
    peak_flops: float
    """Measured operations per second of a matrix product on this machine."""


@dataclass(frozen=True)
class Choice:
    """A value and why it was chosen."""

    value: int | float | str
    reason: str


def expected_tokens(
    budget: Budget, facts: CorpusFacts, preset: str, config: BertConfig, *, seq_length: int
) -> float:
    """Estimate how many tokens a run of this size sees within the budget.

    A time budget is turned into tokens by the peak measured at start; without any budget a run
    makes `DEFAULT_PASSES` passes. A step budget is counted at 2,048 tokens a step.
    """
    if budget.num_train_steps is not None:
        return budget.num_train_steps * 2048.0
    if budget.max_train_seconds is not None:
        per_token = train_flops_per_token(config, seq_length=seq_length, predicted=0.15)
        speed = budget.peak_flops * EXPECTED_UTILISATION[preset] / per_token
        return budget.max_train_seconds * speed
    return float(DEFAULT_PASSES * facts.train_tokens)


def choose_seq_length(budget: Budget, facts: CorpusFacts) -> Choice:
    """Choose the sequence length: 128, or 64 while the budget is too short to profit from it."""
    config = BertConfig.preset("tiny", vocab_size=facts.vocab_size)
    tokens = expected_tokens(budget, facts, "tiny", config, seq_length=64)
    if tokens < 200e6:
        return Choice(64, f"about {tokens / 1e6:,.0f} M tokens fit the budget, below 200 M")
    return Choice(128, "the usual length for most of BERT's pretraining")


def choose_preset(budget: Budget, facts: CorpusFacts, *, seq_length: int) -> Choice:
    """Choose the largest preset that sees `TOKENS_PER_PARAMETER` tokens for each parameter."""
    chosen = Choice("tiny", "the smallest: no larger one sees enough tokens within the budget")
    for preset in BertConfig.PRESETS:
        config = BertConfig.preset(preset, vocab_size=facts.vocab_size)
        tokens = expected_tokens(budget, facts, preset, config, seq_length=seq_length)
        ratio = tokens / approximate_parameters(config)
        if ratio >= TOKENS_PER_PARAMETER:
            rule = f"at least {TOKENS_PER_PARAMETER} tokens seen for each parameter"
            chosen = Choice(preset, f"the largest with {rule}; here about {ratio:,.0f}")
    return chosen


def choose_batch_size(tokens: float, *, seq_length: int) -> Choice:
    """Choose the examples per update: small batches learn fastest while updates are few."""
    ladder = ((300e6, 2048), (1e9, 4096), (5e9, 16384), (20e9, 65536))
    tokens_per_step = next((size for limit, size in ladder if tokens < limit), 131072)
    reason = f"{tokens_per_step:,} tokens an update for a run of about {tokens / 1e6:,.0f} M tokens"
    return Choice(max(8, tokens_per_step // seq_length), reason)


def choose_learning_rate(hidden_size: int, tokens_per_step: int) -> Choice:
    """Choose the peak learning rate: falls with the width, rises with the root of the batch."""
    rate = 2e-3 * (128 / hidden_size) * (tokens_per_step / 2048) ** 0.5
    rate = min(2e-3, max(1e-4, rate))
    return Choice(float(f"{rate:.2g}"), "2e-3 at width 128 and 2,048 tokens, less for wider models")


def choose_warmup_steps(num_train_steps: float) -> Choice:
    """Choose the warm-up: 5 % of the expected steps, between 10 and 10,000."""
    steps = min(10_000, max(10, round(0.05 * num_train_steps)))
    return Choice(steps, f"5 % of about {num_train_steps:,.0f} expected steps")


def approximate_parameters(config: BertConfig) -> int:
    """Count the parameters of the encoder with its embeddings, leaving out the heads."""
    d, f = config.hidden_size, config.intermediate_size
    rows = config.vocab_size + config.max_position_embeddings + config.type_vocab_size
    layer = 4 * d * d + 2 * d * f + 9 * d + f
    return rows * d + 2 * d + config.num_hidden_layers * layer + d * d + d


def verdict(facts: CorpusFacts, *, parameters: int, tokens: float) -> list[str]:
    """Say in words whether the model is too large or the corpus too small to learn from.

    Args:
        facts: of the prepared corpus.
        parameters: of the model.
        tokens: the run will see in all.
    """
    per_parameter = tokens / parameters
    passes = tokens / max(1, facts.train_tokens)
    lines = []
    if facts.train_tokens < 200_000:
        lines.append(
            f"too small: {facts.train_tokens:,} train tokens are below 200,000, too few to learn a "
            f"language from; continue an existing model with --init-checkpoint instead"
        )
    if per_parameter < TOKENS_PER_PARAMETER / 4:
        lines.append(
            f"too large: the model sees {per_parameter:.1f} tokens for each parameter, below "
            f"{TOKENS_PER_PARAMETER / 4:.0f}; take a smaller --preset or train longer"
        )
    if passes > 100:
        lines.append(
            f"repetitive: {passes:,.0f} passes over the same text, above 100; expect the held-out "
            f"loss to rise before the end; train for less time or on more text"
        )
    return lines or [
        f"sound: {per_parameter:.0f} tokens seen for each parameter (wanted: "
        f"{TOKENS_PER_PARAMETER / 4:.0f} or more), {passes:.1f} passes over the text (100 at most)"
    ]
