"""A run's inputs, model and examples: it is resumed only if they are unchanged."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from bert_scratch import durable
from bert_scratch.config import InputError, read_json_object
from bert_scratch.finetuning.finetune_config import FinetuneConfig

INPUTS = "inputs.json"
_MODEL_SUFFIXES = frozenset({".safetensors", ".bin", ".json", ".txt"})
"""Suffixes of the files in a model folder that affect the result, unlike its card."""


def store_inputs(folder: Path, asked: FinetuneConfig) -> None:
    """Write the digests of model and examples to a run's folder."""
    durable.write_json(folder / INPUTS, _digests(asked))


def _digests(config: FinetuneConfig) -> dict[str, Any]:
    """Return {flag: digest} of the inputs on this machine; a folder's digest is {file: digest}."""
    files = {
        "--train-file": config.train_file,
        "--eval-file": config.eval_file,
        "--test-file": config.test_file,
    }
    found = {
        flag: _digest(Path(file))
        for flag, file in files.items()
        if file is not None and Path(file).exists()
    }
    if (model := Path(config.model)).is_dir():
        # Only files directly in the folder: this run may lie in a subfolder.
        files_of_model = sorted(f for f in model.iterdir() if f.suffix in _MODEL_SUFFIXES)
        found["--model"] = {file.name: durable.file_digest(file) for file in files_of_model}
    return found


def _digest(path: Path) -> dict[str, Any]:
    if path.is_file():
        return durable.file_digest(path)
    found = sorted(file for file in path.rglob("*") if file.is_file())
    return {file.relative_to(path).as_posix(): durable.file_digest(file) for file in found}


def check_inputs(folder: Path, asked: FinetuneConfig) -> None:
    """Refuse to resume a run, or call it done, if its model or examples have changed.

    Raises:
        InputError: naming the flags of the changed inputs.
    """
    before, now = read_json_object(folder / INPUTS), _digests(asked)
    changed = [flag for flag in before if before[flag] != now.get(flag)]
    if changed:
        raise InputError(
            f"the content of {' and '.join(changed)} has changed since the run in {folder} began; "
            f"start a new run in another --output-dir"
        )
