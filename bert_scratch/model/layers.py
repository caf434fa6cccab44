"""The parts of one encoder layer, and the embeddings below the first.

Letters: B batch, S sequence, D hidden, H heads, K head size, F feed-forward, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from bert_scratch.config import BertConfig, InputError, check_choice
from bert_scratch.model.attention import (
    BACKENDS,
    RowBounds,
    attention,
    has_packed_attention,
    packed_attention,
)
from bert_scratch.model.dropout import Dropout

ACTIVATION_FUNCTIONS: Mapping[str, Callable[[Tensor], Tensor]] = {
    "gelu": F.gelu,
    "gelu_new": partial(F.gelu, approximate="tanh"),
    "gelu_pytorch_tanh": partial(F.gelu, approximate="tanh"),
    "relu": F.relu,
    "silu": F.silu,
}


class LayerNorm(nn.Module):
    """Give every position mean 0 and variance 1, then a learned scale and shift.

    Args:
        config: hidden_size and layer_norm_eps are used.

    Source:
        Ba et al. 2016. As in BERT, the variance is biased and eps is inside the root; otherwise
        pretrained weights give silently wrong numbers.
    """

    def __init__(self, config: BertConfig) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(config.hidden_size))
        self.bias = nn.Parameter(torch.zeros(config.hidden_size))
        self.eps = config.layer_norm_eps

    def forward(self, hidden_states: Tensor) -> Tensor:
        """Normalise [..., D] over D, in its dtype; the statistics are always float32."""
        shape, eps = self.weight.shape, self.eps
        if not hidden_states.is_cuda:  # here weights may have another dtype
            return F.layer_norm(hidden_states, shape, self.weight, self.bias, eps)
        weight, bias = (p.to(hidden_states.dtype) for p in (self.weight, self.bias))
        # Autocast would make everything after the first LayerNorm float32, residuals included.
        with torch.autocast("cuda", enabled=False):
            return F.layer_norm(hidden_states, shape, weight, bias, eps)


def gather_positions(hidden_states: Tensor, positions: Tensor) -> Tensor:
    """Pick flat positions out of [B, S, D].

    Uses index_select, because the backward pass of advanced indexing is not deterministic.

    Args:
        hidden_states: [B, S, D].
        positions: [N] int64, row * S + column.

    Returns:
        [N, D].
    """
    return hidden_states.reshape(-1, hidden_states.shape[-1]).index_select(0, positions)


class Embeddings(nn.Module):
    """Turn token ids into vectors: word + token type + position, LayerNorm, dropout.

    Args:
        config: the sizes, eps and dropout rate.
        train_pad_row: False (Hugging Face) starts the [PAD] row at zero and gives it no gradient
            from here; True (Google) treats it as any other.

    Source:
        Devlin et al. 2018, figure 2; google-research/bert `embedding_postprocessor`.
    """

    def __init__(self, config: BertConfig, *, train_pad_row: bool = False) -> None:
        super().__init__()
        size = config.hidden_size
        padding = None if train_pad_row else config.pad_token_id
        self.word_embeddings = nn.Embedding(config.vocab_size, size, padding_idx=padding)
        self.position_embeddings = nn.Embedding(config.max_position_embeddings, size)
        self.token_type_embeddings = nn.Embedding(config.type_vocab_size, size)
        self.layer_norm = LayerNorm(config)
        self.dropout = Dropout(config.hidden_dropout_prob)

    def forward(
        self,
        input_ids: Tensor | None = None,
        token_type_ids: Tensor | None = None,
        *,
        position_ids: Tensor | None = None,
        inputs_embeds: Tensor | None = None,
        extra_embeddings: Tensor | None = None,
    ) -> Tensor:
        """Embed a batch.

        Args:
            input_ids: [B, S] int64 in [0, V); or None with inputs_embeds.
            token_type_ids: [B, S] int64, 0 first segment, 1 second; None is all 0.
            position_ids: [B or 1, S] int64; None counts from 0.
            inputs_embeds: [B, S, D], in place of the word embeddings of input_ids.
            extra_embeddings: [B, S, D], added before LayerNorm.

        Returns:
            [B, S, D].

        Raises:
            InputError: on both or neither of input_ids and inputs_embeds, or on a sequence
                longer than max_position_embeddings.
        """
        if (input_ids is None) == (inputs_embeds is None):
            raise InputError("give exactly one of input_ids and inputs_embeds")
        words = self.word_embeddings(input_ids) if inputs_embeds is None else inputs_embeds
        length = words.shape[1]
        if position_ids is not None:
            positions = self.position_embeddings(position_ids)
        else:
            limit = self.position_embeddings.num_embeddings
            if length > limit:
                raise InputError(
                    f"sequences can be at most {limit} tokens long (max_position_embeddings); "
                    f"got {length}; truncate them"
                )
            positions = self.position_embeddings.weight[:length]
        if token_type_ids is None:
            types = self.token_type_embeddings.weight[0]
        else:
            types = self.token_type_embeddings(token_type_ids)
        summed = words + types + positions
        if extra_embeddings is not None:
            summed = summed + extra_embeddings
        hidden: Tensor = self.dropout(self.layer_norm(summed))
        return hidden


class MultiHeadAttention(nn.Module):
    """Let every position look at every other through H heads, and mix what they see.

    The projections to query, key and value are one matrix product. Residual, LayerNorm and output
    dropout belong to `EncoderLayer`.

    Args:
        config: hidden_size, num_attention_heads and attention_probs_dropout_prob are used.
        attention_backend: auto, explicit or sdpa; see `attention`.

    Source:
        Vaswani et al. 2017, section 3.2.2.
    """

    def __init__(self, config: BertConfig, *, attention_backend: str = "auto") -> None:
        super().__init__()
        check_choice("attention_backend", attention_backend, BACKENDS)
        self.num_heads = config.num_attention_heads
        self.attention_backend = attention_backend
        self.query_key_value = nn.Linear(config.hidden_size, 3 * config.hidden_size)
        self.output = nn.Linear(config.hidden_size, config.hidden_size)
        self.dropout = Dropout(config.attention_probs_dropout_prob)

    def takes_packed_rows(self, hidden_states: Tensor) -> bool:
        """Tell whether this layer can use `packed_attention` for these hidden states."""
        has_dropout = self.training and self.dropout.p > 0
        head_size = hidden_states.shape[-1] // self.num_heads
        return (
            self.attention_backend == "auto"
            and not has_dropout
            and has_packed_attention(hidden_states.device, hidden_states.dtype, head_size)
        )

    def forward(
        self,
        hidden_states: Tensor,
        attention_bias: Tensor | None = None,
        *,
        output_attentions: bool = False,
        positions: Tensor | None = None,
        rows: RowBounds | None = None,
    ) -> Tensor | tuple[Tensor, Tensor]:
        """Attend within each sequence.

        Args:
            hidden_states: [B, S, D].
            attention_bias: added to the scaled scores; broadcasts to [B, H, S, S].
            output_attentions: also return the attention weights.
            positions: [N] int64, the flat positions whose output is wanted; None is all.
            rows: bounds of packed rows in [1, S, D], or None. With rows there is no bias and no
                dropout, and no weights are returned.

        Returns:
            [B, S, D], or [N, D]; with output_attentions also [B, H, S, S] (before dropout, rows
            sum to 1).
        """
        batch, length, size = hidden_states.shape
        projected = self.query_key_value(hidden_states)  # [B, S, 3D]
        heads = (self.num_heads, size // self.num_heads)
        if rows is not None:
            parts = projected.view(length, 3, *heads).transpose(0, 1).contiguous()
            query, key, value = parts.unbind(0)  # [T, H, K]
            mixed = packed_attention(query, key, value, rows)
            return self._output(mixed.reshape(batch, length, size), positions)
        split = projected.view(batch, length, 3, *heads)
        query, key, value = split.permute(2, 0, 3, 1, 4).contiguous().unbind(0)  # [B, H, S, K]
        mixed, weights = attention(
            query,
            key,
            value,
            None if attention_bias is None else attention_bias.to(query.dtype),
            backend=self.attention_backend,
            dropout=self.dropout,
            need_weights=output_attentions,
        )
        output = self._output(mixed.transpose(1, 2).reshape(batch, length, size), positions)
        return output if weights is None else (output, weights)

    def _output(self, mixed: Tensor, positions: Tensor | None) -> Tensor:
        """Project the heads' output, [B, S, D], at some flat positions or at all."""
        wanted = mixed if positions is None else gather_positions(mixed, positions)
        output: Tensor = self.output(wanted)
        return output


class FeedForward(nn.Module):
    """Widen each position to F, apply the activation, and narrow it back.

    Args:
        config: hidden_size, intermediate_size and hidden_act are used.

    Source:
        Vaswani et al. 2017, section 3.3, with BERT's GELU (Hendrycks and Gimpel 2016).
    """

    def __init__(self, config: BertConfig) -> None:
        super().__init__()
        self.widen = nn.Linear(config.hidden_size, config.intermediate_size)
        self.narrow = nn.Linear(config.intermediate_size, config.hidden_size)
        self.activation = ACTIVATION_FUNCTIONS[config.hidden_act]

    def forward(self, hidden_states: Tensor) -> Tensor:
        """Map [..., D] to [..., D], each position on its own."""
        output: Tensor = self.narrow(self.activation(self.widen(hidden_states)))
        return output
