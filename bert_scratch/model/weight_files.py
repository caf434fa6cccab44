"""Find a model folder's files locally or on the hub, and read safetensors, whole or in shards.

Tensors keep the names and dtypes they are stored under.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Collection
from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from bert_scratch.config import InputError, read_json_object

CONFIG, WEIGHTS, INDEX = "config.json", "model.safetensors", "model.safetensors.index.json"
PICKLED = "pytorch_model.bin"
ADAPTED_WEIGHTS = "adapted_model.safetensors"
"""All weights of a model whose adapters cannot be merged."""
SENTENCES = "sentence_bert_config.json"
"""sentence-transformers' file; it says how many tokens of a text are read."""

_TOKENIZER_FILES = ("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json")
_HUB_FILES = (
    CONFIG,
    WEIGHTS,
    INDEX,
    SENTENCES,
    "model-*.safetensors",
    "vocab.txt",
    *_TOKENIZER_FILES,
)
_SHARD_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]*\.safetensors")
_MAX_HEADER_BYTES = 16 << 20
_NAMES_SHOWN = 8


def find_folder(folder_or_hub_id: str | Path, *, extra_files: Collection[str] = ()) -> Path:
    """Return an existing folder as it is, or download a model from the hub and return its folder.

    Args:
        folder_or_hub_id: a folder; if there is none of that name, a hub id.
        extra_files: files to download besides configuration, safetensors and tokenizer files.

    Raises:
        InputError: if there is neither, or the hub cannot be reached and the model is not cached.
    """
    folder = Path(folder_or_hub_id)
    if folder.is_dir():
        return folder
    if folder.exists():
        raise InputError(f"{folder}: is a file; give the folder that holds it and {CONFIG}")
    if not re.fullmatch(r"[\w-][\w.-]*(/[\w-][\w.-]*)?", str(folder_or_hub_id)):
        raise InputError(f"{folder}: no such folder, and not a hub id (name or owner/name)")
    import huggingface_hub
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError

    try:
        patterns = [*_HUB_FILES, *extra_files]
        found = huggingface_hub.snapshot_download(str(folder_or_hub_id), allow_patterns=patterns)
    except (HfHubHTTPError, HFValidationError, OSError) as error:
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise InputError(
            f"{folder_or_hub_id}: no folder of this name here, and the hub did not give a model "
            f"of this name ({type(error).__name__}: {reason}); check the spelling and the "
            f"connection, or give the path of a folder that holds {CONFIG} and {WEIGHTS}"
        ) from error
    return Path(found)


def read_weights(folder: Path) -> dict[str, Tensor]:
    """Read the tensors of a folder's safetensors file, or of all its shards.

    Returns:
        Hugging Face's name -> tensor on the CPU, copied, in the stored dtype.

    Raises:
        InputError: if there is none, a file is damaged, or the index names an outside file.
    """
    if (folder / WEIGHTS).is_file():
        return read_safetensors(folder / WEIGHTS)
    if (folder / INDEX).is_file():
        return _read_shards(folder)
    if (folder / PICKLED).is_file():
        raise InputError(
            f"{folder}: has its weights only as {PICKLED}, a pickle, which can run code when it "
            f"is read; if you trust where it is from, convert it once: bert-scratch convert "
            f"--input {folder} --output-dir NEW_FOLDER --allow-pickle"
        )
    if (folder / ADAPTED_WEIGHTS).is_file():
        raise InputError(
            f"{folder}: has adapters that cannot be merged, so only predict reads it; for other "
            f"commands, fine-tune with --adapter lora or without --adapter"
        )
    raise InputError(f"{folder}: has no {WEIGHTS} and no {INDEX}")


def read_safetensors(path: Path) -> dict[str, Tensor]:
    """Read one safetensors file into memory, so that replacing the file changes nothing.

    Raises:
        InputError: if the file cannot be read or is damaged.
    """
    try:
        _check_header(path)
        return {name: tensor.clone() for name, tensor in load_file(path).items()}
    except InputError:
        raise
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror or error}") from error
    except (SafetensorError, RuntimeError, ValueError, KeyError, TypeError) as error:
        raise InputError(f"{path}: is not a valid safetensors file: {error}") from error


def listing(names: Collection[str]) -> str:
    """Return the first names, and how many more there are."""
    shown = ", ".join(list(names)[:_NAMES_SHOWN])
    rest = len(names) - _NAMES_SHOWN
    return f"{shown} and {rest} more" if rest > 0 else shown


def _check_header(path: Path) -> None:
    """Refuse a file too short for its header, and a header too large to be one."""
    size = path.stat().st_size
    with path.open("rb") as file:
        start = file.read(8)
    header_bytes = struct.unpack("<Q", start)[0] if len(start) == 8 else 0
    if not 2 <= header_bytes <= min(_MAX_HEADER_BYTES, size - 8):
        raise InputError(
            f"{path}: is not a whole safetensors file: it has {size} bytes, its header claims to "
            f"have {header_bytes}"
        )


def _read_shards(folder: Path) -> dict[str, Tensor]:
    index = folder / INDEX
    files = read_json_object(index).get("weight_map")
    if not isinstance(files, dict) or not files:
        raise InputError(f"{index}: must hold a weight_map of tensor names and file names")
    weights: dict[str, Tensor] = {}
    for name in sorted({str(name) for name in files.values()}):
        if not _SHARD_NAME.fullmatch(name):
            raise InputError(f"{index}: {name!r} is not the name of a .safetensors file next to it")
        shard = read_safetensors(folder / name)
        for key in shard.keys() & weights.keys():
            raise InputError(f"{folder / name}: holds {key} a second time")
        weights.update(shard)
    absent = sorted(files.keys() - weights.keys())
    if absent:
        raise InputError(f"{index}: the shards do not hold {listing(absent)}")
    return weights
