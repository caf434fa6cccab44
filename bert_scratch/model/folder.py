"""Load and save model folders: Hugging Face's layout, safetensors only, local or from the hub.

The contents of a folder are not trusted: sizes and names are checked against the configuration
before a model is made, and any mismatch is an `InputError` that names the file.
"""

from __future__ import annotations

import dataclasses
import inspect
import logging
from collections import defaultdict
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Protocol, TypeVar

import torch
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from bert_scratch import durable
from bert_scratch.config import BertConfig, InputError, did_you_mean, read_json_object
from bert_scratch.model.encoder import BertModel
from bert_scratch.model.huggingface import (
    OPTIONAL_PARTS,
    TASK_PARTS,
    config_from_hf,
    config_to_hf,
    from_hf,
    place_encoder,
    to_hf,
)
from bert_scratch.model.pretrained_model import PretrainedModel
from bert_scratch.model.weight_files import (
    CONFIG,
    SENTENCES,
    WEIGHTS,
    find_folder,
    listing,
    read_weights,
)

_logger = logging.getLogger(__name__)

Model = TypeVar("Model", bound=PretrainedModel)


class SavesPretrained(Protocol):
    """A tokenizer as the model side sees it."""

    def save_pretrained(self, folder: Path) -> None:
        """Write the tokenizer's files into the folder."""


def load_pretrained(
    cls: type[Model], folder_or_hub_id: str | Path, *, new_head: bool = False, **overrides: Any
) -> Model:
    """Load a model from a folder or the hub, in evaluation mode and float32.

    Keys of heads that the class does not have are skipped and named in one log line. This is
    ordinary (an encoder from a pretraining folder), so it is not a Python warning, which a test
    suite may turn into an error.

    Args:
        cls: the class to instantiate.
        folder_or_hub_id: an existing folder with config.json and model.safetensors (or shards),
            else a hub id such as `bert-base-uncased`.
        new_head: initialise a head or pooler that the files lack, or hold with another number of
            classes or other parts, from torch's default generator; otherwise that is an error.
        overrides: `BertConfig` fields, such as hidden_dropout_prob=0.0, and keywords of the
            class, such as attention_backend.

    Raises:
        InputError: if the folder cannot be found or read, is not a BERT, or does not fit the class.
    """
    folder = find_folder(folder_or_hub_id)
    fields = {field.name for field in dataclasses.fields(BertConfig)}
    keywords = {key: value for key, value in overrides.items() if key not in fields}
    known = inspect.signature(cls).parameters.keys() - {"config"}
    for key in keywords.keys() - known:
        hint = did_you_mean(key, fields | known)
        raise InputError(f"{cls.__name__}.from_pretrained: unknown override {key!r}{hint}")
    config = read_config(folder)
    shape = {key: value for key, value in overrides.items() if key in fields}
    config = BertConfig.from_dict({**config.to_dict(), **shape}, source="from_pretrained")

    weights = read_weights(folder)
    _check_plausible(folder, config, weights)
    with torch.device("meta"), _WithoutDraws():
        model = cls(config, **keywords)
    state, skipped = _fit(model, weights, folder, new_head=new_head)
    if skipped:
        _logger.info("%s: not part of %s, skipped: %s", folder, cls.__name__, listing(skipped))
    if model.state_dict().keys() - state.keys():
        state = {**cls(config, **keywords).state_dict(), **state}
    _assign(model, state, folder)
    return model.eval()


def save_pretrained(
    model: PretrainedModel, folder: str | Path, tokenizer: SavesPretrained | None = None
) -> None:
    """Write config.json and model.safetensors, each atomically.

    Args:
        model: its class name becomes `architectures`; the tied decoder is stored once.
        folder: made if absent; files of the same names are replaced.
        tokenizer: anything with `save_pretrained(folder)`; None writes the model alone.
    """
    weights = to_hf(model.state_dict(), model.config)
    write_folder(Path(folder), weights, model.config, architecture=type(model).__name__)
    if tokenizer is not None:
        tokenizer.save_pretrained(Path(folder))


