"""Pins that the tables of sentence vectors and of layers are made, from any folder and files.
Needs scikit-learn: `pytest tests/finetuning/test_sentence_vectors_example.py`."""

from __future__ import annotations

import runpy
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from .conftest import reviews

pytest.importorskip("sklearn")

Write = Callable[[str, str], str]


def run(script: Path, monkeypatch: pytest.MonkeyPatch, *arguments: str) -> None:
    monkeypatch.setattr(sys, "argv", [str(script), *arguments])
    monkeypatch.syspath_prepend(str(script.parent))
    runpy.run_path(str(script), run_name="__main__")


def test_the_example_ranks_scored_pairs_five_ways(
    repository: Path,
    folder: Path,
    write: Write,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    rows = reviews(80, 5)
    pairs = [
        f"{a}\t{b}\t{float(m == n)}\n" for (a, m), (b, n) in zip(rows[::2], rows[1::2], strict=True)
    ]
    file = write("pairs.tsv", "sentence1\tsentence2\tscore\n" + "".join(pairs))
    script = repository / "examples" / "sentence_vectors.py"
    arguments = ["--model", str(folder), "--train", file, "--eval", file, "--epochs", "1"]
    arguments += ["--output-dir", str(tmp_path / "out"), "--max-seq-length", "24"]
    run(script, monkeypatch, *arguments)
    lines = capsys.readouterr().out.splitlines()[-5:]
    names = ["mean, last layer", "mean, second-to-last layer", "mean, last layer, whitened"]
    assert [line[:28].strip() for line in lines] == [*names, "SimCSE", "supervised"]
    values = [float(line.split()[-1]) for line in lines]
    assert all(-1 <= value <= 1 for value in values) and len(set(values)) == 5


def test_layers_stand_beside_tf_idf(
    repository: Path,
    folder: Path,
    write: Write,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    lines = [f"{text}\t{label}\n" for text, label in reviews(90, 2)]
    train = write("train.tsv", "sentence\tlabel\n" + "".join(lines[:60]))
    test = write("test.tsv", "sentence\tlabel\n" + "".join(lines[60:]))
    script = repository / "benchmarks" / "layers.py"
    arguments = ["--model", str(folder), "--train", train, "--test", test, "--num-rows", "50"]
    run(script, monkeypatch, *arguments)
    out = capsys.readouterr().out
    assert "50 rows to learn from, 30 to measure on" in out
    table = [line.split("|")[1:3] for line in out.splitlines() if line.startswith("| ")][1:]
    names = ["TF-IDF of words", "embeddings (layer 0)", "layer 1", "layer 2"]
    assert [name.strip() for name, _ in table] == names
    assert all(0.5 < float(value) <= 1 for _, value in table)
