"""Turn files, folders, globs and data sets into documents, each a list of its paragraphs.

A path names a source of one kind:

- text: what separates documents is decided once per source from the heads of its files
  (`layout.py`) or chosen by `--documents`:
  blank-lines: a run of lines between blank lines is a document, a line is a paragraph;
  files: a file is a document, a line is a paragraph;
  lines: a line is a document;
  titles: a line ` = Title = ` (WikiText) or `<doc ...>` (WikiExtractor) starts a document;
- jsonl: the object on each line is a document, the lines of its "text" are paragraphs;
- parquet, and arrow (the files of a Hugging Face data set): each row is likewise a document;
- wikipedia: a dump; an article is a document, its title the first paragraph.

Text may be compressed. Work is cut into slices: byte ranges of plain files, whole compressed
files. A document belongs to the slice that it begins in, so any number of processes can read
slices in any order, and each document is read exactly once.
"""

from __future__ import annotations

import os
import statistics
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from bert_scratch.config import InputError, check_choice
from bert_scratch.data import documents as grouping
from bert_scratch.data import hub, layout, tables, textfile, wikipedia
from bert_scratch.data.corpus_files import find_files, has_known_name
from bert_scratch.data.unpack import is_compressed

DOCUMENT_RULES = ("auto", "blank-lines", "files", "lines", "titles")
SLICE_BYTES = 64 << 20
MAX_HEADS = 32
_NO_BORDER = sys.maxsize


@dataclass(frozen=True)
class Source:
    """One path of `--corpus`, found and understood.

    Attributes:
        path: as the user gave it.
        files: the files it names, sorted.
        kind: text, jsonl, wikipedia, parquet or arrow.
        documents: blank-lines, files, lines or titles for text; lines for jsonl, articles for
            wikipedia, rows for parquet and arrow.
        wrapped: whether some files have wrapped lines, which are joined (decided per file).
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
        paths: files, folders, globs (`corpus_files.py`), or hf:NAME[:CONFIG[:SPLIT]] (`hub.py`).
        documents: auto, blank-lines, files, lines or titles; applies to text only.

    Returns:
        One source per path and kind of file found there, in the order of the paths.

    Raises:
        InputError: naming the path, when nothing is found, a file cannot be read or is not text,
            no file holds any text, or two paths name the same file.
    """
    check_choice("--documents", documents, DOCUMENT_RULES)
    if not paths:
        raise InputError("--corpus needs at least one file, folder or glob")
    sources = []
    for path in paths:
        if path.startswith(hub.PREFIX):
            found = {"arrow": hub.dataset_files(path)}
        else:
            found = find_files(path)
        for kind, files in found.items():
            sources.append(_inspect(path, tuple(files), kind, documents))
    _refuse_twice(sources)
    return sources


def _inspect(path: str, files: tuple[Path, ...], kind: str, documents: str) -> Source:
    """Look into the files of one kind that a path names."""
    if kind == "text":
        return _inspect_text(path, files, documents)
    if kind == "jsonl":
        _sampled_heads(path, files)
        rule, evidence = "lines", "each object is a document"
    elif kind == "wikipedia":
        wikipedia.import_parser()
        rule, evidence = "articles", "a Wikipedia dump: each article is a document"
    else:
        rule, evidence = "rows", _inspect_table(path, files, kind)
    if documents != "auto":
        evidence += f" (--documents {documents} is for plain text and changes nothing here)"
    return Source(path, files, kind, rule, False, f"{path}: {evidence}")


def _refuse_twice(sources: Sequence[Source]) -> None:
    """Refuse a file that two paths name: its text would count twice, and nothing would say so."""
    seen: dict[str, str] = {}
    for source in sources:
        own = {os.path.realpath(file): file for file in source.files}
        for place, file in own.items():
            if place in seen:
                other = seen[place]
                raise InputError(
                    f"--corpus: {file} is named twice, by {other} and by {source.path}; give it "
                    "once (--mixture draws a path more often)"
                )
        seen |= dict.fromkeys(own, source.path)


def _inspect_text(path: str, files: tuple[Path, ...], documents: str) -> Source:
    """Look at the heads of up to 32 files, evenly spread, and decide once for the source."""
    layouts = [layout.inspect(head) for head in _sampled_heads(path, files)]
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
            f"({len(widths)} of {len(layouts)} sampled files) are joined"
        )
    return Source(path, files, "text", rule, wrapped, f"{path}: {evidence}")