def read_config(folder: Path) -> BertConfig:
    """Read a folder's config.json.

    If it does not say how long the training rows were, the max_seq_length of
    sentence-transformers is used.

    Raises:
        InputError: if it is absent, not JSON, or not the configuration of a BERT.
    """
    path = folder / CONFIG
    if not path.is_file():
        inner = folder / "model"
        hint = f"; did you mean {inner}?" if (inner / CONFIG).is_file() else ""
        raise InputError(f"{folder}: is not a model folder: it has no {CONFIG}{hint}")
    config = config_from_hf(read_json_object(path), source=str(path))
    sentences = folder / SENTENCES
    if config.trained_seq_length is not None or not sentences.is_file():
        return config
    length = read_json_object(sentences).get("max_seq_length")
    is_length = isinstance(length, int) and 0 < length <= config.max_position_embeddings
    return config.replace(trained_seq_length=length) if is_length else config


def check_encoder(folder: Path, config: BertConfig, weights: Mapping[str, Tensor]) -> None:
    """Refuse weights whose encoder does not match the configuration, or unknown weights.

    Args:
        folder: named in errors.
        config: the folder's configuration.
        weights: under Hugging Face's names, with any known heads.

    Raises:
        InputError: naming what is missing, unexpected or of another shape.
    """
    _check_plausible(folder, config, weights)
    with torch.device("meta"), _WithoutDraws():
        encoder = BertModel(config)
    _fit(encoder, weights, folder, new_head=True)


def write_folder(
    folder: Path, weights: Mapping[str, Tensor], config: BertConfig, *, architecture: str
) -> None:
    """Write config.json and model.safetensors.

    Args:
        folder: made if absent.
        weights: under Hugging Face's names; views of one tensor are stored separately.
        config: the model's.
        architecture: the transformers class to load it as, such as `BertForPreTraining`.
    """
    folder.mkdir(parents=True, exist_ok=True)
    stored = {
        name: tensor.detach().cpu().clone(memory_format=torch.contiguous_format)
        for name, tensor in weights.items()
    }
    with durable.durable_path(folder / WEIGHTS) as temporary:
        # Other programs, transformers among them, refuse a file without this key.
        save_file(stored, temporary, metadata={"format": "pt"})
    durable.write_json(folder / CONFIG, config_to_hf(config, architecture))


def to_ours(
    folder: Path, config: BertConfig, weights: Mapping[str, Tensor], *, prefix: str
) -> dict[str, Tensor]:
    """Turn stored weights into float32 tensors under our names; unknown keys are kept as they are.

    Args:
        folder: named in errors.
        config: the model's.
        weights: under Hugging Face's names, in any floating dtype.
        prefix: prefix of the encoder's names, '' or 'bert.'.

    Raises:
        InputError: if their shapes do not match config, or they are not floating point.
    """
    floating = {k: v.to(torch.float32) for k, v in weights.items() if v.is_floating_point()}
    try:
        others = from_hf({k: v for k, v in weights.items() if k not in floating}, config)
        ours = from_hf(floating, config)
    except (InputError, RuntimeError) as error:
        raise InputError(f"{folder}: {error}") from error
    for name, tensor in others.items():
        raise InputError(
            f"{folder}: {name} is stored as {tensor.dtype}; weights must be floating point (save "
            f"a quantised model without quantisation)"
        )
    return place_encoder(ours, prefix=prefix)


