"""Many texts through the encoder: cut into windows, sorted by length, filled to a token budget.

Letters: B rows, S positions, L layers, D hidden.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from bert_scratch.batch import padded_width
from bert_scratch.data.wordpiece import SpecialIds
from bert_scratch.inference.inputs import answering, check_known
from bert_scratch.model.encoder import BertModel


@dataclass(frozen=True, slots=True)
class Window:
    """A stretch of a text's tokens that goes through the model as one row."""

    text: int
    """Index of the text."""
    start: int
    """Its first token, special tokens not counted."""
    ids: Sequence[int]
    """Its tokens, special tokens not among them."""


@dataclass(frozen=True, slots=True)
class EncodedBatch:
    """Rows of similar length and what the encoder made of them."""

    rows: list[int]
    """B indices into the windows."""
    attention_mask: Tensor
    """[B, S] int64, 1 on real tokens, [CLS] and [SEP] among them."""
    layers: list[Tensor]
    """[B, S, D] of each layer asked for, in the model's dtype."""


def windows_of(
    token_ids: Sequence[Sequence[int]], *, max_tokens: int, stride: int | None
) -> Iterator[Window]:
    """Cut texts to what a row can hold.

    Args:
        token_ids: of each text, without special tokens.
        max_tokens: the most a row holds beside [CLS] and [SEP], at least 1.
        stride: tokens from the start of one window to the next, at most max_tokens; the last
            window ends with the text. None: a longer text is cut off after its first window.
    """
    for text, ids in enumerate(token_ids):
        last = 0 if stride is None else max(0, len(ids) - max_tokens)
        starts = [0] if stride is None else [*range(0, last, stride), last]
        for start in starts:
            yield Window(text, start, ids[start : start + max_tokens])


def encode_windows(
    model: BertModel,
    windows: Sequence[Window],
    *,
    special_ids: SpecialIds,
    layers: Sequence[int],
    tokens_per_batch: int,
) -> Iterator[EncodedBatch]:
    """Run windows through the encoder, the longest first, without gradients.

    Sorting keeps padding to a few percent and the token budget keeps memory even, so many short
    rows take one pass and a long one has its own. Widths are few (`padded_width`): on a CPU the
    first bfloat16 product of a shape takes eight times as long as the next.

    Args:
        model: in evaluation or not; it is left as it was.
        windows: in any order.
        special_ids: of the tokenizer.
        layers: 0 is the output of the embeddings, l that of layer l, up to L.
        tokens_per_batch: positions of a pass, padding included; one row may exceed it.

    Raises:
        InputError: if a token has no embedding.
    """
    order = sorted(range(len(windows)), key=lambda index: -len(windows[index].ids))
    only_last = list(layers) == [model.config.num_hidden_layers]
    start = 0
    with answering(model) as device:
        while start < len(order):
            longest = len(windows[order[start]].ids) + 2
            width = padded_width(longest, model.config.max_position_embeddings)
            rows = order[start : start + max(1, tokens_per_batch // width)]
            start += len(rows)
            ids = [windows[row].ids for row in rows]
            input_ids, attention_mask = _padded(ids, special_ids, width)
            check_known(int(input_ids.max()), model.config)
            output = model(
                input_ids.to(device),
                attention_mask=attention_mask.to(device),
                output_hidden_states=not only_last,
            )
            states = (output.last_hidden_state,)
            if output.hidden_states is not None:
                states = tuple(output.hidden_states[layer] for layer in layers)
            yield EncodedBatch(rows, attention_mask.to(device), list(states))


def _padded(
    rows: Sequence[Sequence[int]], special_ids: SpecialIds, width: int
) -> tuple[Tensor, Tensor]:
    """Return [B, S] input_ids, each [CLS] row [SEP] and padding, and their attention mask."""
    lengths = torch.tensor([len(row) + 2 for row in rows])
    filled = [
        [special_ids.cls, *row, special_ids.sep, *[special_ids.pad] * (width - len(row) - 2)]
        for row in rows
    ]
    return torch.tensor(filled), (torch.arange(width) < lengths[:, None]).long()
