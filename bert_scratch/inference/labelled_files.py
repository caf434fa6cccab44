"""Files of labelled examples, read and written row by row with every column kept."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TextIO

from bert_scratch.config import InputError, did_you_mean

LABELLED_KINDS = (".tsv", ".csv", ".jsonl")

Row = dict[str, Any]


class LabelledFile:
    """A .tsv or .csv file with a line of column names, or a .jsonl file of objects."""

    def __init__(self, path: str, text_column: str) -> None:
        """Open nothing yet but the names of the columns.

        Args:
            path: the file, one of `LABELLED_KINDS`.
            text_column: the column, or key, of the text.

        Raises:
            InputError: if the file cannot be read or has no such column.
        """
        self._path = path
        self._text_column = text_column
        self._kind = Path(path).suffix
        self._columns: list[str] = []
        if self._kind != ".jsonl":
            self._columns = next((cells for _, cells in self._cells()), [])
            if text_column not in self._columns:
                raise InputError(
                    f"--input {path}: has no column {text_column!r}"
                    f"{did_you_mean(text_column, self._columns)}; its first line names "
                    f"{', '.join(map(repr, self._columns)) or 'none'}; choose with --text-column"
                )
            if len(set(self._columns)) < len(self._columns):
                raise InputError(f"--input {path}: its first line names a column twice")

    def rows(self) -> Iterator[Row]:
        """Yield each example.

        Raises:
            InputError: naming the line that is no example.
        """
        if self._kind == ".jsonl":
            yield from self._objects()
            return
        lines = self._cells()
        next(lines, None)
        for number, cells in lines:
            if len(cells) != len(self._columns):
                raise InputError(
                    f"--input {self._path}, line {number}: has {len(cells)} columns, the first "
                    f"line names {len(self._columns)}"
                )
            yield dict(zip(self._columns, cells, strict=True))

    def text(self, row: Row) -> str:
        """Return the text of an example."""
        return str(row[self._text_column])

    def with_text(self, row: Row, text: str) -> Row:
        """Return an example with another text."""
        return row | {self._text_column: text}

    def writer(self, file: TextIO) -> Callable[[Row], None]:
        """Write the column names, and return a function that writes an example as it was read."""
        if self._kind == ".jsonl":
            return lambda row: print(json.dumps(row, ensure_ascii=False), file=file)
        if self._kind == ".tsv":
            print(*self._columns, sep="\t", file=file)
            return lambda row: print(*row.values(), sep="\t", file=file)
        table = csv.writer(file, lineterminator="\n")
        table.writerow(self._columns)

        def write(row: Row) -> None:
            table.writerow(row.values())

        return write

    def _cells(self) -> Iterator[tuple[int, list[str]]]:
        """Yield the number and the cells of each line that is not blank.

        A quote is a character like any other in .tsv files, as in GLUE's.
        """
        try:
            with Path(self._path).open(encoding="utf-8-sig", newline="") as file:
                if self._kind == ".csv":
                    table = csv.reader(file, strict=True)
                    yield from ((table.line_num, cells) for cells in table if cells)
                    return
                for number, line in enumerate(file, start=1):
                    if line.strip():
                        yield number, line.rstrip("\r\n").split("\t")
        except (OSError, UnicodeDecodeError, csv.Error) as error:
            raise InputError(f"--input {self._path}: cannot be read: {error}") from error

    def _objects(self) -> Iterator[Row]:
        try:
            with Path(self._path).open(encoding="utf-8-sig") as file:
                for number, line in enumerate(file, start=1):
                    if line.strip():
                        yield self._object(line, f"--input {self._path}, line {number}")
        except (OSError, UnicodeDecodeError) as error:
            raise InputError(f"--input {self._path}: cannot be read: {error}") from error

    def _object(self, line: str, place: str) -> Row:
        try:
            value = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise InputError(f"{place}: is not valid JSON: {error}") from error
        if not isinstance(value, dict) or not isinstance(value.get(self._text_column), str):
            raise InputError(
                f'{place}: needs an object with a string under the key "{self._text_column}"'
            )
        return value
