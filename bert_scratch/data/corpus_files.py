"""Resolve `--corpus` to files: search folders, expand globs, and tell the kind of each file.

The kind comes from the name, or from the first bytes where the name is ambiguous: XML may or may
not be a Wikipedia dump, and WikiExtractor writes two forms under the same names (AA/wiki_00).
"""

from __future__ import annotations

import glob
import os
import re
from collections.abc import Iterator, Sequence
from pathlib import Path

from bert_scratch.config import InputError
from bert_scratch.data import textfile, wikipedia
from bert_scratch.data.unpack import is_compressed
from bert_scratch.durable import is_stream

_KINDS = {".txt": "text", ".jsonl": "jsonl", ".parquet": "parquet"}
_KIND_ORDER = ("text", "jsonl", "wikipedia", "parquet")
_EXTRACTED = re.compile(r"wiki_\d+")
# A large dump comes in parts: pages-articles1.xml-p1p41242.bz2
_XML = re.compile(r"\.xml(-p\d+p\d+)?")
_BESIDE_VOCABULARIES = frozenset({"tokenizer.json", "tokenizer_config.json", "bert_config.json"})
_FOUND_IN_FOLDERS = (
    ".txt .jsonl (also .gz .bz2 .xz .zst of these), .parquet, Wikipedia's .xml or .xml.bz2, "
    "WikiExtractor's wiki_00"
)


def find_files(path: str) -> dict[str, list[Path]]:
    """Find the files that a path names.

    Args:
        path: a file, a folder (searched recursively and through links, skipping hidden files,
            vocabularies of tokenizers and this package's own output) or a glob. A file named
            explicitly may have any extension if it holds text.

    Returns:
        kind (text, jsonl, wikipedia or parquet) -> files, sorted.

    Raises:
        InputError: naming the path, if nothing is there or a file cannot be read.
    """
    named = _named(path)
    files: dict[Path, str] = {}
    for found in named:
        _refuse_stream(found)
        if any(found.glob("0*.train.tokens")):
            raise InputError(
                f"--corpus {path}: {found} is a prepared corpus; pretrain takes it as --data"
            )
        if found.is_dir():
            files |= {file: kind for file in _walk(found) if (kind := _kind(file))}
        else:
            files[found] = _kind(found) or _unknown_kind(found)
    if not files:
        what = f"has none of {_FOUND_IN_FOLDERS}" if named else "does not exist"
        raise InputError(f"--corpus {path}: {what}; give a file, a folder or a quoted glob")
    for file in files:
        if not _has_utf8_name(file):
            raise InputError(
                f"--corpus {path}: the name of {os.fsencode(file)!r} is not UTF-8; rename the file"
            )
    return {
        kind: chosen
        for kind in _KIND_ORDER
        if (chosen := sorted(file for file in files if files[file] == kind))
    }


def check_output_apart(paths: Sequence[str], output_dir: Path) -> None:
    """Refuse an output folder that is searched for text and holds some.

    Once it holds a run or a prepared corpus, nothing in it counts as text any more.

    Args:
        paths: of `--corpus`.
        output_dir: of a new run or corpus; need not exist.

    Raises:
        InputError: naming both, or a stream in the folder.
    """
    if not output_dir.is_dir():
        return
    for path in paths:
        named = (folder for folder in _named(path) if folder.is_dir())
        places = (place for folder in named for place, _ in _searched(folder))
        if any(map(output_dir.samefile, places)) and any(map(_kind, _walk(output_dir))):
            raise InputError(
                f"--output-dir {output_dir}: holds text of --corpus {path}, which would not be "
                f"found again beside the output; give a new folder"
            )


def has_known_name(file: Path) -> bool:
    """Tell whether a file's extension says that it holds text."""
    return _extension(file) in _KINDS


def _named(path: str) -> list[Path]:
    """Return what a path names: itself if it exists, else what the glob finds."""
    place = Path(path).expanduser()
    return [place] if place.exists() else sorted(map(Path, glob.glob(str(place), recursive=True)))


def _refuse_stream(file: Path) -> None:
    """Refuse a pipe or device, before opening it could wait for ever."""
    if is_stream(file):
        raise InputError(
            f"--corpus {file}: is a pipe or device, and text is read several times; write it to a "
            "file"
        )


def _walk(folder: Path) -> list[Path]:
    """Return the files below a folder that may be text."""
    return [
        place / name
        for place, names in _searched(folder)
        for name in names
        if not name.startswith(".") and not _is_vocabulary(name, names)
    ]


def _searched(folder: Path) -> Iterator[tuple[Path, list[str]]]:
    """Yield a folder and those below it, through links too but each once, with their files."""
    seen: set[str] = set()
    for parent, folders, names in os.walk(folder, followlinks=True):
        place = os.path.realpath(parent)
        if place in seen or _is_ours(folders, names):
            folders.clear()
            continue
        seen.add(place)
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        yield Path(parent), names


def _has_utf8_name(file: Path) -> bool:
    try:
        str(file).encode()
    except UnicodeEncodeError:
        return False
    return True


def _is_ours(folders: list[str], names: list[str]) -> bool:
    """Tell whether a folder among the texts is a run or prepared corpus, which is skipped."""
    is_prepared = "tokenizer" in folders and not {"plan.json", "manifest.json"}.isdisjoint(names)
    return is_prepared or "asked_config.json" in names


def _is_vocabulary(name: str, names: list[str]) -> bool:
    """Tell whether a file among the texts is the vocabulary of a tokenizer or model."""
    return name == "vocab.txt" and not _BESIDE_VOCABULARIES.isdisjoint(names)


def _kind(file: Path) -> str | None:
    """Return a file's kind, or None if neither name nor content tells."""
    is_extracted = _EXTRACTED.fullmatch(file.stem if is_compressed(file) else file.name)
    is_xml = _XML.fullmatch(_extension(file))
    kind = _KINDS.get(_extension(file))
    if is_extracted or is_xml or kind:
        _refuse_stream(file)
    if is_extracted:
        is_object = textfile.read_beginning(file, 64).lstrip().startswith(b"{")
        return "jsonl" if is_object else "text"
    if is_xml:
        return "wikipedia" if wikipedia.is_dump(file) else None
    if kind == "parquet" and is_compressed(file):
        raise InputError(f"{file}: is compressed twice; give the .parquet file inside")
    return kind


def _extension(file: Path) -> str:
    """Return the extension in lower case, the one before .gz for a compressed file."""
    return Path(file.stem if is_compressed(file) else file.name).suffix.lower()


def _unknown_kind(file: Path) -> str:
    """Return "text" for a file the user named whose kind is unknown; refuse what is not text."""
    extension = _extension(file)
    if extension == ".json":
        raise InputError(
            f'--corpus {file}: .json is not read; write one object with a "text" a line '
            "to a .jsonl file"
        )
    is_extracted = textfile.read_beginning(file, 64).lstrip().startswith(b"<doc ")
    if _XML.fullmatch(extension) and not is_extracted:
        raise InputError(
            f"--corpus {file}: is XML, but neither a Wikipedia dump (it does not begin with "
            "<mediawiki>) nor WikiExtractor's (<doc>); write its text to a .txt or .jsonl file"
        )
    return "text"
