"""Say in words whether a corpus and a run fit each other."""

from __future__ import annotations

from bert_scratch.pretraining.choices import choose_pair_task
from bert_scratch.pretraining.corpus_facts import CorpusFacts
from bert_scratch.pretraining.corpus_plan import MIN_DOCUMENTS

MIN_TRAIN_TOKENS = 200_000
MAX_PASSES = 100
LITTLE_LEARNED = 0.9
"""Share of the unigram entropy above which a loss is hardly better than word frequencies."""


def verdict(facts: CorpusFacts, *, passes: float, loss: float | None) -> list[str]:
    """Say in words whether to train, and what speaks against it.

    Args:
        facts: of the corpus.
        passes: passes that the run makes over the train text.
        loss: expected final loss, in nats; None if the run starts from a trained model.

    Returns:
        Lines that begin with "too few documents", "too small", "too short" or "repetitive", each
        with what to do; if there are none, one that begins with "train".
    """
    lines = []
    if min(facts.train_documents, facts.eval_documents) < MIN_DOCUMENTS:
        lines.append(
            f"too few documents: {facts.train_documents} for training, {facts.eval_documents} held "
            f"out; at least two of each are needed: give more text, say what a document is with "
            f"--documents, or raise --eval-fraction"
        )
    if facts.train_tokens < MIN_TRAIN_TOKENS and loss is not None:
        lines.append(
            f"too small: {facts.train_tokens:,} train tokens are below {MIN_TRAIN_TOKENS:,}, too "
            f"few to learn a language from; continue from an existing model with --init-checkpoint"
        )
    if loss is not None and loss > LITTLE_LEARNED * facts.unigram_entropy:
        lines.append(
            f"too short: the model is expected to learn little more than word frequencies "
            f"({facts.unigram_entropy:.2f} nats); train longer or use a smaller --preset"
        )
    if passes > MAX_PASSES:
        lines.append(
            f"repetitive: {passes:,.0f} passes over the same text, above {MAX_PASSES}; the "
            f"held-out loss may rise before the end; train for less time or on more text"
        )
    if lines:
        return lines
    seen = f"{passes:,.1f} passes over the text (up to {MAX_PASSES} is fine)"
    pairs = choose_pair_task(facts)
    if pairs.value == "none":
        return [f"train without pairs (--pair-task none): {pairs.reason}; {seen}"]
    return [f"train: {seen}"]
