"""Map Hugging Face's parameter names and config keys to ours, without knowing any model class.

More than names differ: query, key and value are one matrix here and three there, and the tied
decoder, which is the word embedding, is stored once.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from bert_scratch.config import BertConfig, InputError, check_range

# Ours -> Hugging Face's, without `.weight` and `.bias`; {} is the layer's number.
_ENCODER_NAMES = {
    "embeddings.word_embeddings": "embeddings.word_embeddings",
    "embeddings.position_embeddings": "embeddings.position_embeddings",
    "embeddings.token_type_embeddings": "embeddings.token_type_embeddings",
    "embeddings.layer_norm": "embeddings.LayerNorm",
    "layers.{}.attention.output": "encoder.layer.{}.attention.output.dense",
    "layers.{}.attention_layer_norm": "encoder.layer.{}.attention.output.LayerNorm",
    "layers.{}.feed_forward.widen": "encoder.layer.{}.intermediate.dense",
    "layers.{}.feed_forward.narrow": "encoder.layer.{}.output.dense",
    "layers.{}.feed_forward_layer_norm": "encoder.layer.{}.output.LayerNorm",
    "pooler.dense": "pooler.dense",
}
_HEAD_NAMES = {
    "mlm_head.dense": "cls.predictions.transform.dense",
    "mlm_head.layer_norm": "cls.predictions.transform.LayerNorm",
    "mlm_head.decoder": "cls.predictions.decoder",
    "nsp_head.classifier": "cls.seq_relationship",
    "classifier": "classifier",
    "qa_outputs": "qa_outputs",
}
_FUSED = "layers.{}.attention.query_key_value"
_SEPARATE = tuple(f"encoder.layer.{{}}.attention.self.{part}" for part in ("query", "key", "value"))

_TO_HF = (
    _ENCODER_NAMES | {f"bert.{k}": f"bert.{v}" for k, v in _ENCODER_NAMES.items()} | _HEAD_NAMES
)
_FROM_HF = {theirs: ours for ours, theirs in _TO_HF.items()}

_DECODER_WEIGHT = "cls.predictions.decoder.weight"
_DECODER_BIAS = ("cls.predictions.decoder.bias", "cls.predictions.bias")
_BUFFERS = re.compile(r"(^|\.)embeddings\.(position_ids|token_type_ids)$")

TASK_PARTS = ("classifier.", "qa_outputs.")
"""Name prefixes of the heads of fine-tuned models, the same in both."""
OPTIONAL_PARTS = ("bert.pooler.", "pooler.", "mlm_head.", "nsp_head.", *TASK_PARTS)
"""Our name prefixes of the pooler and known heads: parts that some model classes have and others,
made from the same encoder, lack."""

# Where in a whole model a component belongs: our prefix, Hugging Face's prefix.
_PLACES = (
    ("", ""),
    ("bert.", ""),
    ("bert.", "bert."),
    ("bert.embeddings.", "bert.embeddings."),
    ("bert.embeddings.layer_norm.", "bert.embeddings.LayerNorm."),
    ("bert.layers.", "bert.encoder."),
    ("bert.layers.0.", "bert.encoder.layer.0."),
    ("bert.layers.0.attention.", "bert.encoder.layer.0.attention."),
    ("bert.layers.0.attention.", "bert.encoder.layer.0."),
    ("bert.layers.0.feed_forward.", "bert.encoder.layer.0."),
    ("bert.pooler.", "bert.pooler."),
    ("mlm_head.", "cls.predictions."),
    ("mlm_head.", "cls."),
    ("nsp_head.", "cls.seq_relationship."),
    ("nsp_head.", "cls."),
)


def to_hf(state_dict: Mapping[str, Tensor], config: BertConfig) -> dict[str, Tensor]:
    """Rename a state dict of ours to Hugging Face's names.

    Works on anything with the parameters' names and shapes, such as optimizer moments.

    Args:
        state_dict: of `BertModel` or a model with heads; it may hold only some of the names.
        config: the model's.

    Returns:
        The same tensors; query, key and value are views of one. The tied decoder is left out,
        its bias is `cls.predictions.bias`. Unknown names stay as they are.
    """
    renamed: dict[str, Tensor] = {}
    for name, tensor in state_dict.items():
        general, layer, kind = _general(name)
        prefix = "bert." if general.startswith("bert.") else ""
        if general.removeprefix("bert.") == _FUSED:
            for part, piece in zip(_SEPARATE, torch.split(tensor, config.hidden_size), strict=True):
                renamed[f"{prefix}{part.format(layer)}.{kind}"] = piece
        elif name == "mlm_head.decoder.bias":
            renamed["cls.predictions.bias"] = tensor
        elif name != "mlm_head.decoder.weight":
            renamed[_rename(name, _TO_HF)] = tensor
    return renamed


def from_hf(state_dict: Mapping[str, Tensor], config: BertConfig) -> dict[str, Tensor]:
    """Rename a state dict of Hugging Face's to our names.

    `gamma` and `beta` of old files become weight and bias, `position_ids` buffers are dropped, and
    both names of the decoder's bias are understood. The decoder of a vocabulary head is tied to
    the word embedding.

    Args:
        state_dict: of `BertModel` (names without `bert.`) or a model with heads (with it); see
            `place_encoder` to change from one to the other.
        config: the model's.

    Returns:
        The tensors under our names. Unknown names stay as they are, so that loading reports them.

    Raises:
        InputError: if there are more layers than in the configuration, or if a stored decoder
            differs from the word embeddings.
    """
    num_layers = _num_layers(state_dict)
    if num_layers > config.num_hidden_layers:
        raise InputError(
            f"the weights have {num_layers} layers, the configuration has num_hidden_layers="
            f"{config.num_hidden_layers}; they do not belong together"
        )
    known, unknown = _translate(state_dict)
    return known | unknown


def place_encoder(state_dict: Mapping[str, Tensor], *, prefix: str) -> dict[str, Tensor]:
    """Give the encoder's names (ours) a prefix, and leave the heads' names as they are.

    Args:
        state_dict: under our names, with or without `bert.`.
        prefix: '' for `BertModel`, 'bert.' for models with heads.
    """
    parts = ("embeddings.", "layers.", "pooler.")
    placed = {}
    for name, tensor in state_dict.items():
        bare = name.removeprefix("bert.")
        placed[prefix + bare if bare.startswith(parts) else name] = tensor
    return placed


def load_hf(component: nn.Module, hf_component: nn.Module) -> None:
    """Copy the weights of a Hugging Face component, or of its whole model, into ours.

    They are matched by parameter names: our `MultiHeadAttention` loads from a `BertAttention` or
    `BertLayer`, `FeedForward` from a `BertLayer` (or an `nn.ModuleDict` of `intermediate` and
    `output`), `MaskedLMHead` from a `BertLMPredictionHead`, `NextSentenceHead` from the
    `nn.Linear` `cls.seq_relationship`, and so on.

    Args:
        component: one of our components or models; its weights are overwritten.
        hf_component: Hugging Face's counterpart, or any module with the same parameter names.

    Raises:
        InputError: if hf_component lacks some of the weights.
    """
    wanted = component.state_dict().keys()
    given = hf_component.state_dict()
    for ours, theirs in _PLACES:
        known, _ = _translate({theirs + name: tensor for name, tensor in given.items()})
        placed = {k.removeprefix(ours): v for k, v in known.items() if k.startswith(ours)}
        if wanted <= placed.keys():
            component.load_state_dict({name: placed[name] for name in wanted})
            return
    raise InputError(
        f"a {type(hf_component).__name__} does not hold the weights of a "
        f"{type(component).__name__}: needed (under our names) {', '.join(wanted)}; it has "
        f"{', '.join(given)}"
    )


def hf_module(name: str) -> str:
    """Return Hugging Face's name for one of our modules.

    Args:
        name: of a module that has weights, such as `bert.layers.0.attention_layer_norm`.

    Raises:
        KeyError: if it has no counterpart of its own, like the fused projection.
    """
    general, layer, _ = _general(f"{name}.weight")
    return _TO_HF[general].format(layer)


def _general(name: str) -> tuple[str, str, str]:
    """Split `a.layer.3.b.weight` into `a.layer.{}.b`, `3` and `weight`."""
    module, _, kind = name.rpartition(".")
    layer = re.search(r"(?<=\.)\d+(?=\.)", f"{module}.")
    if layer is None:
        return module, "", kind
    return f"{module[: layer.start()]}{{}}{module[layer.end() :]}", layer.group(), kind


def _rename(name: str, table: Mapping[str, str]) -> str:
    general, layer, kind = _general(name)
    return f"{table[general].format(layer)}.{kind}" if general in table else name


def _num_layers(names: Mapping[str, Any]) -> int:
    layers = [re.match(r"(?:bert\.)?encoder\.layer\.(\d{1,6})\.", name) for name in names]
    return max((int(layer.group(1)) + 1 for layer in layers if layer), default=0)


def _modern(state_dict: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Modernise the names of old files, and keep one of the decoder bias's two names."""
    modern: dict[str, Tensor] = {}
    for name, tensor in state_dict.items():
        if not _BUFFERS.search(name):
            name = re.sub(r"LayerNorm\.gamma$", "LayerNorm.weight", name)
            modern[re.sub(r"LayerNorm\.beta$", "LayerNorm.bias", name)] = tensor
    alias, own = _DECODER_BIAS
    if own in modern:
        modern[alias] = modern.pop(own)
    return modern


