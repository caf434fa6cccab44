"""`bert-scratch pseudo-perplexity`: how surprising each text is to a masked language model."""

from __future__ import annotations

import dataclasses
import json
import math
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from tokenizers import Tokenizer
from tqdm import tqdm

from bert_scratch.config import InputError, check_range
from bert_scratch.inference.inputs import MaskedLM, ModelOptions, text_batches
from bert_scratch.inference.pseudo_likelihood import (
    TOKENS_PER_BATCH,
    LogLikelihoods,
    pseudo_log_likelihoods,
)
from bert_scratch.inference.texts import given_texts
from bert_scratch.model.heads import BertForMaskedLM

_TEXTS_AT_ONCE = 256


@dataclass(frozen=True, slots=True, kw_only=True)
class PseudoPerplexity:
    """The pseudo-perplexity of a text, and what it is computed from."""

    pseudo_log_likelihood: float
    """Sum over the text's tokens of log P(token | the rest), natural logarithms."""
    num_tokens: int
    """Number of tokens, not counting special tokens."""
    pseudo_perplexity: float | None
    """exp(-mean over the text's tokens); None for a text without tokens."""


def pseudo_perplexities(
    model: MaskedLM,
    tokenizer: Tokenizer,
    texts: Iterable[str],
    *,
    within_word_left_to_right: bool = True,
    tokens_per_batch: int = TOKENS_PER_BATCH,
) -> Iterator[PseudoPerplexity]:
    """Yield the pseudo-perplexity of each text, in order.

    Args:
        model: on any device; left unchanged.
        tokenizer: the model's.
        texts: any number; memory does not grow with it.
        within_word_left_to_right: see `pseudo_log_likelihoods`.
        tokens_per_batch: positions per pass, padding included.

    Raises:
        InputError: if a token has no embedding.

    Source:
        Salazar et al. 2020, equations 1 and 4; theirs is for a corpus, this one for a text.
    """
    for group in text_batches(texts, _TEXTS_AT_ONCE):
        for values in pseudo_log_likelihoods(
            model,
            tokenizer,
            group,
            within_word_left_to_right=within_word_left_to_right,
            tokens_per_batch=tokens_per_batch,
        ):
            yield _summary(values)


def _summary(values: LogLikelihoods) -> PseudoPerplexity:
    total = float(values.sum(dtype="float64"))
    return PseudoPerplexity(
        pseudo_log_likelihood=total,
        num_tokens=len(values),
        pseudo_perplexity=_perplexity(total, len(values)),
    )


def _perplexity(total: float, num_tokens: int) -> float | None:
    return math.exp(-total / num_tokens) if num_tokens else None


@dataclass(frozen=True, kw_only=True)
class PseudoPerplexityConfig(ModelOptions):
    """Tell how surprising texts are: the exponential of the mean loss of each token, masked."""

    text: tuple[str, ...] = ()
    """One or more texts; - reads texts from standard input, one per line."""
    input: str | None = None
    """A file of texts, one per line; or .jsonl, objects with "text"."""
    within_word_left_to_right: bool = True
    """Hide the later pieces of a token's word too: else a rare word's pieces give each other
    away. False is the original definition."""
    tokens_per_batch: int = TOKENS_PER_BATCH
    """Positions per pass: a text of n tokens takes n rows."""
    json: bool = False
    """Print one JSON object per text."""

    def __post_init__(self) -> None:
        """Check what does not depend on the model.

        Raises:
            InputError: naming the flag.
        """
        super().__post_init__()
        check_range("--tokens-per-batch", self.tokens_per_batch, at_least=1)
        if not self.text and self.input is None:
            raise InputError("give --text TEXT..., or --input FILE")


def run_pseudo_perplexity(config: PseudoPerplexityConfig) -> None:
    """Print the pseudo-perplexity of each text, and that of all of them.

    Raises:
        InputError: if the model cannot be loaded or a text cannot be read.
    """
    model, tokenizer = config.load(BertForMaskedLM)
    total, num_tokens, num_texts = 0.0, 0, 0
    # Show the bar only if results do not go to the same terminal.
    quiet = not sys.stderr.isatty() or sys.stdout.isatty()
    with tqdm(unit=" texts", disable=quiet) as bar:
        for texts in text_batches(given_texts(config.text, config.input), _TEXTS_AT_ONCE):
            found = pseudo_perplexities(
                model,
                tokenizer,
                texts,
                within_word_left_to_right=config.within_word_left_to_right,
                tokens_per_batch=config.tokens_per_batch,
            )
            for text, values in zip(texts, found, strict=True):
                _print(text, values, as_json=config.json)
                total += values.pseudo_log_likelihood
                num_tokens += values.num_tokens
                num_texts += 1
                bar.update()
    overall = _perplexity(total, num_tokens)
    if num_texts > 1 and overall is not None and not config.json:
        print(f"{overall:.2f}  {num_texts:,} texts, {num_tokens:,} tokens")


def _print(text: str, values: PseudoPerplexity, *, as_json: bool) -> None:
    if as_json:
        print(json.dumps({"text": text, **dataclasses.asdict(values)}, ensure_ascii=False))
    else:
        shown = "-" if values.pseudo_perplexity is None else f"{values.pseudo_perplexity:.2f}"
        print(f"{shown}  {text}")
