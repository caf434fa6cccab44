"""The forward pass of one text, step by step, with all values.

Letters: S positions, D hidden, H heads, K head size, F feed-forward, V vocabulary, M masks.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from tokenizers import Tokenizer
from torch import Tensor

from bert_scratch.data.wordpiece import special_ids
from bert_scratch.inference.embed import encoder_of
from bert_scratch.inference.inputs import EncodedText, answering, encode_pair
from bert_scratch.inference.next_sentence import has_learned_next_sentence
from bert_scratch.inference.surgery import SITES, Site, recorded
from bert_scratch.inference.whole_model import WholeModel
from bert_scratch.model.encoder import BertModel
from bert_scratch.model.heads import BertForPreTraining


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One line of the formula."""

    part: str
    """Part of the model: embeddings, layer 1, ..., masked words, next sentence."""
    name: str
    """Name of the step's result in later formulas."""
    formula: str
    """How it is computed from earlier names."""
    letters: str
    """A letter for each dimension, such as SD."""
    value: Tensor
    """The result on the CPU; float32, or int64 for ids."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Trace:
    """A forward pass."""

    tokens: list[str]
    """S tokens, including [CLS] and [SEP]."""
    masks: list[int]
    """M positions of [MASK]."""
    steps: list[Step]
    """The steps in order."""


def trace(model: WholeModel, tokenizer: Tokenizer, a: str, b: str | None = None) -> Trace:
    """Run a model on a text and keep every step.

    Args:
        model: with the heads it has, on any device; left unchanged.
        tokenizer: the model's.
        a: the text; "[MASK]" in it is the mask token, which is predicted.
        b: a second text, or None.

    Raises:
        InputError: if the input is longer than the model takes.
    """
    encoder = encoder_of(model)
    encoded = encode_pair(tokenizer, a, b, config=encoder.config, with_masks=True)
    masks = [i for i, token in enumerate(encoded.ids) if token == special_ids(tokenizer).mask]
    layers = range(encoder.config.num_hidden_layers)
    with answering(model) as device:
        ids = torch.tensor([encoded.ids], device=device)
        types = torch.tensor([encoded.token_type_ids], device=device)
        with recorded(model, [Site(name, n) for n in layers for name in SITES]) as found:
            output = encoder(ids, types)
        steps = [*_embeddings(encoder, encoded, found[Site("embeddings")])]
        for layer in layers:
            steps += _layer(layer, found, encoder.config.hidden_act)
        if not isinstance(model, BertModel) and masks:
            steps += _masked_words(model, output.last_hidden_state[0, masks])
        has_learned = has_learned_next_sentence(model.config)
        if isinstance(model, BertForPreTraining) and b is not None and has_learned:
            steps += _next_sentence(model, output.pooler_output[0])
    return Trace(
        tokens=[tokenizer.id_to_token(token) or "" for token in encoded.ids],
        masks=masks,
        steps=steps,
    )


def _step(part: str, name: str, formula: str, letters: str, value: Tensor) -> Step:
    value = value.cpu() if value.dtype == torch.int64 else value.float().cpu()
    return Step(part=part, name=name, formula=formula, letters=letters, value=value)


def _embeddings(encoder: BertModel, encoded: EncodedText, result: Tensor) -> Iterator[Step]:
    tables = encoder.embeddings
    device = tables.word_embeddings.weight.device
    ids = torch.tensor(encoded.ids, device=device)
    types = torch.tensor(encoded.token_type_ids, device=device)
    word = tables.word_embeddings(ids)
    position = tables.position_embeddings.weight[: len(ids)]
    segment = tables.token_type_embeddings(types)
    part = "embeddings"
    yield _step(part, "ids", "tokenizer(text)", "S", ids)
    yield _step(part, "word", "E_word[ids]", "SD", word)
    yield _step(part, "position", "E_position[0 .. S-1]", "SD", position)
    yield _step(part, "segment", "E_segment[0 in A, 1 in B]", "SD", segment)
    yield _step(part, "sum", "word + position + segment", "SD", word + position + segment)
    yield _step(part, "x", "LayerNorm(sum)", "SD", result[0])


def _layer(layer: int, found: dict[Site, Tensor], activation: str) -> Iterator[Step]:
    part = f"layer {layer + 1}"  # as on every page: what counts from 0 is a Python index
    at = {name: found[Site(name, layer)][0] for name in SITES}
    query, key, value, heads = (
        at[name].transpose(0, 1) for name in ("query", "key", "value", "heads")
    )  # [H, S, K]
    scores = query @ key.transpose(-1, -2) / math.sqrt(query.shape[-1])
    yield _step(part, "Q", "x W_Q + b_Q, cut into heads", "HSK", query)
    yield _step(part, "K", "x W_K + b_K, cut into heads", "HSK", key)
    yield _step(part, "V", "x W_V + b_V, cut into heads", "HSK", value)
    yield _step(part, "scores", "Q K^T / sqrt(K)", "HSS", scores)
    yield _step(part, "weights", "softmax(scores), rows add up to 1", "HSS", scores.softmax(dim=-1))
    yield _step(part, "heads", "weights V", "HSK", heads)
    yield _step(part, "attended", "joined heads W_O + b_O", "SD", at["attention"])
    yield _step(part, "y", "LayerNorm(x + attended)", "SD", at["attention_norm"])
    yield _step(part, "wide", f"{activation}(y W_1 + b_1)", "SF", at["widened"])
    yield _step(part, "narrow", "wide W_2 + b_2", "SD", at["feed_forward"])
    yield _step(part, "x", "LayerNorm(y + narrow)", "SD", at["layer"])


def _masked_words(model: WholeModel, states: Tensor) -> Iterator[Step]:
    assert not isinstance(model, BertModel)
    head, part = model.mlm_head, "masked words"
    turned = head.layer_norm(head.activation(head.dense(states)))
    logits = head.decoder(turned)
    activation = model.config.hidden_act
    yield _step(part, "x_m", "x at each [MASK]", "MD", states)
    yield _step(part, "t", f"LayerNorm({activation}(x_m W + b))", "MD", turned)
    yield _step(part, "logits", "t E_word^T + b", "MV", logits)
    yield _step(part, "p", "softmax(logits)", "MV", logits.softmax(dim=-1))


def _next_sentence(model: BertForPreTraining, pooled: Tensor) -> Iterator[Step]:
    part = "next sentence"
    logits = model.nsp_head(pooled)
    yield _step(part, "pooled", "tanh(x of [CLS] W + b)", "D", pooled)
    yield _step(part, "n", "pooled W + b", "2", logits)
    yield _step(part, "p_n", "softmax(n): follows, random", "2", logits.softmax(dim=-1))
