"""Optimizers that torch does not provide in the form needed.

Both honour `found_inf` as torch's fused AdamW does: if that tensor is not zero, neither weights nor
moments change, and the host need not know.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

MOMENTUM = 0.95
"""Decay rate of Muon's averaged gradient."""
NUM_ITERATIONS = 5
"""Number of Newton-Schulz iterations."""
VALUES_AT_ONCE = 2**24
"""Weights that Google's Adam updates together: it holds eight more values for each of them."""


class GoogleAdamW(torch.optim.Optimizer):
    """Adam with decoupled decay and without bias correction, as used to train Google's BERT.

    The update is `p -= lr * (m / (sqrt(v) + eps) + decay * p)`.

    Source:
        google-research/bert `AdamWeightDecayOptimizer`; google-research/bert issue 153 calls the
        missing correction an oversight that warm-up makes harmless.
    """

    def __init__(
        self,
        params: Iterable[dict[str, Any]],
        *,
        lr: float,
        betas: tuple[float, float],
        eps: float,
    ) -> None:
        super().__init__(params, {"lr": lr, "betas": betas, "eps": eps, "weight_decay": 0.0})
        self.found_inf: Tensor | None = None

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        """Update every parameter that has a gradient."""
        for group in self.param_groups:
            parameters = [p for p in group["params"] if p.grad is not None]
            if not parameters:
                continue
            for p in parameters:
                if not self.state[p]:
                    self.state[p] = {
                        "exp_avg": torch.zeros_like(p),
                        "exp_avg_sq": torch.zeros_like(p),
                    }
            for part in _in_parts(parameters):
                self._update(group, part)

    def _update(self, group: dict[str, Any], parameters: list[Tensor]) -> None:
        gradients = [p.grad for p in parameters if p.grad is not None]
        first = [self.state[p]["exp_avg"] for p in parameters]
        second = [self.state[p]["exp_avg_sq"] for p in parameters]
        beta1, beta2 = group["betas"]
        new_first = torch._foreach_lerp(first, gradients, 1.0 - beta1)
        new_second = torch._foreach_mul(second, beta2)
        torch._foreach_addcmul_(new_second, gradients, gradients, 1.0 - beta2)
        divisor = torch._foreach_sqrt(new_second)
        torch._foreach_add_(divisor, group["eps"])
        update = torch._foreach_div(new_first, divisor)
        torch._foreach_add_(update, parameters, alpha=group["weight_decay"])
        new_parameters = torch._foreach_add(parameters, update, alpha=-group["lr"])
        old = (*parameters, *first, *second)
        _replace(old, (*new_parameters, *new_first, *new_second), unless=self.found_inf)


