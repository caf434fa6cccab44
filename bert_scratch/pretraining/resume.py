"""Going on with the run that a folder holds: what of it may change, and what is refused."""

from __future__ import annotations

import sys
from pathlib import Path

from bert_scratch.config import InputError, read_json_object
from bert_scratch.pretraining.assemble import corpus_settings
from bert_scratch.pretraining.prepare import check_same_corpus
from bert_scratch.pretraining.pretrain_config import PretrainConfig
from bert_scratch.pretraining.run_folder import RunFolder
from bert_scratch.training.checkpoint import STATE, find_checkpoint
from bert_scratch.training.loop import Progress
from bert_scratch.training.metrics import Window


def stored_run(folder: RunFolder, asked: PretrainConfig) -> PretrainConfig | None:
    """Return the settings of the run to go on with, or None for a new one.

    Raises:
        InputError: if --resume forbids it, or other settings were asked for than the run has.
    """
    stored = folder.stored()
    if stored is None:
        if asked.resume == "must":
            raise InputError(f"--resume must: {folder.path} holds no run to go on with")
        return None
    if asked.resume == "never":
        raise InputError(
            f"--resume never: {folder.path} holds a run; give another --output-dir or remove it"
        )
    changes = folder.changes(asked)
    if changes:
        listing = "\n  ".join(changes)
        raise InputError(
            f"{folder.path} holds a run with other settings:\n  {listing}\n"
            f"Go on with the settings it has, or start a new run in another --output-dir, or take "
            f"its weights along: --init-checkpoint {folder.model} --output-dir ANOTHER"
        )
    return stored


def check_corpus_unchanged(asked: PretrainConfig, folder: RunFolder) -> None:
    """Refuse to call a run done whose text has changed since.

    Raises:
        InputError: naming what changed.
    """
    if asked.data is None and (changes := check_same_corpus(folder.corpus, corpus_settings(asked))):
        listing = "\n  ".join(changes)
        raise InputError(
            f"{folder.path} holds a finished run on another corpus:\n  {listing}\n"
            f"Start a new run in another --output-dir, or take its weights along: "
            f"--init-checkpoint {folder.model} --output-dir ANOTHER"
        )


def with_run_settings(stored: PretrainConfig, asked: PretrainConfig) -> PretrainConfig:
    """Return the stored settings with those that a resumed run may change."""
    always = {name: getattr(asked, name) for name in ("num_workers", "keep_checkpoints")}
    intervals = ("logging_steps", "eval_steps", "save_steps")
    given = {name: value for name in intervals if (value := getattr(asked, name)) is not None}
    return stored.replace(**always, **given)


def newest_checkpoint(folder: RunFolder) -> Path | None:
    """Return the newest whole checkpoint of a run, and say which newer ones are not."""
    checkpoint, problems = find_checkpoint(folder.checkpoints)
    for problem in problems:
        print(f"not used: {problem}", file=sys.stderr)
    return checkpoint


def progress_of(checkpoint: Path) -> Progress:
    """Return how far the run was when a checkpoint was written."""
    state = read_json_object(checkpoint / STATE)
    return Progress(
        step=state["step"],
        tokens=state["tokens"],
        elapsed_s=state["elapsed_s"],
        window=Window(**state["window"]),
    )
