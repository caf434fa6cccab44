"""CoNLL columns to sentences whose words have labels."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from bert_scratch.config import InputError
from bert_scratch.data.unpack import READ_ERRORS, open_bytes

_DOCUMENT_START = "-DOCSTART-"


@dataclass(frozen=True, kw_only=True)
class LabelledWords:
    """A sentence, its words separated by spaces."""

    text: str
    spans: list[tuple[int, int]]
    """Where each word stands, in characters."""
    labels: list[str]
    """Of each word."""


def read_labelled_words(file: str, *, label_column: str | None) -> list[LabelledWords]:
    """Read a word a line in the first column; an empty line ends a sentence.

    Args:
        file: in UTF-8, packed or not.
        label_column: the number of the label's column from 1; None is the last.

    Raises:
        InputError: naming file:line.
    """
    if label_column is not None and not label_column.isdigit():
        raise InputError(
            f"--label-column {label_column}: columns of words have numbers, the first is 1"
        )
    column = -1 if label_column is None else int(label_column) - 1
    try:
        with open_bytes(Path(file)) as handle:
            text = handle.read().decode("utf-8-sig")
    except (*READ_ERRORS, UnicodeDecodeError) as error:
        raise InputError(f"{file}: cannot be read as UTF-8 text: {error}") from error
    sentences = list(_sentences(file, text, column))
    if not sentences:
        raise InputError(f"{file}: holds no words")
    return sentences


def _sentences(file: str, text: str, column: int) -> Iterator[LabelledWords]:
    words: list[str] = []
    labels: list[str] = []
    for number, line in enumerate([*text.split("\n"), ""], start=1):
        cells = line.split()
        if not cells or cells[0] == _DOCUMENT_START:
            if words:
                yield _sentence(words, labels)
                words, labels = [], []
            continue
        if len(cells) < 2 or column >= len(cells):
            raise InputError(
                f"{file}:{number}: has {len(cells)} columns; a word and its label are needed"
            )
        words.append(cells[0])
        labels.append(cells[column])


def _sentence(words: list[str], labels: list[str]) -> LabelledWords:
    spans, start = [], 0
    for word in words:
        spans.append((start, start + len(word)))
        start += len(word) + 1
    return LabelledWords(text=" ".join(words), spans=spans, labels=labels)
