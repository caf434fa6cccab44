"""Matrix products of 8-bit integers, several times as fast as float32 on a CPU."""

from __future__ import annotations

from typing import TypeVar

import torch
from torch import Tensor, nn

LARGEST = 127
"""Largest int8 value used; -128 is left out, so that the range is symmetric."""

AnyModel = TypeVar("AnyModel", bound=nn.Module)


class Int8Linear(nn.Module):
    """x W^T + b for inference in 8-bit integers; each row of x and of W has its own scale.

    The sum of products is exact (int32); the only error is the rounding of x and W, at most half
    of 1/127 of the largest entry of a row.

    Args:
        linear: the layer to replace, in float32.

    Source:
        Dettmers et al. 2022 (LLM.int8), section 2.1, vector-wise quantisation, without their
        outlier columns.
    """

    weight: Tensor
    """[I, O] int8."""
    scale: Tensor
    """[O] float32: the value of 1 in each column of the weight."""

    def __init__(self, linear: nn.Linear) -> None:
        super().__init__()
        whole, scale = _whole_numbers(linear.weight.detach())
        self.register_buffer("weight", whole.t().contiguous())
        self.register_buffer("scale", scale.squeeze(-1))
        self.bias = linear.bias

    def forward(self, hidden_states: Tensor) -> Tensor:
        """Map [..., I] float32 to [..., O] float32."""
        rows, scale = _whole_numbers(hidden_states.reshape(-1, hidden_states.shape[-1]))
        sums = torch._int_mm(rows, self.weight)
        product = sums.float().mul_(scale).mul_(self.scale)
        if self.bias is not None:
            product += self.bias
        return product.view(*hidden_states.shape[:-1], len(self.scale))


def _whole_numbers(rows: Tensor) -> tuple[Tensor, Tensor]:
    """Quantise rows to [N, I] int8 and scales [N, 1] float32, whose product approximates them."""
    smallest = torch.finfo(rows.dtype).tiny
    scale = rows.abs().amax(dim=-1, keepdim=True).clamp_(min=smallest).div_(LARGEST)
    return (rows / scale).round_().to(torch.int8), scale


def with_int8_products(model: AnyModel) -> AnyModel:
    """Make every linear layer of a float32 model compute in int8, in place; return the model.

    Embeddings, attention between tokens, LayerNorm and softmax stay float32. So does the word
    embedding, of which the decoder gets an int8 copy. The model can no longer be trained.
    """
    for module in list(model.modules()):
        for name, child in list(module.named_children()):
            if isinstance(child, nn.Linear):
                setattr(module, name, Int8Linear(child))
    return model
