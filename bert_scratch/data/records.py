"""Read files of records (TSV, CSV, JSONL, lines) into named cells that know their place.

In a tab-separated file a double quote is an ordinary character, as in GLUE; a CSV file is quoted
as in spreadsheets. A first line without a known or requested column name is data, and the columns
are then called 1, 2, 3.
"""

from __future__ import annotations

import csv
import io
import json
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bert_scratch.config import InputError, counted
from bert_scratch.data.textfile import BARE_CARRIAGE_RETURNS
from bert_scratch.data.unpack import COMPRESSIONS, READ_ERRORS, open_bytes

STANDARD_INPUT = "-"
MAX_CELL = 2**31 - 1
"""Longest CSV cell in characters; csv's own limit of 131,072 is too short for long texts."""
MAX_SHORT_SHARE = 1e-3
"""Up to this share of lines may have too few cells and are skipped; more is an error."""

_LINES_COMPARED = 20

IsHeader = Callable[[Sequence[str]], bool]


@dataclass(frozen=True, slots=True)
class Record:
    """One line of a table, or one JSON object."""

    place: str
    """`file:line`."""
    cells: dict[str, Any]
    """Column name -> text, or any JSON value."""


@dataclass(frozen=True)
class Table:
    """The records of a file."""

    file: str
    columns: tuple[str, ...]
    """The column names; 1, 2, 3 without a header."""
    has_header: bool
    records: list[Record]


def read_table(file: str, *, is_header: IsHeader, keep_blank: bool = False) -> Table:
    """Read a .tsv, .csv, .jsonl, .json (one object per line) or .txt (one text per line) file.

    Args:
        file: a path, packed or not, or - for standard input: JSON objects if it begins with one,
            else read as .tsv.
        is_header: tells whether the cells of the first line are column names.
        keep_blank: read a blank line of a .txt, or of standard input without tabs, as an empty
            text, so that texts keep their line numbers; otherwise skip it, as in the other formats.

    Raises:
        InputError: naming file and line, if it cannot be read, is empty or is not such a file.
    """
    name, text = read_text(file)
    kind = _kind(file, text)
    if kind == "jsonl":
        table = json_table(name, text)
    else:
        if kind != "csv":  # whose reader takes any line ends
            check_line_ends(name, text)
        are_texts = kind == "txt" or (file == STANDARD_INPUT and "\t" not in text)
        lines = _lines(name, text, kind, keep_blank=keep_blank and are_texts)
        names_columns = is_header if kind != "txt" else lambda _: False
        table = _cell_table(name, list(lines), names_columns, kind=kind)
    if not text.strip() or not table.records:
        raise InputError(f"{name}: holds no examples")
    return table


def read_text(file: str) -> tuple[str, str]:
    """Read a file, packed or not.

    Args:
        file: a path, or - for standard input.

    Returns:
        Its name for messages, and its text.

    Raises:
        InputError: naming the file, and the line that is not UTF-8.
    """
    name = "standard input" if file == STANDARD_INPUT else file
    path = Path(file)
    if file == STANDARD_INPUT and sys.stdin is None:
        raise InputError("standard input: is closed; give a file, or send text to the command")
    try:
        if file == STANDARD_INPUT:
            raw = sys.stdin.buffer.read()
        else:
            with open_bytes(path) as handle:
                raw = handle.read()
        return name, raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = error.object.count(b"\n", 0, error.start) + 1
        raise InputError(
            f"{name}:{line}: is not UTF-8 text; convert the file (iconv -t UTF-8)"
        ) from error
    except READ_ERRORS as error:
        reason = getattr(error, "strerror", None) or error
        raise InputError(f"{name}: cannot be read: {reason}") from error


def check_line_ends(name: str, text: str) -> None:
    """Refuse a text whose lines end in carriage returns alone, which would be one line.

    Args:
        name: of the file, for the message.
        text: what it holds.

    Raises:
        InputError: naming the file, and what turns them into line feeds.
    """
    if "\r" in text and "\n" not in text:
        raise InputError(f"{name}: {BARE_CARRIAGE_RETURNS}")


def separated_otherwise(file: str, lines: Sequence[str]) -> str:
    """Return what to say of a table of one column if another character separates its cells.

    Args:
        file: whose name says what should separate them.
        lines: each as one cell.

    Returns:
        Words in brackets; "" where not all of the lines have such a character.
    """
    wanted = {".csv": ",", ".tsv": "\t"}
    kind = next((ending for ending in wanted if ending in Path(file).suffixes), "")
    for separator in ";,\t" if kind else "":
        counts = [line.count(separator) for line in lines[:_LINES_COMPARED]]
        if separator != wanted[kind] and 0 < sum(counts[:1]) <= min(counts):
            return (
                f" (it seems to be separated by {separator!r}; a {kind} file needs "
                f"{wanted[kind]!r}, so convert it)"
            )
    return ""


