"""Every call by which a save changes the disk, counted, and one of them made to go wrong."""

from __future__ import annotations

import errno
import functools
import io
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest.mock import patch

from bert_scratch.model import folder as model_folder
from bert_scratch.training import checkpoint

NAMES = ("fsync", "rename", "replace", "mkdir", "rmdir", "unlink")
Harm = Callable[[], None]


class Calls:
    """Counts calls; the one of a number does half of its work, if it can, and then goes wrong."""

    def __init__(self, harm: Harm, number: int) -> None:
        self.harm, self.number = harm, number
        self.count = 0
        self.done: list[str] = []
        self.is_on = True

    def is_due(self, name: str) -> bool:
        if not self.is_on:
            return False
        self.count += 1
        self.done.append(name)
        return self.count == self.number + 1

    def wrapped(self, name: str, real: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(real)
        def call(*arguments: Any, **options: Any) -> Any:
            if self.is_due(name):
                self.harm()
            return real(*arguments, **options)

        return call

    def write_tensors(self, tensors: Any, path: Path, **options: Any) -> None:
        """As `save_file`, of which half is on the disk when it fails."""
        due = self.is_due("save_file")
        SAVE_FILE(tensors, path, **options)
        if due:
            os.truncate(path, path.stat().st_size // 2)
            self.harm()

    def write_text(self, path: Path, text: str, **options: Any) -> int:
        """As `Path.write_text`, of which half is on the disk when it fails."""
        if self.is_due("write_text"):
            with io.open(path, "w", **options) as file:  # noqa: UP020 - as pathlib does
                file.write(text[: len(text) // 2])
            self.harm()
        return WRITE_TEXT(path, text, **options)


SAVE_FILE = checkpoint.save_file
WRITE_TEXT = Path.write_text


@contextmanager
def going_wrong(harm: Harm, number: int) -> Iterator[Calls]:
    """Make the call of a number (from 0) go wrong inside the block."""
    calls = Calls(harm, number)
    with (
        patch.multiple(os, **{name: calls.wrapped(name, getattr(os, name)) for name in NAMES}),
        patch.object(checkpoint, "save_file", calls.write_tensors),
        patch.object(model_folder, "save_file", calls.write_tensors),
        patch.object(Path, "write_text", lambda *a, **k: calls.write_text(*a, **k)),
    ):
        yield calls


def disk_full() -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def disk_broken() -> None:
    raise OSError(errno.EIO, os.strerror(errno.EIO))
