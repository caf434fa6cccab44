"""Pins the embed command: every format holds the vectors that `embed` gives, and wrong input is one
line with exit code 2. CPU: `pytest tests/inference/test_embed_files.py`."""

from __future__ import annotations

import io
import json
from pathlib import Path

import numpy as np
import pytest
from tokenizers import Tokenizer

from bert_scratch import cli, embed
from bert_scratch.data.wordpiece import TokenizerFolder
from bert_scratch.inference import vector_files
from bert_scratch.model.heads import BertForMaskedLM, BertForPreTraining

LINES = ["the cat sees a dog.", "", "an unbelievable garden", "北京 x y z"]


@pytest.fixture
def texts(tmp_path: Path) -> Path:
    path = tmp_path / "texts.txt"
    path.write_text("\n".join(LINES) + "\n", encoding="utf-8")
    return path


def run(folder: Path, texts: object, output: Path, *flags: str) -> int:
    place = ["--model", str(folder), "--input", str(texts), "--output", str(output)]
    return cli.main(["embed", *place, *flags])


@pytest.mark.parametrize("layers", [["-1"], ["0", "2"], ["all"]])
def test_npy_holds_the_vectors_of_texts(
    layers: list[str],
    folder: Path,
    texts: Path,
    tmp_path: Path,
    model: BertForPreTraining,
    tokenizer: Tokenizer,
) -> None:
    output = tmp_path / "vectors.npy"
    assert run(folder, texts, output, "--layers", *layers) == 0
    found = np.load(output)
    assert found.dtype == np.float32
    np.testing.assert_array_equal(found, embed(model, tokenizer, LINES, layers=layers))


def test_model_without_a_pooler_gives_the_same_vectors(
    folder: Path, texts: Path, tmp_path: Path, tokenizer: Tokenizer
) -> None:
    masked = BertForMaskedLM.from_pretrained(folder)
    masked.save_pretrained(tmp_path / "masked", TokenizerFolder(tokenizer))
    outputs = [tmp_path / "whole.npy", tmp_path / "masked.npy"]
    for model_folder, output in zip((folder, tmp_path / "masked"), outputs, strict=True):
        assert run(model_folder, texts, output) == 0
    np.testing.assert_array_equal(*map(np.load, outputs))


