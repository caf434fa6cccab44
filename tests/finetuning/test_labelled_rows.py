"""Texts and labels out of the files people have, columns found or named.
Runs anywhere: `pytest tests/finetuning/test_labelled_rows.py`."""

from __future__ import annotations

import gzip
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from bert_scratch.config import InputError
from bert_scratch.finetuning.labelled_rows import LabelledText, read_labelled_texts
from bert_scratch.finetuning.task_settings import TaskSettings

Write = Callable[[str, str], str]


def read(file: str, *, labels_needed: bool = True, **settings: Any) -> list[LabelledText]:
    asked = TaskSettings(task="classification", **settings)
    return read_labelled_texts(file, asked, labels_needed=labels_needed)


def contents(examples: list[LabelledText]) -> list[tuple[str, str | None, object]]:
    return [(example.text, example.text_pair, example.label) for example in examples]


def test_a_quote_in_a_tsv_file_is_text(write: Write) -> None:
    file = write("a.tsv", '\ufeffQuality\t#1 String\t#2 String\n1\ta "b\tc\n0\td\t"e"\n')
    assert contents(read(file)) == [('a "b', "c", "1"), ("d", '"e"', "0")]


def test_a_csv_cell_can_hold_commas_quotes_and_lines(write: Write) -> None:
    file = write("a.csv", 'label,text\n1,"a, ""b""\nc"\n0,d\n')
    examples = read(file)
    assert contents(examples) == [('a, "b"\nc', None, "1"), ("d", None, "0")]
    assert [example.place for example in examples] == [f"{file}:2", f"{file}:4"]


def test_cola_has_no_header(write: Write) -> None:
    file = write("a.tsv", "gj04\t1\t\tA b.\ngj04\t0\t*\tC d.\n")
    assert contents(read(file)) == [("A b.", None, "1"), ("C d.", None, "0")]


def test_columns_without_names_are_numbered(write: Write) -> None:
    file = write("a.csv", "3,World,A story\n1,Sport,A match\n")
    with pytest.raises(InputError, match=r"no header with known names, columns 1, 2, 3; name the"):
        read(file)
    named = read(file, text_column="3", label_column=("2",))
    assert contents(named) == [("A story", None, "World"), ("A match", None, "Sport")]


@pytest.mark.parametrize("value", ['"1"', "1", "true"])
def test_json_labels_are_named_as_they_are_written(write: Write, value: str) -> None:
    file = write("a.jsonl", f'{{"sentence": "a", "label": {value}}}\n')
    assert read(file)[0].label in ("1", "True")


def test_a_list_of_labels_in_json_is_several(write: Write) -> None:
    text = '{"text": "a", "labels": ["x", "y"]}\n\n{"text": "b", "labels": []}\n'
    assert [e.label for e in read(write("a.jsonl", text))] == [("x", "y"), ()]


def test_several_label_columns_are_several_labels(write: Write) -> None:
    file = write("a.tsv", "text\ttoxic\trude\na\t1\t0\nb\t0\t0\n")
    examples = read(file, label_column=("toxic", "rude"))
    assert [example.label for example in examples] == [("toxic",), ()]
    file = write("b.tsv", "text\ttoxic\trude\na\t1\tno\n")
    with pytest.raises(InputError, match=r"b.tsv:2: has 'no' for 'rude'.*must be 0 or 1"):
        read(file, label_column=("toxic", "rude"))


def test_label_columns_that_are_blank_or_not_all_there_are_no_label_where_none_is_needed(
    write: Write,
) -> None:
    names = ("toxic", "rude")
    blank = write("a.tsv", "text\ttoxic\trude\na\t\t\n")
    assert read(blank, labels_needed=False, label_column=names)[0].label is None
    with pytest.raises(InputError, match=r"a.tsv:2: has '' for 'toxic'.*must be 0 or 1"):
        read(blank, label_column=names)
    fewer = write("b.tsv", "text\ttoxic\na\t1\n")
    assert read(fewer, labels_needed=False, label_column=names)[0].label is None
    with pytest.raises(InputError, match=r"b.tsv: .*--label-column rude is not among them"):
        read(fewer, label_column=names)


def test_an_empty_or_repeated_label_of_several_is_left_out(write: Write) -> None:
    lists = write("a.jsonl", '{"text": "a", "labels": ["x", "", "x", "y"]}\n')
    assert read(lists)[0].label == ("x", "y")
    commas = write("a.tsv", "text\tlabel\na\tx, , x, y\n")
    assert read(commas, multi_label=True)[0].label == ("x", "y")


def test_labels_between_commas_are_several_when_asked_for(write: Write) -> None:
    file = write("a.tsv", "text\tlabel\na\tx, y\n")
    assert read(file, multi_label=True)[0].label == ("x", "y")
    assert read(file)[0].label == "x, y"


def test_a_folder_for_each_label(tmp_path: Path) -> None:
    for label in ("pos", "neg"):
        (tmp_path / label).mkdir()
        (tmp_path / label / "1.txt").write_text(f"a {label} text")
    (tmp_path / ".ipynb_checkpoints").mkdir()
    (tmp_path / ".ipynb_checkpoints" / "1.txt").write_text("left by an editor")
    assert contents(read(str(tmp_path))) == [
        ("a neg text", None, "neg"),
        ("a pos text", None, "pos"),
    ]


def test_a_packed_file_and_lines_of_text_are_read(tmp_path: Path, write: Write) -> None:
    packed = tmp_path / "a.tsv.gz"
    packed.write_bytes(gzip.compress(b"text\tlabel\na\t1\n"))
    assert contents(read(str(packed))) == [("a", None, "1")]
    lines = write("a.txt", "text\nb \tc\n")
    assert contents(read(lines, labels_needed=False)) == [
        ("text", None, None),
        ("b \tc", None, None),
    ]


