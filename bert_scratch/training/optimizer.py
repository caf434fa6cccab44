"""The optimizer with BERT's decay groups, clipping, and moments as named tensors."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from bert_scratch.training.loss_scale import LossScale
from bert_scratch.training.update_rules import GoogleAdamW, Muon

MOMENTS = ("exp_avg", "exp_avg_sq")


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
    """Return groups of decayed and undecayed parameters, in the model's order.

    Args:
        model: parameters that need no gradient are left out.
        weight_decay: of the decayed parameters.
        lr_scale: parameter's name -> factor on its learning rate; each factor has its own
            groups. None: 1 for all.
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


def encoder_matrices(model: nn.Module) -> dict[Tensor, int]:
    """Return the encoder layers' matrices, and how many each stacks (query, key, value: 3)."""
    return {
        p: 3 if "query_key_value" in name else 1
        for name, p in model.named_parameters()
        if p.requires_grad and p.ndim == 2 and "layers" in name.split(".")
    }


def build_optimizer(
    model: nn.Module,
    *,
    learning_rate: float,
    weight_decay: float,
    betas: tuple[float, float],
    epsilon: float,
    bias_correction: bool,
    lr_scale: Callable[[str], float] | None = None,
    muon_dtype: torch.dtype | None = None,
) -> torch.optim.Optimizer:
    """Return the optimizer over `parameter_groups`.

    Args:
        model: on its device.
        learning_rate: before a group's `lr_scale`.
        weight_decay: of the decayed parameters.
        betas: of Adam's moments.
        epsilon: added to the root of the second moment.
        bias_correction: True for torch's fused AdamW, False for Google's uncorrected one.
        lr_scale: see `parameter_groups`.
        muon_dtype: train the encoder's matrices with Muon, whose products have this dtype, and
            the rest with the fused AdamW; None: AdamW for all.
    """
    groups = parameter_groups(model, weight_decay, lr_scale)
    options: dict[str, Any] = {"lr": learning_rate, "betas": betas, "eps": epsilon}
    if muon_dtype is not None:
        return Muon(groups, num_stacked=encoder_matrices(model), arithmetic=muon_dtype, **options)
    if bias_correction:
        return torch.optim.AdamW(groups, fused=True, **options)
    return GoogleAdamW(groups, **options)


def clip_and_step(
    optimizer: torch.optim.Optimizer,
    *,
    learning_rate: float,
    max_grad_norm: float,
    loss_scale: LossScale | None = None,
) -> Tensor:
    """Clip by the global norm and update, unless a gradient is not finite; return the norm.

    The decision stays on the device: a non-finite norm sets `found_inf`, which the update honours,
    so no bad value reaches weights or moments and the host never waits.

    Args:
        optimizer: from `build_optimizer`, with gradients filled in.
        learning_rate: of this update, before a group's `lr_scale`.
        max_grad_norm: the global norm above which gradients are scaled down; 0 never scales.
        loss_scale: the scale to divide out of the gradients; adapted afterwards.

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
    """Return {"exp_avg": {name: tensor}, "exp_avg_sq": {...}} under the model's names.

    Parameters trained with Muon have no `exp_avg_sq`.
    """
    return {
        kind: {
            name: optimizer.state[p][kind]
            for name, p in model.named_parameters()
            if p in optimizer.state and kind in optimizer.state[p]
        }
        for kind in MOMENTS
    }


def load_moments(
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    saved: Mapping[str, Mapping[str, Tensor]],
    *,
    num_updates: int,
) -> None:
    """Restore saved moments, so that the next update equals that of an uninterrupted run.

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
                **{
                    kind: saved[kind][name].to(p.device, torch.float32).clone()
                    for kind in MOMENTS
                    if name in saved[kind]
                },
            }
