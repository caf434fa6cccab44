"""Write files atomically: under a temporary name, fsynced, then renamed."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import re
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_TEMPORARY_NAME = re.compile(r".+\.\d+\.tmp")


@contextmanager
def durable_path(path: Path) -> Iterator[Path]:
    """Yield a temporary path next to the path; on success it is fsynced and renamed to it.

    If the block fails, the temporary file is removed and an existing file stays. A symbolic link
    is kept and its target replaced. A pipe or device receives the bytes directly.
    """
    if is_stream(path):
        with tempfile.TemporaryDirectory() as folder:
            written = Path(folder, path.name)
            yield written
            with written.open("rb") as source, path.open("wb") as sink:
                shutil.copyfileobj(source, sink)
        return
    path = Path(os.path.realpath(path))
    temporary = path.with_name(f"{path.name}.{os.getpid()}.tmp")
    try:
        yield temporary
        fsync(temporary)
        temporary.replace(path)
        fsync(path.parent)
    except BaseException as error:
        temporary.unlink(missing_ok=True)
        if isinstance(error, OSError) and error.errno in _FULL and error.filename is None:
            error.filename = str(path)  # so that the message says what did not fit
        raise


@contextmanager
def durable_folder(path: Path) -> Iterator[Path]:
    """Yield a new folder next to the path; on success it is fsynced and replaces the path.

    If the block fails, it is removed and an existing folder stays. Only one process may do this at
    a time: leftovers of a killed one under the temporary name are removed.
    """
    temporary, former = (path.with_name(path.name + end) for end in (".tmp", ".former.tmp"))
    _put_back(former, path)
    for leftover in (temporary, former):
        shutil.rmtree(leftover, ignore_errors=True)
    temporary.mkdir(parents=True)
    try:
        yield temporary
        for file in sorted(temporary.rglob("*")):
            fsync(file)
        fsync(temporary)
        if path.exists():
            path.rename(former)
        temporary.rename(path)
        fsync(path.parent)
        shutil.rmtree(former, ignore_errors=True)
    except BaseException:
        _put_back(former, path)
        shutil.rmtree(temporary, ignore_errors=True)
        raise


def _put_back(former: Path, path: Path) -> None:
    """Undo the first of the two renames of `durable_folder` if the second did not follow."""
    if former.exists() and not path.exists():
        former.rename(path)


def is_stream(path: Path) -> bool:
    """Tell whether a path exists but is neither file nor folder: a pipe, a terminal, /dev/null."""
    return path.exists() and not path.is_file() and not path.is_dir()


def remove_leftovers(folder: Path) -> None:
    """Remove the temporary files that a killed process left in a folder by `durable_path`."""
    for file in folder.glob("*.tmp"):
        if _TEMPORARY_NAME.fullmatch(file.name) and file.is_file():
            file.unlink()


def write_text(path: Path, text: str) -> None:
    """Write a whole UTF-8 text file durably."""
    with durable_path(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_json(path: Path, value: Any) -> None:
    """Write a JSON file durably, indented, ending in a newline."""
    write_text(path, json.dumps(value, indent=2, ensure_ascii=False) + "\n")


def fsync(path: Path) -> None:
    """Flush a file's bytes, or a folder's entries, to disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def file_digest(path: Path) -> dict[str, Any]:
    """Return {"bytes": size, "sha256": hex digest} of a file's content."""
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256")
    return {"bytes": path.stat().st_size, "sha256": digest.hexdigest()}


def is_same(path: Path, stated: Mapping[str, Any], *, since: float) -> bool:
    """Tell whether a file still has the content of an earlier `file_digest`.

    Args:
        path: of the file.
        stated: what `file_digest` returned then.
        since: seconds since the epoch; a file of the stated size that has not changed since is
            taken to be the same, any other of that size is read.
    """
    status = path.stat()
    if status.st_size != stated["bytes"]:
        return False
    if max(status.st_mtime, status.st_ctime) < since:
        return True
    return file_digest(path) == stated
