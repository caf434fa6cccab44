"""The losses: cross-entropy at vocabulary size that skips ignored labels, and two simple ones.

Letters: N positions, C classes.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

IGNORED_LABEL = -100


def cross_entropy_sum(logits: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """Return the summed cross-entropy over labels other than -100, and the number correct.

    Args:
        logits: [N, C] floating point; the arithmetic is float32.
        labels: [N] int64 in [0, C), or -100 for a position that does not count.

    Returns:
        Loss [] float32, 0 with zero gradient when no label counts; correct [] int64, the number
        of counted labels that no other class outscores.
    """
    if logits.device.type != "cpu" or torch.compiler.is_compiling():  # one kernel, without blocks
        loss = F.cross_entropy(logits.float(), labels, ignore_index=IGNORED_LABEL, reduction="sum")
        with torch.no_grad():
            picked = logits.gather(1, labels.clamp(min=0)[:, None])[:, 0]
            correct = (picked >= logits.amax(dim=1)) & (labels != IGNORED_LABEL)
    else:
        loss, correct = _CrossEntropySum.apply(logits, labels)
    return loss, correct.sum()


class _CrossEntropySum(torch.autograd.Function):
    """Summed cross-entropy that never holds [N, C] in float32: blocks of rows fit in the cache.

    The gradient is computed with the loss, block by block, so that each logit is exponentiated
    once.
    """

    BLOCK_VALUES = 2**18

    @staticmethod
    def forward(ctx: Any, logits: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        """Return the sum of log(sum(exp(logits))) - logits[label] over counted rows, and [N] hits.

        Saved for backward: softmax(logits) - one-hot of counted rows, in the logits' dtype.
        """
        counted, target = labels != IGNORED_LABEL, labels.clamp(min=0)
        highest, normalizer = torch.empty(2, logits.shape[0], 1).unbind()
        gradient = torch.empty_like(logits) if ctx.needs_input_grad[0] else None
        num_rows = max(1, _CrossEntropySum.BLOCK_VALUES // logits.shape[1])
        for start in range(0, logits.shape[0], num_rows):
            rows = slice(start, start + num_rows)
            block = logits[rows].float()
            highest[rows] = block.amax(dim=1, keepdim=True)
            share = block.softmax(dim=1)
            # The largest share is exp(highest - normalizer), so its logarithm is always finite.
            normalizer[rows] = highest[rows] - share.amax(dim=1, keepdim=True).log()
            if gradient is not None:
                gradient[rows] = share
        picked = logits.gather(1, target[:, None])
        if gradient is not None:
            gradient[torch.arange(len(target)), target] = (
                (picked - normalizer).expm1_()[:, 0].to(logits.dtype)  # share - 1, exact near 0
            )
            gradient.index_fill_(0, (~counted).nonzero()[:, 0], 0.0)
            ctx.save_for_backward(gradient)
        correct = (picked >= highest)[:, 0] & counted
        ctx.mark_non_differentiable(correct)
        return (normalizer - picked)[:, 0].masked_fill_(~counted, 0.0).sum(), correct

    @staticmethod
    def backward(ctx: Any, sum_gradient: Tensor, _: None) -> tuple[Tensor, None]:
        """Return the gradient computed with the loss, times that of the sum."""
        # A number, not a tensor: a tensor of another dtype would be many times slower.
        return ctx.saved_tensors[0] * sum_gradient.item(), None


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


def binary_cross_entropy_mean(logits: Tensor, labels: Tensor) -> Tensor:
    """Return the mean binary cross-entropy of independent classes, in float32.

    Args:
        logits: [N, C] floating point.
        labels: [N, C] in [0, 1], of any dtype.

    Returns:
        [] float32.
    """
    return F.binary_cross_entropy_with_logits(logits.float(), labels.float())


def squared_error_mean(values: Tensor, targets: Tensor) -> Tensor:
    """Return the mean squared error, in float32.

    Args:
        values: of any shape, floating point.
        targets: of the same shape, of any dtype.

    Returns:
        [] float32.
    """
    return F.mse_loss(values.float(), targets.float())
