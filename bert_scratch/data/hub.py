"""Data sets of Hugging Face's `datasets`, by name: `hf:NAME[:CONFIG[:SPLIT]]`.

The library loads, or finds in its cache, the data set as Arrow files; these are read like any
other file. No code of a data set is ever run.
"""

from __future__ import annotations

from pathlib import Path

from bert_scratch.config import InputError
from bert_scratch.extras import import_extra

PREFIX = "hf:"


def dataset_files(path: str) -> list[Path]:
    """Load a data set and return its Arrow files, in its own order.

    Args:
        path: hf:NAME[:CONFIG[:SPLIT]]. NAME is that of the hub, or a local folder of data files;
            an empty or absent CONFIG is the default one; SPLIT is train if left out.

    Raises:
        InputError: when the library is missing, or the data set cannot be had or is empty.
    """
    name, config, split, *rest = [*path.removeprefix(PREFIX).split(":"), "", ""]
    if not name or any(rest):
        raise InputError(f"--corpus {path}: must read hf:NAME[:CONFIG[:SPLIT]]")
    split = split or "train"
    if not split.replace("_", "").replace(".", "").isalnum():
        raise InputError(f"--corpus {path}: the split must be a whole one, such as train")
    if name.startswith((".", "/", "~")) and not Path(name).is_dir():
        raise InputError(f"--corpus {path}: there is no folder {name}")
    datasets = import_extra("datasets", "reading a data set of Hugging Face", "hub")
    try:
        dataset = datasets.load_dataset(name, config or None, split=split)
    # It raises errors of many kinds: no such data set, config, split or format, no network.
    except Exception as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise InputError(f"--corpus {path}: cannot be loaded: {reason}") from error
    files = [Path(cached["filename"]) for cached in dataset.cache_files]
    if not dataset.num_rows or not files:
        raise InputError(f"--corpus {path}: holds no rows")
    return files
