"""Adapters: a few new parameters learn in place of the encoder's, and merge into it on export."""

from __future__ import annotations

import math
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from bert_scratch.finetuning.depth import freeze
from bert_scratch.model import huggingface
from bert_scratch.model.encoder import PretrainedModel
from bert_scratch.model.folder import read_safetensors
from bert_scratch.model.weight_files import WEIGHTS


class LowRank(nn.Module):
    """A matrix plus the product of two thin ones; the second starts at zero.

    Args:
        shape: of the matrix, [out, in].
        rank: columns of the one and rows of the other.
        alpha: the product is scaled by alpha / rank.

    Source:
        Hu et al. 2021, "LoRA: low-rank adaptation of large language models". Deviations: every
        matrix of the encoder's layers has one, and query, key and value share theirs.
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


def add_adapters(model: PretrainedModel, *, rank: int, alpha: float) -> None:
    """Freeze the encoder and give each matrix of its layers a low-rank change that learns.

    Args:
        model: changed in place; pooler and head learn as they are.
        rank: of the changes.
        alpha: how much they count, over the rank.
    """
    freeze(model, "all")
    for module in model.get_submodule("bert.layers").modules():
        if isinstance(module, nn.Linear):
            low_rank = LowRank(module.weight.shape, rank=rank, alpha=alpha)
            parametrize.register_parametrization(module, "weight", low_rank)


def merged(model: PretrainedModel) -> PretrainedModel:
    """Return a model of the same class without adapters: what they changed is in the weights."""
    plain = type(model)(model.config)
    state = {}
    for name in plain.state_dict():
        owner, _, attribute = name.rpartition(".")
        state[name] = getattr(model.get_submodule(owner), attribute).detach()
    plain.load_state_dict(state)
    return plain.train(model.training)


def load_with_adapters(model: PretrainedModel, checkpoint: Path) -> None:
    """Put the weights of a checkpoint, adapters and all, into a model that has adapters."""
    stored = read_safetensors(checkpoint / WEIGHTS)
    model.load_state_dict(huggingface.from_hf(stored, model.config))
