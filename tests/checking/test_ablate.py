"""Pins that the ablation trains its arms on one corpus and shows both.
Run alone: `pytest -m slow tests/checking/test_ablate.py`."""

from __future__ import annotations

import runpy
from pathlib import Path

import pytest


@pytest.mark.slow
def test_two_arms_are_trained_printed_and_drawn(
    repository: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("matplotlib")
    main = runpy.run_path(str(repository / "examples" / "ablate.py"))["main"]
    words = "the cat saw a dog near old water while small birds sang over green hills".split()
    text = "\n\n".join(
        "\n".join(" ".join(words[(i * j) % 7 : 7 + (i + j) % 7]) + "." for j in range(12))
        for i in range(40)
    )
    (tmp_path / "text.txt").write_text(text, encoding="utf-8")
    options = ["--steps-each", "3", "--vocab-size", "100", "--arms", "as it is", "tanh GELU"]
    place = tmp_path / "out"
    main(["--corpus", str(tmp_path / "text.txt"), "--output-dir", str(place), *options])
    lines = capsys.readouterr().out.splitlines()
    assert any(line.startswith("tanh GELU") for line in lines)
    drawn = (place / "ablation.html").read_text(encoding="utf-8")
    assert "tanh GELU" in drawn and "<svg" in drawn
