"""One real training step, timed and weighed before the run, on a model that is thrown away."""

from __future__ import annotations

import resource
import sys
import time
from dataclasses import dataclass

import torch

from bert_scratch.batch import Batch
from bert_scratch.model.heads import BertForPreTraining
from bert_scratch.training.loop import Plan, update
from bert_scratch.training.runtime import Runtime


@dataclass(frozen=True, kw_only=True)
class StepProbe:
    """What a step of the run costs on this machine."""

    step_s: float
    peak_memory_bytes: int
    """Of the process on a CPU, of the device's allocator on a GPU."""
    sums: list[float]
    """The step's sums, in the order of `training.objective.SUMS`."""


def probe_step(
    model: BertForPreTraining,
    optimizer: torch.optim.Optimizer,
    batch: Batch,
    *,
    plan: Plan,
    runtime: Runtime,
) -> StepProbe:
    """Make three updates and report the fastest of the last two.

    Args:
        model: freshly initialised; it is worn out afterwards.
        optimizer: over its parameters.
        batch: a full batch of the run.
        plan: of the run.
        runtime: of the run.
    """
    if runtime.device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(runtime.device)
    model.train()
    seconds = []
    sums: list[float] = []
    for step in range(3):
        start = time.perf_counter()
        made, _ = update(model, optimizer, batch, plan, runtime, step, 0.0)
        sums = sums or made
        seconds.append(time.perf_counter() - start)
    return StepProbe(step_s=min(seconds[1:]), peak_memory_bytes=_peak_memory(runtime), sums=sums)


def _peak_memory(runtime: Runtime) -> int:
    if runtime.device.type == "cuda":
        return torch.cuda.max_memory_allocated(runtime.device)
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