class Muon(torch.optim.AdamW):
    """Muon for the encoder's matrices, torch's fused AdamW for everything else.

    A matrix moves by its averaged gradient with all singular values brought near 1, so that no
    direction is neglected. The move is as large as one of AdamW's, so both share learning rate and
    decay.

    Args:
        params: groups of matrices and other parameters.
        num_stacked: the matrices, and how many each holds stacked vertically.
        arithmetic: dtype of the iteration's matrix products; float16 is replaced by float32,
            since its range is too small for the entries of a large matrix.
        options: of `torch.optim.AdamW`.

    Source:
        Jordan et al. 2024, "Muon: an optimizer for hidden layers in neural networks". The size of
        a move, 0.2 sqrt(max(m, n)), is that of Liu et al. 2025, "Muon is scalable for LLM
        training", section 2.2.
    """

    def __init__(
        self,
        params: Iterable[dict[str, Any]],
        *,
        num_stacked: Mapping[Tensor, int],
        arithmetic: torch.dtype,
        **options: Any,
    ) -> None:
        super().__init__(params, fused=True, **options)
        self.num_stacked = num_stacked
        self.arithmetic = torch.float32 if arithmetic == torch.float16 else arithmetic
        self.found_inf: Tensor | None = None

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        """Update every parameter that has a gradient; gradients of matrices are consumed."""
        for group in self.param_groups:
            matrices = [p for p in group["params"] if p.grad is not None and p in self.num_stacked]
            if matrices:
                self._update(group, matrices)
            for p in matrices:
                p.grad = None  # leave only the rest to AdamW
        super().step()

    def _update(self, group: dict[str, Any], matrices: list[Tensor]) -> None:
        for p in matrices:
            if not self.state[p]:
                self.state[p] = {"exp_avg": torch.zeros_like(p)}
        averages = [self.state[p]["exp_avg"] for p in matrices]
        gradients = [p.grad for p in matrices if p.grad is not None]
        learning_rate = group["lr"]
        if self.found_inf is not None:  # where it is nonzero, averages and matrices do not change
            usable = self.found_inf == 0
            gradients = [
                torch.where(usable, *pair) for pair in zip(gradients, averages, strict=True)
            ]
            learning_rate = learning_rate * usable
        torch._foreach_lerp_(averages, gradients, 1.0 - MOMENTUM)
        ahead = torch._foreach_lerp(gradients, averages, MOMENTUM)
        torch._foreach_mul_(matrices, 1.0 - learning_rate * group["weight_decay"])
        for parts, directions in self._alike(matrices, ahead):
            moves = orthogonalised(torch.stack(directions)).float()
            moves *= -learning_rate * 0.2 * max(moves.shape[1:]) ** 0.5
            torch._foreach_add_(parts, moves.unbind())

    def _alike(
        self, matrices: Sequence[Tensor], directions: Sequence[Tensor]
    ) -> Iterable[tuple[list[Tensor], list[Tensor]]]:
        """Return the matrices of each shape, stacked ones split, and their directions."""
        alike: dict[torch.Size, tuple[list[Tensor], list[Tensor]]] = {}
        for matrix, direction in zip(matrices, directions, strict=True):
            count = self.num_stacked[matrix]
            for part, its_direction in zip(
                matrix.chunk(count), direction.to(self.arithmetic).chunk(count), strict=True
            ):
                parts, their_directions = alike.setdefault(part.shape, ([], []))
                parts.append(part)
                their_directions.append(its_direction)
        return alike.values()


def orthogonalised(matrices: Tensor) -> Tensor:
    """Bring the singular values of matrices near 1, keeping their singular vectors.

    Values that were not tiny end between 0.7 and 1.2.

    Args:
        matrices: [N, m, n] floating point.

    Source:
        The quintic Newton-Schulz iteration of Jordan et al. 2024, with its coefficients.
    """
    a, b, c = 3.4445, -4.7750, 2.0315
    x: Tensor = matrices / (torch.linalg.vector_norm(matrices, dim=(1, 2), keepdim=True) + 1e-7)
    is_wide = x.shape[1] <= x.shape[2]
    for _ in range(NUM_ITERATIONS):
        gram = x @ x.mT if is_wide else x.mT @ x  # the smaller of the two
        polynomial = torch.baddbmm(gram, gram, gram, beta=b, alpha=c)
        factors = (polynomial, x) if is_wide else (x, polynomial)
        x = torch.baddbmm(x, *factors, beta=a)
    return x


def _in_parts(parameters: Sequence[Tensor]) -> Iterator[list[Tensor]]:
    """Yield a few parameters at a time, with at most `VALUES_AT_ONCE` values or only one."""
    part: list[Tensor] = []
    num_values = 0
    for p in parameters:
        if part and num_values + p.numel() > VALUES_AT_ONCE:
            yield part
            part, num_values = [], 0
        part.append(p)
        num_values += p.numel()
    yield part


def _replace(old: Sequence[Tensor], new: Sequence[Tensor], *, unless: Tensor | None) -> None:
    """Copy new values over old ones; if the flag is not zero, the old ones stay."""
    if unless is not None:
        usable = unless == 0
        new = [torch.where(usable, *pair) for pair in zip(new, old, strict=True)]
    torch._foreach_copy_(list(old), list(new))
