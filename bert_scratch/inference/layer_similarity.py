"""How similar layers and tokens are.

Letters: N tokens, S positions, L layers, D hidden.
"""

from __future__ import annotations

import torch
from torch import Tensor


def layer_similarity(states: Tensor) -> Tensor:
    """Compare all pairs of layers by linear CKA over a text's tokens; 1 is the same geometry.

    Args:
        states: [L, N, D], with at least two different tokens.

    Returns:
        [L, L] float64. With few tokens and many dimensions all values are high: compare them with
        each other, not with 0.

    Source:
        Kornblith et al. 2019, "Similarity of Neural Network Representations Revisited", equation
        4 with a linear kernel: |Y'X|^2 / (|X'X| |Y'Y|) of centred X and Y, computed from the
        smaller token-by-token products.
    """
    centred = states.double() - states.double().mean(dim=1, keepdim=True)
    kernels = (centred @ centred.transpose(1, 2)).flatten(1)  # [L, N * N]
    unit = torch.nn.functional.normalize(kernels, dim=-1)
    return unit @ unit.T


def token_similarity(states: Tensor) -> Tensor:
    """Return [L, S, S] float32, the cosine of all pairs of tokens in each layer of [L, S, D]."""
    unit = torch.nn.functional.normalize(states.float(), dim=-1)
    return unit @ unit.transpose(1, 2)


def drift(states: Tensor) -> Tensor:
    """Return [L, S] float32, the cosine of each token's state with its state in the first layer.

    Args:
        states: [L, S, D], the embeddings first.
    """
    return torch.nn.functional.cosine_similarity(states.float(), states[:1].float(), dim=-1)
