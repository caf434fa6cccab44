"""Predict the tokens at [MASK] with a masked language model.

Letters: N masks of all texts, V vocabulary.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from tokenizers import Tokenizer

from bert_scratch.config import BertConfig, InputError, check_range
from bert_scratch.data.wordpiece import special_ids
from bert_scratch.inference.inputs import (
    BATCH_SIZE,
    MASK,
    EncodedText,
    MaskedLM,
    ModelOptions,
    answering,
    encode_pair,
    pad_batch,
    vocabulary_logits,
)
from bert_scratch.inference.texts import placed_texts
from bert_scratch.model.heads import BertForMaskedLM


@dataclass(frozen=True, slots=True, kw_only=True)
class FilledMask:
    """One guess for one [MASK]."""

    token: str
    """The token: a word, or a piece that begins with ##."""
    id: int
    """The token's id."""
    score: float
    """The token's probability."""
    text: str
    """The text with this guess in place; other masks stay."""


def fill_mask(
    model: MaskedLM, tokenizer: Tokenizer, text: str, top_k: int = 5
) -> list[list[FilledMask]]:
    """Guess the token at each [MASK] of a text.

    Several masks are guessed independently of each other, in one pass.

    Args:
        model: on any device; left unchanged.
        tokenizer: the model's.
        text: with one or more [MASK].
        top_k: guesses for each mask, at most the vocabulary's size.

    Returns:
        For each [MASK] in order, its top_k guesses, the most probable first.

    Raises:
        InputError: if the text has no [MASK] or is too long, or top_k is out of range.
    """
    return fill_masks(model, tokenizer, [text], top_k)[0]


def fill_masks(
    model: MaskedLM,
    tokenizer: Tokenizer,
    texts: Sequence[str],
    top_k: int = 5,
) -> list[list[list[FilledMask]]]:
    """Do what `fill_mask` does, for several texts in one pass.

    Args:
        model: on any device; left unchanged.
        tokenizer: the model's.
        texts: at least one, each with one or more [MASK].
        top_k: guesses for each mask, at most the vocabulary's size.

    Returns:
        One result of `fill_mask` for each text.

    Raises:
        InputError: as `fill_mask`.
    """
    encoded = [_encode(tokenizer, text, model.config) for text in texts]
    return _guesses(model, tokenizer, texts, encoded, top_k)


def _encode(tokenizer: Tokenizer, text: str, config: BertConfig) -> EncodedText:
    """Encode a text with [MASK], or refuse it."""
    if MASK not in text:
        raise InputError(f"the text needs at least one {MASK}; got {text[:60]!r}")
    return encode_pair(tokenizer, text, config=config, with_masks=True)


def _guesses(
    model: MaskedLM,
    tokenizer: Tokenizer,
    texts: Sequence[str],
    encoded: Sequence[EncodedText],
    top_k: int,
) -> list[list[list[FilledMask]]]:
    """Return the guesses for each [MASK] of each text."""
    check_range("top_k", top_k, at_least=1, at_most=model.config.vocab_size)
    special = special_ids(tokenizer)
    with answering(model) as device:
        inputs = pad_batch(encoded, pad_id=special.pad, device=device)
        positions = (inputs["input_ids"].flatten() == special.mask).nonzero().squeeze(1)
        logits = vocabulary_logits(model, inputs, positions)  # [N, V]
        best = torch.softmax(logits.float(), dim=-1).topk(top_k)
    guesses = zip(best.values.tolist(), best.indices.tolist(), strict=True)
    return [
        [
            [_filled(tokenizer, text, mask, *guess) for guess in zip(*next(guesses), strict=True)]
            for mask in range(text.count(MASK))
        ]
        for text in texts
    ]


def _filled(tokenizer: Tokenizer, text: str, mask: int, score: float, token_id: int) -> FilledMask:
    """Replace the mask-th [MASK] by a guess; a ## piece joins the word before it."""
    token = tokenizer.id_to_token(token_id) or ""  # a model may have more rows than tokens
    parts = text.split(MASK)
    before, after = MASK.join(parts[: mask + 1]), MASK.join(parts[mask + 1 :])
    joined = before.rstrip() + token[2:] if token.startswith("##") else before + token
    return FilledMask(token=token, id=token_id, score=score, text=joined + after)


@dataclass(frozen=True, kw_only=True)
class FillMaskConfig(ModelOptions):
    """Guess the words behind [MASK]."""

    text: tuple[str, ...] = ()
    """One or more texts with [MASK]; - reads texts from standard input, one per line."""
    input: str | None = None
    """A file of texts with [MASK], one per line; or .jsonl, objects with "text"."""
    top_k: int = 5
    """Guesses for each mask."""
    json: bool = False
    """Print one JSON object per text."""

    def __post_init__(self) -> None:
        """Check what does not depend on the model.

        Raises:
            InputError: naming the flag.
        """
        super().__post_init__()
        check_range("--top-k", self.top_k, at_least=1)
        if not self.text and self.input is None:
            raise InputError("give --text TEXT..., or --input FILE")


def run_fill_mask(config: FillMaskConfig) -> None:
    """Print the guesses for each text.

    Raises:
        InputError: if the model cannot be loaded or a text cannot be used.
    """
    model, tokenizer = config.load(BertForMaskedLM)
    check_range("--top-k", config.top_k, at_most=model.config.vocab_size)
    for batch in _batches_before_an_error(_encoded_texts(config, tokenizer, model.config)):
        texts, encoded = zip(*batch, strict=True)
        found = _guesses(model, tokenizer, texts, encoded, config.top_k)
        for text, masks in zip(texts, found, strict=True):
            if config.json:
                plain = [[dataclasses.asdict(guess) for guess in guesses] for guesses in masks]
                print(json.dumps({"text": text, "masks": plain}, ensure_ascii=False))
                continue
            print(text)
            for number, guesses in enumerate(masks, start=1):
                if len(masks) > 1:
                    print(f"  {MASK} {number}")
                for guess in guesses:
                    print(f"  {guess.score:.4f}  {guess.token}")


def _encoded_texts(
    config: FillMaskConfig, tokenizer: Tokenizer, model_config: BertConfig
) -> Iterator[tuple[str, EncodedText]]:
    """Yield each text and its tokens; an error names the flag, file and line of the text."""
    for place, text in placed_texts(config.text, config.input):
        try:
            encoded = _encode(tokenizer, text, model_config)
        except InputError as error:
            raise InputError(f"{place}: {error}") from error
        yield text, encoded


def _batches_before_an_error(
    texts: Iterator[tuple[str, EncodedText]],
) -> Iterator[list[tuple[str, EncodedText]]]:
    """Yield lists of texts; those before one that cannot be used come before its error."""
    batch: list[tuple[str, EncodedText]] = []
    try:
        for item in texts:
            batch.append(item)
            if len(batch) == BATCH_SIZE:
                yield batch
                batch = []
    except InputError:
        if batch:
            yield batch
        raise
    if batch:
        yield batch
