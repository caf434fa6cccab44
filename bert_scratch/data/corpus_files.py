"""Resolve `--corpus` to files: search folders, expand globs, and tell the kind of each file.

The kind comes from the name, or from the first bytes where the name is ambiguous: XML may or may
not be a Wikipedia dump, and WikiExtractor writes two forms under the same names (AA/wiki_00).
"""

from __future__ import annotations

import glob
import os
import re
from pathlib import Path

from bert_scratch.config import InputError
from bert_scratch.data import textfile, wikipedia
from bert_scratch.data.unpack import is_compressed

_KINDS = {".txt": "text", ".jsonl": "jsonl", ".parquet": "parquet"}
_KIND_ORDER = ("text", "jsonl", "wikipedia", "parquet")
_EXTRACTED = re.compile(r"wiki_\d+")
# A large dump comes in parts: pages-articles1.xml-p1p41242.bz2
_XML = re.compile(r"\.xml(-p\d+p\d+)?")
_FOUND_IN_FOLDERS = (
    ".txt .jsonl (also .gz .bz2 .xz .zst of these), .parquet, Wikipedia's .xml or .xml.bz2, "
    "WikiExtractor's wiki_00"
)


def find_files(path: str) -> dict[str, list[Path]]:
    """Find the files that a path names.

    Args:
        path: a file, a folder (searched recursively and through links, skipping hidden files and
            this package's own output) or a glob. A file named explicitly may have any extension
            if it holds text.

    Returns:
        kind (text, jsonl, wikipedia or parquet) -> files, sorted.

    Raises:
        InputError: naming the path, if nothing is there or a file cannot be read.
    """
    place = Path(path).expanduser()
    named = [place] if place.exists() else sorted(map(Path, glob.glob(str(place), recursive=True)))
    files: dict[Path, str] = {}
    for found in named:
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


def has_known_name(file: Path) -> bool:
    """Tell whether a file's extension says that it holds text."""
    return _extension(file) in _KINDS


def _walk(folder: Path) -> list[Path]:
    """Return the files below a folder, through links too, each folder once."""
    found: list[Path] = []
    seen: set[str] = set()
    for parent, folders, names in os.walk(folder, followlinks=True):
        place = os.path.realpath(parent)
        if place in seen or _is_ours(folders, names):
            folders.clear()
            continue
        seen.add(place)
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        found += [Path(parent, name) for name in names if not name.startswith(".")]
    return found


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


def _kind(file: Path) -> str | None:
    """Return a file's kind, or None if neither name nor content tells."""
    name = file.stem if is_compressed(file) else file.name
    if _EXTRACTED.fullmatch(name):
        is_object = textfile.read_beginning(file, 64).lstrip().startswith(b"{")
        return "jsonl" if is_object else "text"
    if _XML.fullmatch(_extension(file)):
        return "wikipedia" if wikipedia.is_dump(file) else None
    kind = _KINDS.get(_extension(file))
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
