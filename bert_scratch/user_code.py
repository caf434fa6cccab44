"""Load the user's own code, named `FILE.py:NAME` by a flag; it runs only if named."""

from __future__ import annotations

import importlib.util
import sys
import traceback
from pathlib import Path
from typing import Any

from bert_scratch.config import InputError, did_you_mean


def load_from_file(name: str, *, flag: str) -> Any:
    """Import what `FILE.py:NAME` names.

    Args:
        name: the file and a name that it defines.
        flag: the flag that gave it, for errors.

    Raises:
        InputError: if there is no such Python file, it cannot be imported, or it does not define
            the name.
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
    sys.modules[private] = module  # dataclasses look up the module of their class there
    try:
        spec.loader.exec_module(module)
    except Exception as error:  # whatever the user's code raises
        raise InputError(
            f"{flag} {name}: cannot be imported: {describe_error(error, path)}; correct it"
        ) from error
    if not hasattr(module, wanted):
        hint = did_you_mean(wanted, vars(module))
        raise InputError(f"{flag} {name}: {file} defines no {wanted}{hint}")
    return getattr(module, wanted)


def file_of(thing: Any) -> Path | None:
    """Return the file that defines a class or function; None if there is none."""
    module = sys.modules.get(getattr(thing, "__module__", None) or "")
    file = getattr(module, "__file__", None)
    return None if file is None else Path(file)


def describe_error(error: Exception, file: Path | None) -> str:
    """Return in one line what a user's code raised, and where.

    Args:
        error: the error, as it was raised.
        file: the user's file.

    Returns:
        `FILE:LINE: KIND: message`, LINE being the last of the file that the error passed through;
        without the place if it passed through none.
    """
    place, message = "", str(error)
    if isinstance(error, SyntaxError):
        place, message = f"{error.filename}:{error.lineno}: ", error.msg
    elif file is not None:
        for frame in traceback.extract_tb(error.__traceback__):
            if Path(frame.filename).resolve() == file.resolve():
                place = f"{file}:{frame.lineno}: "
    return f"{place}{type(error).__name__}: {' '.join(message.split())}"
