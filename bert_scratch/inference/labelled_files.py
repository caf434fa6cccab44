"""Read and write files of labelled examples row by row, keeping every column."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TextIO

from bert_scratch.config import InputError, did_you_mean
from bert_scratch.data.records import Table, read_table

LABELLED_KINDS = (".tsv", ".csv", ".jsonl")


def read_labelled_file(path: str, text_column: str) -> Table:
    """Read a .tsv or .csv file with a line of column names, or a .jsonl file of objects.

    Args:
        path: the file, one of `LABELLED_KINDS`.
        text_column: the column, or key, of the text.

    Raises:
        InputError: if the file cannot be read, has no examples, or one of them has no text or
            marks characters of it.
    """
    table = read_table(path, is_header=lambda _cells: True)
    names = table.columns
    if text_column not in names:
        raise InputError(
            f"--input {path}: has no column {text_column!r}{did_you_mean(text_column, names)}; "
            f"it has {', '.join(map(repr, names))}; choose with --text-column"
        )
    for record in table.records:
        if not isinstance(record.cells.get(text_column), str):
            raise InputError(f"{record.place}: needs a string under {text_column!r}")
        key = _marking(record.cells, text_column)
        if key is not None:
            raise InputError(
                f"{record.place}: {key!r} marks characters of {text_column!r}, which other words "
                f"would move; give examples with labels of whole texts"
            )
    return table


def _marking(cells: Mapping[str, Any], text_column: str) -> str | None:
    """Return the key of a JSON value that holds places, in characters, of a text; None without.

    Spans, and CLUENER's label, mark the key "text"; the answers to a question mark "context".
    """
    if text_column == "context":
        answers = cells.get("answers")
        each = answers if isinstance(answers, list) else [answers]
        starts = [answer.get("answer_start") for answer in each if isinstance(answer, dict)]
        return "answers" if any(start not in (None, []) for start in starts) else None
    spans, label = cells.get("spans"), cells.get("label")
    if text_column == "text" and spans and isinstance(spans, list):
        return "spans"
    if text_column == "text" and isinstance(label, dict) and any(label.values()):
        return "label"
    return None


def row_writer(
    kind: str, columns: Sequence[str], file: TextIO
) -> Callable[[Mapping[str, Any]], None]:
    """Write the column names; return a function that writes an example as it was read.

    Args:
        kind: one of `LABELLED_KINDS`.
        columns: the column names; JSON objects keep their own keys.
        file: open for writing, without newline translation.
    """
    if kind == ".jsonl":
        return lambda row: print(json.dumps(row, ensure_ascii=False), file=file)
    if kind == ".tsv":
        print(*columns, sep="\t", file=file)
        return lambda row: print(*row.values(), sep="\t", file=file)
    table = csv.writer(file, lineterminator="\n")
    table.writerow(columns)

    def write(row: Mapping[str, Any]) -> None:
        table.writerow(row.values())

    return write