def _kind(file: str, text: str) -> str:
    """Return tsv, csv, jsonl or txt."""
    if file == STANDARD_INPUT:
        return "jsonl" if text.lstrip().startswith("{") else "tsv"
    path = Path(file)
    suffix = (path.with_suffix("") if path.suffix.lower() in COMPRESSIONS else path).suffix.lower()
    kinds = {".tsv": "tsv", ".csv": "csv", ".jsonl": "jsonl", ".json": "jsonl", ".txt": "txt"}
    if suffix not in kinds:
        raise InputError(f"{file}: must end in {', '.join(kinds)}, compressed or not")
    return kinds[suffix]


def _lines(name: str, text: str, kind: str, *, keep_blank: bool) -> Iterator[tuple[str, list[str]]]:
    """Yield each line's place and cells."""
    if kind == "csv":
        yield from _csv_lines(name, text)
        return
    for number, line in enumerate(text.removesuffix("\n").split("\n"), start=1):
        line = line.removesuffix("\r")
        if line.strip() or keep_blank:
            yield f"{name}:{number}", line.split("\t") if kind == "tsv" else [line]


def _csv_lines(name: str, text: str) -> Iterator[tuple[str, list[str]]]:
    csv.field_size_limit(MAX_CELL)
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    first = 1
    try:
        for cells in reader:
            if cells:
                yield f"{name}:{first}", cells
            first = reader.line_num + 1
    except csv.Error as error:
        raise InputError(f"{name}:{first}: is not CSV: {error}") from error


def json_table(name: str, text: str) -> Table:
    """Return the objects of a text that has one per line.

    Raises:
        InputError: naming the line that is not an object.
    """
    records = []
    for number, line in enumerate(text.split("\n"), start=1):
        if not line.strip():
            continue
        try:
            value = json.loads(line)
        except (ValueError, RecursionError) as error:
            hint = "; one object per line is needed" if number == 1 else ""
            raise InputError(f"{name}:{number}: is not JSON: {error}{hint}") from error
        if not isinstance(value, dict):
            raise InputError(
                f"{name}:{number}: must be a JSON object, one per line; got {type(value).__name__}"
            )
        check_characters(f"{name}:{number}", line, value)
        records.append(Record(f"{name}:{number}", value))
    columns = dict.fromkeys(key for record in records for key in record.cells)
    return Table(name, tuple(columns), True, records)


def check_characters(place: str, text: str, value: Any) -> None:
    """Refuse JSON with an escaped half of a surrogate pair, which cannot be written as UTF-8.

    Args:
        place: of the JSON, for the message.
        text: the JSON as it is written.
        value: what it holds.

    Raises:
        InputError: naming the place.
    """
    if "\\ud" in text.lower() and not _is_text(value):
        raise InputError(f"{place}: holds half of a surrogate pair, which is not a character")


def _is_text(value: Any) -> bool:
    """Tell whether all strings of a JSON value can be written as UTF-8."""
    try:
        json.dumps(value, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        return False
    return True


def _cell_table(
    name: str, lines: list[tuple[str, list[str]]], is_header: IsHeader, *, kind: str
) -> Table:
    first = [cell.strip() for cell in lines[0][1]] if lines else []
    has_header = is_header(first)
    twice = [cell for cell, count in Counter(filter(None, first)).items() if count > 1]
    if has_header and twice:
        raise InputError(f"{lines[0][0]}: names the column {twice[0]!r} twice")
    columns = first if has_header else [str(number + 1) for number in range(len(first))]
    records, short = [], []
    for place, cells in lines[1:] if has_header else lines:
        if len(cells) > len(columns):
            hint = ""
            if len(columns) == 1 and kind == "csv":  # a line of a .tsv was cut at a tab
                hint = separated_otherwise(name, [*first, ",".join(cells)])
            raise InputError(
                f"{place}: has {counted(len(cells), 'cell')}, {_of_what(has_header)} "
                f"{len(columns)}{hint}"
            )
        if len(cells) < len(columns):
            short.append((place, len(cells)))
            continue
        records.append(Record(place, dict(zip(columns, cells, strict=True))))
    if short:
        place, num_cells = short[0]
        problem = (
            f"{place}: has {counted(num_cells, 'cell')}, {_of_what(has_header)} {len(columns)}"
        )
        if len(short) > MAX_SHORT_SHARE * len(lines):
            raise InputError(problem)
        print(
            f"left out   {counted(len(short), 'line')} with too few cells: {problem}",
            file=sys.stderr,
        )
    return Table(name, tuple(columns), has_header, records)


def _of_what(has_header: bool) -> str:
    return "the header" if has_header else "the first line"
