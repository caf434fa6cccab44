"""How similar two texts are: the cosine of their vectors."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain, tee

import numpy as np
import numpy.typing as npt
from tokenizers import Tokenizer
from torch import nn

from bert_scratch.config import InputError
from bert_scratch.inference.embed import embed
from bert_scratch.inference.inputs import each_text
from bert_scratch.inference.text_vectors import Embed, TextVectorOptions
from bert_scratch.inference.texts import PairOptions


def similarity(
    model: nn.Module, tokenizer: Tokenizer, a: Sequence[str], b: Sequence[str]
) -> npt.NDArray[np.float32]:
    """Return the cosine of each text of a with the corresponding text of b.

    The vectors are those of `embed` with its defaults; for others multiply results of
    `embed(..., normalize=True)`.

    Args:
        model: a `BertModel`, or any model around one.
        tokenizer: the model's.
        a: N texts.
        b: N texts.

    Returns:
        [N] float32, -1 to 1.

    Raises:
        InputError: if a and b have different lengths, or are not lists of strings.
    """
    a, b = list(each_text(a)), list(each_text(b))
    if len(a) != len(b):
        raise InputError(f"a and b must have the same number of texts; got {len(a)} and {len(b)}")
    vectors = np.asarray(embed(model, tokenizer, [*a, *b], normalize=True))
    cosines: npt.NDArray[np.float32] = (vectors[: len(a)] * vectors[len(a) :]).sum(axis=1)
    return cosines


@dataclass(frozen=True, kw_only=True)
class SimilarityConfig(PairOptions, TextVectorOptions):
    """Tell how similar two texts are: the cosine of their vectors, -1 to 1."""

    def __post_init__(self) -> None:
        """Check what does not depend on the model.

        Raises:
            InputError: naming the flag.
        """
        TextVectorOptions.__post_init__(self)
        PairOptions.__post_init__(self)


def run_similarity(config: SimilarityConfig) -> None:
    """Print the cosine of each pair.

    Raises:
        InputError: if the model cannot be loaded or a pair cannot be used.
    """
    pairs = config.given()
    for (a, b), cosine in _cosines(config.embedder(), pairs):
        if config.json:
            print(json.dumps({"a": a, "b": b, "cosine": round(cosine, 6)}, ensure_ascii=False))
        else:
            print(f"{cosine:7.4f}  {a} | {b}")


def _cosines(
    embed_texts: Embed, pairs: Iterable[tuple[str, str]]
) -> Iterator[tuple[tuple[str, str], float]]:
    """Yield each pair with its cosine; memory does not grow with their number."""
    pairs, ahead = tee(pairs)
    vectors = embed_texts(chain.from_iterable(ahead))
    for pair, a in zip(pairs, vectors, strict=False):
        yield pair, float(a @ next(vectors))
