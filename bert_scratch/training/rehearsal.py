"""Write and read back one checkpoint before the first step, rather than fail hours later."""

from __future__ import annotations

import shutil
import time
from dataclasses import dataclass
from pathlib import Path

import torch

from bert_scratch.model.folder import SavesPretrained
from bert_scratch.model.pretrained_model import PretrainedModel
from bert_scratch.model.weight_files import read_safetensors
from bert_scratch.training.checkpoint import OPTIMIZER, named_moments, save_checkpoint


@dataclass(frozen=True, kw_only=True)
class Rehearsal:
    """The cost of a checkpoint of the run."""

    write_s: float
    """Seconds to write and verify it, during which training waits."""
    read_s: float
    """Seconds to load model and moments."""
    num_bytes: int
    num_parameters: int


def rehearse_checkpoint(
    root: Path,
    *,
    model: PretrainedModel,
    optimizer: torch.optim.Optimizer,
    tokenizer: SavesPretrained,
) -> Rehearsal:
    """Write a checkpoint, read it back, compare every tensor, and remove it.

    Args:
        root: a separate folder on the run's disk; removed afterwards.
        model: of the run's shape; its values do not matter.
        optimizer: with moments, so after at least one update.
        tokenizer: saved along.

    Raises:
        OSError: if it cannot be written, or is read back differently.
    """
    shutil.rmtree(root, ignore_errors=True)
    try:
        start = time.perf_counter()
        folder = save_checkpoint(
            root, step=0, model=model, optimizer=optimizer, tokenizer=tokenizer, state={}, keep=1
        )
        write_s = time.perf_counter() - start
        read = type(model).from_pretrained(folder).state_dict()
        moments = read_safetensors(folder / OPTIMIZER)
        read_s = time.perf_counter() - start - write_s
        num_bytes = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
        pairs = [(read[name], tensor.cpu()) for name, tensor in model.state_dict().items()]
        pairs += [(moments[name], t) for name, t in named_moments(model, optimizer).items()]
        if not all(torch.equal(one, other) for one, other in pairs):
            raise OSError(f"{folder}: what is read back is not what was written")
    finally:
        shutil.rmtree(root, ignore_errors=True)
    num_parameters = sum(parameter.numel() for parameter in model.parameters())
    return Rehearsal(
        write_s=write_s, read_s=read_s, num_bytes=num_bytes, num_parameters=num_parameters
    )
