"""Norms of gradients and weights by module, which show where a model learns or breaks.

They are computed only at the steps that are logged.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from itertools import islice

import torch
from torch import Tensor, nn

from bert_scratch.training.loss_scale import LossScale

_BLOCKS = ("attention", "feed_forward")


def module_of(name: str) -> str:
    """Return the module that a parameter belongs to, under its name in the model.

    Modules are the embeddings, the attention and feed-forward block of each layer (with the
    LayerNorm after it), the pooler and each head.

    Args:
        name: as in named_parameters.
    """
    parts = name.split(".")
    if parts[0] == "bert":
        parts = parts[1:]
    if parts[0] != "layers" or len(parts) < 3:
        return parts[0]
    block = next((block for block in _BLOCKS if parts[2].startswith(block)), parts[2])
    return f"layers.{parts[1]}.{block}"


class ModuleNorms:
    """The Euclidean norms of a model's modules, in the order of the model."""

    def __init__(self, model: nn.Module) -> None:
        self.modules: dict[str, list[nn.Parameter]] = {}
        for name, parameter in model.named_parameters():
            self.modules.setdefault(module_of(name), []).append(parameter)

    def of_gradients(self, loss_scale: LossScale | None = None) -> dict[str, float]:
        """Return {"grad_norm/<module>": norm}, without modules that have no gradient.

        Args:
            loss_scale: the scale to divide out of the gradients.
        """
        found = {
            name: [p.grad for p in parameters if p.grad is not None]
            for name, parameters in self.modules.items()
        }
        norms = _norms("grad_norm", {name: tensors for name, tensors in found.items() if tensors})
        scale = 1.0 if loss_scale is None else loss_scale.scale.item()
        return {name: norm / scale for name, norm in norms.items()}

    def of_weights(self) -> dict[str, float]:
        """Return {"weight_norm/<module>": norm}."""
        return _norms("weight_norm", self.modules)


@torch.no_grad()
def _norms(prefix: str, modules: Mapping[str, Sequence[Tensor]]) -> dict[str, float]:
    """Return each module's norm, waiting for the device only once."""
    every = [tensor for tensors in modules.values() for tensor in tensors]
    each = iter(torch.stack(torch._foreach_norm(every)).tolist())
    return {
        f"{prefix}/{name}": math.hypot(*islice(each, len(tensors)))
        for name, tensors in modules.items()
    }
