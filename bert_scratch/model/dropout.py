"""Dropout, of hidden states and of attention weights: 16 random bits decide for each value."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class Dropout(nn.Module):
    """Set a random share of the values to zero and scale the rest up; do nothing in evaluation.

    One random 64-bit word decides for four values, 16 bits each, which is several times faster
    than one draw per value. The rate is p rounded to the nearest 2^-16, and the scale matches
    that rate, so the expected value is exact. The result depends only on the state of the default
    generator.

    Args:
        p: probability of zero, in [0, 1).

    Source:
        Srivastava et al. 2014, with the scaling moved to training time.
    """

    def __init__(self, p: float) -> None:
        super().__init__()
        self.p = p
        self.dropped = round(p * 2**16)  # out of the 2^16 values of a lane
        self.scale = 2**16 / (2**16 - self.dropped)

    def forward(self, values: Tensor) -> Tensor:
        """Return the values, of any shape and floating dtype, with a share p set to zero."""
        if not self.training or self.dropped == 0:
            return values
        if self._has_kernel(values):
            return F.dropout(values, self.p)
        return (values * self._keep(values)).mul_(self.scale)

    def added_to(self, residual: Tensor, values: Tensor) -> Tensor:
        """Return residual + dropout(values), both of the same shape and dtype, in one pass."""
        if not self.training or self.dropped == 0:
            return residual + values
        if self._has_kernel(values):
            return residual + F.dropout(values, self.p)
        return torch.addcmul(residual, values, self._keep(values), value=self.scale)

    def _has_kernel(self, values: Tensor) -> bool:
        """Tell whether torch has a fused kernel that draws and applies the mask."""
        return values.is_cuda or torch.compiler.is_compiling()

    def _keep(self, values: Tensor) -> Tensor:
        """Return a mask of ones and zeros in the shape and dtype of the values."""
        count = values.numel()
        words = torch.empty((count + 3) // 4, dtype=torch.int64, device=values.device)
        lanes = words.random_(-(2**63), None).view(torch.int16)[:count]
        return lanes.ge_(self.dropped - 2**15).view(values.shape).to(values.dtype)

    def extra_repr(self) -> str:
        """Show the rate where the module is printed."""
        return f"p={self.p}"
