"""The components and functions that can be checked, with their inputs and possible mistakes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from bert_scratch.checking import mistakes as formulas
from bert_scratch.checking.mistakes import Made, Weights
from bert_scratch.config import BertConfig
from bert_scratch.model.attention import combined_bias
from bert_scratch.model.encoder import BertModel, EncoderLayer, EncoderOutput, Pooler
from bert_scratch.model.heads import (
    BertForMaskedLM,
    BertForPreTraining,
    LogitsOutput,
    MaskedLMHead,
    NextSentenceHead,
)
from bert_scratch.model.layers import Embeddings, FeedForward, LayerNorm, MultiHeadAttention
from bert_scratch.model.losses import IGNORED_LABEL

CONFIG = BertConfig(
    vocab_size=61,
    hidden_size=24,
    num_hidden_layers=3,
    num_attention_heads=3,
    intermediate_size=40,
    max_position_embeddings=16,
    hidden_dropout_prob=0.0,
    attention_probs_dropout_prob=0.0,
    initializer_range=0.1,
)
"""A configuration with all dimensions different, so that none can be mistaken for another."""
UNTIED = "mlm_head.decoder.untied"
"""Name of the matrix for a decoder that is not tied to the word embedding."""
_ROWS, _LENGTH, _HEADS = 4, 7, CONFIG.num_attention_heads

Arguments = tuple[Any, ...]


@dataclass(frozen=True, kw_only=True)
class Part:
    """One component or function that a user can write."""

    name: str
    cases: tuple[Arguments, ...]
    """Test inputs, as positional arguments."""
    formula: Callable[[Weights, Arguments, Made], Tensor | tuple[Tensor, ...]]
    """Our formula, with given mistakes made."""
    mistakes: tuple[str, ...]
    """Mistakes that can be made here, keys of MISTAKES."""
    component: type[nn.Module] | None = None
    """Our class; None for a function."""
    place: str = ""
    """Its name in a `BertForPreTraining` (or in the component itself)."""
    huggingface: str = ""
    """The name of its counterpart in transformers' model."""
    names: tuple[str, ...] = ()
    """Names of the inputs, for Hugging Face's counterpart."""
    padded: int | None = None
    """Index of the case with padding: inputs at forbidden positions must not matter elsewhere."""
    reordered: bool = False
    """Whether it is independent of the order of positions."""
    pack: Callable[[tuple[Tensor, ...]], Any] = field(default=lambda outputs: outputs[0])
    """Outputs -> what the whole model expects from it."""
    look: Callable[[Tensor], Tensor] = field(default=lambda output: output)
    """Output -> what is compared."""


