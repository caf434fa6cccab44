"""Pins that the example of word vectors runs and prints both tables.
Needs gensim and scikit-learn: `pytest tests/inference/test_word_vectors_example.py`."""

from __future__ import annotations

import runpy
import sys
from pathlib import Path

import pytest

pytest.importorskip("gensim")
pytest.importorskip("sklearn")


def test_example_sets_the_three_kinds_side_by_side(
    repository: Path,
    folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    (tmp_path / "corpus.txt").write_text("the cat sees a dog .\nx y z in the garden\n" * 20)
    (tmp_path / "labelled.tsv").write_text("text\tlabel\nthe cat\tanimal\nx y z\tletter\n")
    script = repository / "examples" / "word_vectors.py"
    labelled = str(tmp_path / "labelled.tsv")
    arguments = ["--model", str(folder), "--corpus", str(tmp_path / "corpus.txt")]
    arguments += ["--train", labelled, "--test", labelled]
    monkeypatch.setattr(sys, "argv", [str(script), *arguments])
    runpy.run_path(str(script), run_name="__main__")
    lines = capsys.readouterr().out.splitlines()
    assert sum(line.endswith(" 1.000") for line in lines) == 3, "each kind tells two texts apart"
    assert [line.strip() for line in lines if line.strip() in ("set", "present")]
    shares = [float(line.split()[-1]) for line in lines if "in context, BERT    " in line]
    assert len(shares) >= 2 and all(0 <= share <= 1 for share in shares)
