"""AdamW with BERT's decay groups, an update gated on the device, and moments as named tensors."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from bert_scratch.training.loss_scale import LossScale


def decays(name: str) -> bool:
    """Tell whether a parameter is decayed: everything but biases and LayerNorm.

    Source:
        google-research/bert `optimization.py`: no decay on `LayerNorm|layer_norm|bias`, the
        vocabulary bias of the MLM head included; embeddings do decay.
    """
    parts = name.lower().replace("_", "").split(".")
    return not (parts[-1].endswith("bias") or any("layernorm" in part for part in parts))


def parameter_groups(
    model: nn.Module, weight_decay: float, lr_scale: Callable[[str], float] | None = None
) -> list[dict[str, Any]]:
    """Return the decayed and the undecayed parameters, in the model's own order.

    Args:
        model: parameters that need no gradient are left out.
        weight_decay: of the decayed ones.
        lr_scale: parameter's name -> what its learning rate is multiplied by; each value has
            groups of its own. None: 1 for all.
    """
    named = [(name, p) for name, p in model.named_parameters() if p.requires_grad]
    scales = {name: 1.0 if lr_scale is None else lr_scale(name) for name, _ in named}
    return [
        {
            "params": [p for name, p in named if decays(name) is decayed and scales[name] == scale],
            "weight_decay": weight_decay if decayed else 0.0,
            "lr_scale": scale,
        }
        for scale in dict.fromkeys(scales.values())
        for decayed in (True, False)
    ]


class GoogleAdamW(torch.optim.Optimizer):
    """Adam with decoupled decay and without bias correction, as Google's BERT trained.

    The update is `p -= lr * (m / (sqrt(v) + eps) + decay * p)`. Like torch's fused AdamW it
    honours `found_inf`: where that tensor is not zero, neither weights nor moments change.

    Source:
        google-research/bert `AdamWeightDecayOptimizer`; the missing correction is called an
        oversight that warm-up makes harmless in google-research/bert issue 153.
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
                        "step": torch.zeros(()),
                        "exp_avg": torch.zeros_like(p),
                        "exp_avg_sq": torch.zeros_like(p),
                    }
            self._update(group, parameters)

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
        for target, value in zip(old, (*new_parameters, *new_first, *new_second), strict=True):
            target.copy_(value if self.found_inf is None else self._gated(value, target))

    def _gated(self, value: Tensor, target: Tensor) -> Tensor:
        return torch.where(self.found_inf == 0, value, target)  # type: ignore[arg-type]


def build_optimizer(
    model: nn.Module,
    *,
    learning_rate: float,
    weight_decay: float,
    betas: tuple[float, float],
    epsilon: float,
    bias_correction: bool,
    lr_scale: Callable[[str], float] | None = None,
) -> torch.optim.Optimizer:
    """Return AdamW over `parameter_groups`: torch's fused one, or Google's uncorrected."""
    groups = parameter_groups(model, weight_decay, lr_scale)
    if bias_correction:
        return torch.optim.AdamW(groups, lr=learning_rate, betas=betas, eps=epsilon, fused=True)
    return GoogleAdamW(groups, lr=learning_rate, betas=betas, eps=epsilon)


def clip_and_step(
    optimizer: torch.optim.Optimizer,
    *,
    learning_rate: float,
    max_grad_norm: float,
    loss_scale: LossScale | None = None,
) -> Tensor:
    """Clip by the global norm and update, unless a gradient is not finite; return the norm.

    The decision stays on the device: a non-finite norm sets `found_inf`, which the update
    honours, so no bad value reaches weights or moments and the host waits for nothing.

    Args:
        optimizer: as `build_optimizer` made it, gradients filled in.
        learning_rate: of this update, before a group's `lr_scale`.
        max_grad_norm: the global norm above which gradients are scaled down; 0 never scales.
        loss_scale: by which the gradients are too large; adapted to what is found.

    Returns:
        [] float32, the norm before clipping, on the parameters' device.
    """
    gradients = [p.grad for g in optimizer.param_groups for p in g["params"] if p.grad is not None]
    if loss_scale is not None:
        loss_scale.unscale_(gradients)
    norm: Tensor = torch.linalg.vector_norm(torch.stack(torch._foreach_norm(gradients)))
    if max_grad_norm:
        scale = (max_grad_norm / (norm + 1e-6)).clamp(max=1.0)
        torch._foreach_mul_(gradients, scale)
    for group in optimizer.param_groups:
        group["lr"] = learning_rate * group["lr_scale"]
    found_inf = (~torch.isfinite(norm)).float()
    optimizer.found_inf = found_inf  # type: ignore[attr-defined]
    optimizer.step()
    if loss_scale is not None:
        loss_scale.adapt(found_inf)
    return norm


def moments(model: nn.Module, optimizer: torch.optim.Optimizer) -> dict[str, dict[str, Tensor]]:
    """Return {"exp_avg": {name: tensor}, "exp_avg_sq": {...}} under the model's own names."""
    return {
        kind: {
            name: optimizer.state[p][kind]
            for name, p in model.named_parameters()
            if p in optimizer.state
        }
        for kind in ("exp_avg", "exp_avg_sq")
    }


def load_moments(
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    saved: Mapping[str, Mapping[str, Tensor]],
    *,
    num_updates: int,
) -> None:
    """Put saved moments back, so that the next update equals the one that was interrupted.

    Args:
        model: the model the optimizer was built for.
        optimizer: fresh, without state.
        saved: what `moments` returned.
        num_updates: updates made so far; the bias correction counts from it.
    """
    for name, p in model.named_parameters():
        if name in saved["exp_avg"]:
            optimizer.state[p] = {
                "step": torch.tensor(float(num_updates), device=p.device),
                "exp_avg": saved["exp_avg"][name].to(p.device, torch.float32).clone(),
                "exp_avg_sq": saved["exp_avg_sq"][name].to(p.device, torch.float32).clone(),
            }
