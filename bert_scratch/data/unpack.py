"""Decompress files: gzip, bzip2, xz and Zstandard, told by the file's extension.

Concatenated members, streams and frames are read to the end, as the command-line tools do. A
truncated or damaged file is an error, and so is one that unpacks to far more than text can: a
decompression bomb.
"""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import zlib
from pathlib import Path
from typing import IO, Any, BinaryIO, cast

from bert_scratch.config import InputError
from bert_scratch.extras import import_extra

COMPRESSIONS = (".gz", ".bz2", ".xz", ".zst")
READ_ERRORS = (OSError, EOFError, zlib.error, lzma.LZMAError)
MAX_RATIO = 200
"""Limit on bytes of text per byte of file. Prose packs to a third, logs seldom below 1 %."""
UNCHECKED_BYTES = 100_000_000
"""MAX_RATIO applies beyond this size: a short file may pack better than any long text."""
_BUFFER_BYTES = 1 << 20
# In Zstandard 4 bytes may unpack to a block of 128 KiB zeros, so this many to 64 MiB at once.
_ZSTD_STEP_BYTES = 2048


def is_compressed(file: Path) -> bool:
    """Tell from its name whether a file is compressed."""
    return file.suffix.lower() in COMPRESSIONS


def unreadable(file: Path, error: Exception) -> InputError:
    """Return the error to raise for a file whose reading raised one of READ_ERRORS."""
    reason = getattr(error, "strerror", None)
    if reason is None and is_compressed(file):
        return InputError(
            f"{file}: cannot be read: {error}; it is cut short, damaged or not a {file.suffix} "
            "file: fetch or compress it again, or give the unpacked file"
        )
    return InputError(f"{file}: cannot be read: {reason or error}")


def open_bytes(file: Path) -> BinaryIO:
    """Open a file, plain or compressed, to read the bytes inside.

    Reading raises one of READ_ERRORS if the file is broken, or
    InputError if it unpacks to more than MAX_RATIO times its size.
    """
    if is_compressed(file):
        return cast(BinaryIO, io.BufferedReader(_Unpacked(file), _BUFFER_BYTES))
    return file.open("rb")


class _Unpacked(io.RawIOBase):
    """The unpacked bytes of a compressed file, counted."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self._packed = file.open("rb")
        self._bytes = _OPENERS[file.suffix.lower()](self._packed)
        self._num_bytes = 0

    def readable(self) -> bool:
        return True

    def readinto(self, target: Any) -> int:
        data = self._bytes.read(len(target))
        target[: len(data)] = data
        self._num_bytes += len(data)
        if self._num_bytes > max(UNCHECKED_BYTES, MAX_RATIO * self._packed.tell()):
            raise InputError(
                f"{self._file}: unpacks to more than {MAX_RATIO} times its size, which no text "
                "does (a decompression bomb?); if it is meant, give the unpacked file"
            )
        return len(data)

    def close(self) -> None:
        self._packed.close()
        super().close()


class _ZstdFrames:
    """The unpacked bytes of a Zstandard file; zstandard's readers accept truncated files."""

    def __init__(self, packed: IO[bytes]) -> None:
        self._packed = packed
        self._zstandard = import_extra("zstandard", "reading .zst files", "zstd")
        self._frame: Any = None
        self._unread = io.BytesIO()

    def read(self, size: int) -> bytes:
        """Return up to size bytes, none at the end."""
        while not (data := self._unread.read(size)):
            packed = self._packed.read(_ZSTD_STEP_BYTES)
            if not packed:
                if self._frame is not None:
                    raise EOFError("the file ends before its end-of-frame mark")
                return b""
            self._unread = io.BytesIO(self._unpack(packed))
        return data

    def _unpack(self, packed: bytes) -> bytes:
        """Unpack the next bytes of the file, which may end one frame and begin others."""
        unpacked = []
        while packed:
            if self._frame is None:
                self._frame = self._zstandard.ZstdDecompressor().decompressobj()
            try:
                unpacked.append(self._frame.decompress(packed))
            except self._zstandard.ZstdError as error:
                raise OSError(str(error)) from error
            packed = self._frame.unused_data if self._frame.eof else b""
            if self._frame.eof:
                self._frame = None
        return b"".join(unpacked)


_OPENERS: dict[str, Any] = {
    ".gz": lambda packed: gzip.GzipFile(fileobj=packed),
    ".bz2": bz2.BZ2File,
    ".xz": lzma.LZMAFile,
    ".zst": _ZstdFrames,
}
