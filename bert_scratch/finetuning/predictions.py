"""Write answers as lines of text: JSON, a table, or words with their tags."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from typing import Any

from bert_scratch.config import InputError


def json_lines(records: Iterable[dict[str, Any]]) -> str:
    """Return one line of JSON for each record."""
    return "".join(json.dumps(record, ensure_ascii=False) + "\n" for record in records)


def tsv_lines(records: Sequence[dict[str, Any]]) -> str:
    """Return a header and a line for each record; each key of an object becomes a column."""
    flat = [_flat(record) for record in records]
    names = list(dict.fromkeys(name for record in flat for name in record))
    lines = ["\t".join(map(_cell, names))]
    lines += ["\t".join(record.get(name, "") for name in names) for record in flat]
    return "\n".join(lines) + "\n"


def conll_lines(records: Iterable[dict[str, Any]]) -> str:
    """Return a line for each word with its tag, and an empty line after each text.

    Tabs and line breaks in a word, which would end its cell or line, become spaces.

    Raises:
        InputError: if the answers are not tags of words.
    """
    lines = []
    for record in records:
        if "tags" not in record:
            raise InputError("--format conll is for token-classification only")
        lines += [
            f"{_cell(word)}\t{tag}"
            for word, tag in zip(record["tokens"], record["tags"], strict=True)
        ]
        lines.append("")
    return "\n".join(lines) + "\n"


def _flat(record: dict[str, Any]) -> dict[str, str]:
    cells: dict[str, str] = {}
    for name, value in record.items():
        if isinstance(value, dict):
            cells |= {f"{name}.{key}": _cell(item) for key, item in value.items()}
        else:
            cells[name] = _cell(value)
    return cells


def _cell(value: Any) -> str:
    """Return a value as text without tabs and line breaks."""
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return " ".join(text.split("\t")).replace("\n", " ").replace("\r", " ")