def test_a_blank_line_of_a_text_file_to_answer_is_an_empty_text(write: Write) -> None:
    lines = write("a.txt", "a\n\nb\r\n")
    texts = [text for text, _, _ in contents(read(lines, labels_needed=False))]
    assert texts == ["a", "", "b"]
    with pytest.raises(InputError, match=r"a\.txt: holds no examples"):
        read(write("a.txt", "\n\n"), labels_needed=False)


def test_two_columns_without_a_header_may_be_a_pair_or_a_labelled_text(write: Write) -> None:
    pairs = write("b.tsv", "a b\tc d\n")
    with pytest.raises(InputError, match=r"b\.tsv: .*--text-column.*--text-pair-column"):
        read(pairs, labels_needed=False)
    named = read(pairs, labels_needed=False, text_column="1", text_pair_column="2")
    assert contents(named) == [("a b", "c d", None)]


def test_a_file_to_answer_needs_no_labels(write: Write) -> None:
    file = write("a.tsv", "index\tsentence\n0\ta\n")
    assert contents(read(file, labels_needed=False)) == [("a", None, None)]
    named = read(file, labels_needed=False, label_column=("kind",))
    assert contents(named) == [("a", None, None)]


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("a.jsonl", '{"text": 5, "label": 1}\n', r"a.jsonl:1: has 5 for 'text'"),
        ("a.jsonl", '{"text": "a", "label": {}}\n', r"a.jsonl:1: has \{\} for 'label'"),
    ],
)
def test_a_broken_file_is_named_with_its_line(
    write: Write, name: str, text: str, message: str
) -> None:
    with pytest.raises(InputError, match=message):
        read(write(name, text))


def test_bytes_that_are_not_utf8_are_named_with_their_line(tmp_path: Path) -> None:
    file = tmp_path / "a.tsv"
    file.write_bytes(b"text\tlabel\na\t1\n\xe9t\xe9\t0\n")
    with pytest.raises(InputError, match=r"a.tsv:3: is not UTF-8"):
        read(str(file))


@pytest.mark.parametrize(
    ("name", "sizes"),
    [
        ("SST-2", (67349, 872, 1821)),
        ("CoLA", (8551, 1043, 1063)),
        ("MRPC", (3667, 408, 1725)),
        ("STS-B", (5749, 1500, 1379)),
    ],
)
def test_glue_is_read_as_it_is(shared: Path, name: str, sizes: tuple[int, int, int]) -> None:
    for split, size in zip(("train", "dev", "test"), sizes, strict=True):
        file = str(shared / "data" / "glue" / name / f"{split}.tsv")
        examples = read(file, labels_needed=split != "test")
        assert len(examples) == size
        assert all((example.label is None) == (split == "test") for example in examples)


@pytest.mark.parametrize("value", ["NaN", "Infinity", "-Infinity", "null"])
def test_a_number_that_is_none_is_no_label(write: Write, value: str) -> None:
    file = write("a.jsonl", f'{{"text": "a", "label": {value}}}\n')
    assert read(file, labels_needed=False)[0].label is None
    with pytest.raises(InputError, match=r"a.jsonl:1: has no label \(column 'label' is"):
        read(file)
    several = write("b.jsonl", f'{{"text": "a", "label": ["x", {value}]}}\n')
    with pytest.raises(InputError, match=r"b.jsonl:1: has .* for 'label', which is not a label"):
        read(several)


@pytest.mark.parametrize(
    ("name", "text", "found"),
    [
        ("a.csv", "text;label\ngood;1\n", r"';'; a .csv file needs ','"),
        ("a.csv", "text\tlabel\ngood\t1\n", r"'\\t'; a .csv file needs ','"),
        ("a.tsv", "text,label\ngood; fine,1\n", r"','; a .tsv file needs '\\t'"),
    ],
)
def test_a_table_of_one_column_is_told_what_separates_its_cells(
    write: Write, name: str, text: str, found: str
) -> None:
    with pytest.raises(InputError, match=rf"columns 1 \(it seems to be separated by {found}"):
        read(write(name, text))
    with pytest.raises(InputError, match=rf"seems to be .* {found}.*--text-column words is not"):
        read(write(name, text), text_column="words")


@pytest.mark.parametrize(
    ("name", "text"), [("a.csv", "text;label\ngood;1\n"), ("a.tsv", "label,text\n1,good\n")]
)
def test_a_table_to_answer_with_other_separators_is_not_taken_for_lines_of_text(
    write: Write, name: str, text: str
) -> None:
    with pytest.raises(InputError, match=rf"{name}: is read as one text per line \(it seems"):
        read(write(name, text), labels_needed=False)
    texts = write(name, "Well a text; no more\n" if name == "a.csv" else "Well, a text\n")
    assert len(read(texts, labels_needed=False)) == 1


def test_columns_that_were_asked_for_must_be_in_lines_of_text_too(
    write: Write, tmp_path: Path
) -> None:
    lines = write("a.txt", "a\nb\n")
    asked = TaskSettings(task="classification", text_column="review")
    assert len(read_labelled_texts(lines, asked, labels_needed=False)) == 2
    with pytest.raises(InputError, match=r"a.txt: has no header .*--text-column review is not"):
        read_labelled_texts(lines, asked, labels_needed=False, columns_asked=("--text-column",))
    given = ("--text-column", "--label-column")
    with pytest.raises(InputError, match=rf"no columns, so {' and '.join(given)} have no effect"):
        read_labelled_texts(str(tmp_path), asked, labels_needed=False, columns_asked=given)