def _translate(state_dict: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Return the tensors with known names, renamed to ours, and those with unknown names."""
    modern = _modern(state_dict)
    known: dict[str, Tensor] = {}
    for layer in range(_num_layers(modern)):
        for prefix in ("", "bert."):
            for kind in ("weight", "bias"):
                names = [f"{prefix}{part.format(layer)}.{kind}" for part in _SEPARATE]
                if all(name in modern for name in names):
                    fused = torch.cat([modern.pop(name) for name in names])
                    known[f"{prefix}{_FUSED.format(layer)}.{kind}"] = fused
    unknown: dict[str, Tensor] = {}
    for name, tensor in modern.items():
        kept = known if _general(name)[0] in _FROM_HF else unknown
        kept[_rename(name, _FROM_HF)] = tensor
    words = known.get("bert.embeddings.word_embeddings.weight")
    stored = known.get("mlm_head.decoder.weight")
    if words is not None and stored is not None and not torch.equal(words, stored):
        raise InputError(
            f"{_DECODER_WEIGHT} differs from the word embeddings; only models whose decoder is "
            f"tied to them can be loaded"
        )
    if words is not None and "mlm_head.decoder.bias" in known:
        known["mlm_head.decoder.weight"] = words
    return known, unknown


_MODEL_TYPE = "bert"
# Keys that a config without model_type must have to be accepted as BERT's.
_BERT_KEYS = frozenset(
    ("vocab_size", "hidden_size", "num_hidden_layers", "num_attention_heads", "type_vocab_size")
)
_ACTIVATION_ALIASES = {"swish": "silu", "gelu_python": "gelu", "gelu_fast": "gelu_pytorch_tanh"}
_MAX_LABELS = 1 << 20
"""A larger num_labels is refused, since each label gets a name before anything else is checked."""
# Keys that can change the computation, with the values that do not.
_NEUTRAL: dict[str, tuple[Any, ...]] = {
    "add_cross_attention": (False, None),
    "auto_map": (None, {}),
    "cross_attention_hidden_size": (None,),
    "directionality": ("bidi", None),
    "is_decoder": (False, None),
    "is_encoder_decoder": (False, None),
    "position_embedding_type": ("absolute", None),
    "pruned_heads": ({}, None),
    "quantization_config": (None,),
    "tie_word_embeddings": (True, None),
}
_HARMLESS = frozenset(
    """
    _attn_implementation _attn_implementation_autoset _attn_implementation_internal _commit_hash
    _name_or_path _num_labels architectures attn_implementation bos_token_id
    chunk_size_feed_forward cls_token_id dtype eos_token_id finetuning_task
    gradient_checkpointing label2id language mask_token_id model_type num_labels
    output_attentions output_hidden_states output_past pooler_fc_size
    pooler_num_attention_heads pooler_num_fc_layers pooler_size_per_head pooler_type prefix
    return_dict sep_token_id task_specific_params tokenizer_class torch_dtype torchscript
    transformers_version unk_token_id use_bfloat16 use_cache
    """.split()
)


def config_to_hf(config: BertConfig, architecture: str) -> dict[str, Any]:
    """Return the contents of a `config.json` that transformers reads.

    Args:
        config: the model's.
        architecture: the class, such as `BertForPreTraining`.
    """
    values = config.to_dict()
    for name in (
        "id2label",
        "classifier_dropout",
        "problem_type",
        "pair_task",
        "trained_seq_length",
    ):
        if values[name] is None:
            del values[name]
    if config.id2label is not None:
        values["label2id"] = {label: number for number, label in config.id2label.items()}
    fixed = {"model_type": _MODEL_TYPE, "position_embedding_type": "absolute", "use_cache": True}
    return {"architectures": [architecture], **fixed, **values}


def config_from_hf(values: Mapping[str, Any], *, source: str = "config.json") -> BertConfig:
    """Read the contents of a Hugging Face `config.json`.

    Known keys are used, or harmless and ignored; keys that change the computation are refused
    unless their value is neutral. Unknown keys are named in one warning. A config with BERT's keys
    but no `model_type` is taken for BERT.

    Args:
        values: the JSON object.
        source: how errors name it, such as the file's path.

    Raises:
        InputError: if it is not a BERT, computes something else than BERT, or has a value of the
            wrong type.
    """
    kind = values.get("model_type", _MODEL_TYPE if values.keys() >= _BERT_KEYS else None)
    if kind != _MODEL_TYPE:
        raise InputError(f"{source}: model_type must be 'bert'; got {kind!r}")
    fields = BertConfig().to_dict().keys()
    for key, neutral in _NEUTRAL.items():
        if key in values and values[key] not in neutral:
            raise InputError(
                f"{source}: {key} = {values[key]!r} makes a model that computes something else "
                f"than BERT; only {neutral[0]!r} can be loaded"
            )
    unknown = sorted(values.keys() - fields - _NEUTRAL.keys() - _HARMLESS)
    if unknown:
        warnings.warn(f"{source}: unknown keys are ignored: {', '.join(unknown)}", stacklevel=2)
    used = {key: value for key, value in values.items() if key in fields}
    activation = used.get("hidden_act")
    if isinstance(activation, str):
        used["hidden_act"] = _ACTIVATION_ALIASES.get(activation, activation)
    num_labels = values.get("num_labels", values.get("_num_labels"))
    if isinstance(num_labels, int) and used.get("id2label") is None:
        check_range(f"{source}: num_labels", num_labels, at_least=1, at_most=_MAX_LABELS)
        used["id2label"] = {str(number): f"LABEL_{number}" for number in range(num_labels)}
    return BertConfig.from_dict(used, source=source)
