"""Generate text from a masked language model by Gibbs sampling: redraw each token given all others.

Letters: B texts, n tokens of a text, S positions of a row.
"""

from __future__ import annotations

import dataclasses
import json
import time
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain

import torch
from tokenizers import Tokenizer
from torch import Tensor

from bert_scratch.config import InputError, Settings, check_range, flag_of
from bert_scratch.data.wordpiece import special_ids
from bert_scratch.inference.inputs import (
    MaskedLM,
    ModelOptions,
    answering,
    encode_pair,
    vocabulary_logits,
)
from bert_scratch.inference.sampling import draw, drawable_tokens
from bert_scratch.model.heads import BertForMaskedLM

_TOKENS_PER_BATCH = 8192
_REPEATED_LENGTH = 4


@dataclass(frozen=True, kw_only=True)
class GenerateOptions(Settings):
    """How texts are drawn."""

    num_texts: int = 5
    """Texts to draw."""
    num_tokens: int = 20
    """New tokens of each text; the model cannot end one by itself."""
    prefix: str | None = None
    """How each text begins; it stays as it is."""
    num_sweeps: int = 10
    """Times each token is redrawn, given all others."""
    top_k: int = 50
    """Tokens to choose from at a time."""
    temperature: float = 1.0
    """Lower gives more probable and more similar texts, higher gives wilder ones."""
    seed: int = 0
    """Another seed gives other texts."""

    def __post_init__(self) -> None:
        """Check each value.

        Raises:
            InputError: naming the option.
        """
        for name in ("num_texts", "num_tokens", "num_sweeps", "top_k"):
            check_range(flag_of(name), getattr(self, name), at_least=1)
        check_range("--temperature", self.temperature, above=0)
        check_range("--seed", self.seed, at_least=0, below=2**63)


@dataclass(frozen=True, slots=True, kw_only=True)
class Generated:
    """Texts and their statistics, which do not count the prefix."""

    texts: list[str]
    """The prefix and what was drawn after it."""
    distinct_1: float
    """Different tokens / tokens, over all texts."""
    distinct_2: float
    """Different pairs of neighbours / pairs."""
    distinct_3: float
    """Different triples / triples."""
    repetition: float
    """Runs of four tokens that occurred earlier in the same text / runs of four."""
    tokens_per_s: float
    """New tokens per second."""


