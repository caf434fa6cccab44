"""Cross-entropy over the positions that count, at vocabulary size.

Letters: N positions, C classes.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

IGNORED_LABEL = -100


def cross_entropy_sum(logits: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """Return the summed cross-entropy over labels other than -100, and how many score highest.

    Args:
        logits: [N, C] floating point; the arithmetic is float32.
        labels: [N] int64 in [0, C), or -100 for a position that does not count.

    Returns:
        Loss [] float32, 0 with zero gradient when no label counts; correct [] int64, the number
        of counted labels that no other class outscores.
    """
    loss: Tensor
    if logits.is_cuda:
        loss = F.cross_entropy(logits.float(), labels, ignore_index=IGNORED_LABEL, reduction="sum")
    else:
        loss = _CrossEntropySum.apply(logits, labels)
    with torch.no_grad():
        picked = logits.gather(1, labels.clamp(min=0)[:, None])[:, 0]
        correct = (picked >= logits.amax(dim=1)) & (labels != IGNORED_LABEL)
    return loss, correct.sum()


class _CrossEntropySum(torch.autograd.Function):
    """Summed cross-entropy that never holds [N, C] in float32: blocks of rows fit the cache."""

    BLOCK_VALUES = 2**17

    @staticmethod
    def forward(ctx: Any, logits: Tensor, labels: Tensor) -> Tensor:
        """Return the sum of log(sum(exp(logits))) - logits[label] over counted rows."""
        normalizer = torch.empty((logits.shape[0], 1), device=logits.device)
        for rows in _CrossEntropySum._blocks(logits):
            normalizer[rows] = logits[rows].float().logsumexp(dim=1, keepdim=True)
        ctx.save_for_backward(logits, labels, normalizer)
        losses = normalizer - logits.gather(1, labels.clamp(min=0)[:, None])
        return losses[:, 0].masked_fill_(labels == IGNORED_LABEL, 0.0).sum()

    @staticmethod
    def backward(ctx: Any, sum_gradient: Tensor) -> tuple[Tensor, None]:
        """Return (softmax(logits) - one-hot) of counted rows, times the sum's gradient."""
        logits, labels, normalizer = ctx.saved_tensors
        counted = (labels != IGNORED_LABEL)[:, None] * sum_gradient  # [N, 1] float32
        gradient = torch.empty_like(logits)
        for rows in _CrossEntropySum._blocks(logits):
            shifted = logits[rows] - normalizer[rows]  # a new tensor, in float32
            gradient[rows] = shifted.exp_().mul_(counted[rows])
        target = labels.clamp(min=0)
        at_target = (logits.gather(1, target[:, None]) - normalizer).expm1_()  # softmax - 1
        gradient[torch.arange(len(target)), target] = (at_target * counted)[:, 0].to(logits.dtype)
        return gradient, None

    @staticmethod
    def _blocks(logits: Tensor) -> Iterator[slice]:
        num_rows = max(1, _CrossEntropySum.BLOCK_VALUES // logits.shape[1])
        for start in range(0, logits.shape[0], num_rows):
            yield slice(start, start + num_rows)


def cross_entropy_mean(logits: Tensor, labels: Tensor) -> Tensor:
    """Return the mean cross-entropy over labels other than -100, in float32.

    Args:
        logits: [N, C] floating point.
        labels: [N] int64 in [0, C), or -100 for a position that does not count.

    Returns:
        [] float32; 0 with zero gradient when no label counts, where Hugging Face gives NaN.
    """
    count = (labels != IGNORED_LABEL).sum().clamp(min=1)
    return cross_entropy_sum(logits, labels)[0] / count
