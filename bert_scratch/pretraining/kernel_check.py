"""Check on this machine that torch's kernels for packed rows compute what the formula says."""

from __future__ import annotations

import torch
from torch import Tensor

from bert_scratch.model.attention import RowBounds, attention, combined_bias, packed_attention
from bert_scratch.training.runtime import Runtime

AGREEMENT = 3e-2
"""Largest norm of an error relative to that of the right result; bfloat16 makes about 4e-3."""


def kernels_agree(runtime: Runtime, *, head_size: int, longest_row: int) -> bool:
    """Tell whether `packed_attention` and its gradients match the formula, row by row.

    A step's loss cannot tell, because at first it hardly depends on what attends to what.

    Args:
        runtime: device and dtype of the run.
        head_size: of the model.
        longest_row: of the run.
    """
    lengths = torch.tensor([longest_row, 1, max(1, longest_row // 2), max(1, longest_row - 1)])
    starts = torch.cat([torch.zeros(1, dtype=torch.int64), lengths.cumsum(0)]).int()
    generator = torch.Generator().manual_seed(0)
    drawn = torch.randn(4, int(lengths.sum()), 2, head_size, generator=generator)
    *inputs, gradient = drawn.to(runtime.device, runtime.dtype).unbind(0)
    rows = RowBounds(starts.to(runtime.device), longest_row)

    def by_kernel(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        return packed_attention(query, key, value, rows)

    def by_formula(*parts: Tensor) -> Tensor:
        query, key, value = (part.float()[None].transpose(1, 2) for part in parts)
        bias = combined_bias(None, None, rows.bounds, num_tokens=len(parts[0]), dtype=torch.float32)
        mixed, _ = attention(query, key, value, bias, backend="explicit")
        return mixed[0].transpose(0, 1)

    found = []
    for compute in (by_kernel, by_formula):
        leaves = [part.clone().requires_grad_() for part in inputs]
        mixed = compute(*leaves)
        gradients = torch.autograd.grad(mixed, leaves, gradient.to(mixed.dtype))
        found.append([part.float() for part in (mixed, *gradients)])
    return all(
        bool(torch.linalg.vector_norm(mine - right) <= AGREEMENT * right.norm())
        for mine, right in zip(*found, strict=True)
    )
