"""Dynamic loss scaling, which keeps small float16 gradients from vanishing."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

INITIAL_SCALE, GROWTH_FACTOR, BACKOFF_FACTOR, GROWTH_INTERVAL = 2.0**16, 2.0, 0.5, 2000
LOWEST_SCALE = 1.0
"""An overflow below this scale is a failure of training, not of the scale."""


class LossScale:
    """A factor on the loss, adapted by trial: halved on overflow, doubled after long without one.

    Scale and count stay on the device, so that no step waits for the host.

    Source:
        Micikevicius et al. 2017, "Mixed precision training", section 3.2; factors and interval as
        in `torch.amp.GradScaler`.
    """

    def __init__(self, device: torch.device, *, initial: float = INITIAL_SCALE) -> None:
        self.scale = torch.tensor(initial, device=device)
        self.updates_since = torch.tensor(0.0, device=device)
        """Updates without overflow since the scale was last changed."""

    def scaled(self, loss: Tensor) -> Tensor:
        """Return the loss [] float32, scaled up, so that its gradients are scaled too."""
        return loss * self.scale

    def unscale_(self, gradients: list[Tensor]) -> None:
        """Undo the scaling of float32 gradients in place; powers of two lose no bits."""
        torch._foreach_mul_(gradients, 1.0 / self.scale)

    def adapt(self, overflowed: Tensor) -> None:
        """Change the scale for the next update.

        Args:
            overflowed: [] float32 on the device, nonzero if a gradient was not finite.
        """
        count = torch.where(overflowed != 0, 0.0, self.updates_since + 1)
        grows = count >= GROWTH_INTERVAL
        factor = torch.where(grows, GROWTH_FACTOR, 1.0)
        factor = torch.where(overflowed != 0, BACKOFF_FACTOR, factor)
        self.scale = self.scale * factor
        self.updates_since = torch.where(grows, 0.0, count)

    def is_lowest(self) -> Tensor:
        """Return [] bool, whether the scale is so low that it cannot explain an overflow."""
        return self.scale < LOWEST_SCALE

    def state(self) -> dict[str, float]:
        """Return the state for a checkpoint."""
        return {"scale": self.scale.item(), "updates_since": self.updates_since.item()}

    def load(self, state: Mapping[str, float]) -> None:
        """Restore what `state` returned."""
        self.scale.fill_(state["scale"])
        self.updates_since.fill_(state["updates_since"])