class _WithoutDraws(TorchFunctionMode):
    """Skip drawing initial values: on the meta device that would import sympy."""

    def __torch_function__(
        self, func: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> object:
        if func.__name__ in ("normal_", "trunc_normal_"):
            return args[0] if args else kwargs["tensor"]
        return func(*args, **(kwargs or {}))


def _check_plausible(folder: Path, config: BertConfig, weights: Mapping[str, Tensor]) -> None:
    """Refuse a configuration far larger than the files, before allocating anything of its size."""
    largest = max((size for tensor in weights.values() for size in tensor.shape), default=0)
    sizes = ("vocab_size", "hidden_size", "intermediate_size", "max_position_embeddings")
    for name in (*sizes, "type_vocab_size"):
        if getattr(config, name) > largest:
            raise InputError(
                f"{folder}: {CONFIG} and weights do not belong together: {name} is "
                f"{getattr(config, name)}, the largest dimension of a stored tensor {largest}"
            )
    if config.num_hidden_layers > len(weights):
        raise InputError(
            f"{folder}: {CONFIG} and weights do not belong together: num_hidden_layers is "
            f"{config.num_hidden_layers}, with {len(weights)} tensors stored"
        )


def _fit(
    model: PretrainedModel, weights: Mapping[str, Tensor], folder: Path, *, new_head: bool
) -> tuple[dict[str, Tensor], list[str]]:
    """Choose the stored tensors that a model (on the meta device) needs.

    Returns:
        The tensors under our names; the stored names of other known heads, which are not used.

    Raises:
        InputError: if shapes differ, something is missing that new_head does not allow to be, or
            something belongs to no known head.
    """
    expected = model.state_dict()
    theirs = to_hf(expected, model.config)
    replaced = _other_heads(weights, theirs) if new_head else []
    weights = {name: tensor for name, tensor in weights.items() if name not in replaced}
    _check_shapes(weights, theirs, folder)
    prefix = "bert." if hasattr(model, "bert") else ""
    given = to_ours(folder, model.config, weights, prefix=prefix)
    tied = {name: first for first, *others in _tied_names(model) for name in others}
    missing = [name for name in expected if name not in given and name not in tied]
    skipped = [n for n in given if n not in expected and n.startswith(OPTIONAL_PARTS)]
    unknown = [n for n in given if n not in expected and n not in skipped and n not in theirs]
    absent = tuple(p for p in OPTIONAL_PARTS if not any(name.startswith(p) for name in given))
    new = [name for name in missing if name.startswith(absent)]
    lacking = [n for n in _hf_names(missing, expected, model) if n not in weights]
    who = f"{folder}: the weights do not fit {type(model).__name__}"
    if unknown or len(new) < len(missing):
        problems = [f"missing {listing(lacking)}"] if lacking else []
        if unknown:
            hint = did_you_mean(unknown[0], lacking or theirs)
            problems.append(f"unexpected {listing(unknown)}{hint}")
        raise InputError(f"{who}: {'; '.join(problems)}")
    if new and not new_head:
        raise InputError(
            f"{who}: they lack {listing(lacking)}; load a class without that part, or start it "
            f"from random weights with new_head=True"
        )
    given.update({name: given[first] for name, first in tied.items() if first in given})
    state = {name: given[name] for name in expected if name in given}
    return state, [*_hf_names(skipped, given, model), *replaced]


def _other_heads(weights: Mapping[str, Tensor], expected: Mapping[str, Tensor]) -> list[str]:
    """Return the stored names of a task head whose parts or sizes differ from those expected."""
    replaced: list[str] = []
    for part in TASK_PARTS:
        stored = {name: w.shape for name, w in weights.items() if name.startswith(part)}
        wanted = {name: w.shape for name, w in expected.items() if name.startswith(part)}
        if wanted and stored != wanted:
            replaced += stored
    return replaced


def _tied_names(model: nn.Module) -> list[list[str]]:
    """Return all names of each parameter; tied parameters have several."""
    names: dict[int, list[str]] = defaultdict(list)
    for name, parameter in model.named_parameters(remove_duplicate=False):
        names[id(parameter)].append(name)
    return list(names.values())


def _check_shapes(
    weights: Mapping[str, Tensor], expected: Mapping[str, Tensor], folder: Path
) -> None:
    """Compare shapes under Hugging Face's names, with or without the `bert.` prefix."""
    shapes = {name.removeprefix("bert."): list(tensor.shape) for name, tensor in expected.items()}
    for name, tensor in weights.items():
        wanted = shapes.get(name.removeprefix("bert."))
        if wanted is not None and wanted != list(tensor.shape):
            task = name.startswith(TASK_PARTS)
            remedy = "; new_head=True starts a head of that shape" if task else ""
            raise InputError(
                f"{folder}: {name} has shape {list(tensor.shape)}, {CONFIG} or an override asks "
                f"for {wanted}{remedy}"
            )


def _assign(model: nn.Module, state: Mapping[str, Tensor], folder: Path) -> None:
    """Replace the model's meta tensors by the given ones; tied parameters stay tied."""
    tied = _tied_names(model)
    try:
        model.load_state_dict(state, assign=True)
    except RuntimeError as error:
        raise InputError(f"{folder}: the weights do not fit: {error}") from error
    for first, *others in tied:
        for name in others:
            owner, _, attribute = name.rpartition(".")
            setattr(model.get_submodule(owner), attribute, model.get_parameter(first))


def _hf_names(
    names: Iterable[str], tensors: Mapping[str, Tensor], model: PretrainedModel
) -> list[str]:
    """Return the names that the file uses for some of ours."""
    return list(to_hf({name: tensors[name] for name in names}, model.config))
