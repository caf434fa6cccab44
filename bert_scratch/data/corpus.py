"""Files, folders and globs to documents, each a list of its paragraphs.

A path names a source. What separates its documents is decided once per source from the heads of
its files (`layout.py`) or chosen by `--documents`:

- blank-lines: a run of lines between blank lines is a document, a line is a paragraph;
- files: a file is a document, a line is a paragraph;
- lines: a line is a document;
- titles: a line ` = Title = ` (WikiText) or `<doc ...>` (WikiExtractor) starts a document;
- in a .jsonl file an object is a document, the lines of its "text" are paragraphs.

Lines end at a line feed, with or without a carriage return before it; other Unicode separators
are white space. Work is cut into slices: byte ranges of plain files, whole compressed files. A
document belongs to the slice that it begins in, so slices can be read in any order by any number
of processes and hold each document exactly once.
"""

from __future__ import annotations

import glob
import json
import math
import os
import statistics
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from bert_scratch.config import InputError, check_choice
from bert_scratch.data import layout, textfile

DOCUMENT_RULES = ("auto", "blank-lines", "files", "lines", "titles")
SLICE_BYTES = 64 << 20
MAX_HEADS = 32
_KINDS = {".txt": "text", ".jsonl": "jsonl"}


@dataclass(frozen=True)
class Source:
    """One path of `--corpus`, found and understood.

    Attributes:
        path: as the user gave it.
        files: the files it names, sorted.
        kind: text or jsonl.
        documents: blank-lines, files, lines or titles; lines for jsonl.
        wrapped: some files have wrapped lines, which are joined (decided file by file).
        evidence: the sentence that says what was decided and why.
    """

    path: str
    files: tuple[Path, ...]
    kind: str
    documents: str
    wrapped: bool
    evidence: str


@dataclass(frozen=True)
class Slice:
    """A unit of work: the documents that begin in bytes [start, end) of one file."""

    source_index: int
    file: Path
    start: int
    end: int


def resolve_sources(paths: Sequence[str], documents: str = "auto") -> list[Source]:
    """Find the files that paths name and decide what a document is in each source.

    Args:
        paths: files, folders (searched recursively for .txt and .jsonl, each also .gz), globs. A
            file named outright may have any extension if it holds text.
        documents: auto, blank-lines, files, lines or titles; jsonl is not affected.

    Returns:
        One source per path, two where a path holds both text and jsonl.

    Raises:
        InputError: naming the path, when nothing is found, a file cannot be read, is not text,
            or no file holds any text.
    """
    check_choice("--documents", documents, DOCUMENT_RULES)
    if not paths:
        raise InputError("--corpus needs at least one file, folder or glob")
    sources = []
    for path in paths:
        files = _find_files(path)
        for kind in ("text", "jsonl"):
            chosen = tuple(file for file in files if _kind(file) == kind)
            if chosen:
                sources.append(_inspect(path, chosen, kind, documents))
    return sources


def _find_files(path: str) -> list[Path]:
    """Return the files a path names, sorted; one unknown extension is fine if named outright."""
    place = Path(path).expanduser()
    if place.is_dir():
        found = _folder_files(place)
    elif place.exists():
        found = [place]
    else:
        matches = sorted(Path(name) for name in glob.glob(str(place), recursive=True))
        found = []
        for match in matches:
            found += _folder_files(match) if match.is_dir() else [match]
        found = sorted(set(found))
    unreadable = [file for file in found if _extension(file) == ".json"]
    if unreadable:
        raise InputError(
            f'--corpus {unreadable[0]}: .json is not read; write one object with a "text" a line '
            "to a .jsonl file"
        )
    if not found:
        known = " ".join(f"{name} {name}.gz" for name in _KINDS)
        what = f"has no file ending in one of {known}" if place.is_dir() else "does not exist"
        raise InputError(f"--corpus {path}: {what}; give a file, a folder or a quoted glob")
    return found


def _folder_files(folder: Path) -> list[Path]:
    """Return the files of known extensions below a folder, hidden ones left out, sorted."""
    found = []
    for parent, folders, names in os.walk(folder):
        folders[:] = [name for name in folders if not name.startswith(".")]
        found += [Path(parent, name) for name in names if not name.startswith(".")]
    return sorted(file for file in found if _extension(file) in _KINDS)


def _extension(file: Path) -> str:
    """Return the extension in lower case, the one before .gz for a compressed file."""
    suffix = file.suffix.lower()
    return Path(file.stem).suffix.lower() if suffix == ".gz" else suffix


def _kind(file: Path) -> str:
    return _KINDS.get(_extension(file), "text")


