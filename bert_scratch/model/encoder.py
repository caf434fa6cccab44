"""The encoder: layers of attention and feed-forward blocks, and `BertModel` around them.

Letters: B batch, S sequence, D hidden, H heads, T packed tokens, R packed rows.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, TypedDict, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from bert_scratch.batch import SIZE_MULTIPLE
from bert_scratch.config import BertConfig, InputError
from bert_scratch.model.attention import RowBounds, combined_bias, row_of_token
from bert_scratch.model.dropout import Dropout
from bert_scratch.model.initial_weights import initialize
from bert_scratch.model.layers import (
    Embeddings,
    FeedForward,
    LayerNorm,
    MultiHeadAttention,
    gather_positions,
)
from bert_scratch.model.pretrained_model import PretrainedModel


class EncoderLayer(nn.Module):
    """Attention, then feed-forward; each with dropout, residual and LayerNorm after it.

    Args:
        config: the sizes and dropout rates.
        attention_backend: auto, explicit or sdpa.

    Source:
        Vaswani et al. 2017, section 3.1 (post-norm): LayerNorm(x + Sublayer(x)).
    """

    def __init__(self, config: BertConfig, *, attention_backend: str = "auto") -> None:
        super().__init__()
        self.attention = MultiHeadAttention(config, attention_backend=attention_backend)
        self.attention_layer_norm = LayerNorm(config)
        self.feed_forward = FeedForward(config)
        self.feed_forward_layer_norm = LayerNorm(config)
        self.dropout = Dropout(config.hidden_dropout_prob)

    def forward(
        self,
        hidden_states: Tensor,
        attention_bias: Tensor | None = None,
        *,
        output_attentions: bool = False,
        positions: Tensor | None = None,
        rows: RowBounds | None = None,
    ) -> Tensor | tuple[Tensor, Tensor]:
        """Refine the hidden states once.

        Args:
            hidden_states: [B, S, D].
            attention_bias: added to the scaled scores; broadcasts to [B, H, S, S].
            output_attentions: also return the attention weights.
            positions: [N] int64, the flat positions whose output is wanted; None is all.
            rows: packed rows in [1, S, D], which `packed_attention` keeps apart.

        Returns:
            [B, S, D], or [N, D]; with output_attentions also [B, H, S, S].
        """
        attended = self.attention(
            hidden_states,
            attention_bias,
            output_attentions=output_attentions,
            positions=positions,
            rows=rows,
        )
        attended, weights = attended if output_attentions else (attended, None)
        if positions is not None:
            hidden_states = gather_positions(hidden_states, positions)
        hidden_states = self.attention_layer_norm(self.dropout.added_to(hidden_states, attended))
        widened = self.feed_forward(hidden_states)
        hidden_states = self.feed_forward_layer_norm(self.dropout.added_to(hidden_states, widened))
        return hidden_states if weights is None else (hidden_states, weights)


class Pooler(nn.Module):
    """Summarise a sequence by its first position: a dense layer and tanh on [CLS].

    Args:
        config: hidden_size is used.

    Source:
        google-research/bert `BertModel`, scope `pooler`.
    """

    def __init__(self, config: BertConfig) -> None:
        super().__init__()
        self.dense = nn.Linear(config.hidden_size, config.hidden_size)

    def forward(self, hidden_states: Tensor) -> Tensor:
        """Map [B, S, D] to [B, D]."""
        return torch.tanh(self.dense(hidden_states[:, 0]))


@dataclass(frozen=True, slots=True, kw_only=True)
class EncoderOutput:
    """What `BertModel` returns."""

    last_hidden_state: Tensor
    """[B, S, D], after the last layer; [N, D] at the output positions, if given."""
    pooler_output: Tensor | None
    """[B, D], or [R, D] of packed rows; None without a pooler."""
    hidden_states: tuple[Tensor, ...] | None = None
    """L+1 of [B, S, D]: the embeddings, then each layer; on request."""
    attentions: tuple[Tensor, ...] | None = None
    """L of [B, H, S, S], before dropout; on request."""


class EncoderOptions(TypedDict, total=False):
    """The keyword arguments of `BertModel`, which every model with a head passes on to it."""

    position_ids: Tensor | None
    inputs_embeds: Tensor | None
    extra_embeddings: Tensor | None
    attention_bias: Tensor | None
    row_starts: Tensor | None
    longest_row: int | None
    output_hidden_states: bool
    output_attentions: bool


class BertModel(PretrainedModel):
    """The BERT encoder: embeddings, L layers, pooler.

    Args:
        config: the shape.
        attention_backend: auto, explicit or sdpa; see `attention`.
        initializer: normal, truncated_normal or mimetic; see `initialize`.
        train_pad_row: whether the [PAD] embedding starts random and is trained.
        add_pooling_layer: False leaves the pooler out.

    Source:
        Devlin et al. 2018, section 3; google-research/bert `BertModel`.
    """

    activation_checkpointing = False
    """In training, keep only each layer's input and recompute the rest in the backward pass: less
    memory, about a third more time, the same bits, dropout included."""

    def __init__(
        self,
        config: BertConfig,
        *,
        attention_backend: str = "auto",
        initializer: str = "normal",
        train_pad_row: bool = False,
        add_pooling_layer: bool = True,
    ) -> None:
        super().__init__(config)
        self.embeddings = Embeddings(config, train_pad_row=train_pad_row)
        self.layers = nn.ModuleList(
            EncoderLayer(config, attention_backend=attention_backend)
            for _ in range(config.num_hidden_layers)
        )
        self.pooler = Pooler(config) if add_pooling_layer else None
        initialize(self, config, initializer)

    def forward(
        self,
        input_ids: Tensor | None = None,
        token_type_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        *,
        position_ids: Tensor | None = None,
        inputs_embeds: Tensor | None = None,
        extra_embeddings: Tensor | None = None,
        attention_bias: Tensor | None = None,
        row_starts: Tensor | None = None,
        longest_row: int | None = None,
        output_positions: Tensor | None = None,
        output_hidden_states: bool = False,
        output_attentions: bool = False,
    ) -> EncoderOutput:
        """Encode a batch.

        Args:
            input_ids: [B, S] int64, token ids in [0, V); or None with inputs_embeds.
            token_type_ids: [B, S] int64, 0 first segment, 1 second; None is all 0.
            attention_mask: [B, S], 1 on real tokens, 0 on padding; None is all 1.
            position_ids: [B or 1, S] int64; None counts from 0, anew in each packed row.
            inputs_embeds: [B, S, D], in place of the word embeddings.
            extra_embeddings: [B, S, D], added before the first LayerNorm.
            attention_bias: [B or 1, 1 or H, S, S], added to the scaled attention scores.
            row_starts: [R+1] int32, packed rows: input_ids is [1, T], row r is the tokens from
                row_starts[r] up to row_starts[r+1] and attends only to itself; tokens after the
                last row form one more. Uses `packed_attention` where that runs, but a bias if
                there is attention dropout, a mask, a bias, position ids or weights to return.
            longest_row: upper bound on the length of packed rows and of the tokens after the
                last; None: max_position_embeddings.
            output_positions: [N] int64, the flat positions (row * S + column) whose last hidden
                state is wanted; None is all. In training, nothing after the last layer's
                attention is computed at other positions, except the first of each row.
            output_hidden_states: also return the output of the embeddings and every layer.
            output_attentions: also return the weights of every layer (computed explicitly).

        Raises:
            InputError: if the inputs contradict each other or are too long.
        """
        shape = batch_shape(input_ids, inputs_embeds)
        # With position ids of their own, rows may be longer than the kernel's usual bound; so this
        # must be asked before they are filled in.
        others = (position_ids, attention_mask, attention_bias)
        by_kernel = not output_attentions and all(other is None for other in others)
        if row_starts is not None and position_ids is None:
            position_ids = _positions_in_rows(row_starts, shape[1])
        hidden = self.embeddings(
            input_ids,
            token_type_ids,
            position_ids=position_ids,
            inputs_embeds=inputs_embeds,
            extra_embeddings=extra_embeddings,
        )
        hidden = hidden.to(_compute_dtype(hidden))
        rows = self._row_bounds(row_starts, longest_row, hidden) if by_kernel else None
        bias = combined_bias(
            attention_mask,
            attention_bias,
            row_starts if rows is None else None,
            num_tokens=hidden.shape[1],
            dtype=hidden.dtype,
        )
        starts = _first_positions(shape, row_starts, hidden.device)
        starts = starts[: 0 if self.pooler is None else None]
        wanted = _wanted(starts, output_positions)
        # in training the last layer computes only these; otherwise they are picked afterwards
        in_last_layer = wanted if self.training and not output_hidden_states else None
        hidden_states, attentions = self._layers(
            hidden, bias, rows, in_last_layer, output_attentions
        )
        hidden = hidden_states[-1]
        if wanted is not None and in_last_layer is None:
            hidden = gather_positions(hidden, wanted)
        pooled = None
        if self.pooler is not None:
            first = gather_positions(hidden, starts) if wanted is None else hidden[: len(starts)]
            pooled = self.pooler(first[:, None])
        if output_positions is not None:
            hidden = hidden[len(starts) :][: len(output_positions)]
        return EncoderOutput(
            last_hidden_state=hidden,
            pooler_output=pooled,
            hidden_states=tuple(hidden_states) if output_hidden_states else None,
            attentions=tuple(attentions) if output_attentions else None,
        )

    def _row_bounds(
        self, row_starts: Tensor | None, longest_row: int | None, hidden: Tensor
    ) -> RowBounds | None:
        """Return the rows for `packed_attention`, or None if it cannot run here."""
        if row_starts is None:
            return None
        layer = cast(EncoderLayer, self.layers[0])
        if not layer.attention.takes_packed_rows(hidden):
            return None
        bounds = F.pad(row_starts.int(), (0, 1), value=hidden.shape[1])
        return RowBounds(bounds, longest_row or self.config.max_position_embeddings)

    def _layers(
        self,
        hidden: Tensor,
        bias: Tensor | None,
        rows: RowBounds | None,
        positions: Tensor | None,
        output_attentions: bool,
    ) -> tuple[list[Tensor], list[Tensor]]:
        """Return the input and every layer's output (the last at positions only), and weights."""
        hidden_states, attentions = [hidden], []
        for layer in self.layers:
            where: dict[str, Any] = {
                "positions": positions if layer is self.layers[-1] else None,
                "rows": rows,
            }
            if output_attentions:
                hidden, weights = layer(hidden, bias, output_attentions=True, **where)
                attentions.append(weights)
            elif self.activation_checkpointing and self.training:
                hidden = checkpoint(layer, hidden, bias, **where, use_reentrant=False)
            else:
                hidden = layer(hidden, bias, **where)
            hidden_states.append(hidden)
        return hidden_states, attentions


