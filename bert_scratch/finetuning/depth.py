"""Parameters by depth: which are trained, and how fast."""

from __future__ import annotations

import re

from bert_scratch.config import InputError, counted
from bert_scratch.model.pretrained_model import PretrainedModel


def depth_of(name: str, num_layers: int) -> int:
    """Return 0 for the embeddings, 1 to L for the layers, L + 1 for pooler and heads.

    Args:
        name: name of a parameter of a model with a head.
        num_layers: L.
    """
    if name.startswith("bert.embeddings."):
        return 0
    layer = re.match(r"bert\.layers\.(\d+)\.", name)
    return int(layer.group(1)) + 1 if layer else num_layers + 1


def lr_scale_of(name: str, num_layers: int, decay: float) -> float:
    """Return the factor of a parameter's learning rate: decay once for each layer above it.

    Source:
        Sun et al. 2019, "How to fine-tune BERT for text classification?", section 5.3.2.
    """
    return float(decay ** (num_layers + 1 - depth_of(name, num_layers)))


def freeze(model: PretrainedModel, layers: str) -> None:
    """Freeze a part of the model.

    Args:
        model: changed in place.
        layers: none, embeddings, all (only pooler and heads are trained), or the number of lowest
            layers to freeze together with the embeddings.

    Raises:
        InputError: if the model has fewer layers.
    """
    num_layers = model.config.num_hidden_layers
    named = {"none": -1, "embeddings": 0, "all": num_layers}
    deepest = named[layers] if layers in named else int(layers)
    if deepest > num_layers:
        raise InputError(f"--freeze-layers {layers}: the model has {counted(num_layers, 'layer')}")
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(depth_of(name, num_layers) > deepest)