def _inspect(path: str, files: tuple[Path, ...], kind: str, documents: str) -> Source:
    """Look at the heads of up to 32 files, evenly spread, and decide once for the source."""
    count = min(len(files), MAX_HEADS)
    sampled = [files[index * len(files) // count] for index in range(count)]
    heads = [textfile.read_head(file) for file in sampled]
    for file, head in zip(sampled, heads, strict=True):
        if "\0" in head and _extension(file) not in _KINDS:
            raise InputError(f"{file}: is not text (it holds NUL bytes); give .txt or .jsonl files")
    if count == len(files) and not any(head.strip() for head in heads):
        raise InputError(f"--corpus {path}: holds no text, only blank lines or empty files")
    if kind == "jsonl":
        return Source(path, files, kind, "lines", False, f"{path}: each object is a document")
    layouts = [layout.inspect(head) for head in heads]
    if documents != "auto" or not any(seen.num_lines for seen in layouts):
        rule = "files" if documents == "auto" else documents
        evidence = f"documents by {rule}, as chosen"
    else:
        rule, evidence = layout.decide(layouts)
    widths = [seen.width for seen in layouts if seen.width is not None]
    wrapped = bool(widths) and rule != "lines"
    if wrapped:
        evidence += (
            f"; lines wrapped at about {round(statistics.median(widths))} columns "
            f"({len(widths)} of {count} sampled files) are joined"
        )
    return Source(path, files, kind, rule, wrapped, f"{path}: {evidence}")


def slices_of(sources: Sequence[Source], slice_bytes: int = SLICE_BYTES) -> list[Slice]:
    """Cut sources into units of work, in source order, sorted file order and by offset.

    Args:
        sources: from `resolve_sources`.
        slice_bytes: > 0, size of a byte range of a plain file. A compressed file is one slice,
            and so is any file that is one document.
    """
    slices = []
    for source_index, source in enumerate(sources):
        for file in source.files:
            try:
                size = file.stat().st_size
            except OSError as error:
                raise InputError(f"{file}: cannot be read: {error.strerror}") from error
            whole = source.documents == "files" or textfile.is_compressed(file)
            step = max(size, 1) if whole else slice_bytes
            slices += [
                Slice(source_index, file, start, min(start + step, size))
                for start in range(0, size, step)
            ]
    return slices


def read_documents(
    part: Slice, source: Source, encoding_errors: str = "strict"
) -> Iterator[list[str]]:
    """Read the documents that begin in a slice, one at a time.

    Args:
        part: from `slices_of`.
        source: the source it belongs to.
        encoding_errors: strict, or replace: undecodable bytes and NUL become U+FFFD, which the
            caller can count.

    Yields:
        The document's paragraphs, stripped, never empty.

    Raises:
        InputError: naming file and byte offset, where the text is not UTF-8, a compressed file
            is broken, or a jsonl line has no "text".
    """
    check_choice("--encoding-errors", encoding_errors, ("strict", "replace"))
    lines = textfile.read_lines(part.file, part.start, encoding_errors)
    if source.kind == "jsonl":
        yield from _objects(lines, part, encoding_errors)
        return
    if source.documents == "lines":
        for offset, line in lines:
            if offset >= _end(part):
                return
            if line:
                yield [line]
        return
    width = None
    if source.wrapped:
        width = layout.wrap_width(
            [line.strip() for line in textfile.read_head(part.file).split("\n")]
        )
    for document in _runs(lines, part, source.documents):
        paragraphs = _paragraphs(document, width)
        if paragraphs:
            yield paragraphs


def _runs(lines: Iterator[tuple[int, str]], part: Slice, rule: str) -> Iterator[list[str]]:
    """Group lines into documents, blank lines kept inside them; stop past the slice's end."""
    end = _end(part) if rule != "files" else math.inf
    document: list[str] = []
    # Text before the slice's first border belongs to a document of an earlier slice.
    inside = part.start == 0 or (
        rule == "blank-lines" and textfile.follows_blank_line(part.file, part.start)
    )
    for offset, line in lines:
        is_title = rule == "titles" and layout.TITLE_LINE.fullmatch(line) is not None
        if is_title or (rule == "blank-lines" and not line):
            yield document
            document, inside = [], True
        outside = is_title or not inside or (rule == "blank-lines" and not document)
        if outside and offset >= end:
            return
        if inside and (line or document):
            document.append(line)
    yield document


def _paragraphs(lines: list[str], width: int | None) -> list[str]:
    """Return the non-empty lines of a document, wrapped ones joined within each block."""
    paragraphs: list[str] = []
    block: list[str] = []
    for line in [*lines, ""]:
        if line and not layout.DOC_TAG.fullmatch(line):
            block.append(line)
        elif block:
            paragraphs += layout.join_wrapped(block, width)
            block = []
    return paragraphs


def _objects(
    lines: Iterator[tuple[int, str]], part: Slice, encoding_errors: str
) -> Iterator[list[str]]:
    """Read one JSON object a line and return the paragraphs of its "text"."""
    for offset, line in lines:
        if offset >= _end(part):
            return
        if not line:
            continue
        try:
            value = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise InputError(f"{_line(part.file, offset)}: is not valid JSON: {error}") from error
        text = value.get("text") if isinstance(value, dict) else None
        if not isinstance(text, str):
            found = ", ".join(map(repr, value)) if isinstance(value, dict) else type(value).__name__
            raise InputError(
                f'{_line(part.file, offset)}: needs an object with a string under the key "text"; '
                f"found {found or 'no key'}"
            )
        text = _checked(text, part.file, offset, encoding_errors)
        paragraphs = [line.strip() for line in text.split("\n")]
        if any(paragraphs):
            yield [paragraph for paragraph in paragraphs if paragraph]


def _checked(text: str, file: Path, offset: int, encoding_errors: str) -> str:
    """Refuse or replace what JSON escapes can hold and UTF-8 text cannot: NUL, lone surrogates."""
    try:
        text.encode()
        if "\0" not in text:
            return text
    except UnicodeEncodeError:
        pass
    if encoding_errors == "strict":
        raise InputError(
            f"{_line(file, offset)}: holds an escaped NUL or lone surrogate; repair the text or "
            "use --encoding-errors replace"
        )
    return "".join("\ufffd" if c == "\0" or "\ud800" <= c <= "\udfff" else c for c in text)


def _end(part: Slice) -> float:
    """Return the offset that documents of the slice begin before; inf in a compressed file."""
    return math.inf if textfile.is_compressed(part.file) else part.end


def _line(file: Path, offset: int) -> str:
    return f"{file}, line {textfile.line_number(file, offset)}"
