"""Checkpoints: written atomically, verified before use, and free of pickle.

A checkpoint is a model folder, accepted wherever a model is, plus the optimizer's moments, the
run's small state, and a manifest of every file's size and SHA-256.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Collection
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import Tensor

from bert_scratch import durable
from bert_scratch.config import InputError, read_json_object
from bert_scratch.model import huggingface
from bert_scratch.model.folder import SavesPretrained
from bert_scratch.model.pretrained_model import PretrainedModel
from bert_scratch.model.weight_files import read_safetensors
from bert_scratch.training.optimizer import MOMENTS, load_moments, moments

MANIFEST, STATE, OPTIMIZER = "manifest.json", "state.json", "optimizer.safetensors"
FORMAT_VERSION = 1


def save_checkpoint(
    root: Path,
    *,
    step: int,
    model: PretrainedModel,
    optimizer: torch.optim.Optimizer,
    tokenizer: SavesPretrained,
    state: dict[str, Any],
    keep: int,
    also_keep: Collection[int] = (),
) -> Path:
    """Write `step-N/` so that a crash at any moment leaves the previous checkpoints intact.

    Everything is written to `step-N.tmp/`, each file and the folder are fsynced, and the folder is
    renamed. Only when the new manifest verifies are checkpoints beyond the newest `keep` removed.
    On failure the partial checkpoint is removed, since the disk may be full.

    Args:
        root: the run's `checkpoints/`.
        step: updates made so far.
        model: its weights are saved under Hugging Face's names.
        optimizer: its moments are saved under the same names.
        tokenizer: saved too, so that the folder is complete.
        state: what else a resumed run needs, as JSON.
        keep: how many checkpoints to keep, >= 1.
        also_keep: steps whose checkpoints are never removed and do not count towards keep.

    Raises:
        OSError: if the system refuses, or what was written does not verify.
    """
    final = root / f"step-{step:08d}"
    if final.exists() and problem_with(final) is None:
        return final  # a stop right after a save: never replace a good checkpoint by the same
    _write(
        final,
        model=model,
        optimizer=optimizer,
        tokenizer=tokenizer,
        state={"format_version": FORMAT_VERSION, "step": step, **state},
    )
    problem = problem_with(final)
    if problem:
        raise OSError(f"{final}: was written but does not verify: {problem}")
    _remove_others(root, step, keep=keep, also_keep=also_keep)
    return final


def _write(
    final: Path,
    *,
    model: PretrainedModel,
    optimizer: torch.optim.Optimizer,
    tokenizer: SavesPretrained,
    state: dict[str, Any],
) -> None:
    """Write a checkpoint under a temporary name, and rename it once it is on disk."""
    temporary = final.with_name(final.name + ".tmp")
    for leftover in final.parent.glob("*.tmp"):
        shutil.rmtree(leftover)
    temporary.mkdir(parents=True)
    try:
        model.save_pretrained(temporary, tokenizer=tokenizer)
        save_file(named_moments(model, optimizer), temporary / OPTIMIZER, metadata={"format": "pt"})
        durable.write_json(temporary / STATE, state)
        _seal(temporary)
        if final.exists():  # it can only be a broken one
            remove_checkpoint(final)
        temporary.rename(final)
    except BaseException as error:
        shutil.rmtree(temporary, ignore_errors=True)
        if isinstance(error, SafetensorError):  # safetensors raises this for a full disk
            raise OSError(f"{temporary}: cannot be written: {error}") from error
        raise
    durable.fsync(final.parent)


def _remove_others(root: Path, step: int, *, keep: int, also_keep: Collection[int]) -> None:
    """Remove all checkpoints after that of a step, and those before it except the newest."""
    folders = checkpoint_folders(root)
    # A checkpoint of a later step is broken, or this run would have resumed from it.
    later = [folder for folder in folders if step_of(folder) > step]
    earlier = [f for f in folders if step_of(f) < step and step_of(f) not in also_keep]
    for old in (*later, *earlier[: max(0, len(earlier) + 1 - keep)]):
        remove_checkpoint(old)


def remove_checkpoint(folder: Path) -> None:
    """Remove a checkpoint such that a kill half-way leaves nothing that looks like one."""
    doomed = folder.with_name(folder.name + ".old.tmp")
    shutil.rmtree(doomed, ignore_errors=True)
    folder.rename(doomed)
    shutil.rmtree(doomed)


def step_of(folder: Path) -> int:
    """Return the step in a checkpoint's name."""
    return int(folder.name.removeprefix("step-"))


