"""How large gradients and weights are, module by module: where a model learns, and where it breaks.

Computed at the steps that are logged only, from what is there then.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from itertools import islice

import torch
from torch import Tensor, nn

_BLOCKS = ("attention", "feed_forward")


def module_of(name: str) -> str:
    """Return the module that a parameter counts to, under the name it has in the model.

    Embeddings, the attention and the feed-forward block of each layer (with the LayerNorm behind
    it), the pooler, each head.

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

    def of_gradients(self) -> dict[str, float]:
        """Return {"grad_norm/<module>": norm}, without modules that have no gradient."""
        found = {
            name: [p.grad for p in parameters if p.grad is not None]
            for name, parameters in self.modules.items()
        }
        return _norms("grad_norm", {name: tensors for name, tensors in found.items() if tensors})

    def of_weights(self) -> dict[str, float]:
        """Return {"weight_norm/<module>": norm}."""
        return _norms("weight_norm", self.modules)


@torch.no_grad()
def _norms(prefix: str, modules: Mapping[str, Sequence[Tensor]]) -> dict[str, float]:
    """Return each module's norm; the device is waited for once."""
    every = [tensor for tensors in modules.values() for tensor in tensors]
    each = iter(torch.stack(torch._foreach_norm(every)).tolist())
    return {
        f"{prefix}/{name}": math.hypot(*islice(each, len(tensors)))
        for name, tensors in modules.items()
    }
