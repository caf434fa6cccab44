"""Pins where commands find texts and pairs: lines, JSON lines, standard input, and what is refused.
Runs anywhere: `pytest tests/inference/test_texts.py`."""

from __future__ import annotations

import gzip
import io
import json
from pathlib import Path

import pytest

from bert_scratch.config import InputError
from bert_scratch.inference.texts import given_pairs, given_texts, read_pairs, read_texts


def test_blank_lines_of_a_file_are_empty_texts(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_bytes("\ufeffone\r\n\n two \n".encode())
    assert list(read_texts(str(tmp_path / "a.txt"))) == ["one", "", "two"]


def test_blank_lines_between_objects_are_nothing(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text('{"text": "one"}\n\n{"text": ""}\n')
    assert list(read_texts(str(tmp_path / "a.jsonl"))) == ["one", ""]


def test_a_side_of_a_pair_may_be_empty(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("A\t\n\tB\n")
    assert list(read_pairs(str(tmp_path / "a.txt"))) == [("A", ""), ("", "B")]


def test_given_texts_are_those_of_flags_standard_input_and_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO("one\n\n two \r\nthree"))
    (tmp_path / "a.jsonl").write_text(json.dumps({"text": "four"}))
    found = list(given_texts(["first", "-", "last"], str(tmp_path / "a.jsonl")))
    assert found == ["first", "one", "two", "three", "last", "four"]


def test_pairs_come_from_flags_or_from_lines(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO("a\tb\n\nc\td\n"))
    assert list(given_pairs("x", "y", None)) == [("x", "y")]
    assert list(given_pairs("-", None, None)) == [("a", "b"), ("c", "d")]
    (tmp_path / "a.jsonl").write_text(json.dumps({"a": "tab\there", "b": "y"}))
    assert list(given_pairs(None, None, str(tmp_path / "a.jsonl"))) == [("tab\there", "y")]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.txt", b"a\tb\nno tab\n", "line 2: has no tab between A and B: 'no tab'"),
        ("a.txt", b"a\tb\n\xff\n", "line 2: is not UTF-8"),
        ("a.tsv", b"a\tb\n\na\tb\t1\n", r"a.tsv, line 3: has 2 tabs, one between A and B"),
        ("a.jsonl", b'{"a": "x"}', 'line 1: needs an object with a string under the key "a" and'),
        ("a.jsonl", b"{", "line 1: is not valid JSON"),
        ("a.jsonl", b'{"a": "\\ud800", "b": ""}', "line 1: holds half of a surrogate pair"),
    ],
)
def test_bad_lines_are_named(name: str, content: bytes, message: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(InputError, match=message):
        list(read_pairs(str(tmp_path / name)))


def test_absent_file_names_its_flag() -> None:
    with pytest.raises(InputError, match="--queries nowhere.txt: does not exist"):
        list(read_texts("nowhere.txt", flag="--queries"))


@pytest.mark.parametrize("name", ["a.tsv", "a.csv.gz", "b.parquet"])
def test_a_table_is_refused_where_a_text_a_line_is_read(name: str) -> None:
    with pytest.raises(InputError, match=rf"--input {name}: is a table"):
        list(read_texts(name))


@pytest.mark.parametrize("content", ["", "\n \n"])
def test_a_source_without_a_text_is_named(
    content: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO(content))
    with pytest.raises(InputError, match="--text -: holds no text"):
        list(given_texts(["-"], None))
    (tmp_path / "a.txt").write_text(content)
    with pytest.raises(InputError, match=r"--input .*a\.txt: holds no text"):
        list(given_texts(["first"], str(tmp_path / "a.txt")))


@pytest.mark.parametrize("name", ["a.jsonl.gz", "a.json", "A.JSON", "a.json.gz"])
def test_json_files_hold_an_object_a_line_compressed_or_not(name: str, tmp_path: Path) -> None:
    file = tmp_path / name
    lines = b'{"text": "one", "a": "x", "b": "y"}\n'
    file.write_bytes(gzip.compress(lines) if name.endswith(".gz") else lines)
    assert list(read_texts(str(file))) == ["one"]
    assert list(read_pairs(str(file))) == [("x", "y")]


def test_pretty_printed_json_is_told_to_be_an_object_a_line(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text('[\n  {"text": "one"}\n]\n')
    with pytest.raises(
        InputError, match=r"a\.json, line 1: is not valid JSON: .*one object per line"
    ):
        list(read_texts(str(tmp_path / "a.json")))


@pytest.mark.parametrize("content", ["", "\n \n"])
def test_a_source_without_a_pair_is_named(
    content: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO(content))
    with pytest.raises(InputError, match="--a -: there are no pairs to judge"):
        list(given_pairs("-", None, None))
    (tmp_path / "a.txt").write_text(content)
    with pytest.raises(InputError, match=r"--pairs .*a\.txt: there are no pairs to judge"):
        list(given_pairs(None, None, str(tmp_path / "a.txt")))


def test_byte_order_mark_of_standard_input_is_no_text(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO("\ufeffone\ntwo\n"))
    assert list(read_texts("-")) == ["one", "two"]


def test_standard_input_has_the_encoding_and_the_lines_of_a_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    content = "caf\u00e9\rau lait\r\ntwo\n".encode()
    (tmp_path / "a.txt").write_bytes(content)
    stream = io.TextIOWrapper(io.BytesIO(content), encoding="latin-1")  # another locale's
    monkeypatch.setattr("sys.stdin", stream)
    assert list(read_texts("-")) == list(read_texts(str(tmp_path / "a.txt")))


def test_line_of_standard_input_that_is_no_utf8_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(b"one\ncaf\xe9\n")))
    with pytest.raises(InputError, match="--input -, line 2: is not UTF-8 text"):
        list(read_texts("-"))


def test_closed_standard_input_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", None)
    with pytest.raises(InputError, match="--input -: there is no standard input"):
        list(read_texts("-"))
