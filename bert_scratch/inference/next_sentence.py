"""Predict whether one text follows another.

Letters: B pairs.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from tokenizers import Tokenizer

from bert_scratch.config import BertConfig, InputError
from bert_scratch.data.wordpiece import special_ids
from bert_scratch.inference.inputs import (
    ModelOptions,
    answering,
    batches,
    each_text,
    encode_pair,
    pad_batch,
)
from bert_scratch.inference.texts import PairOptions
from bert_scratch.model.heads import (
    BertForNextSentencePrediction,
    BertForPreTraining,
    PreTrainingOutput,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class NextSentence:
    """The model's verdict on a pair; the two probabilities add up to 1."""

    is_next: float
    """Probability that B follows A."""
    random: float
    """Probability that B is from somewhere else."""


def next_sentence(
    model: BertForNextSentencePrediction | BertForPreTraining,
    tokenizer: Tokenizer,
    a: str,
    b: str,
) -> NextSentence:
    """Score whether text B follows text A.

    Args:
        model: on any device; left unchanged.
        tokenizer: the model's.
        a: the first text.
        b: the second text.

    Raises:
        InputError: if the pair is longer than the model takes.

    Source:
        Devlin et al. 2018, section 3.1, task 2; class 0 of the head is "B follows A".
    """
    return next_sentences(model, tokenizer, [(a, b)])[0]


def has_learned_next_sentence(config: BertConfig) -> bool:
    """Tell whether a pair head was trained on whether B follows A, or may have been."""
    return config.pair_task in (None, "nsp")


def next_sentences(
    model: BertForNextSentencePrediction | BertForPreTraining,
    tokenizer: Tokenizer,
    pairs: Sequence[tuple[str, str]],
) -> list[NextSentence]:
    """Do what `next_sentence` does, for several pairs in one pass.

    Args:
        model: on any device; left unchanged.
        tokenizer: the model's.
        pairs: at least one (A, B).

    Raises:
        InputError: if a pair is longer than the model takes or not two strings, or the model has
            no pair head or was trained for another pair task or none.
    """
    if not hasattr(model, "nsp_head"):
        raise InputError(
            f"judging pairs needs a BertForNextSentencePrediction or BertForPreTraining of "
            f"bert_scratch; got {type(model).__module__}.{type(model).__name__}"
        )
    if not has_learned_next_sentence(model.config):
        raise InputError(
            f"the model was trained with --pair-task {model.config.pair_task}: its pair head has "
            f"not learned whether B follows A; use a model trained with nsp"
        )
    encoded = [encode_pair(tokenizer, *each_text(pair), config=model.config) for pair in pairs]
    with answering(model) as device:
        inputs = pad_batch(encoded, pad_id=special_ids(tokenizer).pad, device=device)
        if isinstance(model, BertForPreTraining):
            # Predict no position: vocabulary logits would be the larger part of the work.
            none = torch.empty(0, dtype=torch.int64, device=device)
            output = model(**inputs, masked_positions=none)
        else:
            output = model(**inputs)
        pretraining = isinstance(output, PreTrainingOutput)
        logits = output.seq_relationship_logits if pretraining else output.logits  # [B, 2]
        probabilities = torch.softmax(logits.float(), dim=-1).tolist()
    return [NextSentence(is_next=is_next, random=random) for is_next, random in probabilities]


@dataclass(frozen=True, kw_only=True)
class NextSentenceConfig(PairOptions, ModelOptions):
    """Score whether text B follows text A."""

    def __post_init__(self) -> None:
        """Check what does not depend on the model.

        Raises:
            InputError: naming the flag.
        """
        ModelOptions.__post_init__(self)
        PairOptions.__post_init__(self)


def run_next_sentence(config: NextSentenceConfig) -> None:
    """Print the probabilities for each pair.

    Raises:
        InputError: if the model cannot be loaded or a pair cannot be used.
    """
    model, tokenizer = config.load(BertForNextSentencePrediction)
    for pairs in batches(config.given()):
        for (a, b), verdict in zip(pairs, next_sentences(model, tokenizer, pairs), strict=True):
            if config.json:
                values = {"a": a, "b": b, **dataclasses.asdict(verdict)}
                print(json.dumps(values, ensure_ascii=False))
            else:
                print(f"is next {verdict.is_next:.4f}  random {verdict.random:.4f}  {a} | {b}")
