"""Where commands write: made and tried before any work, so that no result is lost at the end."""

from __future__ import annotations

import tempfile
from pathlib import Path

from bert_scratch.config import InputError
from bert_scratch.durable import is_stream


def make_output_folder(folder: Path) -> None:
    """Create a command's --output-dir, and check that it is writable, before any work.

    Raises:
        InputError: if it cannot be created or written to.
    """
    if folder.exists() and not folder.is_dir():
        raise InputError(f"--output-dir {folder}: is a file; give a new or existing folder")
    _make_writable(folder, f"--output-dir {folder}")


def make_place_for(file: Path, *, flag: str = "--output", source: str | None = None) -> None:
    """Create the folder of a command's output file, and check that it is writable, before any work.

    Args:
        file: the file that will be written.
        flag: the flag that named it.
        source: the command's --input, which must be another file.

    Raises:
        InputError: if it is a folder or the input, or its folder cannot be created or written to.
    """
    if source is not None:
        refuse_input(file, source, flag=flag, source_flag="--input")
    if file.is_dir():
        raise InputError(f"{flag} {file}: is a folder; name a file in it")
    if not is_stream(file):
        _make_writable(file.parent, f"{flag} {file}")


def refuse_input(file: Path, source: str, *, flag: str, source_flag: str) -> None:
    """Refuse to write over a file that the command reads.

    Args:
        file: the file that will be written.
        source: what is read.
        flag: the flag that named the file.
        source_flag: the flag that named what is read.

    Raises:
        InputError: if they are the same file.
    """
    if file.is_file() and file.resolve() == Path(source).resolve():
        raise InputError(
            f"{flag} {file}: is the file of {source_flag}, which would be overwritten; name "
            f"another file"
        )


def _make_writable(folder: Path, named: str) -> None:
    """Create a folder and, as a test, a temporary file in it; `named` is what the user gave."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        reason = error.strerror or error
        raise InputError(f"{named}: cannot be written: {reason}") from error
