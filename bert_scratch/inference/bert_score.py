"""BERTScore: how similar two texts are in meaning, matched token by token.

Letters: N pairs, n and m tokens of two texts with [CLS] and [SEP], D hidden.
"""

from __future__ import annotations

import dataclasses
import json
import math
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from tokenizers import Tokenizer
from torch import nn

from bert_scratch.config import InputError
from bert_scratch.data.encoding import TextEncoder
from bert_scratch.data.wordpiece import SpecialIds, special_ids
from bert_scratch.inference.embed import TOKENS_A_ROW, encoder_of, layer_indices
from bert_scratch.inference.encode import Window, encode_windows, windows_of
from bert_scratch.inference.inputs import ModelOptions, each_text
from bert_scratch.inference.pooling import Vectors, unit_length
from bert_scratch.inference.texts import PairOptions
from bert_scratch.model.encoder import BertModel

_PAIRS_AT_ONCE = 1024
_ROWS_A_PASS = 64

Weigh = Callable[[int], float]


@dataclass(frozen=True, slots=True)
class BertScores:
    """Scores of N pairs, each [N] float32; 0 for a pair with an empty text."""

    precision: Vectors
    """How well each token of the candidate is matched in the reference."""
    recall: Vectors
    """How well each token of the reference is matched in the candidate."""
    f1: Vectors
    """The harmonic mean of the two."""


def bert_score(
    model: nn.Module,
    tokenizer: Tokenizer,
    candidates: Sequence[str],
    references: Sequence[str],
    *,
    layer: int = -1,
    idf: bool = False,
) -> BertScores:
    """Compare texts by their tokens' vectors: each token is scored by its best match.

    Args:
        model: a `BertModel`, or any model around one.
        tokenizer: the model's. A text longer than a row is cut off.
        candidates: N texts to judge.
        references: N texts that they should mean the same as.
        layer: the layer whose vectors to use: 0 (embeddings) to L, or -1 (last) to -(L + 1).
        idf: weight tokens by how few references have them; otherwise equally.

    Raises:
        InputError: if the numbers of texts differ, idf has fewer than two references, the model
            has no such layer, or candidates or references are not a list of strings.

    Source:
        Zhang et al. 2020, "BERTScore: Evaluating Text Generation with BERT", section 3, as its
        authors' program computes it: [CLS] and [SEP] have no weight, but can be a best match.
        Scores are not rescaled, since a baseline belongs to one model.
    """
    candidates, references = list(each_text(candidates)), list(each_text(references))
    if len(candidates) != len(references):
        raise InputError(
            f"each candidate needs a reference; got {len(candidates)} and {len(references)}"
        )
    if idf and len(references) < 2:
        raise InputError(
            f"--idf needs at least two references, to count how few have a token; got "
            f"{len(references)}: leave it out"
        )
    encoder = encoder_of(model)
    (index,) = layer_indices([str(layer)], encoder.config.num_hidden_layers)
    special = special_ids(tokenizer)
    text_encoder = TextEncoder(tokenizer)
    max_tokens = encoder.config.max_position_embeddings - 2

    def cut(texts: Sequence[str]) -> list[Window]:
        ids = [ids.tolist() for ids in text_encoder.encode(texts)]
        return list(windows_of(ids, max_tokens=max_tokens, stride=None))

    weigh = _idf(cut(references)) if idf else _alike
    found: list[tuple[float, float]] = []
    for start in range(0, len(candidates), _PAIRS_AT_ONCE):
        part = slice(start, start + _PAIRS_AT_ONCE)
        windows = [*cut(candidates[part]), *cut(references[part])]
        vectors = _token_vectors(encoder, windows, special, layer=index)
        half = len(windows) // 2
        for candidate, reference in zip(range(half), range(half, len(windows)), strict=True):
            cosines = vectors[candidate] @ vectors[reference].T
            tokens = windows[candidate].ids, windows[reference].ids
            found.append(_precision_and_recall(cosines, tokens, weigh))
    return _scores(np.array(found, np.float32).reshape(-1, 2))


