"""Read labelled texts from tables, or from a folder for each label.

Columns are named by the user, or found by the names in published sets such as GLUE and CLUE.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bert_scratch.config import InputError, did_you_mean
from bert_scratch.data.records import Record, Table, read_table, separated_otherwise
from bert_scratch.finetuning.task import Example
from bert_scratch.finetuning.task_settings import TaskSettings, no_columns

PAIRS = (
    ("sentence1", "sentence2"),
    ("text_a", "text_b"),
    ("premise", "hypothesis"),
    ("question1", "question2"),
    ("#1 string", "#2 string"),
    ("question", "sentence"),
    ("query", "passage"),
    ("text1", "text2"),
)
"""Column names of pairs, in lower case; the first pair that a file has is taken."""
TEXTS = (
    *("sentence", "text", "text_a", "sentence1", "review", "content", "document", "comment"),
    *("query", "question", "tweet", "utterance", "headline", "title", "body"),
)
LABELS = (
    *("label", "labels", "gold_label", "quality", "is_duplicate", "score", "similarity"),
    *("category", "class", "sentiment", "polarity", "intent", "target", "rating", "stars"),
)
COLA = ("4", "2")
"""Columns of text and label in GLUE's CoLA, without a header: source, label, mark, sentence."""


class UnknownColumns(InputError):
    """A table's columns are not known by their names, and the user named none.

    Attributes:
        found: the file and its columns.
    """

    def __init__(self, found: str, remedy: str) -> None:
        super().__init__(f"{found}; {remedy}")
        self.found = found


@dataclass(frozen=True, kw_only=True)
class LabelledText(Example):
    """A text or a pair, with its label if it came with one."""

    text: str
    text_pair: str | None = None
    label: str | tuple[str, ...] | None = None
    """A tuple of any number of labels in a multi-label task; None without a label."""


@dataclass(frozen=True)
class Columns:
    """The roles of a table's columns."""

    text: str
    pair: str | None
    labels: tuple[str, ...]
    """Empty if the table has no label; several columns of 0 and 1 if it is multi-label."""


def read_labelled_texts(
    file: str,
    settings: TaskSettings,
    *,
    labels_needed: bool,
    columns_asked: Sequence[str] = (),
) -> list[LabelledText]:
    """Read texts and labels.

    Args:
        file: see `records.read_table`; or a folder with a subfolder for each label, a text a file.
        settings: settings with the columns the user named.
        labels_needed: whether a text without its label is an error.
        columns_asked: flags of columns that the file must have.

    Raises:
        InputError: naming the file, its line and its columns.
    """
    if Path(file).is_dir():
        if columns_asked:
            raise no_columns(f"{file}: has a text in each file and no columns", columns_asked)
        return _read_folders(Path(file))
    asked = (settings.text_column, settings.text_pair_column, *settings.label_column)
    # a number is the place of a column in a file without a header
    named = {name.lower() for name in asked if name is not None and not name.isdigit()}
    known = {*TEXTS, *LABELS, *(name for pair in PAIRS for name in pair), *named}
    table = read_table(
        file,
        is_header=lambda cells: any(c.lower() in known for c in cells),
        keep_blank=not labels_needed,
    )
    columns = find_columns(
        table, settings, labels_needed=labels_needed, columns_asked=bool(columns_asked)
    )
    return [
        LabelledText(
            place=record.place,
            text=_text(record, columns.text),
            text_pair=None if columns.pair is None else _text(record, columns.pair),
            label=_label(record, columns.labels, settings, labels_needed=labels_needed),
        )
        for record in table.records
    ]


def find_columns(
    table: Table, settings: TaskSettings, *, labels_needed: bool, columns_asked: bool = False
) -> Columns:
    """Decide the role of each column.

    Args:
        table: the table as read.
        settings: settings with the columns the user named.
        labels_needed: whether a table without a label column is an error.
        columns_asked: whether even lines of text must have the columns the user named.

    Raises:
        InputError: naming the existing columns, if one is missing.
    """
    if table.has_header:
        lower = {name.lower(): name for name in reversed(table.columns)}
        found = _by_name(lower)
    else:
        found = _by_place(table)
    is_named = table.has_header or settings.text_column in table.columns
    if found and not labels_needed and not is_named and not columns_asked:
        _check_separator(table)
        return found  # lines of text, whatever the training columns were called
    text = _asked(table, settings.text_column, "--text-column") or (found.text if found else None)
    pair = _asked(table, settings.text_pair_column, "--text-pair-column")
    if pair is None and found and settings.text_column is None:
        pair = found.pair
    labels = found.labels if found else ()
    if settings.label_column and (
        labels_needed or set(settings.label_column) <= set(table.columns)
    ):
        for name in settings.label_column:
            _asked(table, name, "--label-column")
        labels = settings.label_column
    if text is None:
        raise UnknownColumns(
            _described(table),
            "name the text's with --text-column, and that of a pair's second text with "
            "--text-pair-column",
        )
    if labels_needed and not labels:
        raise UnknownColumns(_described(table), "name the label's with --label-column")
    return Columns(text, pair, labels)


