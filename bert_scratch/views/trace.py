"""The command `trace`: a readable forward pass, with formula, shape and real numbers per line."""

from __future__ import annotations

import json
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from tokenizers import Tokenizer
from torch import Tensor

from bert_scratch.config import Settings, check_range
from bert_scratch.inference.trace import Step, Trace, trace
from bert_scratch.inference.whole_model import load_whole_model

_NUMBERS = 4
_GUESSES = 5
_MAX_TABLE = 12
_TABLES = ("scores", "weights")


@dataclass(frozen=True, kw_only=True)
class TraceConfig(Settings):
    """Print a whole forward pass: a formula, a shape and real numbers per line."""

    model: str
    """A model folder or a hub id."""
    text: str
    """The text; [MASK] in it is the mask token, which is predicted."""
    text_pair: str | None = None
    """A second text after the first."""
    layer: int = 1
    """The layer whose head's tables are printed, from 1."""
    head: int = 1
    """The head of that layer, from 1."""
    json: bool = False
    """Print one JSON object with every number."""


def run_trace(config: TraceConfig) -> None:
    """Print the pass.

    Raises:
        InputError: if the model cannot be loaded, has no such head, or cannot take the text.
    """
    model, tokenizer = load_whole_model(config.model)
    check_range("--layer", config.layer, at_least=1, at_most=model.config.num_hidden_layers)
    check_range("--head", config.head, at_least=1, at_most=model.config.num_attention_heads)
    traced = trace(model, tokenizer, config.text, config.text_pair)
    if config.json:
        print(json.dumps(_plain(traced), ensure_ascii=False))
        return
    for line in lines(traced, tokenizer, layer=config.layer, head=config.head):
        print(line)


def _plain(traced: Trace) -> dict[str, Any]:
    steps = [
        {
            "part": step.part,
            "name": step.name,
            "formula": step.formula,
            "shape": list(step.value.shape),
            "values": step.value.tolist(),
        }
        for step in traced.steps
    ]
    return {"tokens": traced.tokens, "masks": traced.masks, "steps": steps}


def lines(traced: Trace, tokenizer: Tokenizer, *, layer: int, head: int) -> Iterator[str]:
    """Yield the lines of text for a pass.

    Args:
        traced: from `trace`.
        tokenizer: the model's.
        layer: layer of the head whose tables are printed, from 1.
        head: the head whose tables are printed, from 1.
    """
    watched = traced.masks[0] if traced.masks else 1
    yield "tokens  " + "  ".join(f"{i} {token}" for i, token in enumerate(traced.tokens))
    yield (
        f"numbers: the first {_NUMBERS} of token {watched}, {traced.tokens[watched]}; where there "
        f"are heads, of head {head}"
    )
    part = ""
    for step in traced.steps:
        if step.part != part:
            part = step.part
            yield f"\n{part}"
        yield _line(step, watched, head)
        if step.part == f"layer {layer}" and step.name in _TABLES:
            yield from _table(step, traced.tokens, head)
        if step.name == "p":
            yield from _guesses(step, tokenizer)
    if not traced.masks:
        yield "\nwith [MASK] in the text, the model would say what stands there"


def _line(step: Step, watched: int, head: int) -> str:
    sizes = zip(step.letters, step.value.shape, strict=True)
    shape = " ".join(f"{letter}={n}" if letter.isalpha() else str(n) for letter, n in sizes)
    value = step.value[head - 1] if step.letters[0] == "H" else step.value
    if step.letters == "S":
        numbers = value
    elif "S" in step.letters:
        numbers = value[watched]
    else:
        numbers = value[0] if value.dim() > 1 else value
    return f"  {step.name:<8} = {step.formula:<34} {shape:<16} {_numbers(numbers)}".rstrip()


def _numbers(values: Tensor) -> str:
    if not values.is_floating_point():
        shown = [f"{value:>7}" for value in values[:_NUMBERS].tolist()]
    else:
        shown = [f"{value:>7.3f}" for value in values[:_NUMBERS].tolist()]
    return " ".join([*shown, *(["..."] if len(values) > _NUMBERS else [])])


def _table(step: Step, tokens: list[str], head: int) -> Iterator[str]:
    """Yield one head's [S, S] table, or its beginning for long texts."""
    count = min(len(tokens), _MAX_TABLE)
    short = [token if len(token) <= 7 else f"{token[:6]}…" for token in tokens[:count]]
    yield f"      {step.name} of head {head}: rows look at columns"
    yield "      " + " " * 8 + " ".join(map(_right, short))
    for token, row in zip(short, step.value[head - 1].tolist(), strict=False):
        yield f"      {_right(token)} " + " ".join(f"{value:>7.3f}" for value in row[:count])
    if count < len(tokens):
        yield f"      (the first {count} of {len(tokens)} tokens; --json has all)"


def _right(token: str) -> str:
    """Right-align a token in 7 columns; an ideograph takes two."""
    wide = sum(unicodedata.east_asian_width(letter) in "WF" for letter in token)
    return token.rjust(7 - wide)


def _guesses(step: Step, tokenizer: Tokenizer) -> Iterator[str]:
    for number, row in enumerate(step.value):
        best = row.topk(min(_GUESSES, len(row)))
        guesses = zip(best.indices.tolist(), best.values.tolist(), strict=True)
        said = "  ".join(f"{tokenizer.id_to_token(i) or i} {share:.3f}" for i, share in guesses)
        yield f"      [MASK] {number + 1}: {said}"
