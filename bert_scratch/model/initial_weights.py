"""Initial weights: as Hugging Face or Google draw them, or with heads that look nearby."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from bert_scratch.config import INITIALIZERS, BertConfig, check_choice
from bert_scratch.model.layers import Embeddings, LayerNorm, MultiHeadAttention

POSITION_GAIN = 2.0
"""Initial scale of `mimetic` position embeddings, as a multiple of initializer_range."""


@torch.no_grad()
def initialize(module: nn.Module, config: BertConfig, initializer: str = "normal") -> None:
    """Draw the initial weights of a module and all its parts from torch's default generator.

    Matrices are normal with standard deviation initializer_range, biases are 0, LayerNorm weights 1
    and biases 0, and the [PAD] row is 0 if it is not trained.

    Args:
        module: a component or model, changed in place.
        config: initializer_range is used.
        initializer: normal (Hugging Face); truncated_normal (Google): values beyond two
            standard deviations are redrawn; mimetic: normal, with positions and attention
            as in `_start_attentive`.

    Source:
        google-research/bert `create_initializer`; transformers `_init_weights`.
    """
    check_choice("initializer", initializer, INITIALIZERS)
    deviation = config.initializer_range
    for part in module.modules():
        if isinstance(part, nn.Linear | nn.Embedding):
            if initializer == "truncated_normal":
                cut = 2 * deviation
                nn.init.trunc_normal_(part.weight, std=deviation, a=-cut, b=cut)
            else:
                nn.init.normal_(part.weight, std=deviation)
        if isinstance(part, nn.Linear | LayerNorm):
            part.bias.zero_()
        if isinstance(part, LayerNorm):
            part.weight.fill_(1.0)
        if isinstance(part, nn.Embedding) and part.padding_idx is not None:
            part.weight[part.padding_idx] = 0.0
    if initializer == "mimetic":
        for part in module.modules():
            if isinstance(part, Embeddings | MultiHeadAttention):
                _start_attentive(part, deviation)


def _start_attentive(part: Embeddings | MultiHeadAttention, deviation: float) -> None:
    """Make each token attend to its neighbours from the first step on.

    Positions start as sinusoids, so that nearby ones are similar, and keys equal queries, so that a
    token attends to similar ones. Training is free to change both.

    Source:
        Trockman and Kolter 2023, "Mimetic initialization of self-attention layers": trained
        layers look like this. They also tie values to outputs, which measured worse here.
        Vaswani et al. 2017, section 3.5, for the sinusoids.
    """
    if isinstance(part, Embeddings):
        positions = part.position_embeddings.weight
        positions.copy_(2**0.5 * POSITION_GAIN * deviation * sinusoids(*positions.shape))
    else:
        query, key, _ = part.query_key_value.weight.chunk(3)
        key.copy_(query)


def sinusoids(num_positions: int, width: int) -> Tensor:
    """Return [num_positions, width] float32: sines in even columns, cosines in odd ones."""
    wavelengths = 10_000.0 ** (torch.arange(0, width, 2) / width)
    angles = torch.arange(num_positions)[:, None] / wavelengths
    return torch.stack([angles.sin(), angles.cos()], dim=2).flatten(1)[:, :width]
