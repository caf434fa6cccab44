"""Read tagged words or marked spans: CoNLL columns, rows of tags, JSON objects.

- CoNLL: see `conll`; a header may name the columns.
- Rows: a header, then in each row the words of a text and their tags, separated by spaces.
- JSON, an object a line: {"tokens": [...], "tags": [...]}; {"text": ..., "spans": [[start, end,
  kind]]} with characters from start up to end; or CLUENER's {"text": ..., "label": {kind:
  {surface: [[first, last]]}}}.
- Lines of text, for prediction only; a blank one is an empty text, so that texts keep their line
  numbers.
"""

from __future__ import annotations

import sys
import unicodedata
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

from bert_scratch.config import InputError, counted
from bert_scratch.data.records import Record, check_line_ends, json_table, read_text
from bert_scratch.finetuning.conll import Sentence, are_columns, read_columns
from bert_scratch.finetuning.tagging_schemes import (
    IOB2,
    OUTSIDE,
    Span,
    detect_scheme,
    is_entity_tag,
    is_misspelt_tag,
    spans_of_tags,
    tags_of_spans,
)
from bert_scratch.finetuning.task import Example
from bert_scratch.finetuning.task_settings import TaskSettings, no_columns

TAG_COLUMNS = ("label", "labels", "tags", "ner_tags", "pos_tags")


@dataclass(frozen=True, kw_only=True)
class TaggedText(Example):
    """A text with tagged words, or with spans of characters that have kinds."""

    text: str
    words: tuple[tuple[int, int], ...] | None = None
    """Start and end of each word in the text; None if the tokenizer decides."""
    tags: tuple[str, ...] | None = None
    """The tag of each word: a plain class, or IOB2 whatever scheme the file uses."""
    spans: tuple[Span, ...] | None = None
    """Instead of tags: (first character, character after the last, kind), in order."""

    def place_of(self, word: int) -> str:
        """Return the place of a word: in columns, each word has its own line."""
        return self.place


class ColumnsText(TaggedText):
    """A tagged text whose words stand on consecutive lines."""

    def place_of(self, word: int) -> str:
        """Return `file:line` of a word."""
        name, _, line = self.place.rpartition(":")
        return f"{name}:{int(line) + word}"


def read_tagged_texts(
    file: str,
    settings: TaskSettings,
    *,
    labels_needed: bool,
    labels: Collection[str] = (),
    columns_asked: Sequence[str] = (),
) -> list[TaggedText]:
    """Read the examples of a file, and report the scheme of its tags on standard error.

    Args:
        file: a path, or - for standard input.
        settings: text_column and label_column choose among a table's columns by name, and among
            those of a CoNLL file by number.
        labels_needed: whether an example without tags or spans is an error; if not, lines that
            are not columns are texts.
        labels: the known tags, if any; they tell columns from texts.
        columns_asked: flags of columns that the file must have. Without them, a file without
            labels may also be of another kind than the one of training.

    Raises:
        InputError: naming file:line.
    """
    name, text = read_text(file)
    if not text.lstrip().startswith("{"):
        check_line_ends(name, text)
    lines = [line.removesuffix("\r") for line in text.removesuffix("\n").split("\n")]
    header = lines[0].split("\t")
    if text.lstrip().startswith("{"):
        if columns_asked:
            raise no_columns(f"{name}: holds JSON objects", columns_asked)
        examples = [_of_object(record) for record in json_table(name, text).records]
    elif _is_header(header, settings):
        examples = list(_of_table(name, lines, header, settings, labels_needed=labels_needed))
    elif not labels_needed and not columns_asked and not are_columns(lines, settings, labels):
        examples = [
            TaggedText(place=f"{name}:{number}", text=line.strip())
            for number, line in enumerate(lines, start=1)
        ]
    else:
        if not labels_needed and not columns_asked and not (settings.text_column or "").isdecimal():
            # of a table, named in training; here the last column has the tags, if any has
            numbered = tuple(filter(str.isdecimal, settings.label_column))
            settings = settings.replace(text_column=None, label_column=numbered)
        examples = list(
            _of_columns(read_columns(name, lines, settings, labels_needed=labels_needed))
        )
    if not text.strip() or not examples:
        raise InputError(f"{name}: holds no examples")
    for example in examples if labels_needed else ():
        if example.tags is None and example.spans is None:
            raise InputError(f"{example.place}: has no tags; each line needs a word and its tag")
    return _in_iob2(name, examples)


def _of_columns(sentences: Iterable[Sentence]) -> Iterator[TaggedText]:
    for sentence in sentences:
        text, words = joined(sentence.words)
        tags = None if sentence.tags is None else tuple(map(str.strip, sentence.tags))
        yield ColumnsText(place=sentence.place, text=text, words=words, tags=tags)


