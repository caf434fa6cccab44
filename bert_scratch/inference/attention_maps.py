"""Where each attention head of each layer looks, and statistics of it.

Letters: S positions, L layers, H heads.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from tokenizers import Tokenizer
from torch import Tensor

from bert_scratch.data.wordpiece import special_ids
from bert_scratch.inference.embed import encoder_of
from bert_scratch.inference.inputs import answering, encode_pair, pad_batch
from bert_scratch.model.pretrained_model import PretrainedModel


@dataclass(frozen=True, slots=True, kw_only=True)
class AttentionMaps:
    """The attention weights of one text or pair."""

    tokens: list[str]
    """S tokens, including [CLS] and [SEP]."""
    token_type_ids: list[int]
    """S token types, 0 in the first text, 1 in the second."""
    weights: Tensor
    """[L, H, S, S] float32 on the CPU: from a row's token to each column's; rows sum to 1."""


def attention_maps(
    model: PretrainedModel, tokenizer: Tokenizer, a: str, b: str | None = None
) -> AttentionMaps:
    """Return what every head of every layer looks at in a text or a pair.

    Args:
        model: a `BertModel`, or any model around one, on any device; left unchanged.
        tokenizer: the model's.
        a: the text; "[MASK]" in it is the mask token.
        b: a second text, or None.

    Raises:
        InputError: if the input is longer than the model takes.
    """
    encoder = encoder_of(model)
    encoded = encode_pair(tokenizer, a, b, config=encoder.config, with_masks=True)
    with answering(model) as device:
        inputs = pad_batch([encoded], pad_id=special_ids(tokenizer).pad, device=device)
        output = encoder(**inputs, output_attentions=True)
    assert output.attentions is not None
    return AttentionMaps(
        tokens=[tokenizer.id_to_token(token) or "" for token in encoded.ids],
        token_type_ids=encoded.token_type_ids,
        weights=torch.cat(output.attentions).float().cpu(),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class HeadStatistics:
    """Statistics of each head, averaged over a text's tokens; each [L, H] float32."""

    entropy: Tensor
    """Entropy in nats; 0 looks at one token, ln S at all tokens equally."""
    distance: Tensor
    """Distance in tokens from a token to where it looks."""
    to_cls: Tensor
    """Share of the weight on [CLS], the first token."""
    to_sep: Tensor
    """Share on all [SEP] together."""
    to_self: Tensor
    """Share on the token itself."""
    to_next: Tensor
    """Share on the next token; the last token has none."""
    to_previous: Tensor
    """Share on the previous token; the first token has none."""


def head_statistics(weights: Tensor, is_separator: Tensor) -> HeadStatistics:
    """Compute statistics of what heads look at.

    Args:
        weights: [L, H, S, S], rows sum to 1.
        is_separator: [S] bool, true at [SEP].

    Source:
        Clark et al. 2019, "What Does BERT Look At?", sections 3.1 to 3.3.
    """
    length = weights.shape[-1]
    places = torch.arange(length, dtype=weights.dtype)
    apart = (places[:, None] - places[None, :]).abs()
    each_row = torch.special.entr(weights).sum(dim=-1)

    def share_beside(offset: int) -> Tensor:
        return weights.diagonal(offset, dim1=-2, dim2=-1).sum(dim=-1) / length

    return HeadStatistics(
        entropy=each_row.mean(dim=-1),
        distance=(weights * apart).sum(dim=-1).mean(dim=-1),
        to_cls=weights[..., 0].mean(dim=-1),
        to_sep=weights[..., is_separator].sum(dim=-1).mean(dim=-1),
        to_self=share_beside(0),
        to_next=share_beside(1),
        to_previous=share_beside(-1),
    )


def attention_rollout(weights: Tensor) -> Tensor:
    """Follow attention down through the layers to the input tokens.

    Each layer passes on half of what a token had (the residual) and half of what it looks at,
    averaged over heads; the layers' matrices are multiplied.

    Args:
        weights: [L, H, S, S], rows sum to 1.

    Returns:
        [L, S, S] in the dtype of the weights: after each layer, a row's share of each input token;
        rows sum to 1.

    Source:
        Abnar and Zuidema 2020, "Quantifying Attention Flow in Transformers", section 3.
    """
    share = torch.eye(weights.shape[-1], dtype=weights.dtype)
    layers = []
    for layer in weights.mean(dim=1):
        share = (layer @ share + share) / 2
        layers.append(share)
    return torch.stack(layers)
