"""Choose the values that the user leaves out, each by a stated rule with its reason.

The rules are based on runs on CPU cores (docs/benchmarks.md, docs/decisions.md). Both `pretrain`
and `plan` use them.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from bert_scratch.config import BertConfig
from bert_scratch.pretraining.corpus_facts import CorpusFacts
from bert_scratch.pretraining.plan_loss import expected_loss, layer_matrix_parameters

if TYPE_CHECKING:
    from bert_scratch.training.memory import StepMemory

RECIPES: dict[str, dict[str, object]] = {
    "huggingface": {
        "train_pad_row": False,
        "adam_bias_correction": True,
        "lr_schedule": "linear",
        "mask_special": False,
        "hidden_act": "gelu",
    },
    "google": {
        "initializer": "truncated_normal",
        "init_word_vectors": "none",
        "masked_lm_prob": 0.15,
        "train_pad_row": True,
        "adam_bias_correction": False,
        "lr_schedule": "google",
        "mask_special": True,
        "hidden_act": "gelu_new",
    },
}
"""The fields in which Google's code and Hugging Face's differ; Google's word embeddings are drawn.
For a wide model, the rules below choose Hugging Face's initial weights and masks."""

DEFAULT_PASSES = 40
CPU_TOKENS_PER_PASS = 16384
TOKENS_PER_STEP, SHORT_SEQ_LENGTH = 2048, 64
"""Of a short run."""
LEAST_TOKENS_PER_PARAMETER = 20
SENTENCES_WORTH_PAIRS = 2
"""Average sentences per document from which pairs are made."""
TOKENS_WORTH_LONG_SEQUENCES = 100e6
"""Mini's rows of 128 gained nothing up to 33 M tokens and lost points on short texts at 23 M; where
they begin to pay was not measured."""
PASSES_WORTH_DROPOUT, PARAMETERS_WORTH_DROPOUT = 40, 2
"""Dropout needs more passes than the first, and more parameters per token than the second. After 31
passes of mini over 0.5 M tokens it still costs 0.09 nats; more passes were not measured."""
CORPUS_VECTORS, NO_VECTORS = "corpus", "none"
"""Values of --init-word-vectors that are not files."""
PUBLISHED_WIDTH, PUBLISHED_INITIALIZER_RANGE = 768, 0.02
PUBLISHED_MASKED_LM_PROB, NARROW_MASKED_LM_PROB = 0.15, 0.3
ALIKE = 0.05
"""Difference in nats below which expected losses count as equal. With 0.1, five minutes of 2 MB
went to mini, where tiny ended 0.2 to 0.3 lower and was as good a start for other tasks."""
WARMUP_SHARE = 0.08
PEAK_LEARNING_RATE = 2e-3
"""For width 128 and 2,048 tokens per update."""
SHALLOW = 4
"""Layers up to which the learning rate is not lowered: 8 layers of width 256 failed at a rate with
which 4 learn well."""
PUBLISHED_DEPTH, PUBLISHED_LEARNING_RATE = 12, 1e-4


@dataclass(frozen=True, kw_only=True)
class Budget:
    """How much training the user asked for."""

    num_train_steps: int | None
    max_train_seconds: float | None
    tokens_per_s: Callable[[BertConfig], float]
    """Measures how fast a model of this shape trains on this machine."""
    tokens_per_step: int = TOKENS_PER_STEP


@dataclass(frozen=True)
class Choice:
    """A value and why it was chosen."""

    value: int | float | str
    reason: str


def expected_tokens(budget: Budget, facts: CorpusFacts, config: BertConfig) -> float:
    """Estimate how many tokens a run with this shape sees within the budget.

    Without any budget a run makes `DEFAULT_PASSES` passes.
    """
    if budget.num_train_steps is not None:
        return float(budget.num_train_steps * budget.tokens_per_step)
    if budget.max_train_seconds is not None:
        return budget.max_train_seconds * budget.tokens_per_s(timed_shape(config))
    return float(DEFAULT_PASSES * facts.train_tokens)