def _is_header(cells: Sequence[str], settings: TaskSettings) -> bool:
    """Tell whether a first line names a column of tags, or one that the user or training named."""
    asked = {settings.text_column, *settings.label_column}
    named = {cell for cell in cells if cell in asked and not cell.isdecimal()}
    if settings.text_column in named:
        return True
    return len(cells) > 1 and (bool(named) or any(cell.lower() in TAG_COLUMNS for cell in cells))


def _of_table(
    name: str,
    lines: Sequence[str],
    header: Sequence[str],
    settings: TaskSettings,
    *,
    labels_needed: bool,
) -> Iterator[TaggedText]:
    """Yield the texts of a table with all words of a text in one cell, and all tags in another.

    If no cell has more than one, it is a CoNLL file with a header.
    """
    asked = settings.label_column[0] if settings.label_column else None
    if not labels_needed and asked not in header:  # of the training file
        asked = None
    tag_column = _named(asked, "--label-column", header, name)
    if tag_column is None:
        tag_column = next((i for i, c in enumerate(header) if c.lower() in TAG_COLUMNS), None)
    if tag_column is None and labels_needed:
        raise InputError(
            f"{name}: has columns {', '.join(header)}; name that of the tags with --label-column"
        )
    word_column = _named(settings.text_column, "--text-column", header, name)
    if word_column is None:
        word_column = next((i for i in range(len(header)) if i != tag_column), 0)
    columns = [column for column in (word_column, tag_column) if column is not None]
    rows = [cells for line in lines[1:] if len(cells := line.split("\t")) == len(header)]
    if all(len(cells[column].split()) < 2 for cells in rows for column in columns):
        tags_at = len(header) if tag_column is None else tag_column  # one that no line has
        places = {"text_column": str(word_column + 1), "label_column": (str(tags_at + 1),)}
        numbered = settings.replace(**places)
        yield from _of_columns(
            read_columns(name, ["", *lines[1:]], numbered, labels_needed=labels_needed)
        )
        return
    for number, line in enumerate(lines[1:], start=2):
        if not line.strip():
            continue
        cells = line.split("\t")
        if len(cells) != len(header):
            raise InputError(
                f"{name}:{number}: has {counted(len(cells), 'column')}, the header {len(header)}"
            )
        tags = None if tag_column is None else cells[tag_column].split()
        yield _of_words(f"{name}:{number}", cells[word_column].split(), tags)


def _named(asked: str | None, flag: str, header: Sequence[str], name: str) -> int | None:
    """Return the place of the column a flag names; None if it was not given."""
    if asked is None:
        return None
    if asked not in header:
        raise InputError(
            f"{name}: has columns {', '.join(header)}; {flag} {asked} is not among them"
        )
    return header.index(asked)


def _of_object(record: Record) -> TaggedText:
    cells, place = record.cells, record.place
    if "tokens" in cells:
        tags = next((cells[key] for key in TAG_COLUMNS if key in cells), None)
        for key, values in (("tokens", cells["tokens"]), ("tags", tags)):
            if (values is not None or key == "tokens") and not _are_texts(values):
                raise InputError(f"{place}: {key} must be a list of strings")
        return _of_words(place, cells["tokens"], tags)
    text = cells.get("text")
    if not isinstance(text, str):
        raise InputError(f'{place}: needs "text", or "tokens" with "tags"')
    if "spans" in cells:
        return TaggedText(place=place, text=text, spans=_spans(place, text, cells["spans"]))
    if "label" in cells:
        return TaggedText(place=place, text=text, spans=_cluener(place, text, cells["label"]))
    return TaggedText(place=place, text=text)


def _are_texts(values: Any) -> bool:
    return isinstance(values, list) and all(isinstance(value, str) for value in values)


def _of_words(place: str, words: Sequence[str], tags: Sequence[str] | None) -> TaggedText:
    if tags is not None and len(words) != len(tags):
        raise InputError(
            f"{place}: has {counted(len(words), 'word')} and {counted(len(tags), 'tag')}; each "
            f"word needs one"
        )
    text, places = joined(words)
    return TaggedText(
        place=place,
        text=text,
        words=places,
        tags=None if tags is None else tuple(map(str.strip, tags)),
    )


def _spans(place: str, text: str, values: Any) -> tuple[Span, ...]:
    spans = []
    for value in values if isinstance(values, list) else [values]:
        match value:
            case [int(start), int(end), str(kind)] if kind.strip():
                spans.append(_checked(place, text, start, end, kind.strip()))
            case _:
                raise InputError(f"{place}: spans must be [start, end, kind]; got {value!r}")
    return tuple(sorted(spans))


