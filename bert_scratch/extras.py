"""Optional packages: imported where they are used, named with their extra when missing."""

from __future__ import annotations

import importlib
from types import ModuleType

from bert_scratch.config import InputError


def import_extra(name: str, purpose: str, extra: str) -> ModuleType:
    """Import an optional package.

    Args:
        name: of the module, for example pyarrow.parquet.
        purpose: what needs it, as the beginning of a sentence: "reading .parquet files".
        extra: of bert-scratch, which installs it.

    Raises:
        InputError: with the command that installs it.
    """
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        package = name.split(".", 1)[0]
        raise InputError(
            f'{purpose} needs {package}: pip install "bert-scratch[{extra}]"'
        ) from error
