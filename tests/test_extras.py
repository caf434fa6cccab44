"""Pins that a missing optional package is named with the command that installs it.

Run alone: pytest tests/test_extras.py.
"""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from bert_scratch.config import InputError
from bert_scratch.data.corpus import resolve_sources


@pytest.mark.parametrize(
    ("module", "name", "message"),
    [
        ("zstandard", "a.txt.zst", r'\.zst files needs zstandard: .*"bert-scratch\[zstd\]"'),
        ("pyarrow", "a.parquet", r'files needs pyarrow: pip install "bert-scratch\[parquet\]"'),
        ("mwparserfromhell", "a.xml", r'dumps needs mwparserfromhell: .*"bert-scratch\[wiki\]"'),
        ("datasets", "hf:a", r'needs datasets: pip install "bert-scratch\[hub\]"'),
    ],
)  # fmt: skip
def test_missing_package_is_named_with_its_extra(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, module: str, name: str, message: str
) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    (tmp_path / name).write_text("<mediawiki></mediawiki>")
    with pytest.raises(InputError, match=message):
        resolve_sources([name if name.startswith("hf:") else str(tmp_path / name)])
