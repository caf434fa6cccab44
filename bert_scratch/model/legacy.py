"""Read old pickled weights (`pytorch_model.bin`) once, in a separate process.

This is the only place that opens a pickle. torch's restricted reader has had holes that ran code
or corrupted the heap (CVE-2025-32434, CVE-2026-24747), so a child process does the reading and
passes on a safetensors file: a crash or memory exhaustion there ends only the child.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor

from bert_scratch.config import InputError
from bert_scratch.model.weight_files import read_safetensors

TIMEOUT_S = 600


def read_pickled_weights(path: Path) -> dict[str, Tensor]:
    """Read a state dict that torch.save wrote, in the current zip format or the old one.

    Args:
        path: the file, usually `pytorch_model.bin`. Only tensors under names are accepted.

    Returns:
        Name -> tensor on the CPU, in the stored dtype.

    Raises:
        InputError: if it is not such a file, holds anything but tensors, or reading it fails.
    """
    if not path.is_file():
        raise InputError(f"{path}: no such file")
    search_path = os.pathsep.join(entry for entry in sys.path if entry)
    with tempfile.TemporaryDirectory() as folder:
        target = Path(folder) / "weights.safetensors"
        command = [sys.executable, "-P", "-m", __name__, str(path.resolve()), str(target)]
        try:
            child = subprocess.run(
                command,
                env={**os.environ, "PYTHONPATH": search_path},
                capture_output=True,
                text=True,
                timeout=TIMEOUT_S,
            )
        except subprocess.TimeoutExpired as error:
            raise InputError(f"{path}: was not read within {TIMEOUT_S} s; gave up") from error
        if child.returncode < 0:
            raise InputError(f"{path}: the process that read it died of signal {-child.returncode}")
        if child.returncode > 0:
            lines = child.stderr.strip().splitlines() or ["no reason given"]
            raise InputError(f"{path}: cannot be read as a file of weights: {lines[-1]}")
        return read_safetensors(target)


def pickle_to_safetensors(path: Path, target: Path) -> None:
    """Convert a pickled state dict into a safetensors file; runs in the child process.

    Args:
        path: the file that torch.save wrote.
        target: the file to write.

    Raises:
        Exception: of any kind that torch raises; ValueError if it holds more than tensors.
    """
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            # torch.save never compresses; a compressed member can unpack to any size
            if any(member.compress_type != zipfile.ZIP_STORED for member in archive.infolist()):
                raise ValueError("it has compressed members, which torch.save never writes")
    state = torch.load(path, map_location="cpu", weights_only=True)
    if not isinstance(state, dict):
        raise ValueError(f"it holds a {type(state).__name__}, not a dict of tensors")
    save_file({name: _plain_tensor(name, value) for name, value in state.items()}, target)


def _plain_tensor(name: Any, value: Any) -> Tensor:
    if not isinstance(name, str) or not isinstance(value, Tensor):
        raise ValueError(f"its entry {name!r} is a {type(value).__name__}, not a tensor")
    # Views of a shared storage are stored separately.
    return value.detach().clone(memory_format=torch.contiguous_format)


def _reason(error: Exception) -> str:
    """Return the line that says what is wrong; torch's other lines advise unsafe loading."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    telling = [line for line in lines if "weights_only" not in line and "torch.load" not in line]
    return telling[0] if telling else type(error).__name__


if __name__ == "__main__":
    try:
        pickle_to_safetensors(Path(sys.argv[1]), Path(sys.argv[2]))
    except Exception as error:
        sys.exit(_reason(error))
