"""Read texts and pairs of texts from the command line, a file or standard input."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bert_scratch.config import InputError, Settings
from bert_scratch.data.records import STANDARD_INPUT
from bert_scratch.data.unpack import READ_ERRORS, is_compressed, open_bytes

TABLES = frozenset({".tsv", ".csv", ".parquet"})
"""Extensions of files that hold more than one text per line."""
_BYTE_ORDER_MARK = "\ufeff"


def read_texts(source: str, *, flag: str = "--input") -> Iterator[str]:
    """Yield the texts of a file; a blank line is an empty text, so that rows keep their number.

    Blank lines between JSON objects are skipped.

    Args:
        source: a file of lines, or a .jsonl or .json file of objects with "text", one a line,
            compressed or not; or - for lines of standard input.
        flag: the flag that named the source, for errors.

    Raises:
        InputError: naming the file and the line that cannot be read.
    """
    for _, text in _placed_lines(source, flag):
        yield text


def _placed_lines(source: str, flag: str) -> Iterator[tuple[str, str]]:
    """Yield each text of a file with the name of its line for errors."""
    _refuse_table(source, flag)
    for place, line in _lines(source, flag):
        if not _is_jsonl(source):
            yield place, line.strip()
        elif line.strip():
            yield place, _strings(line, place, ["text"])[0]


def read_pairs(source: str, *, flag: str = "--pairs") -> Iterator[tuple[str, str]]:
    """Yield the pairs of a file; blank lines are skipped.

    Args:
        source: a file of lines, A and B separated by a tab, or a .jsonl or .json file of objects
            with "a" and "b", one a line, compressed or not; or - for lines of standard input.
        flag: the flag that named the source, for errors.

    Raises:
        InputError: naming the file and the line that cannot be read or is not a pair.
    """
    for place, line in _lines(source, flag):
        if not line.strip():
            continue
        if _is_jsonl(source):
            a, b = _strings(line, place, ["a", "b"])
        else:
            a, tab, b = line.partition("\t")
            if not tab:
                raise InputError(f"{place}: has no tab between A and B: {line.strip()[:60]!r}")
            if "\t" in b:
                raise InputError(
                    f"{place}: has {line.count(tab)} tabs, one between A and B is needed: "
                    f"{line.strip()[:60]!r}; keep two columns, or give a .jsonl file of objects "
                    f'with "a" and "b"'
                )
        yield a.strip(), b.strip()


def given_texts(
    texts: Iterable[str], file: str | None, *, flags: tuple[str, str] = ("--text", "--input")
) -> Iterator[str]:
    """Yield texts of the command line, where - stands for standard input, then those of a file.

    Blank lines are skipped.

    Args:
        texts: given on the command line.
        file: as in `read_texts`, or None.
        flags: the flags that gave them, for errors.

    Raises:
        InputError: naming the file and the line that cannot be read, or the source without text.
    """
    for _, text in placed_texts(texts, file, flags=flags):
        yield text


def placed_texts(
    texts: Iterable[str], file: str | None, *, flags: tuple[str, str] = ("--text", "--input")
) -> Iterator[tuple[str, str]]:
    """Yield what `given_texts` does, each text with its name for errors: its flag, file and line.

    Args:
        texts: given on the command line.
        file: as in `read_texts`, or None.
        flags: the flags that gave them.

    Raises:
        InputError: naming the file and the line that cannot be read, or the source without text.
    """
    for text in texts:
        yield from _some_texts(text, flags[0]) if text == STANDARD_INPUT else [(flags[0], text)]
    if file is not None:
        yield from _some_texts(file, flags[1])


def _some_texts(source: str, flag: str) -> Iterator[tuple[str, str]]:
    """Yield the non-empty texts of a file, which must have at least one, with their places."""
    is_empty = True
    for place, text in _placed_lines(source, flag):
        if text:
            is_empty = False
            yield place, text
    if is_empty:
        raise InputError(f"{flag} {source}: holds no text")


def given_pairs(a: str | None, b: str | None, file: str | None) -> Iterator[tuple[str, str]]:
    """Yield the pair of --a and --b, those of standard input for --a -, or those of --pairs.

    Raises:
        InputError: naming the file and the line that cannot be read or is not a pair, or the file
            without pairs.
    """
    if a is not None and b is not None:
        yield a, b
    elif a is not None:
        yield from _some_pairs(a, "--a")
    elif file is not None:
        yield from _some_pairs(file, "--pairs")


def _some_pairs(source: str, flag: str) -> Iterator[tuple[str, str]]:
    """Yield the pairs of a file, which must have at least one."""
    is_empty = True
    for pair in read_pairs(source, flag=flag):
        is_empty = False
        yield pair
    if is_empty:
        raise InputError(
            f"{flag} {source}: there are no pairs to judge; give A and B on a line, separated by "
            f"a tab"
        )


@dataclass(frozen=True, kw_only=True)
class PairOptions(Settings):
    """Which pairs of texts a command is about."""

    a: str | None = None
    """The first text; - reads pairs from standard input, A and B a line with a tab between."""
    b: str | None = None
    """The second text."""
    pairs: str | None = None
    """A file of pairs, A and B a line with a tab between; or .jsonl, objects with "a" and "b"."""
    json: bool = False
    """Print one JSON object a pair."""

    def __post_init__(self) -> None:
        """Check that there is one source of pairs.

        Raises:
            InputError: saying what to give.
        """
        a, b, file = self.a, self.b, self.pairs
        one_pair = a not in (None, STANDARD_INPUT) and b is not None and file is None
        stream = a == STANDARD_INPUT and b is None and file is None
        if not (one_pair or stream or (file is not None and a is None and b is None)):
            raise InputError(
                "give --a TEXT --b TEXT, --a - alone to read pairs from standard input, or "
                "--pairs FILE"
            )

    def given(self) -> Iterator[tuple[str, str]]:
        """Yield the pairs.

        Raises:
            InputError: naming the file and the line that cannot be read or is not a pair.
        """
        return given_pairs(self.a, self.b, self.pairs)


def _is_jsonl(source: str) -> bool:
    path = Path(source)
    unpacked = path.with_suffix("") if is_compressed(path) else path
    return unpacked.suffix.lower() in (".jsonl", ".json")


def _refuse_table(source: str, flag: str) -> None:
    """Refuse a table, whose columns would be read as one text."""
    for kind in TABLES & set(Path(source).suffixes):
        raise InputError(
            f"{flag} {source}: is a table by its name ({kind}); give a file with one text per "
            f'line, or a .jsonl file of objects with "text"'
        )


def _lines(source: str, flag: str) -> Iterator[tuple[str, str]]:
    """Yield each line with its name for errors."""
    if source == STANDARD_INPUT:
        if sys.stdin is None:
            raise InputError(f"{flag} -: there is no standard input, it is closed")
        # Bytes, so that encoding and line ends are those of a file, whatever the locale.
        stream = getattr(sys.stdin, "buffer", None)
        for number, line in enumerate(sys.stdin if stream is None else stream, start=1):
            place = f"{flag} -, line {number}"
            yield place, _decoded(line, place)
        return
    file = Path(source)
    if not file.exists() or file.is_dir():
        reason = "is a folder" if file.is_dir() else "does not exist"
        raise InputError(f"{flag} {source}: {reason}; give a file of texts")
    try:
        with open_bytes(file) as lines:
            for number, raw in enumerate(lines, start=1):
                yield (place := f"{flag} {source}, line {number}"), _decoded(raw, place)
    except READ_ERRORS as error:
        raise InputError(f"{flag} {source}: cannot be read: {error}") from error


def _decoded(raw: bytes | str, place: str) -> str:
    if isinstance(raw, str):  # of a stream that a program put in the place of standard input
        return _whole(raw.removeprefix(_BYTE_ORDER_MARK), place)
    try:
        return raw.decode("utf-8").removeprefix(_BYTE_ORDER_MARK)
    except UnicodeDecodeError as error:
        raise InputError(f"{place}: is not UTF-8 text; convert it with iconv") from error


def _strings(line: str, place: str, keys: list[str]) -> list[str]:
    """Return the strings under the keys of a JSON object."""
    try:
        value: Any = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise InputError(
            f"{place}: is not valid JSON: {error}; give one object per line"
        ) from error
    read = [value.get(key) for key in keys] if isinstance(value, dict) else []
    found = [text for text in read if isinstance(text, str)]
    if len(found) < len(keys):
        named = " and ".join(f'"{key}"' for key in keys)
        raise InputError(f"{place}: needs an object with a string under the key {named}")
    return [_whole(text, place) for text in found]


def _whole(text: str, place: str) -> str:
    if any("\ud800" <= character <= "\udfff" for character in text):
        raise InputError(f"{place}: holds half of a surrogate pair, which is not a character")
    return text
