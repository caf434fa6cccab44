"""Make a finished or stopped run longer: `--extend` with a new number of steps or seconds.

The learning rate depends on the step and the horizon, so a longer run has another schedule. Up to
the step where a wsd schedule begins to fall, both are the same, so the run resumes from the
checkpoint kept there and ends with the bits of a run that had this length from the start and the
same other settings; settings chosen for the first length stay.
A linear or google schedule depends on the horizon at every step after the warm-up: it resumes from
the newest checkpoint with the rate that a run of the new length has there, which is higher.
"""

from __future__ import annotations

import shlex
from pathlib import Path

from bert_scratch.config import InputError
from bert_scratch.pretraining.assemble import plan_of
from bert_scratch.pretraining.pretrain_config import PretrainConfig
from bert_scratch.pretraining.resolve import filled
from bert_scratch.pretraining.resume import progress_of
from bert_scratch.pretraining.run_folder import PretrainRunFolder
from bert_scratch.training.checkpoint import (
    checkpoint_folders,
    find_checkpoint,
    problem_with,
    remove_checkpoint,
    step_of,
)
from bert_scratch.training.loop import Plan


def extend(
    folder: PretrainRunFolder, stored: PretrainConfig, asked: PretrainConfig
) -> PretrainConfig:
    """Give a run its new horizon, durably, and return its settings.

    Repeating the same command changes nothing, since the horizon is already the requested one.

    Args:
        folder: of the run.
        stored: its settings so far.
        asked: settings with the new --num-train-steps or --max-train-seconds.

    Raises:
        InputError: if the new horizon is shorter than the old one, or there is a model but no
            valid checkpoint: the run would start over and lose the model.
    """
    newest, _ = find_checkpoint(folder.checkpoints)
    if newest is None and (model := folder.newest_model()) is not None:
        raise InputError(
            f"--extend: {folder.path} has a model but no complete checkpoint to resume from; start "
            f"a new run from its weights: --init-checkpoint {shlex.quote(str(model))} "
            f"--output-dir ANOTHER"
        )
    steps = _new_horizon(stored, asked, newest)
    if steps is not None and steps < (stored.num_train_steps or 0):
        given = f"{steps:,}"
        if asked.num_train_steps is None:
            given = (
                f"--max-train-seconds {asked.max_train_seconds:g}, in which it makes about {given}"
            )
        raise InputError(
            f"--extend: the run in {folder.path} has {stored.num_train_steps:,} steps; give more, "
            f"not {given}"
        )
    longer = stored.replace(num_train_steps=steps, max_train_seconds=asked.max_train_seconds)
    if longer == stored:
        return stored
    if newest is not None and steps is not None and stored.num_train_steps is not None:
        start = _start_again_from(folder, newest, plan_of(stored))
        old, new = (plan_of(config).learning_rate_at(start) for config in (stored, longer))
        print(
            f"extended   from {stored.num_train_steps:,} to {steps:,} steps, "
            f"resuming at step {start:,}"
        )
        if old != new:
            print(
                f"note       the {stored.lr_schedule} schedule of the longer run has learning rate "
                f"{new:.2e} there, not {old:.2e}; --lr-schedule wsd is made to be extended"
            )
    folder.store(asked.replace(extend=False), longer)
    return longer


def _new_horizon(stored: PretrainConfig, asked: PretrainConfig, newest: Path | None) -> int | None:
    """Return the steps of the longer run; None if they will be measured in its warm-up."""
    if asked.num_train_steps is not None:
        return asked.num_train_steps
    if asked.max_train_seconds == stored.max_train_seconds:
        return stored.num_train_steps
    if newest is None or stored.num_train_steps is None:
        return None
    progress = progress_of(newest)
    if not progress.step:
        return None
    # The average pace of the run so far, including evaluation and saving.
    return int(filled(asked.max_train_seconds) * progress.step / progress.elapsed_s)


def _start_again_from(folder: PretrainRunFolder, newest: Path, plan: Plan) -> int:
    """Remove the checkpoints after the one a wsd run is extended from; return the step to start.

    Killed in between, the run decays again to the same bits and can be extended again.
    """
    stable = plan.stable_step
    folders = checkpoint_folders(folder.checkpoints)
    if stable is not None and stable < step_of(newest):
        if any(step_of(f) == stable and problem_with(f) is None for f in folders):
            for later in reversed([f for f in folders if step_of(f) > stable]):
                remove_checkpoint(later)
            return stable
    return step_of(newest)
