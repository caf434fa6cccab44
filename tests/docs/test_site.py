"""Pins that the documentation site builds without a warning, loads nothing from elsewhere, and
names everything that is public. Run alone: `pytest -m slow tests/docs/test_site.py`.
"""

from __future__ import annotations

import importlib.util
import os
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import pytest

import bert_scratch

REPOSITORY = Path(__file__).parents[2]
DOCS = REPOSITORY / "docs"


def test_every_public_name_is_in_the_reference() -> None:
    pages = [*(DOCS / "api").glob("*.md"), *(DOCS / "how-bert-works").glob("*.md")]
    shown = set()
    for page in pages:
        shown |= set(re.findall(r"^::: bert_scratch\.[\w.]+\.(\w+)$", page.read_text(), re.M))
    assert set(bert_scratch.__all__) <= shown


def test_architecture_names_only_files_that_exist() -> None:
    named = set(re.findall(r"`([\w/]+\.py)`", (DOCS / "architecture.md").read_text()))
    folders = (REPOSITORY / "bert_scratch", REPOSITORY / "tests")
    files = [str(path) for folder in folders for path in folder.rglob("*.py")]
    assert len(named) > 100
    assert [name for name in named if not any(path.endswith("/" + name) for path in files)] == []


class Loads(HTMLParser):
    """Addresses that a browser fetches by itself when it opens a page."""

    def __init__(self) -> None:
        super().__init__()
        self.addresses: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag in ("script", "link", "img", "iframe", "source", "video", "audio"):
            values = dict(attrs)
            self.addresses += [values[key] or "" for key in ("src", "href") if key in values]


@pytest.mark.slow
def test_site_builds_strictly_and_loads_nothing_from_elsewhere(tmp_path: Path) -> None:
    for package in ("mkdocs", "material", "mkdocstrings"):
        if importlib.util.find_spec(package) is None:
            pytest.skip(f"{package} is not installed: uv sync --group docs")
    done = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(tmp_path)],
        cwd=REPOSITORY,
        env=os.environ | {"NO_MKDOCS_2_WARNING": "1"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    pages = sorted(tmp_path.rglob("*.html"))
    assert len(pages) > 25
    for page in pages:
        loads = Loads()
        loads.feed(page.read_text(encoding="utf-8"))
        outside = [a for a in loads.addresses if re.match(r"(https?:)?//", a)]
        assert outside == [], f"{page.relative_to(tmp_path)}: {outside}"
    for sheet in tmp_path.rglob("*.css"):
        assert not re.search(r"url\([\"']?(https?:)?//", sheet.read_text(encoding="utf-8"))