def _cluener(place: str, text: str, label: Any) -> tuple[Span, ...]:
    """Read {kind: {surface: [[first, last]]}}, both ends included."""
    spans = []
    try:
        found = [
            (kind, surface, first, last)
            for kind, surfaces in label.items()
            for surface, ends in surfaces.items()
            for first, last in ends
        ]
    except (AttributeError, TypeError, ValueError):
        found = [(None, None, None, None)]
    for kind, surface, first, last in found:
        if not (kind and isinstance(first, int) and isinstance(last, int)):
            raise InputError(
                f"{place}: label must be {{kind: {{surface: [[first, last]]}}}}; got {label!r}"
            )
        spans.append(_checked(place, text, first, last + 1, kind))
        if text[first : last + 1] != surface:
            raise InputError(
                f"{place}: characters {first} to {last} are {text[first : last + 1]!r}, not "
                f"{surface!r}"
            )
    return tuple(sorted(spans))


def _checked(place: str, text: str, start: int, end: int, kind: str) -> Span:
    if not 0 <= start < end <= len(text):
        raise InputError(
            f"{place}: the span from {start} up to {end} ({kind}) is not in the text, which has "
            f"{counted(len(text), 'character')}"
        )
    return start, end, kind


def _in_iob2(name: str, examples: Sequence[TaggedText]) -> list[TaggedText]:
    """Rewrite the entity tags of a file in IOB2, and drop overlapping spans."""
    tags = [example.tags for example in examples if example.tags is not None]
    if any(is_entity_tag(tag) for sentence in tags for tag in sentence):
        for example in examples:
            for word, tag in enumerate(example.tags or ()):
                if tag != OUTSIDE and not is_entity_tag(tag):
                    raise InputError(
                        f"{example.place_of(word)}: has the tag {tag!r}; others are O, or a "
                        f"letter of IOB, IOBES, BMES or BILOU with a kind, such as B-PER"
                    )
        scheme, otherwise = detect_scheme(tags)
        malformed = f", {counted(otherwise, 'tag')} of malformed entities" if otherwise else ""
        print(f"tags       {name}: {scheme}{malformed}, trained as {IOB2}", file=sys.stderr)
    else:
        _refuse_misspelt(examples)
        scheme = None
    return _without_overlaps(name, [_rewritten(example, scheme) for example in examples])


def _refuse_misspelt(examples: Sequence[TaggedText]) -> None:
    """Refuse entity tags in another spelling, which would be trained as plain classes of words.

    Classes of words may look like some of them: VITAMIN_B. So all but O must.
    """
    tags = {tag for example in examples for tag in example.tags or ()}
    outside = {tag for tag in tags if tag.upper() == OUTSIDE}
    if not outside or not all(map(is_misspelt_tag, tags - outside)):
        return
    for example in examples:
        for word, tag in enumerate(example.tags or ()):
            if tag not in outside:
                raise InputError(
                    f"{example.place_of(word)}: has the tag {tag!r}; entity tags are O, or "
                    f"a capital letter, a hyphen and a kind, such as B-PER: rewrite them so"
                )


def _rewritten(example: TaggedText, scheme: str | None) -> TaggedText:
    if example.tags is None or scheme is None:
        return example
    tags = tags_of_spans(spans_of_tags(example.tags), len(example.tags))
    return replace(example, tags=tuple(tags))


def _without_overlaps(name: str, examples: Sequence[TaggedText]) -> list[TaggedText]:
    """Keep the longer of two overlapping spans, since each character has one tag."""
    kept, dropped = [], 0
    for example in examples:
        if example.spans is None:
            kept.append(example)
            continue
        spans: list[Span] = []
        for span in sorted(example.spans, key=lambda span: (span[0] - span[1], span[0])):
            if all(span[1] <= other[0] or other[1] <= span[0] for other in spans):
                spans.append(span)
        dropped += len(example.spans) - len(spans)
        kept.append(replace(example, spans=tuple(sorted(spans))))
    if dropped:
        print(
            f"left out   {name}: {counted(dropped, 'span')} overlapping a longer one",
            file=sys.stderr,
        )
    return kept


def joined(words: Sequence[str]) -> tuple[str, tuple[tuple[int, int], ...]]:
    """Join words into a text, with spaces except in East Asian scripts written without them.

    Returns:
        The text, and the start and end of each word in it.
    """
    text, places = "", []
    for word in words:
        if text and word and not (_is_wide(text[-1]) or _is_wide(word[0])):
            text += " "
        places.append((len(text), len(text) + len(word)))
        text += word
    return text, tuple(places)


def _is_wide(character: str) -> bool:
    is_korean = "\u1100" <= character <= "\u11ff" or "\uac00" <= character <= "\ud7a3"
    return unicodedata.east_asian_width(character) in ("W", "F") and not is_korean
