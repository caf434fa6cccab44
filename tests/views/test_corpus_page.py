"""Pins how a corpus report is shown: one screen of text, one JSON object, one inert page.

Run alone: pytest tests/views/test_corpus_page.py.
"""

from __future__ import annotations

import json
import random
import sys
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path

import pytest

from bert_scratch.cli import main
from bert_scratch.config import InputError
from bert_scratch.pretraining.corpus_report import CorpusReport, CorpusReportConfig, corpus_report
from bert_scratch.views import plots
from bert_scratch.views.corpus_page import corpus_page
from bert_scratch.views.corpus_text import MAX_COLUMNS, MAX_LINES, screen, share

SCRIPT = "<script>alert(1)</script><img src=x onerror=alert(2)>"
ATTRIBUTE = "\"'><svg onload=alert(3)> &lt;b&gt; javascript:alert(4)"

Run = Callable[..., tuple[int, str, str]]


def write_corpus(folder: Path, *extra: str, num_documents: int = 30) -> Path:
    """Write a file of documents whose every one holds the extra lines."""
    draw = random.Random(2)
    words = "amber basil cedar daisy elder fennel ginger hazel iris juniper".split()
    folder.mkdir(parents=True, exist_ok=True)
    documents = [
        "\n".join([*(" ".join(draw.choices(words, k=8)) + "." for _ in range(6)), *extra])
        for _ in range(num_documents)
    ]
    path = folder / "corpus.txt"
    path.write_text("\n\n".join(documents) + "\n", encoding="utf-8")
    return path


def report_on(*paths: Path, **settings: object) -> CorpusReport:
    corpus = tuple(map(str, paths))
    return corpus_report(CorpusReportConfig(corpus=corpus, documents="blank-lines", **settings))


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> CorpusReport:
    """Of a corpus that holds what would do harm in a page; not to be changed."""
    folder = tmp_path_factory.mktemp("text") / "<script>alert(5)<"
    return report_on(write_corpus(folder, SCRIPT, ATTRIBUTE, "café the The \x1b[31m"))


