"""Pins what `read_table` makes of each kind of file. Runs anywhere: `pytest
tests/data/test_records.py`."""

from __future__ import annotations

import gzip
import io
import json
import sys
from pathlib import Path

import pytest

from bert_scratch.config import InputError
from bert_scratch.data.records import read_table

ROWS = [{"text": 'a "b"', "label": "1"}, {"text": "c, d", "label": "2"}]


def read(path: Path) -> list[dict[str, object]]:
    table = read_table(str(path), is_header=lambda cells: "text" in cells)
    return [record.cells for record in table.records]


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.tsv", 'text\tlabel\na "b"\t1\n\nc, d\t2\n'),
        ("a.csv", 'text,label\n"a ""b""",1\n"c, d",2\n'),
        ("a.jsonl", "\n".join(map(json.dumps, ROWS))),
    ],
)
def test_all_kinds_of_files_hold_the_same_records(tmp_path: Path, name: str, content: str) -> None:
    (tmp_path / name).write_text(content)
    assert read(tmp_path / name) == ROWS
    packed = tmp_path / f"{name}.gz"
    packed.write_bytes(gzip.compress(content.encode()))
    assert read(packed) == ROWS


@pytest.mark.parametrize(
    ("content", "texts"), [("a\n\nb\n", ["a", "", "b"]), ("a\tx\n\nb\ty\n", ["a", "b"])]
)
def test_blank_lines_of_standard_input_are_texts_unless_it_is_a_table(
    content: str, texts: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(content.encode())))
    table = read_table("-", is_header=lambda _: False, keep_blank=True)
    assert [record.cells["1"] for record in table.records] == texts


def test_a_csv_cell_may_be_a_long_text(tmp_path: Path) -> None:
    long = "word " * 30_000
    (tmp_path / "a.csv").write_text(f'text,label\n"{long}",1\n')
    assert read(tmp_path / "a.csv") == [{"text": long, "label": "1"}]


def test_columns_without_a_header_are_numbered(tmp_path: Path) -> None:
    (tmp_path / "a.tsv").write_text("x\ty\n")
    assert read(tmp_path / "a.tsv") == [{"1": "x", "2": "y"}]


def test_a_record_stands_where_it_begins(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text('text,label\n"two\nlines",1\nx,2\n')
    table = read_table(str(tmp_path / "a.csv"), is_header=lambda cells: "text" in cells)
    places = [record.place.rpartition(":")[2] for record in table.records]
    assert places == ["2", "4"]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.tsv", "text\tlabel\nx\n", "a.tsv:2: has 1 cell, the header 2"),
        ("a.tsv", "text\nx\ty\n", "a.tsv:2: has 2 cells, the header 1"),
        ("a.csv", 'text\n"x\n', "a.csv:2: is not CSV"),
        ("a.jsonl", '{"text": "a"}\n{"text": \n', "a.jsonl:2: is not JSON"),
        ("a.jsonl", "{}\n[1]\n", "a.jsonl:2: must be a JSON object"),
        ("a.jsonl", '{"text": "\\ud800"}\n', "a.jsonl:1: holds half of a surrogate pair"),
        ("a.tsv", "text\tlabel\ttext\n", "a.tsv:1: names the column 'text' twice"),
        ("a.tsv", "text\n", "a.tsv: holds no examples"),
        ("a.tsv", "text\tlabel\rx\t1\r", "a.tsv: lines end in bare carriage returns; run tr"),
        ("a.csv", "text;label\nx, y;1\n", "first line 1 .*separated by ';'; a .csv file needs ','"),
        ("a.doc", "text\n", "a.doc: must end in .tsv"),
    ],
)
def test_what_is_no_table_is_named_with_its_line(
    tmp_path: Path, name: str, content: str, message: str
) -> None:
    (tmp_path / name).write_text(content)
    with pytest.raises(InputError, match=message):
        read(tmp_path / name)


def test_a_tab_in_a_later_line_of_standard_input_is_named_with_its_line(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"a text\nb\tc\n")))
    with pytest.raises(InputError, match="standard input:2: has 2 cells, the first line 1"):
        read_table("-", is_header=lambda _: False)


def test_a_closed_standard_input_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", None)
    with pytest.raises(InputError, match="standard input: is closed; give a file"):
        read_table("-", is_header=lambda _: False)


def test_a_csv_file_may_have_bare_carriage_returns(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_bytes(b"text,label\rx,1\r")
    assert read(tmp_path / "a.csv") == [{"text": "x", "label": "1"}]
