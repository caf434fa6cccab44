"""Hugging Face data sets by name: `hf:NAME[:CONFIG[:SPLIT]]`.

The `datasets` library downloads the data set, or finds it in its cache, as Arrow files, which are
read like any other file. Code that comes with a data set is never run.
"""

from __future__ import annotations

from pathlib import Path

from bert_scratch.config import InputError
from bert_scratch.extras import import_extra

PREFIX = "hf:"


def dataset_files(path: str) -> list[Path]:
    """Load a data set and return its Arrow files, in its own order.

    Args:
        path: hf:NAME[:CONFIG[:SPLIT]]. NAME is a hub name or a local folder of data files; an
            empty or absent CONFIG is the default one; SPLIT defaults to train.

    Raises:
        InputError: if the library is missing, or the data set cannot be loaded or is empty.
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
    # Many kinds of errors are possible: no such data set, config, split or format, no network.
    except Exception as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise InputError(f"--corpus {path}: cannot be loaded: {reason}") from error
    files = [Path(cached["filename"]) for cached in dataset.cache_files]
    if not dataset.num_rows or not files:
        raise InputError(f"--corpus {path}: holds no rows")
    return files
