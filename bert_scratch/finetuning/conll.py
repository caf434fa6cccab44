"""Read words and their tags from CoNLL columns.

Each line has a word and its tag, in columns between tabs or spaces; an empty line ends a sentence.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby

from bert_scratch.config import InputError, counted
from bert_scratch.finetuning.tagging_schemes import OUTSIDE, is_entity_tag
from bert_scratch.finetuning.task_settings import TaskSettings

_DOCUMENT_START = "-DOCSTART-"


@dataclass(frozen=True, kw_only=True)
class Sentence:
    """The words on consecutive lines of a file."""

    place: str
    """`file:line` of the first word."""
    words: list[str]
    """The word of each line."""
    tags: list[str] | None
    """The tag of each word; None if the lines have none."""


def are_columns(lines: Sequence[str], settings: TaskSettings, labels: Collection[str]) -> bool:
    """Tell lines of a word and its tag, or of single words, from lines of text.

    Args:
        lines: all lines of a file.
        settings: text_column and label_column are numbers if the training file had columns.
        labels: the known tags, if any.
    """
    rows = [cells for line in lines if (cells := line.split())]
    words = [line.partition("\t")[0].split() for line in lines if "\t" in line]
    if 2 * sum(len(word) == 1 for word in words) > len(rows):
        return True
    groups = sum(has_text for has_text, _ in groupby(lines, lambda line: bool(line.strip())))
    if all(len(cells) == 1 for cells in rows):  # words, or text written without spaces
        return 1 < groups < len(rows)
    asked = settings.label_column[0] if settings.label_column else ""
    is_numbered = any(name and name.isdecimal() for name in (settings.text_column, asked))
    if is_numbered and groups > 1 and len({len(cells) for cells in rows}) == 1:
        return True  # columns as in training, but perhaps without tags
    column = int(asked) - 1 if asked.isdecimal() else -1
    tags = [cells[column] for cells in rows if column < len(cells)]
    tagged = [tag == OUTSIDE or is_entity_tag(tag) or tag in labels for tag in tags]
    return 2 * sum(tagged) > len(rows)


def read_columns(
    name: str, lines: Sequence[str], settings: TaskSettings, *, labels_needed: bool
) -> Iterator[Sentence]:
    """Yield the sentences of a CoNLL file.

    Args:
        name: how errors name the file.
        lines: all its lines, so that line numbers are right.
        settings: text_column and label_column are numbers of columns, from 1; without them the
            first column has the words, the last the tags.
        labels_needed: whether the column of tags that was asked for must be there.

    Raises:
        InputError: if a line has not as many columns as the first, or a column asked for is not
            there.
    """
    sentence: list[list[str]] = []
    num_columns, first_line = 0, 0
    for number, line in enumerate([*lines, ""], start=1):
        cells = line.split("\t") if "\t" in line else line.split()
        if not line.strip() or cells[0] == _DOCUMENT_START:
            if sentence:
                place = f"{name}:{number - len(sentence)}"
                yield _sentence(place, sentence, settings, labels_needed=labels_needed)
            sentence = []
            continue
        if not num_columns:
            num_columns, first_line = len(cells), number
        if len(cells) != num_columns:
            raise InputError(
                f"{name}:{number}: has {counted(len(cells), 'column')} ({line.strip()!r}), line "
                f"{first_line} has {num_columns}; each line needs a word and its tag"
            )
        sentence.append(cells)


def _sentence(
    place: str, rows: Sequence[Sequence[str]], settings: TaskSettings, *, labels_needed: bool
) -> Sentence:
    num_columns = len(rows[0])
    word = _column(settings.text_column, "--text-column", num_columns, 0)
    words = [row[word] for row in rows]
    asked = settings.label_column[0] if settings.label_column else None
    has_asked = asked is None or (asked.isdecimal() and int(asked) <= num_columns)
    if num_columns == 1 or not (has_asked or labels_needed):
        return Sentence(place=place, words=words, tags=None)
    tag = _column(asked, "--label-column", num_columns, num_columns - 1)
    return Sentence(place=place, words=words, tags=[row[tag] for row in rows])


def _column(asked: str | None, flag: str, num_columns: int, default: int) -> int:
    """Return the index of the column that a flag numbers, from 1."""
    if asked is None:
        return default
    if not asked.isdecimal() or not 1 <= int(asked) <= num_columns:
        raise InputError(f"{flag} {asked}: must be a number from 1 to {num_columns}, the columns")
    return int(asked) - 1
