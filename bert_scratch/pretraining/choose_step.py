"""Decide whether a new run's steps are compiled and packed, on a GPU by trying each."""

from __future__ import annotations

from dataclasses import replace

import torch

from bert_scratch.pretraining.assemble import Parts
from bert_scratch.pretraining.kernel_check import kernels_agree
from bert_scratch.pretraining.pretrain_config import PretrainConfig
from bert_scratch.pretraining.resolve import filled, micro_batch_size, why_not_packed
from bert_scratch.pretraining.run_folder import PretrainRunFolder
from bert_scratch.pretraining.run_length import check_warmup, expected_steps, resolve_length
from bert_scratch.pretraining.step_probe import StepProbe, Trial, does_not_fit, probe_step
from bert_scratch.training.compiled import MAX_PADDED_SHAPES
from bert_scratch.training.memory import release_memory, within_memory
from bert_scratch.training.metrics import duration
from bert_scratch.training.objective import PRETRAINING
from bert_scratch.training.packing import NUM_SIZES

WAYS = ("compile", "packed")
"""Settings to try, in this order, each on top of those adopted. Launching many small kernels hides
what packing saves, so the compiler comes first."""
AGREEMENT = 5e-2
"""Relative difference allowed in loss and gradient norm of a step made another way: a compiled
step's dropout draws other bits."""


def fix_length_and_step(
    parts: Parts, folder: PretrainRunFolder, *, may_halve: bool
) -> tuple[Parts, Trial]:
    """Measure a step, fill in what that decides, and return the parts and what was measured.

    That is --compile and --packed, the number of steps, which a time limit leaves open, and the
    warm-up; what the user gave stays.

    Args:
        parts: of a new run.
        folder: of the run.
        may_halve: whether to try smaller forward passes if the GPU runs out of memory.

    Raises:
        InputError: if even the smallest forward pass, or the requested one, does not fit, or the
            requested warm-up is longer than the run.
    """
    parts, trial = _decide_ways(parts, folder, may_halve=may_halve)
    parts = with_length(parts, trial)
    step_s = trial.step.step_s
    check_warmup(parts.config, steps=expected_steps(parts.config, step_s), step_s=step_s)
    return parts, trial


def _decide_ways(
    parts: Parts, folder: PretrainRunFolder, *, may_halve: bool
) -> tuple[Parts, Trial]:
    """Decide on --compile and --packed if they were left out, and measure a step that way."""
    parts, trial = measure(parts, folder, may_halve=may_halve)
    open_ways = [name for name in WAYS if getattr(parts.config, name) is None]
    if parts.runtime.device.type != "cuda":  # a CPU gains little, so nothing is tried or reported
        not_taken = dict.fromkeys(open_ways, False)
        return parts.with_config(parts.config.replace(**not_taken)), trial
    best = trial.step
    for name in open_ways:
        run_s = best.step_s * expected_steps(with_length(parts, trial).config, best.step_s)
        probe, reason = _try(_with_way(parts, name, True, ""), name, best, run_s=run_s)
        best = best if probe is None else probe
        parts = _with_way(parts, name, probe is not None, reason)
    if best is not trial.step:
        return measure(parts, folder, may_halve=may_halve)
    return parts, trial


def measure(parts: Parts, folder: PretrainRunFolder, *, may_halve: bool) -> tuple[Parts, Trial]:
    """Measure a step, in smaller forward passes if the GPU runs out of memory and they may be.

    Raises:
        InputError: if even the smallest forward pass, or the requested one, does not fit.
    """
    trial = within_memory(lambda: parts.try_out(folder.rehearsal))
    if trial is not None:
        return parts, trial
    rows = micro_batch_size(parts.config)
    if rows == 1 or not may_halve:
        raise does_not_fit(rows, parts.runtime.device)
    reason = f"--micro-batch-size {rows // 2}: {rows} did not fit in GPU memory"
    smaller = parts.config.replace(micro_batch_size=rows // 2)
    parts = replace(parts, config=smaller, reasons=[*parts.reasons, reason])
    return measure(parts, folder, may_halve=True)


def with_length(parts: Parts, trial: Trial) -> Parts:
    """Fill in steps and warm-up from what was measured; a time limit leaves the steps open."""
    config, reasons = resolve_length(
        parts.config, num_examples=parts.loader.num_examples, step_s=trial.step.step_s
    )
    return replace(parts, config=config, reasons=[*parts.reasons, *reasons])


def _with_way(parts: Parts, name: str, is_taken: bool, reason: str) -> Parts:
    flag = f"--{name}" if is_taken else f"--no-{name}"
    config = parts.config.replace(**{name: is_taken})
    return replace(parts, config=config, reasons=[*parts.reasons, f"{flag}: {reason}"])


def _try(parts: Parts, name: str, best: StepProbe, *, run_s: float) -> tuple[StepProbe | None, str]:
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
        why = f"with --{name} a step does not run here ({type(error).__name__}: {first_line})"
    else:
        if probe is None:
            return None, f"with --{name} a step does not fit in GPU memory"
        without = parts.config.replace(**{name: False})
        compiling_s = (
            shapes_to_compile(parts.config) * probe.first_s
            - shapes_to_compile(without) * best.first_s
        )
        is_taken, reason = judge(best, probe, run_s=run_s, compiling_s=compiling_s)
        return (probe, reason) if is_taken else (None, f"with --{name} {reason}")
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
        why = "its attention kernels give other results than the formula"
    return why


def shapes_to_compile(config: PretrainConfig) -> int:
    """Return for how many shapes a run may compile its step; each takes as long as the first.

    Of packed shapes only the sizes count: room for more predictions than usual is rarely needed.
    """
    if not config.compile:
        return 0
    return NUM_SIZES if config.packed else MAX_PADDED_SHAPES


def judge(
    best: StepProbe, probe: StepProbe, *, run_s: float, compiling_s: float
) -> tuple[bool, str]:
    """Return whether to adopt a step made another way, and why.

    It is adopted if it computes the same and makes the whole run faster, including the time to
    compile.

    Args:
        best: the fastest way so far.
        probe: the other way.
        run_s: seconds that all steps take the fastest way so far.
        compiling_s: seconds that the other way compiles longer.
    """
    losses = [PRETRAINING.means(each.sums)["loss"] for each in (best, probe)]
    norms = [each.grad_norm for each in (best, probe)]
    if not all(abs(a - b) <= AGREEMENT * a for a, b in (losses, norms)):
        return False, "a step gives other results than without"
    ratio = best.step_s / probe.step_s
    if ratio <= 1:
        return False, f"a step takes {1 / ratio:.2f}x the time"
    if compiling_s > run_s - run_s / ratio:
        return False, (
            f"a step is {ratio:.2f}x as fast, but the {duration(compiling_s)} it takes to start "
            f"are not won back in a run of {duration(run_s)}"
        )
    return True, f"makes a step {ratio:.2f}x as fast"


def _probe(parts: Parts) -> StepProbe:
    return probe_step(parts.build_updater(parts.build_model()), parts.loader.batch_at(0))
