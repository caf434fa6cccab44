"""Adapters: a few new parameters are trained instead of the encoder's.

There are three kinds behind one interface. Low-rank changes are merged into the matrices, so the
result is an ordinary model. An ordinary BERT cannot compute bottlenecks and prefixes: their folder
stores the weights under a name that only this package looks for, so nothing loads half of them.

Letters: B rows, S positions, D hidden, P positions of a prefix.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils import parametrize

from bert_scratch import durable
from bert_scratch.config import BertConfig, InputError
from bert_scratch.finetuning.adapter_settings import AdapterSettings
from bert_scratch.finetuning.depth import freeze
from bert_scratch.model import huggingface
from bert_scratch.model.folder import SavesPretrained, read_config
from bert_scratch.model.pretrained_model import PretrainedModel
from bert_scratch.model.weight_files import ADAPTED_WEIGHTS, WEIGHTS, read_safetensors

ADAPTER_FILE = "adapter.json"
"""The adapter settings of a model whose adapters cannot be merged."""

Model = TypeVar("Model", bound=PretrainedModel)


class LowRank(nn.Module):
    """A matrix plus the product of two thin matrices, of which the second starts at zero.

    Args:
        shape: shape of the matrix, [out, in].
        rank: number of columns of one thin matrix and of rows of the other.
        alpha: the product is scaled by alpha / rank.

    Source:
        Hu et al. 2021, "LoRA: low-rank adaptation of large language models". Deviations: every
        matrix of the encoder's layers is adapted, and query, key and value share one change.
    """

    def __init__(self, shape: torch.Size, *, rank: int, alpha: float) -> None:
        super().__init__()
        self.down = nn.Parameter(torch.empty(rank, shape[1]))
        self.up = nn.Parameter(torch.zeros(shape[0], rank))
        nn.init.kaiming_uniform_(self.down, a=math.sqrt(5))
        self._scale = alpha / rank

    def forward(self, weight: Tensor) -> Tensor:
        """Return the adapted matrix."""
        return weight + self._scale * (self.up @ self.down)


class Bottleneck(nn.Module):
    """A narrow block after attention and feed-forward, which starts as the identity.

    Args:
        hidden_size: D.
        size: its inner width.

    Source:
        Houlsby et al. 2019, "Parameter-efficient transfer learning for NLP", in both places of
        each layer. Deviation: LayerNorms stay as pretrained.
    """

    def __init__(self, hidden_size: int, size: int) -> None:
        super().__init__()
        self.down = nn.Linear(hidden_size, size)
        self.up = nn.Linear(size, hidden_size)
        nn.init.zeros_(self.up.weight)
        nn.init.zeros_(self.up.bias)

    def forward(self, hidden_states: Tensor) -> Tensor:
        """Map [B, S, D] to [B, S, D]."""
        change: Tensor = self.up(F.gelu(self.down(hidden_states)))
        return hidden_states + change


class Prefix(nn.Module):
    """Positions in front of a row that its tokens attend to; each layer has its own.

    Args:
        config: hidden_size and initializer_range are used.
        size: P.

    Source:
        Li and Liang 2021, "Prefix-tuning"; as in Liu et al. 2022, "P-tuning v2", the positions
        themselves are learned, here as hidden states that the layer's own matrices turn into
        keys and values.
    """

    def __init__(self, config: BertConfig, size: int) -> None:
        super().__init__()
        self.positions = nn.Parameter(torch.randn(size, config.hidden_size))
        with torch.no_grad():
            self.positions.mul_(config.initializer_range)

    def put_before(self, _layer: nn.Module, given: tuple[Any, ...]) -> tuple[Any, ...]:
        """Extend a layer's [B, S, D] to [B, P + S, D], and its bias [B, 1, 1 or S, S] to fit."""
        hidden, bias, *rest = given
        size = len(self.positions)
        before = self.positions.to(hidden.dtype).expand(len(hidden), -1, -1)
        if bias is not None:
            bias = F.pad(bias, (size, 0, size if bias.shape[-2] > 1 else 0, 0))
        return (torch.cat([before, hidden], dim=1), bias, *rest)

    def take_away(self, _layer: nn.Module, _given: tuple[Any, ...], output: Tensor) -> Tensor:
        """Return the [B, S, D] after the prefix."""
        return output[:, len(self.positions) :]