def _sampled_heads(path: str, files: tuple[Path, ...]) -> list[str]:
    """Return the heads of up to 32 files, evenly spread; refuse files that are not text."""
    count = min(len(files), MAX_HEADS)
    sampled = [files[index * len(files) // count] for index in range(count)]
    heads = [textfile.read_head(file) for file in sampled]
    for file, head in zip(sampled, heads, strict=True):
        if "\0" in head and not has_known_name(file):
            raise InputError(f"{file}: is not text (it holds NUL bytes); give .txt or .jsonl files")
    if count == len(files) and not any(head.strip() for head in heads):
        raise InputError(f"--corpus {path}: holds no text, only blank lines or empty files")
    return heads


def _inspect_table(path: str, files: tuple[Path, ...], kind: str) -> str:
    """Find the text column of each file and say which it is."""
    columns = {tables.text_column(file, kind): None for file in files}
    if kind == "parquet" and not any(map(tables.num_rows, files)):
        raise InputError(f"--corpus {path}: holds no text, no file has any rows")
    named = " or ".join(f'"{column}"' for column in columns)
    return f"each row is a document, its text in column {named}"


def slices_of(sources: Sequence[Source], slice_bytes: int = SLICE_BYTES) -> list[Slice]:
    """Cut sources into units of work, in source order, file order and by offset.

    Args:
        sources: from `resolve_sources`.
        slice_bytes: > 0, size of a plain file's byte ranges. A compressed file is one slice,
            and so is any file that is one document.
    """
    slices = []
    for source_index, source in enumerate(sources):
        for file in source.files:
            try:
                size = file.stat().st_size
            except OSError as error:
                raise InputError(f"{file}: cannot be read: {error.strerror}") from error
            step = max(size, 1) if _is_one_slice(source, file) else slice_bytes
            slices += [
                Slice(source_index, file, start, min(start + step, size))
                for start in range(0, size, step)
            ]
    return slices


def _is_one_slice(source: Source, file: Path) -> bool:
    return source.documents == "files" or is_compressed(file)


def read_documents(
    part: Slice, source: Source, encoding_errors: str = "strict"
) -> Iterator[list[str]]:
    """Read the documents that begin in a slice, one at a time, in bounded memory.

    Args:
        part: from `slices_of`.
        source: the source it belongs to.
        encoding_errors: strict, or replace: undecodable bytes and NUL become U+FFFD, which the
            caller can count.

    Yields:
        The document's paragraphs, stripped, never empty. A document of more than 16 MiB comes in
        consecutive parts, a line of more than 1 MiB in consecutive paragraphs.

    Raises:
        InputError: naming file and place, if the text is not UTF-8, a file is broken or
            unpacks without end, or an object has no "text".
    """
    check_choice("--encoding-errors", encoding_errors, ("strict", "replace"))
    border = _NO_BORDER if _is_one_slice(source, part.file) else part.end
    if source.kind == "text":
        return _read_text(part, source, border, encoding_errors)
    if source.kind == "jsonl":
        blocks = textfile.read_blocks(
            part.file, part.start, border, encoding_errors, whole_lines=True
        )
        return grouping.documents_of_objects(blocks, part.file, border, encoding_errors)
    if source.kind == "wikipedia":
        texts = wikipedia.read_articles(part.file, part.start, border)
    else:
        texts = tables.read_rows(part.file, source.kind, part.start, border, encoding_errors)
    return (document for text in texts for document in grouping.documents_of_text(text))


def _read_text(
    part: Slice, source: Source, border: int, encoding_errors: str
) -> Iterator[list[str]]:
    width = None
    if source.wrapped:
        head = textfile.read_head(part.file)
        width = layout.wrap_width([line.strip() for line in head.split("\n")])
    starts_inside = part.start == 0 or (
        source.documents == "blank-lines" and textfile.follows_blank_line(part.file, part.start)
    )
    return grouping.documents_of_lines(
        textfile.read_blocks(part.file, part.start, border, encoding_errors),
        source.documents,
        border,
        starts_inside=starts_inside,
        width=width,
    )