class _Elements(HTMLParser):
    """Keeps what a browser would see of a page."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.text = ""
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in ("meta", "br"):
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Run:
    """Return a function that runs a command and returns exit code, output and errors."""

    def call(*arguments: object) -> tuple[int, str, str]:
        code = main([str(argument) for argument in arguments])
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return call


def test_text_of_the_corpus_is_inert_in_the_page(report: CorpusReport) -> None:
    seen = _Elements(corpus_page(report))
    assert seen.open == []
    assert not {tag for tag, _ in seen.tags} & {"script", "img", "iframe", "object", "a", "link"}
    for _, attributes in seen.tags:
        assert not [name for name in attributes if name.startswith("on")]
        assert not [v for v in attributes.values() if v and "javascript:" in v]
    assert SCRIPT in seen.text and ATTRIBUTE in seen.text
    assert "<script>alert(5)<" in seen.text


def test_page_needs_no_network_and_forbids_scripts(report: CorpusReport) -> None:
    page = corpus_page(report)
    assert "http://" not in page and "https://" not in page and "@import" not in page
    assert "url(" not in page.replace("url(#", "")
    assert "default-src 'none'; style-src 'unsafe-inline'" in page


def test_page_has_each_part_and_its_plots(report: CorpusReport) -> None:
    seen = _Elements(corpus_page(report))
    for title in ("How it is read", "Lengths", "Repeats", "Characters", "Vocabulary"):
        assert title in seen.text
    assert [tag for tag, _ in seen.tags].count("svg") == 4
    for line in report.warnings:
        assert line.replace("`", "") in seen.text
    ids = [attributes["id"] for _, attributes in seen.tags if "id" in attributes]
    assert len(ids) == len(set(ids))


def test_page_follows_the_colour_scheme_of_the_reader(report: CorpusReport) -> None:
    page = corpus_page(report)
    assert "prefers-color-scheme: dark" in page
    for stand_in in ("#010203", "#040506", "#070809", "#000000", "#ffffff"):
        assert stand_in not in page


def test_page_is_the_same_bytes_every_time(report: CorpusReport, tmp_path: Path) -> None:
    again = report_on(Path(report.corpus[0]))
    assert corpus_page(again) == corpus_page(report)


def test_text_fits_one_screen(report: CorpusReport, tmp_path: Path) -> None:
    lines = screen(report).split("\n")
    assert len(lines) <= MAX_LINES
    assert max(map(len, lines)) <= MAX_COLUMNS
    assert all(line.isprintable() for line in lines)


def test_text_of_many_sources_and_warnings_fits_one_screen(tmp_path: Path) -> None:
    paths = [write_corpus(tmp_path / ("long-name-" * 12) / str(n)) for n in range(5)]
    for path in paths:
        path.write_text("\n\n".join(path.read_text().split("\n")) + "caf\ufffd \x07 Ã© a\ufeffb")
    report = report_on(*paths)
    assert len(report.warnings) > 8
    lines = screen(report).split("\n")
    assert len(lines) == MAX_LINES
    assert max(map(len, lines)) <= MAX_COLUMNS
    assert "and 2 more sources" in "\n".join(lines)
    assert "--json" in lines[-1]


def test_text_says_none_when_nothing_looks_wrong(tmp_path: Path) -> None:
    report = report_on(write_corpus(tmp_path, num_documents=5_000))
    assert screen(report).endswith("warnings    none")
    assert "Nothing looks wrong" in corpus_page(report)


@pytest.mark.parametrize(
    "value, text",
    [
        (0.0, "0 %"),
        (1.0, "100 %"),
        (0.5, "50.0 %"),
        (0.00031, "0.03 %"),
        (0.9999, "99.99 %"),
        (1e-7, "< 0.001 %"),
        (1 - 1e-7, "> 99.999 %"),
    ],
)
def test_shares_keep_digits_enough(value: float, text: str) -> None:
    assert share(value) == text


def test_command_prints_one_json_object(run: Run, tmp_path: Path) -> None:
    path = write_corpus(tmp_path)
    code, out, _ = run("corpus-report", "--corpus", path, "--documents", "blank-lines", "--json")
    assert code == 0
    found = json.loads(out)
    assert found["num_documents"] == 30
    assert found["expectation"]["padding"].keys() == {"64", "128", "512"}
    assert found["warnings"] == report_on(path).warnings


def test_command_prints_a_screen_and_writes_the_page(run: Run, tmp_path: Path) -> None:
    path, page = write_corpus(tmp_path), tmp_path / "made" / "page.html"
    code, out, _ = run(
        "corpus-report", "--corpus", path, "--documents", "blank-lines", "--output-html", page
    )
    assert code == 0
    assert out == screen(report_on(path)) + "\n"
    assert page.read_text(encoding="utf-8") == corpus_page(report_on(path))


@pytest.mark.parametrize(
    "arguments, message",
    [
        (["--corpus", "nowhere"], "--corpus nowhere: does not exist"),
        (["--corups", "x"], "did you mean '--corpus'"),
        (["--corpus", "{corpus}", "--output-html", "{corpus}/page.html"], "cannot be written"),
        (["--corpus", "{corpus}", "--output-html", "{folder}"], "is a folder"),
    ],
)
def test_command_ends_wrong_input_with_one_line(
    run: Run, tmp_path: Path, arguments: list[str], message: str
) -> None:
    places = {"corpus": write_corpus(tmp_path), "folder": tmp_path}
    code, out, errors = run("corpus-report", *(a.format(**places) for a in arguments))
    assert code == 2
    assert out == ""
    assert message in errors and errors.count("\n") == 1


def test_missing_matplotlib_is_named_with_its_extra(
    monkeypatch: pytest.MonkeyPatch, run: Run, tmp_path: Path
) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(InputError, match=r"bert-scratch\[plot\]"):
        plots.check_installed()
    path = write_corpus(tmp_path)
    code, _, _ = run("corpus-report", "--corpus", path)
    assert code == 0


@pytest.mark.parametrize(
    ("labels", "number"),
    [
        (["106–112"] * 24, 5),
        (["12"] * 24, 12),
        (["1–7"] * 3, 3),
        (["a label beyond all room"] * 2, 1),
    ],
)
def test_bars_have_as_many_labels_as_there_is_room_for(labels: list[str], number: int) -> None:
    plot = plots.columns("bars", labels, [1.0] * len(labels), x_label="x", y_label="y")
    assert plot.count(f">{labels[0]}<") == number
