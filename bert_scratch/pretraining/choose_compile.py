"""Whether the steps of a new run are compiled: on a GPU by trying both."""

from __future__ import annotations

from dataclasses import replace

import torch

from bert_scratch.pretraining.assemble import Parts, fix_length
from bert_scratch.pretraining.resolve import objective_of
from bert_scratch.pretraining.run_folder import RunFolder
from bert_scratch.pretraining.step_probe import StepProbe, Trial, probe_step
from bert_scratch.training.objective import PRETRAINING

AGREEMENT = 5e-2
"""How far loss and gradient norm of a compiled step may be from a plain one's, as a share: its
dropout draws other bits."""


def fix_length_and_compile(
    parts: Parts, folder: RunFolder, *, may_halve: bool
) -> tuple[Parts, Trial]:
    """Do what `fix_length` does, and decide on --compile where the user left it out.

    Raises:
        InputError: as `fix_length` does.
    """
    fixed, trial = fix_length(parts, folder, may_halve=may_halve)
    if parts.config.compile is not None:
        return fixed, trial
    if parts.runtime.device.type != "cuda":  # a CPU gains little: there is nothing to try and say
        return replace(fixed, config=fixed.config.replace(compile=False)), trial
    is_compiled, reason = _choice(fixed, trial.step)
    if not is_compiled:
        return _with_choice(fixed, False, reason), trial
    return fix_length(_with_choice(parts, True, reason), folder, may_halve=may_halve)


def _with_choice(parts: Parts, is_compiled: bool, reason: str) -> Parts:
    flag = "--compile" if is_compiled else "--no-compile"
    config = parts.config.replace(compile=is_compiled)
    return replace(parts, config=config, reasons=[*parts.reasons, f"{flag}: {reason}"])


def _choice(parts: Parts, plain: StepProbe) -> tuple[bool, str]:
    if parts.config.deterministic:
        return False, "--deterministic promises the same bits"
    from torch._dynamo.exc import TorchDynamoException  # takes a second to import

    try:
        compiled = _probe_compiled(parts)
    except (TorchDynamoException, torch.OutOfMemoryError) as error:
        return False, f"a compiled step does not run here ({type(error).__name__})"
    return judge(plain, compiled)


def judge(plain: StepProbe, compiled: StepProbe) -> tuple[bool, str]:
    """Return whether the compiled step is to be taken, and why: the faster, if it agrees."""
    losses = [PRETRAINING.means(probe.sums)["loss"] for probe in (plain, compiled)]
    norms = [probe.grad_norm for probe in (plain, compiled)]
    if not all(abs(a - b) <= AGREEMENT * a for a, b in (losses, norms)):
        return False, "a compiled step does not compute the same as the plain one"
    ratio = plain.step_s / compiled.step_s
    if ratio <= 1:
        return False, f"a compiled step takes {1 / ratio:.2f}x the time of a plain one"
    return True, f"a compiled step is {ratio:.2f}x as fast as a plain one"


def _probe_compiled(parts: Parts) -> StepProbe:
    config = parts.config.replace(compile=True)
    parts = parts.with_config(config)
    model = parts.build_model()
    return probe_step(
        model,
        parts.build_optimizer(model),
        parts.loader.batch_at(0),
        objective=objective_of(config),
        settings=parts.plan().step_settings,
        runtime=parts.runtime,
    )