def _by_name(lower: dict[str, str]) -> Columns | None:
    labels = tuple(lower[name] for name in LABELS if name in lower)[:1]
    for first, second in PAIRS:
        if first in lower and second in lower:
            return Columns(lower[first], lower[second], labels)
    text = next((lower[name] for name in TEXTS if name in lower), None)
    return None if text is None else Columns(text, None, labels)


def _by_place(table: Table) -> Columns | None:
    """Decide without a header: a single column is the text, four may be CoLA's.

    Two may be a pair, or a text and its label: the user has to say.
    """
    if len(table.columns) == 1:
        return Columns("1", None, ())
    text, label = COLA
    if len(table.columns) == 4 and all(r.cells[label] in ("0", "1") for r in table.records):
        return Columns(text, None, (label,))
    return None


def _check_separator(table: Table) -> None:
    """Refuse a table of one column whose first line names columns between other separators."""
    first = re.split("[;,\t]", str(table.records[0].cells.get("1")).lower())
    if not {*TEXTS, *LABELS}.isdisjoint(first) and (hint := _other_separator(table)):
        raise InputError(f"{table.file}: is read as one text per line{hint}")


def _asked(table: Table, name: str | None, flag: str) -> str | None:
    """Return the column a flag names."""
    if name is not None and name not in table.columns:
        hint = did_you_mean(name, table.columns)
        raise InputError(f"{_described(table)}; {flag} {name} is not among them{hint}")
    return name


def _described(table: Table) -> str:
    names = ", ".join(table.columns)
    kind = (
        f"columns {names}" if table.has_header else f"no header with known names, columns {names}"
    )
    return f"{table.file}: has {kind}{_other_separator(table)}"


def _other_separator(table: Table) -> str:
    """Return what to say of a table of one column that another character separates, or ""."""
    is_lone = not table.has_header and len(table.columns) == 1
    lines = [record.cells["1"] for record in table.records] if is_lone else []
    return separated_otherwise(table.file, lines)


def _text(record: Record, column: str) -> str:
    value = record.cells.get(column)
    if not isinstance(value, str):
        what = "lacks" if value is None else f"has {value!r} for"
        raise InputError(f"{record.place}: {what} {column!r}, which must be text")
    return value


def _label(
    record: Record, columns: Sequence[str], settings: TaskSettings, *, labels_needed: bool
) -> str | tuple[str, ...] | None:
    if not columns:
        return None
    if len(columns) > 1:
        cells = [record.cells.get(name) for name in columns]
        if not labels_needed and all(_is_missing(cell) or cell == "" for cell in cells):
            return None
        return tuple(name for name in columns if _is_on(record, name))
    value = record.cells.get(columns[0])
    if isinstance(value, list):
        return _each_once(_name_of(record, columns[0], item) for item in value)
    if settings.multi_label and isinstance(value, str):
        return _each_once(name.strip() for name in value.split(","))
    name = "" if _is_missing(value) else _name_of(record, columns[0], value)
    if not name and labels_needed:
        what = value if isinstance(value, float) else "empty"
        raise InputError(f"{record.place}: has no label (column {columns[0]!r} is {what})")
    return name or None


def _each_once(names: Iterable[str]) -> tuple[str, ...]:
    """Return the labels of a text without empty and repeated ones."""
    return tuple(dict.fromkeys(name for name in names if name))


def _is_missing(value: Any) -> bool:
    """Tell whether a value is missing: null, or the NaN that pandas writes for it."""
    return value is None or (isinstance(value, float) and not math.isfinite(value))


def _name_of(record: Record, column: str, value: Any) -> str:
    if not isinstance(value, str | int | float) or _is_missing(value):
        raise InputError(f"{record.place}: has {value!r} for {column!r}, which is not a label")
    return str(value).strip()


def _is_on(record: Record, column: str) -> bool:
    value = str(record.cells.get(column)).strip().lower()
    if value not in ("0", "1", "true", "false"):
        raise InputError(
            f"{record.place}: has {record.cells.get(column)!r} for {column!r}; with several "
            f"--label-column each must be 0 or 1"
        )
    return value in ("1", "true")


def _read_folders(root: Path) -> list[LabelledText]:
    """Read a folder with a subfolder for each label and a text in each file."""
    examples = []
    for folder in sorted(path for path in _visible(root) if path.is_dir()):
        for path in sorted(_visible(folder)):
            try:
                text = path.read_text(encoding="utf-8-sig")
            except (OSError, UnicodeDecodeError) as error:
                raise InputError(f"{path}: cannot be read as UTF-8 text: {error}") from error
            examples.append(LabelledText(place=str(path), text=text, label=folder.name))
    if not examples:
        raise InputError(f"{root}: must hold a folder for each label, with a text in each file")
    return examples


def _visible(folder: Path) -> Iterator[Path]:
    return (path for path in folder.iterdir() if not path.name.startswith("."))
