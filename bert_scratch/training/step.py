"""One update: micro-batches, backward, sums over ranks, clip, optimizer; and evaluation."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from typing import Any, Generic, NamedTuple, TypeVar

import torch
from torch import Tensor, nn
from torch.profiler import record_function

from bert_scratch.training.all_reduce import IN_ONE_PROCESS, AllReduce, Totals
from bert_scratch.training.distributed import Ranks
from bert_scratch.training.interruption import StopRequest
from bert_scratch.training.loss_scale import LossScale
from bert_scratch.training.module_norms import ModuleNorms
from bert_scratch.training.objective import BatchT, Objective, StepBatch
from bert_scratch.training.optimizer import clip_and_step
from bert_scratch.training.runtime import Runtime, seed_dropout

ValueT = TypeVar("ValueT")

FORWARD, BACKWARD, UPDATE = "forward", "backward", "clip and optimizer"
"""Names of the parts of a step in a profile."""


class NonFinite(Exception):
    """A loss or gradient was infinite or NaN; the weights are those before the step.

    Args:
        message: where and what.
        num_tokens: real tokens of the step that was not made.
    """

    exit_code = 3

    def __init__(self, message: str, num_tokens: int = 0) -> None:
        super().__init__(message)
        self.num_tokens = num_tokens


@dataclass(frozen=True, kw_only=True)
class StepResult:
    """The results of an update for the log."""

    sums: list[float]
    """Sums over all ranks, in the order of the objective's `sum_names`."""
    grad_norm: float
    """Gradient norm before clipping."""
    num_tokens: int
    """Real tokens of all ranks."""
    num_positions: int
    """Positions that all ranks computed, padding included."""
    module_grad_norms: dict[str, float] = field(default_factory=dict)
    """Gradient norms before clipping, by module; empty unless requested."""
    overflowed: bool = False
    """Whether gradients overflowed float16: the update was skipped and the scale lowered."""


class _AfterSums(NamedTuple, Generic[ValueT]):
    """What is added up over the ranks, in this order, after the sums of an objective."""

    grad_norm: ValueT
    is_lowest: ValueT
    """Whether the loss scale is the lowest."""
    num_tokens: ValueT
    num_positions: ValueT


@dataclass(frozen=True, kw_only=True)
class PendingUpdate:
    """An update, made or still running on the device, whose sums have not been read yet."""

    step: int
    batch: StepBatch
    objective: Objective[Any]
    totals: Totals
    """The objective's sums, then `_AfterSums`."""
    own_sums: Tensor
    """The sums of this rank."""
    own_norm: Tensor
    """The gradient norm of this rank."""
    ranks: Ranks
    module_grad_norms: dict[str, float]
    is_scaled: bool
    """Whether there is a loss scale."""

    def result(self) -> StepResult:
        """Wait for the update's result and return it; call this only once.

        Raises:
            NonFinite: on all ranks, if a loss or gradient is not finite; the update was not
                made. With a loss scale, only if lowering it cannot help.
        """
        totals, num_sums = self.totals.read(), len(self.objective.sum_names)
        sums, after = totals[:num_sums], _AfterSums(*totals[num_sums:])
        result = StepResult(
            sums=sums,
            grad_norm=after.grad_norm / self.ranks.world_size,
            num_tokens=int(after.num_tokens),
            num_positions=int(after.num_positions),
            module_grad_norms=self.module_grad_norms,
        )
        if _are_finite(*sums, after.grad_norm):
            return result
        if self.is_scaled and not after.is_lowest and _are_finite(*sums):
            return replace(result, overflowed=True)
        own = dict(zip(self.objective.sum_names, self.own_sums.tolist(), strict=True))
        own["gradient norm"] = self.own_norm.item()
        message = _non_finite_message(own, self.step, self.batch, self.ranks)
        raise NonFinite(message, result.num_tokens)


