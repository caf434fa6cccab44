"""Check before the first step that a run's checkpoints and result fit on the disk."""

from __future__ import annotations

import shutil

from bert_scratch.config import InputError
from bert_scratch.pretraining.pretrain_config import PretrainConfig
from bert_scratch.pretraining.run_folder import PretrainRunFolder

WEIGHT_BYTES = 4
CHECKPOINT_BYTES = 3 * WEIGHT_BYTES
"""Bytes per parameter: the weight and Adam's two moments."""


def disk_bytes(config: PretrainConfig, parameters: int) -> int:
    """Return the most disk space a run takes for checkpoints, best model and result.

    Args:
        config: of the run.
        parameters: of the model.
    """
    # Those kept, the one being written, and that where a wsd run's learning rate begins to fall.
    checkpoints = config.keep_checkpoints + 1 + (config.lr_schedule == "wsd")
    models = 3  # the best, its successor while being written, the result
    return parameters * (checkpoints * CHECKPOINT_BYTES + models * WEIGHT_BYTES)


def check_disk_space(folder: PretrainRunFolder, config: PretrainConfig, parameters: int) -> None:
    """Check that what a run still has to write fits on the disk.

    Raises:
        InputError: naming the folder, and the space needed and free.
    """
    kept = (folder.checkpoints, folder.best, folder.model)
    files = (path for place in kept if place.is_dir() for path in place.rglob("*"))
    present = sum(path.stat().st_size for path in files if path.is_file())
    needed = disk_bytes(config, parameters) - present
    free = shutil.disk_usage(folder.path).free
    if free < needed:
        raise InputError(
            f"--output-dir {folder.path}: {config.keep_checkpoints} checkpoints and the model will "
            f"take about {needed / 1e6:,.1f} MB there, but {free / 1e6:,.1f} MB are free; make "
            f"room, lower --keep-checkpoints, or give a folder on another disk"
        )
