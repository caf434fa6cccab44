"""One update: micro-batches, backward, clip, optimizer; and sums without gradients."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import nn

from bert_scratch.training.interruption import StopRequest
from bert_scratch.training.objective import BatchT, Objective
from bert_scratch.training.optimizer import clip_and_step
from bert_scratch.training.runtime import Runtime, seed_dropout


class NonFinite(Exception):
    """A loss or gradient was infinite or NaN; the weights are those before that step."""

    exit_code = 3


@dataclass(frozen=True, kw_only=True)
class StepSettings:
    """How one update is made; the same for every step of a run."""

    seed: int
    micro_batch_size: int
    """Examples of a forward pass."""
    max_grad_norm: float
    """The global norm above which gradients are scaled down; 0 never scales."""


@dataclass(frozen=True, kw_only=True)
class StepResult:
    """What an update leaves behind for the log."""

    sums: list[float]
    """In the order of the objective's `sums`."""
    grad_norm: float
    """Before clipping."""
    num_positions: int
    """Positions computed, padding included."""


def update(
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    batch: BatchT,
    *,
    objective: Objective[BatchT],
    settings: StepSettings,
    runtime: Runtime,
    step: int,
    learning_rate: float,
) -> StepResult:
    """Make one update from one batch, in micro-batches.

    Args:
        model: in training mode, on the runtime's device.
        optimizer: as `build_optimizer` made it.
        batch: the examples of the step, on the CPU.
        objective: whose loss is minimised.
        settings: how.
        runtime: device and dtype.
        step: updates made before; dropout is a function of it.
        learning_rate: of this update.

    Raises:
        NonFinite: when a loss or gradient is not finite; the update was not made.
    """
    counts = objective.counts(batch).to(runtime.device, non_blocking=True)
    total = torch.zeros(len(objective.sums), device=runtime.device)
    num_positions = 0
    for micro_step, micro_batch in enumerate(batch.split(settings.micro_batch_size)):
        seed_dropout(settings.seed, step=step, micro_step=micro_step)
        micro_batch = micro_batch.to(runtime.device, non_blocking=True)
        with runtime.autocast():
            loss, sums = objective.loss(model, micro_batch, counts)
        torch.autograd.backward(loss)
        total += sums
        num_positions += micro_batch.num_positions
    norm = clip_and_step(
        optimizer, learning_rate=learning_rate, max_grad_norm=settings.max_grad_norm
    )
    optimizer.zero_grad(set_to_none=True)
    *sums_read, norm_read = torch.cat([total, norm.reshape(1)]).tolist()
    result = StepResult(sums=sums_read, grad_norm=norm_read, num_positions=num_positions)
    _check_finite(result, objective.sums, step, batch)
    return result


def _check_finite(result: StepResult, names: tuple[str, ...], step: int, batch: BatchT) -> None:
    if all(value - value == 0.0 for value in (*result.sums, result.grad_norm)):
        return
    losses = {name: v for name, v in zip(names, result.sums, strict=True) if "loss" in name}
    raise NonFinite(
        f"step {step}: {losses}, gradient norm {result.grad_norm}; the update was not made. "
        f"{batch.describe_examples()}. A lower --learning-rate or a longer --num-warmup-steps "
        f"usually helps"
    )


def sums_of(
    model: nn.Module,
    batches: Iterable[BatchT],
    *,
    objective: Objective[BatchT],
    runtime: Runtime,
    stop: StopRequest | None = None,
) -> list[float]:
    """Return the sums of an objective over batches, without gradients."""
    total = torch.zeros(len(objective.sums), dtype=torch.float64)
    with torch.inference_mode():
        for batch in batches:
            if stop:
                break
            counts = objective.counts(batch).to(runtime.device)
            with runtime.autocast():
                _, sums = objective.loss(model, batch.to(runtime.device, non_blocking=True), counts)
            total += sums.double().cpu()
    values: list[float] = total.tolist()
    return values
