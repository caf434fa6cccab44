"""A text file's bytes to lines: compression, encoding errors named, line ends, byte offsets.

Lines end at a line feed, with or without a carriage return before it. Other Unicode separators
(U+2028, U+0085, form feed) are white space: splitting at them would make the lines of a file
depend on which reader cut it.
"""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, cast

from bert_scratch.config import InputError

HEAD_BYTES = 1 << 20
_BOM = "\ufeff"
_READ_ERRORS = (OSError, EOFError, zlib.error)


def is_compressed(file: Path) -> bool:
    """Tell by its name whether a file is compressed."""
    return file.suffix.lower() == ".gz"


def read_lines(file: Path, start: int, encoding_errors: str) -> Iterator[tuple[int, str]]:
    """Yield (byte offset, stripped line) from the first line that begins at or after an offset.

    Args:
        file: plain or compressed; then offsets are those of the text inside.
        start: >= 0, byte offset; 0 for a compressed file.
        encoding_errors: strict, or replace by U+FFFD.

    Raises:
        InputError: naming the file, and the byte offset of what is not UTF-8 text.
    """
    try:
        with _open(file) as handle:
            offset = start
            if start:
                handle.seek(start - 1)
                offset += len(handle.readline()) - 1
            for raw in handle:
                yield offset, _decode(raw, file, offset, encoding_errors)
                offset += len(raw)
    except _READ_ERRORS as error:
        raise InputError(f"{file}: cannot be read: {error}") from error


def _decode(raw: bytes, file: Path, offset: int, encoding_errors: str) -> str:
    """Decode one line strictly, or with replacement characters, and strip it."""
    try:
        line = raw.decode("utf-8")
        if "\0" not in line:
            return (line.removeprefix(_BOM) if offset == 0 else line).strip()
        problem, position = "a NUL byte", raw.index(b"\0")
    except UnicodeDecodeError as error:
        position = error.start
        problem = f"byte 0x{raw[position]:02x}, which is not UTF-8 ({_likely_encoding(raw)}?)"
    if offset == 0:
        _refuse_utf16(file, raw)
    if encoding_errors == "strict":
        raise InputError(
            f"{file}, line {line_number(file, offset)}: has {problem}, at byte offset "
            f"{offset + position}; convert the file to UTF-8 (iconv) or use --encoding-errors "
            f"replace"
        )
    line = raw.decode("utf-8", "replace").replace("\0", "\ufffd")
    return (line.removeprefix(_BOM) if offset == 0 else line).strip()


def _likely_encoding(raw: bytes) -> str:
    """Guess the encoding of a line that is not UTF-8, for the error: mostly high bytes, or few."""
    num_high = sum(byte >= 0x80 for byte in raw)
    return "GB18030 or another multi-byte one" if num_high > 0.4 * len(raw) else "Windows-1252"


def _refuse_utf16(file: Path, beginning: bytes) -> None:
    if beginning.startswith((b"\xff\xfe", b"\xfe\xff")):
        raise InputError(f"{file}: is UTF-16; convert it: iconv -f UTF-16 -t UTF-8")


def follows_blank_line(file: Path, offset: int) -> bool:
    """Tell whether the first line that begins at or after the offset has a blank one before it."""
    with _open(file) as handle:
        handle.seek(offset - 1)
        end = offset - 1 + len(handle.readline())
        start, step = end, 256
        before = b""
        while start and b"\n" not in before[:-1]:
            start, step = max(0, start - step), step * 2
            handle.seek(start)
            before = handle.read(end - start)
    line_start = before[:-1].rfind(b"\n") + 1
    line = before[line_start:].decode("utf-8", "replace")
    return not (line.removeprefix(_BOM) if start + line_start == 0 else line).strip()


def read_head(file: Path) -> str:
    """Return the beginning of a file as text, up to the last line end of its first MiB.

    Raises:
        InputError: naming the file, when it cannot be read or is no text in UTF-8's manner.
    """
    try:
        with _open(file) as handle:
            head = handle.read(HEAD_BYTES)
    except _READ_ERRORS as error:
        raise InputError(f"{file}: cannot be read: {error}") from error
    _refuse_utf16(file, head)
    if len(head) == HEAD_BYTES:
        head = head[: head.rfind(b"\n") + 1] or head
    if b"\r" in head and b"\n" not in head:
        raise InputError(f"{file}: lines end in bare carriage returns; run tr '\\r' '\\n' on it")
    return head.decode("utf-8", "replace").removeprefix(_BOM)


def line_number(file: Path, offset: int) -> int:
    """Return the number, from 1, of the line that begins at a byte offset."""
    with _open(file) as handle:
        line, left = 1, offset
        while left > 0 and (block := handle.read(min(left, HEAD_BYTES))):
            line += block.count(b"\n")
            left -= len(block)
    return line


def _open(file: Path) -> BinaryIO:
    return cast(BinaryIO, (gzip.open if is_compressed(file) else open)(file, "rb"))