def _seal(folder: Path) -> None:
    """Fsync every file, and write the manifest last."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    for path in files:
        durable.fsync(path)
    digests = {str(p.relative_to(folder)): durable.file_digest(p) for p in files}
    durable.write_json(folder / MANIFEST, {"format_version": FORMAT_VERSION, "files": digests})
    durable.fsync(folder)


def checkpoint_folders(root: Path) -> list[Path]:
    """Return the `step-N` folders below root, oldest first, valid or not."""
    named = [path for path in root.glob("step-*") if re.fullmatch(r"step-\d+", path.name)]
    return sorted(named, key=step_of)


def find_checkpoint(root: Path) -> tuple[Path | None, list[str]]:
    """Return the newest checkpoint that verifies, and one line on each newer one that does not.

    Args:
        root: the run's `checkpoints/`; need not exist.
    """
    problems: list[str] = []
    for folder in reversed(checkpoint_folders(root)):
        problem = problem_with(folder)
        if problem is None:
            return folder, problems
        problems.append(f"{folder}: {problem}")
    return None, problems


def problem_with(folder: Path) -> str | None:
    """Return what is wrong with a checkpoint, or None if every file matches its manifest."""
    try:
        manifest = read_json_object(folder / MANIFEST)
        expected = manifest["files"]
        if manifest["format_version"] != FORMAT_VERSION:
            return f"format version {manifest['format_version']} is not {FORMAT_VERSION}"
        for name, digest in expected.items():
            path = folder / name
            if not path.resolve().is_relative_to(folder.resolve()):
                return f"{MANIFEST} names {name!r}, outside the folder"
            if not path.is_file():
                return f"{name} is missing"
            if durable.file_digest(path) != digest:
                return f"{name} is not what {MANIFEST} says (size or SHA-256 differs)"
        absent = {STATE, OPTIMIZER} - set(expected)
    except InputError as error:
        return str(error)
    except (KeyError, TypeError, AttributeError, OSError) as error:
        return f"{MANIFEST} cannot be used: {error!r}"
    return f"{MANIFEST} does not name {', '.join(sorted(absent))}" if absent else None


def load_optimizer(
    folder: Path, model: PretrainedModel, optimizer: torch.optim.Optimizer, *, num_updates: int
) -> None:
    """Load the moments of a checkpoint into a fresh optimizer.

    Raises:
        InputError: if the file cannot be read or does not fit the model.
    """
    kinds: dict[str, dict[str, Tensor]] = {kind: {} for kind in MOMENTS}
    for name, tensor in read_safetensors(folder / OPTIMIZER).items():
        kind, _, parameter = name.partition(".")
        if kind not in kinds:
            raise InputError(f"{folder / OPTIMIZER}: {name} is not a moment of the optimizer")
        kinds[kind][parameter] = tensor
    saved = {k: huggingface.from_hf(v, model.config) for k, v in kinds.items()}
    load_moments(model, optimizer, saved, num_updates=num_updates)


def named_moments(model: PretrainedModel, optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    """Return the moments as `exp_avg.<Hugging Face name>` and `exp_avg_sq.<...>`."""
    return {
        f"{kind}.{name}": tensor.detach().cpu().clone(memory_format=torch.contiguous_format)
        for kind, tensors in moments(model, optimizer).items()
        for name, tensor in huggingface.to_hf(tensors, model.config).items()
    }
