"""The outlook of a run, as far as it is known before its first step, and how it is described."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from bert_scratch.config import BertConfig, counted
from bert_scratch.pretraining.choices import CORPUS_VECTORS
from bert_scratch.pretraining.corpus_facts import PAIR_CHANCE_LOSS, CorpusFacts
from bert_scratch.pretraining.plan_loss import LARGEST_MISS, expected_loss
from bert_scratch.pretraining.plan_verdict import verdict
from bert_scratch.pretraining.pretrain_config import PretrainConfig
from bert_scratch.pretraining.resolve import filled
from bert_scratch.training.metrics import duration


@dataclass(frozen=True, kw_only=True)
class Outlook:
    """The expected size, duration and result of a run."""

    num_train_steps: int
    tokens_per_step: int
    tokens: float
    """Total tokens seen."""
    passes: float
    """Passes over the train text."""
    duration_s: float
    expected_loss: float | None
    """Held-out loss of masked tokens, in nats; None if the run starts from a trained model."""
    verdict: list[str]


def outlook_on(
    config: PretrainConfig,
    shape: BertConfig,
    facts: CorpusFacts,
    *,
    num_train_steps: int,
    num_examples: int,
    tokens_per_step: int,
    step_s: float,
) -> Outlook:
    """Work out the outlook of a run with resolved settings.

    Args:
        config: of the run.
        shape: of its model.
        facts: of its corpus.
        num_train_steps: steps it will make.
        num_examples: examples in one pass over the text.
        tokens_per_step: tokens of all ranks together.
        step_s: measured seconds of an update.
    """
    tokens = float(num_train_steps * tokens_per_step)
    passes = num_train_steps * (config.train_batch_size or 0) / num_examples
    loss = None
    if config.init_checkpoint is None:
        loss = expected_loss(
            shape,
            tokens=tokens,
            facts=facts,
            masked_lm_prob=filled(config.masked_lm_prob),
            counted_vectors=config.init_word_vectors == CORPUS_VECTORS,
        )
    return Outlook(
        num_train_steps=num_train_steps,
        tokens_per_step=tokens_per_step,
        tokens=tokens,
        passes=passes,
        duration_s=run_duration_s(config, num_train_steps * step_s),
        expected_loss=loss,
        verdict=verdict(facts, passes=passes, loss=loss),
    )


def run_duration_s(config: PretrainConfig, by_steps: float) -> float:
    """Return how long a run takes: its time limit, if that determines its steps."""
    limit = config.max_train_seconds
    return by_steps if limit is None or config.num_train_steps is not None else limit


def describe_start(
    facts: CorpusFacts, shape: BertConfig, parameters: int, reasons: Sequence[str]
) -> list[str]:
    """Return the lines that describe the corpus and model, and what was chosen and why."""
    return [
        f"corpus     {counted(facts.train_documents, 'document')}, "
        f"{counted(facts.train_sentences, 'sentence')}, {facts.train_tokens:,} tokens; held out "
        f"{counted(facts.eval_documents, 'document')}, {facts.eval_tokens:,} tokens; "
        f"[UNK] {facts.unknown_share:.3%}",
        f"model      {shape.num_hidden_layers} layers, width {shape.hidden_size}, "
        f"{shape.num_attention_heads} heads, vocabulary {shape.vocab_size:,}: "
        f"{parameters:,} parameters",
        *(f"chosen     {reason}" for reason in reasons),
        f"references ln V {facts.uniform_loss:.3f}, unigram entropy of the train text "
        f"{facts.unigram_entropy:.3f}, chance for pairs {PAIR_CHANCE_LOSS:.3f} (nats)",
    ]


def describe_outlook(outlook: Outlook, device: str) -> list[str]:
    """Return the lines that describe the run's length and expected result."""
    lines = [
        f"plan       about {outlook.num_train_steps:,} steps of {outlook.tokens_per_step:,} tokens "
        f"= {outlook.tokens:,.0f} tokens, {outlook.passes:.1f} passes over the text, about "
        f"{duration(outlook.duration_s)} on {device}, timed with these batches"
    ]
    if outlook.expected_loss is not None:
        lines.append(
            f"expected   held-out masked-token loss {outlook.expected_loss:.2f} nats, give or take "
            f"{LARGEST_MISS:g}"
        )
    return lines + [f"verdict    {line}" for line in outlook.verdict]


def describe_bytes(count: float) -> str:
    """Format bytes as 512 B, 20 KB, 3 MB or 1.5 GB."""
    for unit in ("B", "KB", "MB"):
        if count < 1000:
            return f"{count:.0f} {unit}"
        count /= 1000
    return f"{count:.1f} GB"
