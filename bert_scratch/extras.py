"""Import optional packages on use; errors name the extra that installs a missing one."""

from __future__ import annotations

import importlib
from types import ModuleType

from bert_scratch.config import InputError


def import_extra(name: str, purpose: str, extra: str) -> ModuleType:
    """Import an optional package.

    Args:
        name: of the module, such as pyarrow.parquet.
        purpose: what needs it, as the beginning of a sentence: "reading .parquet files".
        extra: the extra of bert-scratch that installs it.

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