@dataclass(frozen=True, kw_only=True)
class Updater(Generic[BatchT]):
    """Makes the updates of a run; the fields are what all updates share."""

    model: nn.Module
    """The model in training mode, on the runtime's device; the same on all ranks."""
    optimizer: torch.optim.Optimizer
    """The optimizer over the model's parameters, from `build_optimizer`."""
    objective: Objective[BatchT]
    """The objective whose loss is minimised."""
    runtime: Runtime
    seed: int
    """The run's seed; dropout is a function of it and the step."""
    micro_batch_size: int
    """Examples per forward pass."""
    max_grad_norm: float
    """The global norm above which gradients are scaled down; 0 never scales."""
    arrange: Callable[[Any], Any] | None = None
    """Rearranges each micro-batch: packed, or padded to one of a few shapes."""
    all_reduce: AllReduce = IN_ONE_PROCESS
    """Sums over the ranks, which all make the same updates."""
    loss_scale: LossScale | None = None
    """The loss scale for float16, adapted after each update."""

    def update(
        self,
        batch: BatchT,
        *,
        step: int,
        learning_rate: float,
        module_norms: ModuleNorms | None = None,
    ) -> PendingUpdate:
        """Make one update from one batch, in micro-batches, without waiting for the device.

        A loss or gradient that is not finite changes neither weights nor moments, even if that is
        noticed later.

        Args:
            batch: this rank's examples of the step, on the CPU.
            step: updates made before.
            learning_rate: of this update.
            module_norms: measures this step's gradients, if given.

        Raises:
            PeerEnded: if another rank has ended; the update was not made.
        """
        total, num_positions = self._add_gradients(batch, step)
        self.all_reduce.sum_gradients(self.model.parameters())
        norms = {} if module_norms is None else module_norms.of_gradients(self.loss_scale)
        with record_function(UPDATE):
            norm = clip_and_step(
                self.optimizer,
                learning_rate=learning_rate,
                max_grad_norm=self.max_grad_norm,
                loss_scale=self.loss_scale,
            )
            self.optimizer.zero_grad(set_to_none=True)
        own_norm = self.all_reduce.own_norm
        return PendingUpdate(
            step=step,
            batch=batch,
            objective=self.objective,
            totals=self.all_reduce.totals(self._summands(total, norm, batch, num_positions)),
            own_sums=total,
            own_norm=norm if own_norm is None else own_norm,
            ranks=self.all_reduce.ranks,
            module_grad_norms=norms,
            is_scaled=self.loss_scale is not None,
        )

    def _add_gradients(self, batch: BatchT, step: int) -> tuple[Tensor, int]:
        """Run forward and backward on each micro-batch; return the sums and number of positions."""
        device, rank = self.runtime.device, self.all_reduce.ranks.rank
        counts = self.objective.counts(batch).to(device, non_blocking=True)
        counts = self.all_reduce.sum_(counts).clamp(min=1)
        total = torch.zeros(len(self.objective.sum_names), device=device)
        num_positions = 0
        for micro_step, micro_batch in enumerate(batch.split(self.micro_batch_size)):
            if self.arrange is not None:
                micro_batch = self.arrange(micro_batch)
            seed_dropout(self.seed, step=step, micro_step=micro_step, rank=rank)
            if device.type == "cuda":
                micro_batch = micro_batch.pin_memory()  # otherwise the copy waits for the device
            micro_batch = micro_batch.to(device, non_blocking=True)
            with record_function(FORWARD), self.runtime.autocast():
                loss, sums = self.objective.loss(self.model, micro_batch, counts)
            with record_function(BACKWARD):
                scale = self.loss_scale
                torch.autograd.backward(loss if scale is None else scale.scaled(loss))
            total += sums
            num_positions += micro_batch.num_positions
        return total, num_positions

    def _summands(self, sums: Tensor, norm: Tensor, batch: BatchT, num_positions: int) -> Tensor:
        """Return what to sum over the ranks, in float64: the sums, then `_AfterSums`."""
        scale = self.loss_scale
        sizes = torch.tensor([batch.num_tokens, num_positions], dtype=torch.float64)
        sizes = sizes.to(self.runtime.device, non_blocking=True)
        after = _AfterSums(
            grad_norm=norm,
            is_lowest=torch.zeros_like(norm) if scale is None else scale.is_lowest(),
            num_tokens=sizes[0],
            num_positions=sizes[1],
        )
        return torch.cat([sums.double(), torch.stack([value.double() for value in after])])


def _are_finite(*values: float) -> bool:
    return all(value - value == 0.0 for value in values)


def _non_finite_message(own: dict[str, float], step: int, batch: StepBatch, ranks: Ranks) -> str:
    """Return the same message on every rank; each tells the others what it has found.

    Args:
        own: losses and gradient norm of this rank.
        step: updates made before.
        batch: of this rank.
        ranks: all must take part.
    """
    found = ", ".join(
        f"{name} {v:g}" for name, v in own.items() if "loss" in name or "norm" in name
    )
    where = f"rank {ranks.rank}: " if ranks.world_size > 1 else ""
    here = f"{where}{found}. {batch.describe_examples()}"
    told = ranks.from_all(f"step {step}", "finite" if _are_finite(*own.values()) else here)
    bad = "; ".join(text for text in told if text != "finite") or here
    return (
        f"step {step}: the update was not made. {bad}. A lower --learning-rate or a longer "
        f"warm-up usually helps"
    )


def evaluation_sums(
    model: nn.Module,
    batches: Iterable[BatchT],
    *,
    objective: Objective[BatchT],
    runtime: Runtime,
    all_reduce: AllReduce = IN_ONE_PROCESS,
    stop: StopRequest | None = None,
) -> list[float]:
    """Return the sums of an objective over the batches of all ranks, without gradients.

    The ranks proceed in lockstep, each through its own batches, until none has any left. A stop
    ends this early; with several ranks it is that of `all_reduce`, which all follow at once.
    """
    total = torch.zeros(len(objective.sum_names), dtype=torch.float64)
    remaining = iter(batches)
    with torch.inference_mode():
        while not stop:
            batch = next(remaining, None)
            sums = torch.zeros(len(objective.sum_names), device=runtime.device)
            if batch is not None:
                counts = objective.counts(batch).clamp(min=1).to(runtime.device)
                batch = batch.to(runtime.device, non_blocking=True)
                with runtime.autocast():
                    _, sums = objective.loss(model, batch, counts)
            is_there = sums.new_tensor([float(batch is not None)])
            *found, num_batches = all_reduce.totals(torch.cat([sums, is_there]).double()).read()
            if not num_batches:
                break
            total += torch.tensor(found, dtype=torch.float64)
    values: list[float] = total.tolist()
    return values
