"""Files of texts to learn sentence embeddings from: plain texts, pairs, or scored pairs.

Columns are named by the user, or found by the names that published sets use.
"""

from __future__ import annotations

from dataclasses import dataclass

from bert_scratch.config import InputError, did_you_mean
from bert_scratch.data.records import Record, Table, read_table
from bert_scratch.finetuning.labelled_rows import (
    LABELS,
    PAIRS,
    TEXTS,
    LabelledText,
    find_columns,
)
from bert_scratch.finetuning.task_settings import TaskSettings

POSITIVES = (("anchor", "positive"), ("query", "positive"), ("sent0", "sent1"))
"""Column names of pairs that mean the same; the first pair that a file has is taken."""
NEGATIVES = ("negative", "hard_neg")
"""Column names of a text that does not mean the same, in a file with such pairs."""


@dataclass(frozen=True, kw_only=True)
class SentenceExample(LabelledText):
    """A single text, a pair that means the same, or a pair with its similarity as the label."""

    negative: str | None = None
    """A text that does not mean the same, however similar its words."""


def read_sentence_examples(
    file: str, settings: TaskSettings, *, labels_needed: bool
) -> list[SentenceExample]:
    """Read texts, pairs, triples or scored pairs; a file holds one kind.

    Args:
        file: see `records.read_table`.
        settings: settings with the columns the user named.
        labels_needed: whether, in a file with scores, a pair without one is an error.

    Raises:
        InputError: naming the file, its line and its columns.
    """
    asked = (settings.text_column, settings.text_pair_column, settings.negative_column)
    named = {name.lower() for name in (*asked, *settings.label_column) if name is not None}
    pairs = (name for pair in (*POSITIVES, *PAIRS) for name in pair)
    known = {*pairs, *NEGATIVES, *TEXTS, *LABELS, *(name for name in named if not name.isdigit())}
    table = read_table(file, is_header=lambda cells: any(c.lower() in known for c in cells))
    columns = find_columns(table, _with_pair(table, settings), labels_needed=False)
    pair, labels = columns.pair, columns.labels if columns.pair is not None else ()
    negative = _negative_column(table, settings) if pair is not None else None
    if negative is not None and labels:
        raise InputError(
            f"{file}: has a score ({labels[0]}) and a negative text ({negative}); a pair has "
            f"one of the two: remove a column"
        )
    return [
        SentenceExample(
            place=record.place,
            text=_text(record, columns.text),
            text_pair=None if pair is None else _text(record, pair),
            negative=None if negative is None else _text(record, negative),
            label=_score(record, labels[0], needed=labels_needed) if labels else None,
        )
        for record in table.records
    ]


def _with_pair(table: Table, settings: TaskSettings) -> TaskSettings:
    """Name the columns of pairs that mean the same, if the user has not named any.

    Two columns without a header are a pair, since here only pairs have labels.
    """
    lower = {name.lower(): name for name in table.columns}
    places = () if table.has_header or len(table.columns) != 2 else (("1", "2"),)
    if settings.text_column is None and settings.text_pair_column is None:
        for first, second in (*POSITIVES, *places):
            if first in lower and second in lower:
                return settings.replace(text_column=lower[first], text_pair_column=lower[second])
    return settings


def _negative_column(table: Table, settings: TaskSettings) -> str | None:
    name = settings.negative_column
    if name is None:
        return next((column for column in table.columns if column.lower() in NEGATIVES), None)
    if name not in table.columns:
        raise InputError(
            f"{table.file}: has columns {', '.join(table.columns)}; --negative-column {name} is "
            f"not among them{did_you_mean(name, table.columns)}"
        )
    return name


def _text(record: Record, column: str) -> str:
    value = record.cells.get(column)
    if not isinstance(value, str) or not value.strip():
        what = f"has {value!r} for" if column in record.cells else "lacks"
        raise InputError(f"{record.place}: {what} {column!r}, which must be a text")
    return value


def _score(record: Record, column: str, *, needed: bool) -> str | None:
    value = record.cells.get(column)
    score = "" if value is None else str(value).strip()
    if needed and not score:
        raise InputError(f"{record.place}: has no score (column {column!r} is empty)")
    return score or None