def add_adapters(model: PretrainedModel, settings: AdapterSettings) -> None:
    """Freeze the encoder and give its layers trainable adapters.

    Args:
        model: changed in place; pooler and head stay trainable.
        settings: the kind of adapter and its size.
    """
    freeze(model, "all")
    size, config = settings.adapter_size, model.config
    for layer in model.get_submodule("bert.layers").children():
        if settings.adapter == "lora":
            for module in [part for part in layer.modules() if isinstance(part, nn.Linear)]:
                low_rank = LowRank(
                    module.weight.shape, rank=settings.lora_rank, alpha=settings.lora_alpha
                )
                parametrize.register_parametrization(module, "weight", low_rank)
        elif settings.adapter == "bottleneck":
            for name in ("attention", "feed_forward"):
                place = layer.get_submodule(name)
                place.add_module("adapter", Bottleneck(config.hidden_size, size))
                place.register_forward_hook(_through_adapter)
        else:
            prefix = Prefix(config, size)
            layer.add_module("adapter", prefix)
            layer.register_forward_pre_hook(prefix.put_before)
            layer.register_forward_hook(prefix.take_away)


def _through_adapter(place: nn.Module, _given: tuple[Any, ...], output: Tensor) -> Tensor:
    adapted: Tensor = place.get_submodule("adapter")(output)
    return adapted


def result_of(model: Model, settings: AdapterSettings) -> Model:
    """Return the resulting model, with adapters merged if their kind can be.

    A masked-token head that was trained beside the task's head is left out.
    """
    made = type(model)(model.config)
    if not settings.merges:
        add_adapters(made, settings)
    state = {}
    for name in made.state_dict():
        owner, _, attribute = name.rpartition(".")
        state[name] = getattr(model.get_submodule(owner), attribute).detach()
    made.load_state_dict(state)
    return made.train(model.training)


def load_weights(model: PretrainedModel, file: Path) -> None:
    """Load stored weights, adapters included, into a model that has adapters."""
    model.load_state_dict(huggingface.from_hf(read_safetensors(file), model.config))


def write_adapted_folder(
    folder: Path,
    *,
    model: PretrainedModel,
    tokenizer: SavesPretrained,
    settings: AdapterSettings,
    model_card: str,
    also: Mapping[str, str],
) -> None:
    """Write a model whose adapters cannot be merged; only `load_adapted` reads it.

    If the weights had their usual name, other programs would load the encoder without its
    adapters and answer wrongly. The arguments are those of `write_model_folder`, and the settings.
    """
    with durable.durable_folder(folder) as temporary:
        model.save_pretrained(temporary, tokenizer)
        (temporary / WEIGHTS).rename(temporary / ADAPTED_WEIGHTS)
        durable.write_text(temporary / ADAPTER_FILE, settings.to_json())
        for name, content in {"README.md": model_card, **also}.items():
            durable.write_text(temporary / name, content)


def is_adapted(folder: str | Path) -> bool:
    """Tell whether `write_adapted_folder` wrote a folder."""
    return (Path(folder) / ADAPTED_WEIGHTS).is_file()


def load_adapted(model_class: type[Model], folder: Path, **overrides: Any) -> Model:
    """Load what `write_adapted_folder` wrote, in evaluation mode on the CPU.

    Args:
        model_class: the task's model class.
        folder: the folder with the weights.
        overrides: `BertConfig` fields to replace.

    Raises:
        InputError: if the folder is damaged.
    """
    model = model_class(read_config(folder).replace(**overrides))
    add_adapters(model, AdapterSettings.from_json_file(folder / ADAPTER_FILE))
    try:
        load_weights(model, folder / ADAPTED_WEIGHTS)
    except RuntimeError as error:
        raise InputError(f"{folder / ADAPTED_WEIGHTS}: does not fit: {error}") from error
    return model.eval()