def _compute_dtype(values: Tensor) -> torch.dtype:
    """Return the dtype of matrix products: autocast's if it is on."""
    device = values.device.type
    return torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else values.dtype


def batch_shape(input_ids: Tensor | None, inputs_embeds: Tensor | None) -> tuple[int, int]:
    """Return (B, S) of whichever of the two is given.

    Raises:
        InputError: if neither is.
    """
    given = input_ids if inputs_embeds is None else inputs_embeds
    if given is None:
        raise InputError("give exactly one of input_ids and inputs_embeds")
    return given.shape[0], given.shape[1]


def _positions_in_rows(row_starts: Tensor, num_tokens: int) -> Tensor:
    """Return [1, T], each token's position in its packed row."""
    starts = row_starts.index_select(0, row_of_token(row_starts, num_tokens))
    return (torch.arange(num_tokens, device=starts.device) - starts)[None]


def _wanted(starts: Tensor, output_positions: Tensor | None) -> Tensor | None:
    """Return the flat positions whose last state is needed: starts, those requested, padding.

    None is all. Padding to a multiple gives few different sizes, which reuse memory and kernels.
    """
    if output_positions is None:
        return None
    wanted = torch.cat([starts, output_positions])
    return F.pad(wanted, (0, -len(wanted) % SIZE_MULTIPLE))


def _first_positions(
    shape: tuple[int, int], row_starts: Tensor | None, device: torch.device
) -> Tensor:
    """Return [B] or [R] int64, the flat position of each row's or packed row's first token."""
    if row_starts is not None:
        return row_starts[:-1].long()
    return torch.arange(0, shape[0] * shape[1], shape[1], device=device)