def asked_tokens_per_step(batch_size: int | None, seq_length: int | None) -> int:
    """Return the tokens of an update by what the user gave; a short run's where it was left out."""
    length = seq_length or SHORT_SEQ_LENGTH
    return (batch_size or max(8, TOKENS_PER_STEP // length)) * length


def timed_shape(shape: BertConfig) -> BertConfig:
    """Return a shape reduced to what determines its speed, so that none is timed twice."""
    return BertConfig(
        vocab_size=shape.vocab_size,
        hidden_size=shape.hidden_size,
        num_hidden_layers=shape.num_hidden_layers,
        num_attention_heads=shape.num_attention_heads,
        intermediate_size=shape.intermediate_size,
        hidden_dropout_prob=0.0,
        attention_probs_dropout_prob=0.0,
    )


def choose_pair_task(facts: CorpusFacts) -> Choice:
    """Choose nsp if documents have two sentences or more on average, else no pairs."""
    if not facts.pairs_possible:
        return Choice("none", "the corpus has no documents of several sentences to make pairs from")
    if facts.train_sentences < SENTENCES_WORTH_PAIRS * facts.train_documents:
        return Choice("none", "most documents have one sentence, and a pair needs two")
    return Choice("nsp", "the corpus has documents of several sentences")


def choose_preset(budget: Budget, facts: CorpusFacts) -> Choice:
    """Choose the size: within a time limit, that with the lowest expected final loss.

    Sizes are tried smallest first. Of two with similar loss the larger is taken, because at equal
    loss it is the better start for other tasks (Liu et al. 2023, "Same pre-training loss, better
    downstream"). Without a time limit, the largest that sees `LEAST_TOKENS_PER_PARAMETER` tokens
    for each parameter is taken.
    """
    chosen = Choice("tiny", "the smallest: no larger one sees enough tokens")
    lowest = math.inf
    for preset in BertConfig.PRESETS:
        shape = preset_shape(preset, facts)
        tokens = expected_tokens(budget, facts, shape)
        if budget.max_train_seconds is None:
            ratio = tokens / count_bert_parameters(shape)
            if ratio < LEAST_TOKENS_PER_PARAMETER:
                break
            rule = f"at least {LEAST_TOKENS_PER_PARAMETER} tokens seen per parameter"
            chosen = Choice(preset, f"the largest with {rule}; here about {ratio:,.0f}")
            continue
        loss = loss_by_default(shape, tokens=tokens, facts=facts)
        learns = loss < facts.unigram_entropy or lowest == math.inf
        if loss >= lowest + ALIKE or not learns:
            return Choice(chosen.value, f"{chosen.reason}; {preset} would reach {loss:.2f}")
        reason = (
            f"about {tokens / 1e6:,.0f} M tokens fit in the time by a first timing, {loss:.2f} "
            f"nats expected"
        )
        if loss >= lowest:
            reason += (
                f", about the same as {chosen.value} (within {ALIKE:g}); at equal loss the larger "
                f"model transfers better"
            )
        lowest = min(lowest, loss)
        chosen = Choice(preset, reason)
    return chosen


def loss_by_default(shape: BertConfig, *, tokens: float, facts: CorpusFacts) -> float:
    """Return the expected loss of a run with the initial vectors and masks chosen for its width."""
    return expected_loss(
        shape,
        tokens=tokens,
        facts=facts,
        masked_lm_prob=float(choose_masked_lm_prob(shape.hidden_size).value),
        counted_vectors=choose_word_vectors(shape.hidden_size).value == CORPUS_VECTORS,
    )


def choose_seq_length(tokens: float) -> Choice:
    """Choose the sequence length: 128, or 64 while the run is too short to profit from it.

    Args:
        tokens: total tokens that the run sees.
    """
    limit = f"{TOKENS_WORTH_LONG_SEQUENCES / 1e6:,.0f} M"
    if tokens < TOKENS_WORTH_LONG_SEQUENCES:
        seen = f"the run sees about {tokens / 1e6:,.0f} M tokens"
        return Choice(SHORT_SEQ_LENGTH, f"{seen}; longer rows are worth it from {limit}")
    return Choice(128, f"the usual length; the run sees {limit} tokens or more")


def preset_shape(preset: str, facts: CorpusFacts) -> BertConfig:
    """Return a preset's shape with the corpus's vocabulary."""
    return BertConfig.preset(preset, vocab_size=facts.vocab_size)


def choose_initializer_range(hidden_size: int) -> Choice:
    """Choose the spread of the initial weights: wider for narrow models than the published one.

    At 0.02 a model of width 128 spends half of a short run on the plateau of word frequencies.
    """
    if hidden_size >= PUBLISHED_WIDTH:
        return Choice(PUBLISHED_INITIALIZER_RANGE, "as published")
    spread = float(f"{(2 * hidden_size) ** -0.5:.3g}")
    reason = "1 / sqrt(2 width): narrow models learn sooner with wider initial weights"
    return Choice(spread, reason)


def choose_initializer(hidden_size: int) -> Choice:
    """Choose how initial weights are drawn: a narrow model gets help to attend to neighbours."""
    if hidden_size >= PUBLISHED_WIDTH:
        return Choice("normal", "as published")
    reason = "narrow models learn sooner if neighbouring tokens attend to each other from the start"
    return Choice("mimetic", reason)


def choose_word_vectors(hidden_size: int) -> Choice:
    """Choose how word embeddings start: a narrow model's are counted from the corpus."""
    if hidden_size >= PUBLISHED_WIDTH:
        return Choice(NO_VECTORS, "as published")
    reason = "vectors counted from the corpus: words used alike start alike, so narrow models learn"
    return Choice(CORPUS_VECTORS, f"{reason} sooner")


def choose_masked_lm_prob(hidden_size: int) -> Choice:
    """Choose the share of tokens to predict: more for narrow models, whose runs are short.

    Wettig et al. 2022, "Should You Mask 15% in Masked Language Modeling?", find more than 15 %
    better. Twice as many predictions cost tiny 1.3 times the time, and a wider model less.
    """
    if hidden_size >= PUBLISHED_WIDTH:
        return Choice(PUBLISHED_MASKED_LM_PROB, "as published")
    reason = "twice the published share: narrow models learn more per second from it"
    return Choice(NARROW_MASKED_LM_PROB, reason)


def choose_dropout(tokens: float, facts: CorpusFacts, shape: BertConfig) -> Choice:
    """Choose the dropout: none unless a model that could memorise the text sees it often."""
    passes = tokens / max(1, facts.train_tokens)
    size = layer_matrix_parameters(shape) / max(1, facts.train_tokens)
    found = (
        f"about {passes:.0f} passes over the text, and the encoder has {size:.1f} parameters per "
        f"token of it"
    )
    if passes > PASSES_WORTH_DROPOUT and size > PARAMETERS_WORTH_DROPOUT:
        return Choice(0.1, found)
    rule = (
        f"dropout helps only above {PASSES_WORTH_DROPOUT} passes and above "
        f"{PARAMETERS_WORTH_DROPOUT} parameters"
    )
    return Choice(0.0, f"{found}; {rule}")


def choose_batch_size(tokens: float, *, seq_length: int) -> Choice:
    """Choose the examples per update: small batches learn fastest while updates are few."""
    ladder = ((300e6, TOKENS_PER_STEP), (1e9, 4096), (5e9, 16384), (20e9, 65536))
    tokens_per_step = next((size for limit, size in ladder if tokens < limit), 131072)
    run = f"a run of about {tokens / 1e6:,.0f} M tokens"
    reason = f"{tokens_per_step:,} tokens per update for {run}"
    return Choice(max(8, tokens_per_step // seq_length), reason)


def choose_micro_batch(batch_size: int, memory: StepMemory, free_bytes: int) -> Choice:
    """Choose the examples per forward pass: as many as fit, on a CPU only while more is faster.

    Args:
        batch_size: examples of an update on this rank.
        memory: what an update needs.
        free_bytes: free memory.
    """
    fit = memory.rows_that_fit(free_bytes)
    wanted = batch_size
    if memory.runtime.device.type == "cpu":
        wanted = min(wanted, max(1, CPU_TOKENS_PER_PASS // memory.seq_length))
    if fit >= wanted and wanted == batch_size:
        return Choice(wanted, "the whole batch fits in memory")
    if fit >= wanted:
        return Choice(wanted, f"{CPU_TOKENS_PER_PASS:,} tokens; more are not faster on a CPU")
    reason = (
        f"what fits in {free_bytes / 1e9:,.1f} GB of free memory: {memory.state_bytes / 1e9:,.1f} "
        f"GB for weights, gradients and moments, then {memory.token_bytes / 1e3:,.1f} KB per token"
    )
    return Choice(fit, reason)


def choose_learning_rate(shape: BertConfig, tokens_per_step: int) -> Choice:
    """Choose the peak learning rate: falls with width and depth, rises with the root of the batch.

    A model as deep as the published ones uses their rate, whatever the batch.
    """
    if shape.num_hidden_layers >= PUBLISHED_DEPTH:
        deep = f"models of {PUBLISHED_DEPTH} layers or more"
        return Choice(PUBLISHED_LEARNING_RATE, f"the published rate, for {deep}")
    rate = PEAK_LEARNING_RATE * (128 / shape.hidden_size) * (tokens_per_step / 2048) ** 0.5
    rate *= min(1.0, SHALLOW / shape.num_hidden_layers)
    rate = min(PEAK_LEARNING_RATE, max(PUBLISHED_LEARNING_RATE, rate))
    reason = (
        f"{PEAK_LEARNING_RATE:g} at width 128 and 2,048 tokens, less for wider models and for more "
        f"than {SHALLOW} layers"
    )
    return Choice(float(f"{rate:.2g}"), reason)


def choose_warmup_steps(num_train_steps: float) -> Choice:
    """Choose the warm-up: 8 % of the expected steps, at most 10,000, at least 10 of 30 or more."""
    shortest = min(10, int(num_train_steps) // 3)
    steps = min(10_000, max(round(WARMUP_SHARE * num_train_steps), shortest))
    share = f"{WARMUP_SHARE:.0%} of about {num_train_steps:,.0f} expected steps"
    return Choice(steps, f"{share}, at least 10 in runs of 30 or more, at most 10,000")


def count_bert_parameters(config: BertConfig) -> int:
    """Count the parameters of `BertModel`: embeddings, layers and pooler."""
    d, f = config.hidden_size, config.intermediate_size
    rows = config.vocab_size + config.max_position_embeddings + config.type_vocab_size
    layer = 4 * d * d + 2 * d * f + 9 * d + f
    return rows * d + 2 * d + config.num_hidden_layers * layer + d * d + d