def generate(model: MaskedLM, tokenizer: Tokenizer, options: GenerateOptions) -> Generated:
    """Draw texts.

    All tokens start as [MASK]. A sweep visits the places of a text in random order, masks the
    token there and redraws it from the model's prediction.

    Args:
        model: on any device; left unchanged.
        tokenizer: the model's.
        options: how texts are drawn.

    Raises:
        InputError: if prefix and new tokens together are longer than the model takes.

    Source:
        Wang and Cho 2019, "BERT has a Mouth, and It Must Speak", sequential sampling. A sweep
        visits each place once, where the paper draws places with replacement, so no [MASK] is
        left; the top k are used from the start, not after a burn-in.
    """
    start = time.perf_counter()
    prefix = encode_pair(tokenizer, options.prefix or "", config=model.config).ids[:-1]
    width = len(prefix) + options.num_tokens + 1
    longest = model.config.max_position_embeddings
    if width > longest:
        raise InputError(
            f"--num-tokens {options.num_tokens} and the prefix are {width} tokens with [CLS] and "
            f"[SEP]; the model takes at most {longest} (max_position_embeddings)"
        )
    generator = torch.Generator().manual_seed(options.seed)
    at_once = max(1, _TOKENS_PER_BATCH // width)
    rows: list[list[int]] = []
    while len(rows) < options.num_texts:
        count = min(at_once, options.num_texts - len(rows))
        rows += _drawn(model, tokenizer, prefix, count, options, generator)
    elapsed_s = time.perf_counter() - start
    new = [row[len(prefix) :] for row in rows]
    return Generated(
        texts=[_joined(options.prefix, tokenizer.decode(row)) for row in new],
        distinct_1=_distinct(new, 1),
        distinct_2=_distinct(new, 2),
        distinct_3=_distinct(new, 3),
        repetition=_repetition(new),
        tokens_per_s=len(new) * options.num_tokens / elapsed_s,
    )


def _drawn(
    model: MaskedLM,
    tokenizer: Tokenizer,
    prefix: Sequence[int],
    count: int,
    options: GenerateOptions,
    generator: torch.Generator,
) -> list[list[int]]:
    """Return the rows of count texts, without [SEP]."""
    special = special_ids(tokenizer)
    drawable = drawable_tokens(tokenizer, model.config.vocab_size)
    row = [*prefix, *[special.mask] * options.num_tokens, special.sep]
    with answering(model) as device:
        ids = torch.tensor(row, device=device).repeat(count, 1)  # [B, S]
        starts = torch.arange(count) * len(row)
        for _ in range(options.num_sweeps):
            places = _shuffled_places(count, options.num_tokens, generator) + len(prefix)
            for column in places.T:
                positions = (starts + column).to(device)
                ids.view(-1)[positions] = special.mask
                logits = vocabulary_logits(model, {"input_ids": ids}, positions)
                tokens = draw(
                    logits,
                    drawable,
                    top_k=options.top_k,
                    temperature=options.temperature,
                    generator=generator,
                )
                ids.view(-1)[positions] = tokens.to(device)
        rows: list[list[int]] = ids[:, :-1].tolist()
    return rows


def _shuffled_places(count: int, num_places: int, generator: torch.Generator) -> Tensor:
    """Return [B, n]: for each text, its places in a separate random order."""
    return torch.rand(count, num_places, generator=generator).argsort(dim=1)


def _joined(prefix: str | None, drawn: str) -> str:
    """Append what was drawn to the prefix; a ## piece joins its last word."""
    if not prefix:
        return drawn
    return prefix + drawn[2:] if drawn.startswith("##") else f"{prefix} {drawn}"


def _runs(row: Sequence[int], length: int) -> list[tuple[int, ...]]:
    return [tuple(row[i : i + length]) for i in range(len(row) - length + 1)]


def _distinct(rows: Sequence[Sequence[int]], length: int) -> float:
    """Return distinct-n of Li et al. 2016; 0 if no text is long enough."""
    runs = list(chain.from_iterable(_runs(row, length) for row in rows))
    return len(set(runs)) / max(1, len(runs))


def _repetition(rows: Sequence[Sequence[int]]) -> float:
    """Return seq-rep-4 of Welleck et al. 2020 over all texts; 0 if none is long enough."""
    runs = [_runs(row, _REPEATED_LENGTH) for row in rows]
    num_runs = sum(map(len, runs))
    return 1 - sum(len(set(own)) for own in runs) / num_runs if num_runs else 0.0


@dataclass(frozen=True, kw_only=True)
class GenerateConfig(ModelOptions, GenerateOptions):
    """Draw texts by Gibbs sampling over masks: what the model takes for its language."""

    json: bool = False
    """Print one JSON object."""

    def __post_init__(self) -> None:
        """Check each value.

        Raises:
            InputError: naming the flag.
        """
        ModelOptions.__post_init__(self)
        GenerateOptions.__post_init__(self)


def run_generate(config: GenerateConfig) -> None:
    """Print the texts and their statistics.

    Raises:
        InputError: if the model cannot be loaded or cannot take texts this long.
    """
    model, tokenizer = config.load(BertForMaskedLM)
    found = generate(model, tokenizer, config)
    if config.json:
        print(json.dumps(dataclasses.asdict(found), ensure_ascii=False))
        return
    print(*found.texts, sep="\n")
    print(
        f"distinct-1 {found.distinct_1:.3f}  distinct-2 {found.distinct_2:.3f}  "
        f"distinct-3 {found.distinct_3:.3f}  repetition {found.repetition:.3f}  "
        f"{found.tokens_per_s:,.1f} tokens/s"
    )
