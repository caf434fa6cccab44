"""Read a text file's lines with byte offsets and located encoding errors, in bounded memory.

Lines end at a line feed, with or without a carriage return before it. Other Unicode separators
(U+2028, U+0085, form feed) are white space: splitting at them would make a file's lines depend on
which reader split it. Text is read and decoded in blocks of whole lines; a line of more than 1 MiB
comes in pieces, cut at white space if it has any.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, NamedTuple

from bert_scratch.config import InputError
from bert_scratch.data.unpack import READ_ERRORS, is_compressed, open_bytes, unreadable

MAX_LINE_BYTES = 1 << 20
MAX_WHOLE_LINE_BYTES = 32 << 20
HEAD_BYTES = 1 << 20
BARE_CARRIAGE_RETURNS = "lines end in bare carriage returns; run tr '\\r' '\\n' on it"
_BLOCK_BYTES = 1 << 17
_BOM = "\ufeff"
_UNICODE_MARKS = {
    b"\xff\xfe\0\0": "UTF-32",
    b"\0\0\xfe\xff": "UTF-32",
    b"\xff\xfe": "UTF-16",
    b"\xfe\xff": "UTF-16",
}
_COMPRESSION_MARKS = {
    b"\x1f\x8b": ".gz",
    b"BZh91AY&SY": ".bz2",
    b"\xfd7zXZ\0": ".xz",
    b"\x28\xb5\x2f\xfd": ".zst",
}


class Block(NamedTuple):
    """Consecutive lines, or one piece of a line that is too long for a block.

    Attributes:
        offset: of the first line's first byte; for a compressed file, in the unpacked text.
        lines: stripped; one empty line may stand for a run of blank ones.
        continues: whether the block's only line is a further piece of the line before it.
    """

    offset: int
    lines: list[str]
    continues: bool


def read_blocks(
    file: Path, start: int, border: int, encoding_errors: str, *, whole_lines: bool = False
) -> Iterator[Block]:
    """Read the lines that begin at or after an offset.

    Args:
        file: plain or compressed; offsets are those of the unpacked text.
        start: >= 0, byte offset; 0 for a compressed file.
        border: byte offset; no block holds lines that begin on both sides of it, and there is
            no block if all lines from start on begin behind it.
        encoding_errors: strict, or replace by U+FFFD.
        whole_lines: never cut a line; one of more than 32 MiB is an error.

    Raises:
        InputError: naming the file, and the byte offset of what is not UTF-8 text.
    """
    try:
        with open_bytes(file) as handle:
            offset = start and _skip_line(handle, start, border)
            if offset and offset >= border:
                return
            line_start = None
            for raw, continues in _raw_blocks(handle, file, offset, border, whole_lines):
                lines = _lines(raw, file, offset, encoding_errors)
                # An empty piece of a long line is not a blank line, so it is left out.
                if any(lines) or (raw.endswith(b"\n") and not continues):
                    first = offset if line_start is None else line_start
                    yield Block(first, lines, continues and line_start is None)
                    line_start = None
                elif raw.endswith(b"\n"):
                    line_start = None
                elif not continues:
                    line_start = offset
                offset += len(raw)
    except READ_ERRORS as error:
        raise unreadable(file, error) from error


def _skip_line(handle: BinaryIO, start: int, border: int) -> int:
    """Move to the first line that begins at or after start; return its offset, or the border."""
    offset, found = start - 1, 0
    handle.seek(offset)
    while not found and offset < border and (block := handle.read(_BLOCK_BYTES)):
        found = block.find(b"\n") + 1
        offset += found or len(block)
    handle.seek(offset)
    return offset if found else border


def _raw_blocks(
    handle: BinaryIO, file: Path, offset: int, border: int, whole_lines: bool
) -> Iterator[tuple[bytes, bool]]:
    """Yield (lines or a piece of one, whether it continues a line) from the current position.

    Where a long line is cut depends on the line alone: a piece has at most MAX_LINE_BYTES.
    """
    longest = MAX_WHOLE_LINE_BYTES if whole_lines else MAX_LINE_BYTES
    pending, continues = b"", False
    while block := pending + handle.read(max(0, _BLOCK_BYTES - len(pending))):
        end = len(block) if len(block) < _BLOCK_BYTES else block.rfind(b"\n") + 1
        if not end:
            block += handle.readline(longest - len(block))
            end = len(block)
        is_cut = end == longest and not block.endswith(b"\n")
        if is_cut and whole_lines:
            raise InputError(
                f"{file}, line {line_number(file, offset)}: is longer than {longest >> 20} MiB; "
                "cut the text into several objects"
            )
        if is_cut:
            end = cut_point(block)
        rest = (block.find(b"\n", 0, end) + 1 or end) if continues else 0
        behind = max(rest, block.find(b"\n", max(0, border - offset - 1), end) + 1 or end)
        if border <= offset:
            behind = rest
        pieces = ((block[:rest], True), (block[rest:behind], False), (block[behind:end], False))
        yield from ((raw, is_rest) for raw, is_rest in pieces if raw)
        pending, continues, offset = block[end:], is_cut, offset + end


def cut_point(raw: bytes) -> int:
    """Return where to cut a long line: after its last white space, or between characters."""
    cut = max(raw.rfind(b" "), raw.rfind(b"\t")) + 1
    if cut:
        return cut
    # The first byte of a multi-byte character is 0xC0 or above, the others are below.
    is_first = [byte >= 0xC0 for byte in raw[-4:]]
    return len(raw) - is_first[::-1].index(True) - 1 if any(is_first) else len(raw)


def cut_line(line: str) -> list[str]:
    """Return a paragraph in stripped pieces of at most 1 MiB, cut like the lines of a file."""
    if len(line) <= MAX_LINE_BYTES // 4:
        return [line]
    raw = line.encode()
    pieces, start = [], 0
    while len(raw) - start > MAX_LINE_BYTES:
        end = start + cut_point(raw[start : start + MAX_LINE_BYTES])
        pieces.append(raw[start:end].decode().strip())
        start = end
    return [piece for piece in (*pieces, raw[start:].decode().strip()) if piece]


def _lines(raw: bytes, file: Path, offset: int, encoding_errors: str) -> list[str]:
    """Decode whole lines strictly, or with replacement characters, and strip them."""
    if raw.isspace():
        return [""]
    text = _decode(raw, file, offset, encoding_errors)
    lines = (text.removeprefix(_BOM) if offset == 0 else text).split("\n")
    if raw.endswith(b"\n"):
        lines.pop()
    return list(map(str.strip, lines))


def _decode(raw: bytes, file: Path, offset: int, encoding_errors: str) -> str:
    nul = raw.find(b"\0")
    try:
        text = raw.decode()
        if nul < 0:
            return text
        position = nul
    except UnicodeDecodeError as error:
        position = error.start if nul < 0 else min(nul, error.start)
    if offset == 0:
        _refuse_other_format(file, raw)
    if encoding_errors == "replace":
        return raw.decode("utf-8", "replace").replace("\0", "\ufffd")
    number, line_start = line_number(file, offset + position), raw.rfind(b"\n", 0, position) + 1
    line = raw[line_start : raw.find(b"\n", position) + 1 or len(raw)]
    where = " of the unpacked text" if is_compressed(file) else ""
    raise InputError(
        f"{file}, line {number}: has {_problem(line, position - line_start)}, at byte offset "
        f"{offset + position}{where}; convert the file to UTF-8 (iconv) or use "
        "--encoding-errors replace"
    )


def _problem(line: bytes, position: int) -> str:
    """Describe the byte of a line that is not UTF-8 text, and guess the encoding."""
    num_high = sum(byte >= 0x80 for byte in line)
    if line[position] == 0:
        return "a NUL byte" + (" (UTF-16?)" if line.count(b"\0") > 0.2 * len(line) else "")
    likely = "GB18030 or another multi-byte one" if num_high > 0.4 * len(line) else "Windows-1252"
    return f"byte 0x{line[position]:02x}, which is not UTF-8 ({likely}?)"


def _refuse_other_format(file: Path, beginning: bytes) -> None:
    for mark, name in _UNICODE_MARKS.items():
        if beginning.startswith(mark):
            raise InputError(f"{file}: is {name}; convert it: iconv -f {name} -t UTF-8")
    for mark, ending in _COMPRESSION_MARKS.items():
        if beginning.startswith(mark):
            if is_compressed(file):
                raise InputError(f"{file}: is compressed twice; unpack it once")
            raise InputError(
                f"{file}: is compressed, which only the ending {ending} tells; name it "
                f"{file.name}{ending}"
            )


def follows_blank_line(file: Path, offset: int) -> bool:
    """Tell whether the first line that begins at or after the offset follows a blank line.

    A line too long for a block counts as non-blank, because it is read in pieces.
    """
    window_start = max(0, offset - 1 - MAX_LINE_BYTES)
    with open_bytes(file) as handle:
        handle.seek(window_start)
        window = handle.read(2 * MAX_LINE_BYTES)
    end = window.find(b"\n", offset - 1 - window_start) + 1
    start = window.rfind(b"\n", 0, max(0, end - 1)) + 1
    if not end or end - start > MAX_LINE_BYTES:
        return False
    line = window[start:end].decode("utf-8", "replace")
    return not (line.removeprefix(_BOM) if window_start + start == 0 else line).strip()


def read_head(file: Path) -> str:
    """Return the beginning of a file as text, up to the last line end of its first MiB.

    Raises:
        InputError: naming the file, if it cannot be read, is UTF-16 or UTF-32, or has bare
            carriage returns.
    """
    head = read_beginning(file, HEAD_BYTES)
    _refuse_other_format(file, head)
    if len(head) == HEAD_BYTES:
        head = head[: head.rfind(b"\n") + 1] or head
    if b"\r" in head and b"\n" not in head and b"\0" not in head:
        raise InputError(f"{file}: {BARE_CARRIAGE_RETURNS}")
    return head.decode("utf-8", "replace").removeprefix(_BOM)


def read_beginning(file: Path, num_bytes: int) -> bytes:
    """Return the first bytes of a file, plain or compressed.

    Raises:
        InputError: naming the file, if it cannot be read.
    """
    try:
        with open_bytes(file) as handle:
            return handle.read(num_bytes)
    except READ_ERRORS as error:
        raise unreadable(file, error) from error


def line_number(file: Path, offset: int) -> int:
    """Return the 1-based number of the line that a byte offset lies in."""
    with open_bytes(file) as handle:
        line, left = 1, offset
        while left > 0 and (block := handle.read(min(left, HEAD_BYTES))):
            line += block.count(b"\n")
            left -= len(block)
    return line
