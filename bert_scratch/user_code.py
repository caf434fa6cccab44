"""Code of the user's own, named `FILE.py:NAME` by a flag: it runs only when it is named."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

from bert_scratch.config import InputError, did_you_mean


def load_from_file(name: str, *, flag: str) -> Any:
    """Import what `FILE.py:NAME` names.

    Args:
        name: the file and what it defines.
        flag: what gave it, for errors.

    Raises:
        InputError: if there is no such file, or nothing of that name in it.
    """
    file, _, wanted = name.rpartition(":")
    path = Path(file)
    if not path.is_file():
        raise InputError(f"{flag} {name}: there is no file {file}; expected FILE.py:NAME")
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    if not hasattr(module, wanted):
        hint = did_you_mean(wanted, vars(module))
        raise InputError(f"{flag} {name}: {file} has no class {wanted}{hint}")
    return getattr(module, wanted)
