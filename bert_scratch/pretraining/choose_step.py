"""Decide whether a new run's steps are compiled and packed, on a GPU by trying each."""

from __future__ import annotations

from dataclasses import replace

import torch

from bert_scratch.pretraining.assemble import Parts
from bert_scratch.pretraining.kernel_check import kernels_agree
from bert_scratch.pretraining.resolve import (
    expected_steps,
    filled,
    micro_batch_size,
    resolve_length,
    why_not_packed,
)
from bert_scratch.pretraining.run_folder import PretrainRunFolder
from bert_scratch.pretraining.step_probe import StepProbe, Trial, does_not_fit, probe_step
from bert_scratch.training.compiled import MAX_SHAPES
from bert_scratch.training.memory import release_memory, within_memory
from bert_scratch.training.metrics import duration
from bert_scratch.training.objective import PRETRAINING

WAYS = ("compile", "packed")
"""Settings to try, in this order, each on top of those adopted. Launching many small kernels hides
what packing saves, so the compiler comes first."""
AGREEMENT = 5e-2
"""Relative difference allowed in loss and gradient norm of a step made another way: a compiled
step's dropout draws other bits."""


def fix_length_and_step(
    parts: Parts, folder: PretrainRunFolder, *, may_halve: bool
) -> tuple[Parts, Trial]:
    """Do what `fix_length` does, and decide on --compile and --packed if they were left out.

    Raises:
        InputError: as `fix_length` does.
    """
    fixed, trial = fix_length(parts, folder, may_halve=may_halve)
    open_ways = [name for name in WAYS if getattr(parts.config, name) is None]
    if parts.runtime.device.type != "cuda":  # a CPU gains little, so nothing is tried or reported
        not_taken = dict.fromkeys(open_ways, False)
        return replace(fixed, config=fixed.config.replace(**not_taken)), trial
    best = trial.step
    for name in open_ways:
        probe, reason = _try(_with_way(fixed, name, True, ""), name, best)
        best = best if probe is None else probe
        parts = _with_way(parts, name, probe is not None, reason)
        fixed = _with_way(fixed, name, probe is not None, reason)
    if best is trial.step:
        return fixed, trial
    return fix_length(parts, folder, may_halve=may_halve)


def fix_length(parts: Parts, folder: PretrainRunFolder, *, may_halve: bool) -> tuple[Parts, Trial]:
    """Measure a step, then fill in steps and warm-up; a time limit leaves the steps open.

    Args:
        parts: of a new run.
        folder: of the run.
        may_halve: whether to try smaller forward passes if the GPU runs out of memory.

    Raises:
        InputError: if even the smallest, or the requested one, does not fit.
    """
    warm = parts.with_config(parts.config.replace(num_warmup_steps=10))
    trial = within_memory(lambda: warm.try_out(folder.rehearsal))
    if trial is None:
        rows = micro_batch_size(parts.config)
        if rows == 1 or not may_halve:
            raise does_not_fit(rows, parts.runtime.device)
        reason = f"--micro-batch-size {rows // 2}: {rows} did not fit the GPU's memory"
        smaller = parts.config.replace(micro_batch_size=rows // 2)
        parts = replace(parts, config=smaller, reasons=[*parts.reasons, reason])
        return fix_length(parts, folder, may_halve=True)
    config, reasons = resolve_length(
        parts.config, num_examples=parts.loader.num_examples, step_s=trial.step.step_s
    )
    return replace(parts, config=config, reasons=[*parts.reasons, *reasons]), trial


def _with_way(parts: Parts, name: str, is_taken: bool, reason: str) -> Parts:
    flag = f"--{name}" if is_taken else f"--no-{name}"
    config = parts.config.replace(**{name: is_taken})
    return replace(parts, config=config, reasons=[*parts.reasons, f"{flag}: {reason}"])


def _try(parts: Parts, name: str, best: StepProbe) -> tuple[StepProbe | None, str]:
    """Return what a step costs this way, or None if it should not be used; and the reason."""
    try:
        obstacle = _obstacle(parts, name)
        if obstacle is not None:
            return None, obstacle
        probe = within_memory(lambda: _probe(parts))
    except torch.AcceleratorError:  # the GPU is unusable for this process from now on
        raise
    except Exception as error:  # the compiler or kernel may raise anything; the plain step runs
        first_line = str(error).partition("\n")[0]
        why = f"such a step does not run here ({type(error).__name__}: {first_line})"
    else:
        if probe is None:
            return None, "such a step does not fit the GPU's memory"
        run_s = best.step_s * expected_steps(parts.config, best.step_s)
        is_taken, reason = judge(best, probe, run_s=run_s)
        return probe if is_taken else None, reason
    release_memory()
    return None, why


def _obstacle(parts: Parts, name: str) -> str | None:
    """Return why a way need not be timed, or None."""
    config, shape = parts.config, parts.bert_config
    if name == "compile":
        return "--deterministic promises the same bits" if config.deterministic else None
    why = why_not_packed(config, shape)
    if why is None and not kernels_agree(
        parts.runtime,
        head_size=shape.head_size,
        longest_row=filled(config.max_seq_length),
    ):
        why = "its attention kernels do not compute the same as the formula"
    return why


def judge(best: StepProbe, probe: StepProbe, *, run_s: float) -> tuple[bool, str]:
    """Return whether to adopt a step made another way, and why.

    It is adopted if it computes the same and makes the whole run faster, including the time to
    compile, which is that of the first step for each shape.

    Args:
        best: the fastest way so far.
        probe: the other way.
        run_s: seconds that all steps take the fastest way so far.
    """
    losses = [PRETRAINING.means(each.sums)["loss"] for each in (best, probe)]
    norms = [each.grad_norm for each in (best, probe)]
    if not all(abs(a - b) <= AGREEMENT * a for a, b in (losses, norms)):
        return False, "such a step does not compute the same as one without"
    ratio = best.step_s / probe.step_s
    if ratio <= 1:
        return False, f"such a step takes {1 / ratio:.2f}x the time of one without"
    compiling_s = MAX_SHAPES * probe.first_s
    if compiling_s > run_s - run_s / ratio:
        return False, (
            f"such a step is {ratio:.2f}x as fast as one without, which does not make up for the "
            f"{duration(compiling_s)} of starting it in a run of {duration(run_s)}"
        )
    return True, f"such a step is {ratio:.2f}x as fast as one without"


def _probe(parts: Parts) -> StepProbe:
    return probe_step(parts.build_updater(parts.build_model()), parts.loader.batch_at(0))