def _token_vectors(
    encoder: BertModel, windows: Sequence[Window], special: SpecialIds, *, layer: int
) -> list[Vectors]:
    """Return the unit-length vectors of each window's tokens, including [CLS] and [SEP]."""
    vectors: list[Vectors] = [np.empty(0, np.float32)] * len(windows)
    for batch in encode_windows(
        encoder,
        windows,
        special_ids=special,
        layers=[layer],
        tokens_per_batch=_ROWS_A_PASS * TOKENS_A_ROW,
    ):
        for row, states in zip(batch.rows, batch.layers[0].float().cpu().numpy(), strict=True):
            vectors[row] = unit_length(states[: len(windows[row].ids) + 2])
    return vectors


def _precision_and_recall(
    cosines: Vectors, tokens: tuple[Sequence[int], Sequence[int]], weigh: Weigh
) -> tuple[float, float]:
    """Return the scores of a pair from [n, m] cosines, [CLS] and [SEP] included; 0 if one is empty.

    Args:
        cosines: of the candidate's tokens to the reference's.
        tokens: the ids of both, without [CLS] and [SEP].
        weigh: gives the weight of a token.
    """
    if not all(map(len, tokens)):
        return 0.0, 0.0
    matched = cosines.max(axis=1)[1:-1], cosines.max(axis=0)[1:-1]
    precision, recall = map(_weighted_mean, matched, tokens, [weigh, weigh])
    return precision, recall


def _scores(found: Vectors) -> BertScores:
    precision, recall = found.T
    total = precision + recall
    harmonic = 2 * precision * recall / np.where(total == 0, 1, total)
    return BertScores(precision, recall, np.where(total == 0, 0, harmonic).astype(np.float32))


def _weighted_mean(
    values: npt.NDArray[np.float32], token_ids: Sequence[int], weigh: Weigh
) -> float:
    weights = np.array([weigh(token) for token in token_ids])
    if not weights.any():  # each token is in every reference: none tells texts apart
        weights = np.ones(len(token_ids))
    return float(values @ weights / weights.sum())


def _alike(_token: int) -> float:
    return 1.0


def _idf(references: Sequence[Window]) -> Weigh:
    """Return a function that gives log((N + 1) / (c + 1)) for a token in c of N references."""
    counts = Counter(token for window in references for token in set(window.ids))
    return lambda token: math.log((len(references) + 1) / (counts[token] + 1))


@dataclass(frozen=True, kw_only=True)
class BertScoreConfig(PairOptions, ModelOptions):
    """Judge candidates, A, by how well their words match those of references, B, as vectors."""

    layer: int = -1
    """Layer whose vectors to use: 0 is the output of the embeddings, L or -1 the last layer."""
    idf: bool = False
    """Weigh tokens by how few references have them."""

    def __post_init__(self) -> None:
        """Check what does not depend on the model.

        Raises:
            InputError: naming the flag.
        """
        ModelOptions.__post_init__(self)
        PairOptions.__post_init__(self)


def run_bert_score(config: BertScoreConfig) -> None:
    """Print precision, recall and F1 of each pair, and their means.

    Raises:
        InputError: if the model cannot be loaded, or a pair cannot be used.
    """
    pairs = list(config.given())
    model, tokenizer = config.load_encoder()
    candidates, references = map(list, zip(*pairs, strict=True))
    scores = bert_score(
        model, tokenizer, candidates, references, layer=config.layer, idf=config.idf
    )
    columns = [getattr(scores, field.name).tolist() for field in dataclasses.fields(scores)]
    for (a, b), precision, recall, f1 in zip(pairs, *columns, strict=True):
        if config.json:
            values = {"a": a, "b": b, "precision": precision, "recall": recall, "f1": f1}
            print(json.dumps(values, ensure_ascii=False))
        else:
            print(f"P {precision:.4f}  R {recall:.4f}  F1 {f1:.4f}  {a} | {b}")
    if len(pairs) > 1 and not config.json:
        means = [np.mean(column) for column in columns]
        print(
            f"P {means[0]:.4f}  R {means[1]:.4f}  F1 {means[2]:.4f}  mean of {len(pairs):,} pairs"
        )
