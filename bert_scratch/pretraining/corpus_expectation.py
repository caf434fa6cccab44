"""What an epoch of training on a corpus would be with the settings `pretrain` would choose."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass

import numpy as np

from bert_scratch.pretraining import choices
from bert_scratch.pretraining.choices import Budget
from bert_scratch.pretraining.corpus_facts import CorpusFacts
from bert_scratch.pretraining.corpus_statistics import CorpusTally, VocabularyUse
from bert_scratch.pretraining.plan_verdict import verdict
from bert_scratch.pretraining.pretrain_config import ExampleSettings

PADDING_LENGTHS = (64, 128, 512)


@dataclass(frozen=True, kw_only=True)
class Expectation:
    """What an epoch would be, and how much of the corpus can be used for sentence pairs."""

    pair_task: str
    """nsp, or none if there is nothing to make pairs from."""
    usable_sentence_share: float
    """Share of sentences in documents of two or more (long documents are cut in sections)."""
    max_seq_length: int
    preset: str
    train_batch_size: int
    facts: CorpusFacts
    """Facts as preparing the corpus would find them."""
    num_examples: int
    """Examples in one pass over the text."""
    num_steps: int
    """Steps in one pass over the text."""
    padding: dict[str, float]
    """Share of padding if each example were padded to a length. Batches are packed or sorted by
    length, so less is computed."""
    verdict: list[str]
    """Whether model and corpus fit each other, in the words of `pretrain`."""


def expect(
    tally: CorpusTally, use: VocabularyUse, *, scale: float, max_seq_length: int | None
) -> Expectation:
    """Choose as `pretrain` would without a budget, and work out one pass.

    Args:
        tally: of the corpus.
        use: of its vocabulary.
        scale: size of the corpus relative to what was counted.
        max_seq_length: chosen if None.
    """
    facts = _facts(tally, use, scale)
    budget = Budget(num_train_steps=None, max_train_seconds=None, tokens_per_s=_not_timed)
    pair_task = str(choices.choose_pair_task(facts).value)
    preset = str(choices.choose_preset(budget, facts).value)
    shape = choices.preset_shape(preset, facts)
    tokens = choices.expected_tokens(budget, facts, shape)
    seq_length = max_seq_length or int(choices.choose_seq_length(tokens).value)
    batch_size = int(choices.choose_batch_size(tokens, seq_length=seq_length).value)
    num_examples = examples_of_pass(facts, max_seq_length=seq_length, pair_task=pair_task)
    # Without pairs, documents are joined in rows as if they were one.
    windows = tally.pair_document_tokens if pair_task == "nsp" else Counter([use.num_tokens])
    num_single = tally.num_documents - tally.pair_document_tokens.total()
    return Expectation(
        pair_task=pair_task,
        usable_sentence_share=1 - num_single / max(1, tally.num_sentences),
        max_seq_length=seq_length,
        preset=preset,
        train_batch_size=batch_size,
        facts=facts,
        num_examples=num_examples,
        num_steps=math.ceil(num_examples / batch_size),
        padding={str(length): expected_padding(windows, length) for length in PADDING_LENGTHS},
        verdict=verdict(
            facts,
            passes=choices.DEFAULT_PASSES,
            loss=choices.loss_by_default(shape, tokens=tokens, facts=facts),
        ),
    )


def examples_of_pass(facts: CorpusFacts, *, max_seq_length: int, pair_task: str) -> int:
    """Return how many examples one pass over the train text would give if it were one shard."""
    return math.ceil(facts.train_tokens / (max_seq_length - _num_special(pair_task)))


def expected_padding(document_tokens: Counter[int], max_seq_length: int) -> float:
    """Return the expected share of padding in examples padded to one length.

    Windows are drawn in proportion to a document's tokens; their length is the target, or that of
    a shorter document. Random segments B that end early are not taken into account.

    Args:
        document_tokens: length in tokens -> number of documents that give windows; not empty.
        max_seq_length: > 4.
    """
    limit = max_seq_length - _num_special("nsp")
    lengths = np.array(sorted(document_tokens), dtype=np.float64)
    weights = lengths * [document_tokens[int(length)] for length in lengths]
    held = np.minimum(lengths, limit)
    # the mean of min(target, held) over targets from 2 to the limit
    short = (held * (held + 1) / 2 - 1 + (limit - held) * held) / (limit - 1)
    short_seq_prob = ExampleSettings().short_seq_prob
    window = (1 - short_seq_prob) * held + short_seq_prob * short
    mean = float((weights * window).sum() / weights.sum())
    return 1 - (mean + _num_special("nsp")) / max_seq_length


def _num_special(pair_task: str) -> int:
    """Count [CLS] and the [SEP]s of an example."""
    return 2 if pair_task == "none" else 3


def _facts(tally: CorpusTally, use: VocabularyUse, scale: float) -> CorpusFacts:
    train, held_out = tally.train, tally.held_out
    return CorpusFacts(
        vocab_size=use.vocab_size,
        train_documents=round(scale * train.documents),
        train_sentences=round(scale * train.sentences),
        train_tokens=round(scale * train.tokens),
        eval_documents=round(scale * held_out.documents),
        eval_sentences=round(scale * held_out.sentences),
        eval_tokens=round(scale * held_out.tokens),
        unknown_share=use.unknown_token_share,
        uniform_loss=math.log(use.vocab_size),
        unigram_entropy=use.unigram_entropy,
        ideograph_share=use.ideograph_share,
    )


def _not_timed(_shape: object) -> float:
    raise AssertionError("only a time budget asks for a speed")