def _inputs() -> dict[str, Any]:
    draw = torch.Generator().manual_seed(3)
    lengths = torch.tensor([7, 5, 4, 2])[:, None]
    mask = (torch.arange(_LENGTH) < lengths).long()
    shape = (_ROWS, _LENGTH)
    ids = torch.randint(5, CONFIG.vocab_size, shape, generator=draw)
    chosen = torch.rand(shape, generator=draw) < 0.6
    chosen[:, 0] = True
    return {
        "hidden": torch.randn((*shape, CONFIG.hidden_size), generator=draw),
        "ids": ids,
        "types": (torch.arange(_LENGTH) >= lengths // 2).long() * mask,
        "mask": mask,
        "bias": combined_bias(mask, None, None, num_tokens=_LENGTH, dtype=torch.float32),
        "qkv": torch.randn((3, _ROWS, _HEADS, _LENGTH, 8), generator=draw).unbind(),
        "scores": torch.randn((_ROWS, _HEADS, _LENGTH, _LENGTH), generator=draw),
        "logits": torch.randn((*shape, CONFIG.vocab_size), generator=draw) * 3,
        "labels": ids.masked_fill(~chosen, IGNORED_LABEL),
        "chosen": chosen,
        "draw": torch.linspace(0, 0.999, ids.numel()).view(_LENGTH, _ROWS).T.contiguous(),
        "random": torch.randint(5, CONFIG.vocab_size, shape, generator=draw),
    }


def _masked_lm(weights: Weights, arguments: Arguments, made: Made) -> Tensor:
    """Return the logits of `BertForMaskedLM`."""
    hidden = _encoder(weights, arguments, made, "bert.")
    name = UNTIED if "untied_decoder" in made else "mlm_head.decoder.weight"
    tied = {**weights, "mlm_head.decoder.weight": weights[name]}
    return formulas.masked_lm_head(hidden, tied, made, "mlm_head.")


def _encoder(weights: Weights, arguments: Arguments, made: Made, name: str = "") -> Tensor:
    ids, types, mask = (*arguments, None, None)[:3]
    bias = None if mask is None else formulas.key_bias(mask)
    return formulas.encoder(ids, types, bias, weights, _HEADS, made, name)


def _bert(weights: Weights, arguments: Arguments, made: Made) -> tuple[Tensor, Tensor]:
    hidden = _encoder(weights, arguments, made)
    return hidden, formulas.pooler(hidden, weights, made, "pooler.")


_GELU = ("gelu_tanh", "gelu_sigmoid", "gelu_relu", "gelu_without_root")
_NORM = ("eps_1e-5", "unbiased_variance", "norm_over_sequence")
_SCORES = (
    "swapped_query_key swapped_key_value missing_scale scale_by_hidden mask_on_queries mask_sign "
    "mask_ignored softmax_over_queries softmax_over_heads"
).split()
_ATTENTION = (
    *_SCORES,
    "transposed_weight",
    *"heads_interleaved heads_viewed heads_not_merged missing_output".split(),
)
_WIDE = (*_GELU, "missing_activation", "activation_on_output")
_LAYER = (
    *"pre_norm norm_before_residual missing_attention_residual residual_of_input".split(),
    *"missing_feed_forward_residual missing_attention_norm missing_feed_forward_norm".split(),
    *("swapped_norms", *_ATTENTION, *_WIDE, *_NORM),
)
_EMBEDDINGS = (
    *"token_types_ignored token_type_none positions_off_by_one positions_ignored".split(),
    *("scaled_words", "missing_norm", *_NORM),
)
_POOLER = ("mean_pooled", "last_position", "missing_tanh", "transposed_weight")
_LAYERS = (
    "layers_shifted layers_reversed first_layer_skipped last_layer_skipped first_layer_repeated"
).split()
_MLM = ("missing_activation", "missing_norm", "missing_bias", "softmax_applied", *_GELU, *_NORM)


_STATES = ("hidden_states", "attention_bias")
_TOKENS = ("input_ids", "token_type_ids", "attention_mask")


def _of_a_layer(given: dict[str, Any]) -> list[Part]:
    """Return an encoder layer and its components."""
    hidden, bias = given["hidden"], given["bias"]
    layer, theirs = "bert.layers.0", "bert.encoder.layer.0"
    return [
        Part(
            name="LayerNorm",
            component=LayerNorm,
            place=f"{layer}.attention_layer_norm",
            huggingface=f"{theirs}.attention.output.LayerNorm",
            cases=((hidden,), (0.01 * hidden + 0.5,)),
            formula=lambda w, a, made: formulas.layer_norm(a[0], w, made),
            mistakes=_NORM,
            names=_STATES,
            reordered=True,
        ),
        Part(
            name="MultiHeadAttention",
            component=MultiHeadAttention,
            place=f"{layer}.attention",
            huggingface=f"{theirs}.attention",
            cases=((hidden, bias), (hidden,)),
            formula=lambda w, a, made: formulas.multi_head_attention(
                a[0], (*a, None)[1], w, _HEADS, made
            ),
            mistakes=_ATTENTION,
            names=_STATES,
            padded=0,
            reordered=True,
        ),
        Part(
            name="FeedForward",
            component=FeedForward,
            place=f"{layer}.feed_forward",
            huggingface=theirs,
            cases=((hidden,),),
            formula=lambda w, a, made: formulas.feed_forward(a[0], w, made),
            mistakes=_WIDE,
            names=_STATES,
            reordered=True,
        ),
        Part(
            name="EncoderLayer",
            component=EncoderLayer,
            place=layer,
            huggingface=theirs,
            cases=((hidden, bias), (hidden,), (0.01 * hidden,)),
            formula=lambda w, a, made: formulas.encoder_layer(a[0], (*a, None)[1], w, _HEADS, made),
            mistakes=_LAYER,
            names=_STATES,
            padded=0,
            reordered=True,
        ),
    ]


def _before_and_after(given: dict[str, Any]) -> list[Part]:
    """Return the components before and after the layers."""
    hidden, ids, types = given["hidden"], given["ids"], given["types"]
    return [
        Part(
            name="Embeddings",
            component=Embeddings,
            place="bert.embeddings",
            huggingface="bert.embeddings",
            cases=((ids, types), (ids,)),
            formula=lambda w, a, made: formulas.embeddings(a[0], (*a, None)[1], w, made),
            mistakes=_EMBEDDINGS,
            names=_TOKENS,
        ),
        Part(
            name="Pooler",
            component=Pooler,
            place="bert.pooler",
            huggingface="bert.pooler",
            cases=((hidden,),),
            formula=lambda w, a, made: formulas.pooler(a[0], w, made),
            mistakes=_POOLER,
            names=_STATES,
        ),
        Part(
            name="MaskedLMHead",
            component=MaskedLMHead,
            place="mlm_head",
            huggingface="cls.predictions",
            cases=((hidden,),),
            formula=lambda w, a, made: formulas.masked_lm_head(a[0], w, made),
            mistakes=(*_MLM, "transposed_weight"),
            names=_STATES,
            reordered=True,
        ),
        Part(
            name="NextSentenceHead",
            component=NextSentenceHead,
            place="nsp_head",
            huggingface="cls.seq_relationship",
            cases=((hidden[:, 0],),),
            formula=lambda w, a, made: formulas.next_sentence_head(a[0], w, made),
            mistakes=("labels_inverted", "softmax_applied"),
            names=_STATES,
        ),
    ]


def _whole_models(given: dict[str, Any]) -> list[Part]:
    """Return whole models, which take tokens."""
    ids, types, mask = given["ids"], given["types"], given["mask"]
    tokens = ((ids, types, mask), (ids,))
    return [
        Part(
            name="BertModel",
            component=BertModel,
            place="bert",
            huggingface="bert",
            cases=tokens,
            formula=_bert,
            mistakes=(*_LAYERS, *_POOLER[:-1], *_EMBEDDINGS, *_LAYER),
            names=_TOKENS,
            padded=0,
            pack=lambda outputs: EncoderOutput(
                last_hidden_state=outputs[0],
                pooler_output=outputs[1] if len(outputs) > 1 else None,
            ),
        ),
        Part(
            name="BertForMaskedLM",
            component=BertForMaskedLM,
            cases=tokens,
            formula=_masked_lm,
            mistakes=("untied_decoder", *_LAYERS, *_EMBEDDINGS, *_MLM, *_LAYER),
            names=_TOKENS,
            padded=0,
            pack=lambda outputs: LogitsOutput(
                loss=None, logits=outputs[0], hidden_states=None, attentions=None
            ),
        ),
    ]


def _functions(given: dict[str, Any]) -> list[Part]:
    """Return the functions, which have no weights."""
    hidden, bias = given["hidden"], given["bias"]
    ids = given["ids"]
    return [
        Part(
            name="gelu",
            cases=((3 * hidden,),),
            formula=lambda _, a, made: formulas.gelu(a[0], made),
            mistakes=_GELU,
        ),
        Part(
            name="scaled_dot_product_attention",
            cases=((*given["qkv"], bias), given["qkv"]),
            formula=lambda _, a, made: formulas.attention(a[0], a[1], a[2], (*a, None)[3], made),
            mistakes=tuple(_SCORES),
        ),
        Part(
            name="attention_mask",
            cases=((given["mask"],),),
            formula=lambda _, a, made: formulas.key_bias(a[0], made),
            mistakes=("mask_inverted", "mask_sign", "mask_not_large", "mask_on_queries"),
            look=lambda found: (given["scores"] + found).softmax(-1),
        ),
        Part(
            name="masked_lm_loss",
            cases=((given["logits"], given["labels"]),),
            formula=lambda _, a, made: formulas.masked_lm_loss(a[0], a[1], made),
            mistakes=("mean_over_all", "sum_of_losses", "softmax_twice", "mean_of_rows"),
        ),
        Part(
            name="mask_tokens",
            cases=((ids, given["chosen"], given["draw"], given["random"], 4),),
            formula=lambda _, a, made: formulas.mask_tokens(a[0], a[1], a[2], a[3], a[4], made),
            mistakes=(
                *("always_mask", "never_random", "labels_everywhere", "labels_after_masking"),
                *("kept_not_predicted", "shares_swapped"),
            ),
        ),
    ]


def _parts() -> dict[str, Part]:
    given = _inputs()
    kinds = (_of_a_layer, _before_and_after, _whole_models, _functions)
    return {part.name: part for kind in kinds for part in kind(given)}


PARTS = _parts()
"""Parts by the name that --as takes."""


def whole_model(part: Part) -> BertForPreTraining | BertForMaskedLM:
    """Return a small model of ours with random weights, including biases and LayerNorms."""
    model = (BertForMaskedLM if part.component is BertForMaskedLM else BertForPreTraining)(CONFIG)
    draw = torch.Generator().manual_seed(7)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=draw), alpha=0.2)
    return model.eval()


def weights_of(module: nn.Module, part: Part) -> dict[str, Tensor]:
    """Return the weights of one of ours, and a matrix for a decoder that is wrongly untied."""
    weights = {name: tensor.detach().clone() for name, tensor in module.state_dict().items()}
    if part.component is BertForMaskedLM:
        draw = torch.Generator().manual_seed(13)
        size = (CONFIG.vocab_size, CONFIG.hidden_size)
        weights[UNTIED] = CONFIG.initializer_range * torch.randn(size, generator=draw)
    return weights
