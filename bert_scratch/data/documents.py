"""Group lines into documents: where one ends and the next begins, and what its paragraphs are.

A document belongs to the slice that it begins in. One of more than 16 MiB is split into
consecutive parts, each treated as a document, so that memory is bounded for any file.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from pathlib import Path

from bert_scratch.config import InputError
from bert_scratch.data import layout, textfile
from bert_scratch.data.textfile import Block

MAX_PART_CHARACTERS = 16 << 20
# Even a short line takes some 64 bytes of memory.
MAX_PART_LINES = 1 << 18
_JSON_NAMES = {
    type(None): "null",
    bool: "true or false",
    int: "a number",
    float: "a number",
    list: "a list",
    dict: "an object",
}


def documents_of_lines(
    blocks: Iterable[Block], rule: str, border: int, *, starts_inside: bool, width: int | None
) -> Iterator[list[str]]:
    """Group a slice's lines into the documents that begin in it.

    Args:
        blocks: the slice and what follows, from `read_blocks` with this border.
        rule: blank-lines, files, lines or titles.
        border: byte offset that the slice's documents begin before.
        starts_inside: whether the first line may begin a document; if not, lines belong to an
            earlier slice up to the first blank line or title.
        width: the column that lines are wrapped at; None if they are not wrapped.

    Yields:
        The document's paragraphs, never empty.
    """
    for lines in _parts(blocks, rule, border, starts_inside):
        paragraphs = _paragraphs(lines, width)
        if paragraphs:
            yield paragraphs


def _parts(blocks: Iterable[Block], rule: str, border: int, is_ours: bool) -> Iterator[list[str]]:
    """Yield the lines of each document, or part of one, keeping blank lines inside it."""
    part: list[str] = []
    num_characters = 0
    # Text before the first title is a document, or the end of one from an earlier slice.
    is_open = rule == "titles"
    for block in blocks:
        is_behind = block.offset >= border
        for line in block.lines:
            if not block.continues:
                is_first = rule == "lines" or (rule == "titles" and layout.is_title(line))
                if is_first or (rule == "blank-lines" and not line):
                    if part:
                        yield part
                    part, num_characters, is_ours, is_open = [], 0, True, False
                if is_behind and not (is_ours and is_open):
                    return
            if is_ours and (line or is_open):
                part.append(line)
                num_characters += len(line)
                is_open = True
                if num_characters >= MAX_PART_CHARACTERS or len(part) >= MAX_PART_LINES:
                    yield part
                    part, num_characters = [], 0
    if part:
        yield part


def _paragraphs(lines: list[str], width: int | None) -> list[str]:
    """Return a document's non-empty lines; wrapped lines are joined within each block."""
    if width is None:
        return [line for line in lines if line and not layout.is_doc_tag(line)]
    paragraphs: list[str] = []
    block: list[str] = []
    for line in [*lines, ""]:
        if line and not layout.is_doc_tag(line):
            block.append(line)
        elif block:
            paragraphs += layout.join_wrapped(block, width)
            block = []
    return paragraphs


def documents_of_objects(
    blocks: Iterable[Block], file: Path, border: int, encoding_errors: str
) -> Iterator[list[str]]:
    """Read one JSON object per line and yield the paragraphs of its "text".

    Args:
        blocks: the slice, in whole lines.
        file: named in errors.
        border: byte offset that the slice's objects begin before.
        encoding_errors: strict or replace.
    """
    for block in blocks:
        if block.offset >= border:
            return
        for number, line in enumerate(block.lines):
            if line:
                try:
                    text = checked_text(_text_of(line), encoding_errors)
                except InputError as error:
                    number += textfile.line_number(file, block.offset)
                    raise InputError(f"{file}, line {number}: {error}") from error
                yield from documents_of_text(text)


def _text_of(line: str) -> str:
    try:
        value = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise InputError(f"is not valid JSON: {error}") from error
    text = value.get("text") if isinstance(value, dict) else None
    if not isinstance(text, str):
        if isinstance(value, dict) and "text" in value:
            raise InputError(
                f'needs an object with a string under the key "text"; its "text" is '
                f"{_JSON_NAMES[type(text)]}"
            )
        found = ", ".join(map(repr, value)) if isinstance(value, dict) else type(value).__name__
        raise InputError(
            f'needs an object with a string under the key "text"; found {found or "no key"}'
        )
    return text


def checked_text(text: str, encoding_errors: str) -> str:
    """Refuse or replace NUL and lone surrogates, which a string can hold but UTF-8 text cannot."""
    try:
        text.encode()
        if "\0" not in text:
            return text
    except UnicodeEncodeError:
        pass
    if encoding_errors == "strict":
        raise InputError(
            "holds an escaped NUL or lone surrogate; repair the text or use "
            "--encoding-errors replace"
        )
    return "".join("\ufffd" if c == "\0" or "\ud800" <= c <= "\udfff" else c for c in text)


def documents_of_text(text: str) -> Iterator[list[str]]:
    """Yield a text's paragraphs, which are its lines; in parts if it is long.

    Args:
        text: one document, without lone surrogates.
    """
    lines = [piece for line in text.split("\n") for piece in textfile.cut_line(line.strip())]
    for part in _parts([Block(0, lines, False)], "files", 1, True):
        if any(part):
            yield [line for line in part if line]
