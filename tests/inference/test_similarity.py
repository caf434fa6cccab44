"""Pins the cosine of pairs: that of their vectors, by function and command, with whitening.
Run alone: `pytest tests/inference/test_similarity.py`."""

from __future__ import annotations

import io
import json
from pathlib import Path

import numpy as np
import pytest
from tokenizers import Tokenizer

from bert_scratch import cli, embed, similarity
from bert_scratch.config import InputError
from bert_scratch.inference.whitening import Whitening
from bert_scratch.model.heads import BertForPreTraining

PAIRS = [("the cat sees a dog.", "the dog sees a cat."), ("x y z", "a garden"), ("dog", "dog")]


def cosine(a: np.ndarray, b: np.ndarray) -> float:
    return float(a @ b / np.linalg.norm(a) / np.linalg.norm(b))


def test_function_gives_the_cosine_of_vectors(
    model: BertForPreTraining, tokenizer: Tokenizer
) -> None:
    found = similarity(model, tokenizer, *map(list, zip(*PAIRS, strict=True)))
    for value, (a, b) in zip(found, PAIRS, strict=True):
        vectors = embed(model, tokenizer, [a, b])
        assert abs(value - cosine(vectors[0], vectors[1])) < 1e-6
    assert abs(found[2] - 1) < 1e-6
    with pytest.raises(InputError, match="same number of texts; got 1 and 0"):
        similarity(model, tokenizer, ["a"], [])


def run(folder: Path, *flags: str) -> int:
    return cli.main(["similarity", "--model", str(folder), *flags])


def test_command_reads_pairs_and_honours_the_options(
    folder: Path,
    model: BertForPreTraining,
    tokenizer: Tokenizer,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO("".join(f"{a}\t{b}\n" for a, b in PAIRS)))
    assert run(folder, "--a", "-", "--json", "--pooling", "max", "--layers", "1", "2") == 0
    found = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [(record["a"], record["b"]) for record in found] == PAIRS
    for record in found:
        texts = [record["a"], record["b"]]
        vectors = embed(model, tokenizer, texts, pooling="max", layers=(1, 2))
        assert abs(record["cosine"] - cosine(vectors[0], vectors[1])) < 2e-6


def test_command_whitens_before_it_compares(
    folder: Path,
    tmp_path: Path,
    model: BertForPreTraining,
    tokenizer: Tokenizer,
    capsys: pytest.CaptureFixture[str],
) -> None:
    vectors = np.asarray(embed(model, tokenizer, ["the cat", "a dog"]))
    size = vectors.shape[1]
    whitening = Whitening(vectors.mean(axis=0), np.eye(size, dtype=np.float32))
    whitening.save(tmp_path / "w.safetensors")
    flags = ["--whitening", str(tmp_path / "w.safetensors")]
    assert run(folder, "--a", "the cat", "--b", "a dog", *flags) == 0
    assert capsys.readouterr().out == "-1.0000  the cat | a dog\n", "either side of their mean"


def test_command_without_pairs_says_what_to_give(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(folder, "--a", "the cat") == 2
    assert "give --a TEXT --b TEXT" in capsys.readouterr().err


def test_command_with_an_empty_file_of_pairs_is_refused(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["similarity", "--model", str(folder), "--pairs", "/dev/null"]
    assert cli.main(command) == 2
    assert "--pairs /dev/null: there are no pairs to judge" in capsys.readouterr().err