@pytest.mark.parametrize("layers", [["-1"], ["all"]])
def test_parquet_may_begin_with_a_text_without_words(
    layers: list[str], folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    parquet = pytest.importorskip("pyarrow.parquet")
    monkeypatch.setattr(vector_files, "_ROWS_AT_ONCE", 1)
    (tmp_path / "texts.txt").write_text("\nthe cat\n", encoding="utf-8")
    output = tmp_path / "words.parquet"
    flags = ("--unit", "word", "--layers", *layers)
    assert run(folder, tmp_path / "texts.txt", output, *flags) == 0
    empty, words = parquet.read_table(output).to_pylist()
    assert empty["units"] == []
    assert [unit["text"] for unit in words["units"]] == ["the", "cat"]


@pytest.mark.parametrize("unit", ["text", "word", "token"])
def test_every_format_holds_the_same(
    unit: str,
    folder: Path,
    texts: Path,
    tmp_path: Path,
    model: BertForPreTraining,
    tokenizer: Tokenizer,
) -> None:
    parquet = pytest.importorskip("pyarrow.parquet")
    expected = embed(model, tokenizer, LINES, unit=unit)
    for suffix in ("npz", "jsonl", "parquet"):
        assert run(folder, texts, tmp_path / f"vectors.{suffix}", "--unit", unit) == 0
    with np.load(tmp_path / "vectors.npz") as arrays:
        stacked = expected if unit == "text" else np.concatenate(expected)
        np.testing.assert_array_equal(arrays["vectors"], stacked)
        assert len(stacked) == (len(LINES) if unit == "text" else arrays["starts"][-1])
        assert ("offsets" in arrays) == (unit != "text")
    text = (tmp_path / "vectors.jsonl").read_text(encoding="utf-8")
    records = [json.loads(line) for line in text.splitlines()]
    assert [record["text"] for record in records] == LINES
    assert records == parquet.read_table(tmp_path / "vectors.parquet").to_pylist()
    for record, vectors in zip(records, expected, strict=True):
        if unit == "text":
            np.testing.assert_array_equal(np.array(record["vector"], np.float32), vectors)
            continue
        for part, vector in zip(record["units"], vectors, strict=True):
            assert record["text"][part["start"] : part["end"]] == part["text"]
            np.testing.assert_array_equal(np.array(part["vector"], np.float32), vector)


def test_layers_counted_from_the_end_are_concatenated(
    folder: Path, texts: Path, tmp_path: Path, model: BertForPreTraining, tokenizer: Tokenizer
) -> None:
    chosen = ["--layers", "-3", "-2", "-1", "--layer-combine", "concat"]
    assert run(folder, texts, tmp_path / "a.npy", *chosen) == 0
    expected = embed(model, tokenizer, LINES, layers=(-3, -2, -1), layer_combine="concat")
    np.testing.assert_array_equal(np.load(tmp_path / "a.npy"), expected)
    assert run(folder, texts, tmp_path / "b.npy", "--layers", "-2") == 0
    second_to_last = embed(model, tokenizer, LINES, layers=(1,))
    np.testing.assert_array_equal(np.load(tmp_path / "b.npy"), second_to_last)


def test_whitening_of_words_is_refused(
    folder: Path, texts: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    flags = ["--whitening", "w.safetensors", "--unit", "word"]
    assert run(folder, texts, tmp_path / "a.npz", *flags) == 2
    assert "--whitening is for vectors of texts" in capsys.readouterr().err


def test_whitening_of_layers_kept_apart_is_refused(
    folder: Path, texts: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    flags = ["--whitening", "w.safetensors", "--layers", "all"]
    assert run(folder, texts, tmp_path / "a.npz", *flags) == 2
    assert "one vector is needed: choose --layer-combine" in capsys.readouterr().err


def test_standard_input_and_jsonl_are_read(
    folder: Path, texts: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run(folder, texts, tmp_path / "a.npy")
    monkeypatch.setattr("sys.stdin", io.StringIO(texts.read_text(encoding="utf-8")))
    assert run(folder, "-", tmp_path / "b.npy") == 0
    objects = tmp_path / "texts.jsonl"
    objects.write_text("".join(json.dumps({"text": line}) + "\n" for line in LINES))
    assert run(folder, objects, tmp_path / "c.npy") == 0
    first = (tmp_path / "a.npy").read_bytes()
    assert first == (tmp_path / "b.npy").read_bytes() == (tmp_path / "c.npy").read_bytes()


def test_bfloat16_is_near_and_written_as_float32(
    folder: Path, texts: Path, tmp_path: Path, model: BertForPreTraining, tokenizer: Tokenizer
) -> None:
    assert run(folder, texts, tmp_path / "a.npy", "--dtype", "bfloat16") == 0
    found, exact = np.load(tmp_path / "a.npy"), embed(model, tokenizer, LINES)
    assert found.dtype == np.float32
    assert 0 < np.abs(found - exact).max() < 0.1


def test_texts_cut_off_are_counted(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "texts.txt"
    path.write_text("cat " * 50 + "\ndog\n")
    assert run(folder, path, tmp_path / "a.npy") == 0
    assert "warning: 1 of 2 texts were longer than a row" in capsys.readouterr().err
    assert run(folder, path, tmp_path / "a.npy", "--stride", "20") == 0
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize(
    ("input_text", "flags", "output", "named"),
    [
        ("", [], "a.npy", "holds no text"),
        ("cat\n", [], "a.txt", "--output"),
        ("cat\n", ["--unit", "word"], "a.npy", "one vector per text"),
        ("cat\n", ["--layers", "7"], "a.npy", "layers"),
        ("cat\n", ["--dtype", "float8"], "a.npy", "--dtype"),
        ("cat\n", [], "texts.txt/a.npy", "cannot be written"),
    ],
)
def test_wrong_input_is_one_line(
    input_text: str,
    flags: list[str],
    output: str,
    named: str,
    folder: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    path = tmp_path / "texts.txt"
    path.write_text(input_text)
    assert run(folder, path, tmp_path / output, *flags) == 2
    error = capsys.readouterr().err
    assert named in error and error.count("\n") == 1
    assert not (tmp_path / output).exists()


def test_words_of_empty_texts_are_an_empty_array(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "texts.txt").write_text("\n\n")
    output = tmp_path / "vectors.npz"
    assert run(folder, tmp_path / "texts.txt", output, "--unit", "word") == 0
    with np.load(output) as arrays:
        assert arrays["starts"].tolist() == [0, 0, 0]
        assert len(arrays["vectors"]) == 0 and arrays["offsets"].shape == (0, 2)


def test_half_of_a_surrogate_pair_is_refused(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "texts.jsonl").write_text('{"text": "a \\ud800 b"}\n')
    assert run(folder, tmp_path / "texts.jsonl", tmp_path / "a.npy") == 2
    assert "line 1: holds half of a surrogate pair" in capsys.readouterr().err


def test_bad_jsonl_names_the_line(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "texts.jsonl"
    path.write_text('{"text": "cat"}\n{"txt": "dog"}\n')
    assert run(folder, path, tmp_path / "a.npy") == 2
    assert "line 2" in capsys.readouterr().err
    assert not (tmp_path / "a.npy").exists()
