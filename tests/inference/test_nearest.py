"""Pins exact search: the order of a full sort, ties by row, any chunks, and the command over every
kind of file. Run alone: `pytest tests/inference/test_nearest.py`."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer

from bert_scratch import cli, embed, nearest
from bert_scratch.config import InputError
from bert_scratch.inference.vector_files import read_vectors
from bert_scratch.model.heads import BertForPreTraining

LINES = ["the cat sees a dog.", "a garden", "the dog sees a cat.", "x y z", "a house in a garden"]


@settings(max_examples=50)
@given(
    seed=st.integers(0, 2**32 - 1),
    num_vectors=st.integers(1, 40),
    top_k=st.integers(1, 12),
    cuts=st.lists(st.integers(0, 40), max_size=3),
)
def test_neighbours_are_those_of_a_full_sort(
    seed: int, num_vectors: int, top_k: int, cuts: list[int]
) -> None:
    random = np.random.default_rng(seed)
    # Few different small integers, so that exact ties and zero vectors occur.
    vectors = random.integers(-1, 2, (num_vectors, 2)).astype(np.float32)
    queries = random.integers(-1, 2, (3, 2)).astype(np.float32)
    chunks = np.split(vectors, sorted(min(cut, num_vectors) for cut in cuts))
    rows, scores = nearest(queries, chunks, top_k)
    for query, own_rows, own_scores in zip(queries, rows, scores, strict=True):
        norms = np.linalg.norm(vectors, axis=1) * np.linalg.norm(query)
        cosines = np.divide(vectors @ query, norms, out=np.zeros(num_vectors), where=norms > 0)
        assert len(own_rows) == min(top_k, num_vectors)
        expected = np.sort(cosines)[::-1][:top_k]
        np.testing.assert_allclose(own_scores, expected, atol=1e-6)
        np.testing.assert_allclose(cosines[own_rows], own_scores, atol=1e-6)
        assert len(set(own_rows.tolist())) == len(own_rows)


def test_of_equals_the_first_row_wins() -> None:
    vectors = np.array([[0, 1], [1, 0], [2, 0], [1, 0]], np.float32)
    for chunks in ([vectors], list(vectors[:, None])):
        rows, _ = nearest(np.array([[3, 0]], np.float32), chunks, 2)
        assert rows[0].tolist() == [1, 2]


def test_vectors_of_another_size_are_refused() -> None:
    with pytest.raises(InputError, match=r"the vectors have 3 numbers, those of the queries 2"):
        nearest(np.zeros((1, 2), np.float32), np.zeros((1, 3), np.float32))


def run(folder: Path, *flags: object) -> int:
    return cli.main(["nearest", "--model", str(folder), *map(str, flags)])


@pytest.fixture
def texts(tmp_path: Path) -> Path:
    path = tmp_path / "texts.txt"
    path.write_text("\n".join(LINES) + "\n", encoding="utf-8")
    return path


@pytest.mark.parametrize("suffix", ["txt", "npy", "npz", "jsonl", "parquet"])
def test_command_searches_every_kind_of_file(
    suffix: str,
    folder: Path,
    texts: Path,
    tmp_path: Path,
    model: BertForPreTraining,
    tokenizer: Tokenizer,
    capsys: pytest.CaptureFixture[str],
) -> None:
    searched, names = texts, []
    if suffix != "txt":
        searched = tmp_path / f"vectors.{suffix}"
        place = ["--input", str(texts), "--output", str(searched)]
        assert cli.main(["embed", "--model", str(folder), *place]) == 0
    if suffix.startswith("np"):
        names = ["--texts", texts]
    capsys.readouterr()
    queries = ["--query", "the cat sees a dog.", "garden", "--top-k", 3]
    assert run(folder, "--input", searched, *queries, *names, "--json") == 0
    found = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    vectors = np.asarray(embed(model, tokenizer, LINES))
    rows, scores = nearest(embed(model, tokenizer, ["the cat sees a dog.", "garden"]), vectors, 3)
    assert found[0]["neighbours"][0] == {"row": 0, "cosine": 1.0, "text": LINES[0]}
    for record, own_rows, own_scores in zip(found, rows, scores, strict=True):
        assert [neighbour["row"] for neighbour in record["neighbours"]] == own_rows.tolist()
        cosines = [neighbour["cosine"] for neighbour in record["neighbours"]]
        np.testing.assert_allclose(cosines, own_scores, atol=1e-5)
        texts_found = [neighbour["text"] for neighbour in record["neighbours"]]
        assert texts_found == [LINES[row] for row in own_rows]


def test_texts_as_json_lines_are_embedded_and_queries_read(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "a.jsonl").write_text("".join(json.dumps({"text": t}) + "\n" for t in LINES))
    (tmp_path / "queries.txt").write_text("x y z\n\na garden\n")
    flags = ["--queries", tmp_path / "queries.txt", "--top-k", 1]
    assert run(folder, "--input", tmp_path / "a.jsonl", *flags) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines == ["x y z", "   1.0000  row 3  x y z", "a garden", "   1.0000  row 1  a garden"]


def test_a_text_that_is_the_word_vector_is_a_text(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    texts = ["vector", "a garden"]
    (tmp_path / "a.jsonl").write_text("".join(json.dumps({"text": t}) + "\n" for t in texts))
    flags = ["--query", "a garden", "--top-k", 1]
    assert run(folder, "--input", tmp_path / "a.jsonl", *flags) == 0
    assert capsys.readouterr().out.splitlines()[1] == "   1.0000  row 1  a garden"


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ([], "give --query TEXT"),
        (["--query", "x", "--top-k", "0"], "--top-k must be >= 1"),
        (["--query", "x", "--layers", "all"], "choose --layer-combine"),
        (["--query", "x", "--input", "none.npy"], "none.npy: does not exist"),
        (["--query", "x", "--input", "EMPTY"], "holds nothing to search"),
        (["--query", "x", "--input", "WORDS"], "vectors are of words or tokens"),
        (["--query", "x", "--input", "BROKEN"], "is not a file of text vectors that embed wrote"),
        (["--query", "x", "--input", "WIDE"], "the vectors have 7 numbers, those of the queries"),
    ],
)
def test_wrong_input_is_one_line(
    flags: list[str], message: str, folder: Path, texts: Path, tmp_path: Path, capfd: object
) -> None:
    assert isinstance(capfd, pytest.CaptureFixture)
    (tmp_path / "empty.txt").write_text("")
    (tmp_path / "broken.npy").write_bytes(b"not an array")
    np.save(tmp_path / "wide.npy", np.ones((2, 7), np.float32))
    words = ["--input", str(texts), "--output", str(tmp_path / "words.npz"), "--unit", "word"]
    assert cli.main(["embed", "--model", str(folder), *words]) == 0
    files = {
        "EMPTY": "empty.txt",
        "WORDS": "words.npz",
        "BROKEN": "broken.npy",
        "WIDE": "wide.npy",
    }
    flags = [str(tmp_path / files[flag]) if flag in files else flag for flag in flags]
    source = [] if "--input" in flags else ["--input", str(texts)]
    assert run(folder, *source, *flags) == 2
    error = capfd.readouterr().err
    assert message in error and error.count("\n") == 1


@pytest.mark.parametrize("ending", ["npz", "jsonl", "parquet"])
def test_vectors_of_words_are_refused_with_the_flag_that_makes_those_of_texts(
    ending: str, folder: Path, texts: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = str(tmp_path / f"words.{ending}")
    flags = ["--input", str(texts), "--output", words, "--unit", "word"]
    assert cli.main(["embed", "--model", str(folder), *flags]) == 0
    capsys.readouterr()
    assert run(folder, "--input", words, "--query", "x") == 2
    assert capsys.readouterr().err == (
        f"error: --input {words}: is not a file of text vectors that embed wrote: its vectors are "
        f"of words or tokens; write them with --unit text\n"
    )


@pytest.mark.parametrize("lacking", ["text", "vector"])
def test_a_row_without_its_text_or_vector_is_refused_by_what_it_lacks(
    lacking: str, folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = [{"text": "a", "vector": [0.5] * 24} for _ in range(2)]
    del rows[1][lacking]
    (tmp_path / "a.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert run(folder, "--input", tmp_path / "a.jsonl", "--query", "x") == 2
    assert f'embed wrote: not every row has a "{lacking}"' in capsys.readouterr().err


def test_a_line_that_is_no_object_is_refused(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "a.jsonl").write_text('{"text": "a", "vector": [0.5]}\n5\n')
    assert run(folder, "--input", tmp_path / "a.jsonl", "--query", "x") == 2
    assert "embed wrote: not every line is a JSON object" in capsys.readouterr().err


def test_texts_of_earlier_groups_are_kept(
    folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr("bert_scratch.inference.nearest._TEXTS_AT_ONCE", 2)
    (tmp_path / "a.txt").write_text("\n".join(LINES))
    flags = ("--input", tmp_path / "a.txt", "--query", LINES[0], "--top-k", 5, "--json")
    assert run(folder, *flags) == 0
    found = json.loads(capsys.readouterr().out)["neighbours"]
    assert sorted(neighbour["text"] for neighbour in found) == sorted(LINES)


def test_texts_that_are_not_as_many_as_the_vectors_are_refused(
    folder: Path, texts: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    np.save(tmp_path / "a.npy", np.ones((3, 24), np.float32))
    assert run(folder, "--input", tmp_path / "a.npy", "--query", "x", "--texts", texts) == 2
    error = capsys.readouterr().err
    assert f"--texts {texts}: holds 5 texts, --input {tmp_path}/a.npy has 3 vectors" in error
    assert error.count("\n") == 1


def test_vectors_stored_by_column_are_never_read_in_another_order(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    vectors = np.random.default_rng(1).standard_normal((40, 24)).astype(np.float32)
    np.save(tmp_path / "a.npy", np.asfortranarray(vectors))
    found = np.concatenate([rows for rows, _ in read_vectors(str(tmp_path / "a.npy"))])
    np.testing.assert_array_equal(found, vectors)
    np.savez(tmp_path / "a.npz", vectors=np.asfortranarray(vectors))
    assert run(folder, "--input", tmp_path / "a.npz", "--query", "x") == 2
    error = capsys.readouterr().err
    assert "a.npz: is not a file of text vectors" in error and "column by column" in error
    assert error.count("\n") == 1


def test_one_vector_is_no_matrix_of_queries() -> None:
    vectors = np.ones((3, 2), np.float32)
    with pytest.raises(InputError, match=r"the shapes \[2\] and \[3, 2\]: one vector is v\[None\]"):
        nearest(vectors[0], vectors)
