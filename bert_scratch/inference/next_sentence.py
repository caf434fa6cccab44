"""Whether one text follows another.

Letters: B pairs.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from tokenizers import Tokenizer

from bert_scratch.config import InputError, Settings
from bert_scratch.data.wordpiece import special_ids
from bert_scratch.inference.inputs import (
    answering,
    batches,
    encode_pair,
    load_with_tokenizer,
    pad_batch,
    texts_or_lines,
)
from bert_scratch.model.heads import (
    BertForNextSentencePrediction,
    BertForPreTraining,
    PreTrainingOutput,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class NextSentence:
    """The model's verdict on a pair; the two add up to 1."""

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
        model: on any device; it is left as it was.
        tokenizer: the model's.
        a: the first text.
        b: the second text.

    Raises:
        InputError: if the pair is longer than the model takes.

    Source:
        Devlin et al. 2018, section 3.1, task 2; class 0 of the head is "B follows A".
    """
    return next_sentences(model, tokenizer, [(a, b)])[0]


def next_sentences(
    model: BertForNextSentencePrediction | BertForPreTraining,
    tokenizer: Tokenizer,
    pairs: Sequence[tuple[str, str]],
) -> list[NextSentence]:
    """Do as `next_sentence` for several pairs in one pass.

    Args:
        model: on any device; it is left as it was.
        tokenizer: the model's.
        pairs: at least one (A, B).

    Raises:
        InputError: if a pair is longer than the model takes, or the model was trained for
            another question about pairs, or none.
    """
    if model.config.pair_task not in (None, "nsp"):
        raise InputError(
            f"the model was trained with --pair-task {model.config.pair_task}: its pair head has "
            f"not learned whether B follows A; use a model trained with nsp"
        )
    encoded = [encode_pair(tokenizer, a, b, config=model.config) for a, b in pairs]
    with answering(model) as device:
        inputs = pad_batch(encoded, pad_id=special_ids(tokenizer).pad, device=device)
        if isinstance(model, BertForPreTraining):
            # No position is predicted: the vocabulary is the larger part of the work.
            none = torch.empty(0, dtype=torch.int64, device=device)
            output = model(**inputs, masked_positions=none)
        else:
            output = model(**inputs)
        pretraining = isinstance(output, PreTrainingOutput)
        logits = output.seq_relationship_logits if pretraining else output.logits  # [B, 2]
        probabilities = torch.softmax(logits.float(), dim=-1).tolist()
    return [NextSentence(is_next=is_next, random=random) for is_next, random in probabilities]


@dataclass(frozen=True, kw_only=True)
class NextSentenceConfig(Settings):
    """Score whether text B follows text A."""

    model: str
    """A model folder or a hub id."""
    a: str
    """The first text; - reads pairs from standard input, A and B a line with a tab between."""
    b: str | None = None
    """The second text; left out when pairs are read from standard input."""
    json: bool = False
    """Print one JSON object a pair."""

    def __post_init__(self) -> None:
        """Check that there is a pair.

        Raises:
            InputError: if --b is missing, or given beside `--a -`.
        """
        if (self.a == "-") != (self.b is None):
            raise InputError("give --a TEXT --b TEXT, or --a - alone to read pairs from stdin")


def run_next_sentence(config: NextSentenceConfig) -> None:
    """Print the probabilities for each pair.

    Raises:
        InputError: if the model cannot be loaded or a pair cannot be used.
    """
    model, tokenizer = load_with_tokenizer(BertForNextSentencePrediction, config.model)
    for pairs in batches(_pairs(config)):
        for (a, b), verdict in zip(pairs, next_sentences(model, tokenizer, pairs), strict=True):
            if config.json:
                values = {"a": a, "b": b, **dataclasses.asdict(verdict)}
                print(json.dumps(values, ensure_ascii=False))
            else:
                print(f"is next {verdict.is_next:.4f}  random {verdict.random:.4f}  {a} | {b}")


def _pairs(config: NextSentenceConfig) -> Iterator[tuple[str, str]]:
    if config.b is not None:
        yield config.a, config.b
        return
    for number, line in enumerate(texts_or_lines(["-"]), start=1):
        a, tab, b = line.partition("\t")
        if not tab:
            raise InputError(f"standard input, pair {number}: has no tab between A and B: {a!r}")
        yield a, b
