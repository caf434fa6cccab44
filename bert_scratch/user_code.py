"""Code of the user's own, named `FILE.py:NAME` by a flag: it runs only when it is named."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from typing import Any

from bert_scratch.config import InputError, did_you_mean


def load_from_file(name: str, *, flag: str) -> Any:
    """Import what `FILE.py:NAME` names.

    Args:
        name: the file and what it defines.
        flag: what gave it, for errors.

    Raises:
        InputError: if there is no such file of Python, or nothing of that name in it.
    """
    file, _, wanted = name.rpartition(":")
    path = Path(file)
    if path.suffix != ".py":
        raise InputError(f"{flag} {name}: {file} is not a .py file; expected FILE.py:NAME")
    if not path.is_file():
        raise InputError(f"{flag} {name}: there is no file {file}; expected FILE.py:NAME")
    private = f"_user_code_{path.stem}"
    spec = importlib.util.spec_from_file_location(private, path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[private] = module  # dataclasses look there for the module of their class
    spec.loader.exec_module(module)
    if not hasattr(module, wanted):
        hint = did_you_mean(wanted, vars(module))
        raise InputError(f"{flag} {name}: {file} defines no {wanted}{hint}")
    return getattr(module, wanted)
