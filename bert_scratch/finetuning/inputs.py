"""The files a run learns from: it goes on with the same ones only."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from bert_scratch import durable
from bert_scratch.config import InputError, read_json_object
from bert_scratch.finetuning.finetune_config import FinetuneConfig

INPUTS = "inputs.json"


def store_inputs(folder: Path, asked: FinetuneConfig) -> None:
    """Write the digests of the files of examples into a run's folder."""
    durable.write_json(folder / INPUTS, _digests(asked))


def _digests(config: FinetuneConfig) -> dict[str, Any]:
    """Return {flag: digest} of the files of examples; of a folder, {name: digest} of its files."""
    files = {
        "--train-file": config.train_file,
        "--eval-file": config.eval_file,
        "--test-file": config.test_file,
    }
    return {
        flag: _digest(Path(file))
        for flag, file in files.items()
        if file is not None and Path(file).exists()
    }


def _digest(path: Path) -> dict[str, Any]:
    if path.is_file():
        return durable.file_digest(path)
    found = sorted(file for file in path.rglob("*") if file.is_file())
    return {file.relative_to(path).as_posix(): durable.file_digest(file) for file in found}


def check_inputs(folder: Path, asked: FinetuneConfig) -> None:
    """Refuse to go on with, or to call done, a run whose examples have changed since.

    Raises:
        InputError: naming the flags of the files that have changed.
    """
    before, now = read_json_object(folder / INPUTS), _digests(asked)
    changed = [flag for flag in before if before[flag] != now.get(flag)]
    if changed:
        raise InputError(
            f"{folder} holds a run on other examples: the content of {' and '.join(changed)} has "
            f"changed; start a new run in another --output-dir"
        )
