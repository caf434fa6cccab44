"""Pool the vectors of positions into those of texts, words and tokens.

Letters: B rows, S positions, n tokens of a text, D hidden.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from bert_scratch.inference.encode import Window

Vectors = npt.NDArray[np.float32]
POOLINGS = ("mean", "cls", "max")
LAYER_COMBINES = ("mean", "sum", "concat", "stack")


def combine_layers(layers: Sequence[Tensor], how: str) -> Tensor:
    """Combine the outputs of k layers into one tensor.

    Args:
        layers: k of [B, S, D], at least one.
        how: mean, sum, concat or stack.

    Returns:
        [B, S, D]; [B, S, k * D] for concat; [B, S, k, D] for stack.
    """
    if how == "concat":
        return torch.cat(list(layers), dim=-1)
    if how == "stack":
        return torch.stack(list(layers), dim=2)
    if len(layers) == 1:
        return layers[0]
    total = torch.stack([layer.float() for layer in layers]).sum(dim=0)
    return total / len(layers) if how == "mean" else total


def pool_rows(states: Tensor, attention_mask: Tensor, pooling: str) -> Tensor:
    """Pool each row's real tokens, including [CLS] and [SEP], into one vector.

    Args:
        states: [B, S, ...].
        attention_mask: [B, S], 1 on real tokens.
        pooling: mean, cls or max.

    Returns:
        [B, ...]; a mean is computed in float32.
    """
    if pooling == "cls":
        return states[:, 0]
    real = attention_mask.view(*attention_mask.shape, *[1] * (states.dim() - 2)).bool()
    if pooling == "max":
        return states.masked_fill(~real, -torch.inf).amax(dim=1)
    return (states.float() * real).sum(dim=1) / real.sum(dim=1)


def pool_windows(pooled: Vectors, windows: Sequence[Window], pooling: str) -> Vectors:
    """Pool the windows of each text into one vector.

    Args:
        pooled: [W, ...], one vector per window.
        windows: W windows, those of a text adjacent.
        pooling: mean weights windows by their length, cls equally; max takes the largest values.

    Returns:
        [N, ...].
    """
    texts = np.array([window.text for window in windows])
    starts = np.flatnonzero(np.diff(texts, prepend=-1))
    if len(starts) == len(windows):
        return pooled
    if pooling == "max":
        return np.maximum.reduceat(pooled, starts)
    lengths = [len(window.ids) + 2 if pooling == "mean" else 1 for window in windows]
    weights = np.array(lengths, np.float32).reshape(-1, *[1] * (pooled.ndim - 1))
    sums = np.add.reduceat(pooled * weights, starts)
    return np.asarray(sums / np.add.reduceat(weights, starts), np.float32)


def join_windows(windows: Sequence[Window], found: Sequence[Vectors]) -> Vectors:
    """Return [n, ...], each token's vector from the window where it is farthest from the edges.

    Args:
        windows: those of one text, in order.
        found: the vectors of each window's tokens, without special tokens.
    """
    if len(windows) == 1:
        return found[0]
    num_tokens = windows[-1].start + len(windows[-1].ids)
    depth = np.full((len(windows), num_tokens), -1)
    for index, window in enumerate(windows):
        place = np.arange(len(window.ids))
        depth[index, window.start + place] = np.minimum(place, len(window.ids) - 1 - place)
    best = depth.argmax(axis=0).tolist()
    return np.stack([found[w][token - windows[w].start] for token, w in enumerate(best)])


def join_pieces(
    tokens: Vectors, word_ids: Sequence[int | None], offsets: Sequence[tuple[int, int]]
) -> tuple[Vectors, list[tuple[int, int]]]:
    """Make one vector for each word, the mean of its pieces.

    Args:
        tokens: [n, ...].
        word_ids: of each token, ascending; a word's pieces are adjacent.
        offsets: of each token in its text, in characters.

    Returns:
        [words, ...] and the words' offsets.
    """
    if not len(tokens):
        return tokens, []
    starts, spans = group_pieces(word_ids, offsets)
    sizes = np.diff(starts, append=len(tokens)).astype(np.float32)
    sums = np.add.reduceat(tokens, starts)
    means = np.asarray(sums / sizes.reshape(-1, *[1] * (tokens.ndim - 1)), np.float32)
    return means, spans


def group_pieces(
    word_ids: Sequence[int | None], offsets: Sequence[tuple[int, int]]
) -> tuple[npt.NDArray[np.int64], list[tuple[int, int]]]:
    """Return the first token of each word, and the word's span in its text, in characters.

    Args:
        word_ids: of each token, ascending; a word's pieces are adjacent.
        offsets: of each token.
    """
    starts = np.flatnonzero(np.diff(np.array(word_ids, np.int64), prepend=-1))
    ends = [*starts[1:].tolist(), len(word_ids)]
    pairs = zip(starts.tolist(), ends, strict=False)
    return starts, [(offsets[start][0], offsets[end - 1][1]) for start, end in pairs]


def unit_length(vectors: Vectors) -> Vectors:
    """Return vectors [..., D] scaled to length 1; a zero vector stays zero."""
    lengths = np.linalg.norm(vectors, axis=-1, keepdims=True)
    scaled: Vectors = vectors / np.maximum(lengths, np.float32(1e-12))
    return scaled
