"""Run many texts through the encoder: cut into windows, sorted by length, batched by tokens.

Letters: B rows, S positions, L layers, D hidden.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from bert_scratch.batch import padded_width, passes_by_length
from bert_scratch.data.wordpiece import SpecialIds
from bert_scratch.inference.inputs import answering, check_known
from bert_scratch.model.encoder import BertModel


@dataclass(frozen=True, slots=True)
class Window:
    """A stretch of a text's tokens that goes through the model as one row."""

    text: int
    """Index of the text."""
    start: int
    """Its first token, not counting special tokens."""
    ids: Sequence[int]
    """Its tokens, without special tokens."""


@dataclass(frozen=True, slots=True)
class EncodedBatch:
    """Rows of similar length and the encoder's output for them."""

    rows: list[int]
    """B indices into the windows."""
    attention_mask: Tensor
    """[B, S] int64, 1 on real tokens, including [CLS] and [SEP]."""
    layers: list[Tensor]
    """[B, S, D] of each requested layer, in the model's dtype."""


def windows_of(
    token_ids: Sequence[Sequence[int]], *, max_tokens: int, stride: int | None
) -> Iterator[Window]:
    """Cut texts into windows that fit a row.

    Args:
        token_ids: of each text, without special tokens.
        max_tokens: the most a row holds besides [CLS] and [SEP], at least 1.
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
        model: in training or evaluation mode; left unchanged.
        windows: in any order.
        special_ids: of the tokenizer.
        layers: 0 is the output of the embeddings, l that of layer l, up to L.
        tokens_per_batch: positions per pass, padding included; a single row may exceed it.

    Raises:
        InputError: if a token has no embedding.
    """
    limit = model.config.max_position_embeddings
    widths = [padded_width(len(window.ids) + 2, limit) for window in windows]
    only_last = list(layers) == [model.config.num_hidden_layers]
    with answering(model) as device:
        for rows in passes_by_length(widths, tokens_per_batch):
            ids = [windows[row].ids for row in rows]
            input_ids, attention_mask = _padded(ids, special_ids, widths[rows[0]])
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
    """Return [B, S] input_ids, each row as [CLS] row [SEP] and padding, and the attention mask."""
    lengths = torch.tensor([len(row) + 2 for row in rows])
    filled = [
        [special_ids.cls, *row, special_ids.sep, *[special_ids.pad] * (width - len(row) - 2)]
        for row in rows
    ]
    return torch.tensor(filled), (torch.arange(width) < lengths[:, None]).long()
