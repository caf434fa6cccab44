"""Pins whitening: covariance 1 and mean 0, any chunks, fewer directions, and the commands.
Run alone: `pytest tests/inference/test_whitening.py`."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from bert_scratch import cli, fit_whitening
from bert_scratch.config import InputError
from bert_scratch.inference.pooling import Vectors
from bert_scratch.inference.whitening import Whitening


@pytest.fixture(scope="module")
def vectors() -> Vectors:
    """Correlated, far from 0, with one direction that does not vary."""
    random = np.random.default_rng(5)
    found = random.normal(size=(300, 5)) @ random.normal(size=(5, 6)) + 100
    return found.astype(np.float32)


def test_whitened_vectors_have_mean_0_and_covariance_1(vectors: Vectors) -> None:
    whitening = fit_whitening([vectors])
    found = whitening(vectors)
    assert found.shape == (300, 5), "a direction without variance is dropped"
    np.testing.assert_allclose(found.mean(axis=0), 0, atol=1e-3)
    np.testing.assert_allclose(np.cov(found.T, bias=True), np.eye(5), atol=1e-2)


def test_chunks_do_not_matter(vectors: Vectors) -> None:
    whole, cut = fit_whitening([vectors]), fit_whitening(np.split(vectors, [7, 100]))
    np.testing.assert_allclose(whole.mean, cut.mean, rtol=1e-6)
    np.testing.assert_allclose(np.abs(whole.matrix), np.abs(cut.matrix), atol=1e-4)


def test_fewer_directions_are_those_of_largest_variance(vectors: Vectors) -> None:
    small = fit_whitening([vectors], 2)
    centred = vectors.astype(np.float64) - vectors.mean(axis=0, dtype=np.float64)
    _, sizes, directions = np.linalg.svd(centred, full_matrices=False)
    expected = centred @ directions[:2].T / sizes[:2] * np.sqrt(len(vectors))
    np.testing.assert_allclose(np.abs(small(vectors)), np.abs(expected), atol=1e-3)


def test_too_few_vectors_or_directions_are_refused(vectors: Vectors) -> None:
    with pytest.raises(InputError, match="two vectors or more; there are 1"):
        fit_whitening([vectors[:1]])
    with pytest.raises(InputError, match="only 5 directions of the 300 vectors vary"):
        fit_whitening([vectors], 6)
    with pytest.raises(InputError, match="all 3 vectors are equal"):
        fit_whitening([np.ones((3, 4), np.float32)])


def test_vectors_that_are_not_finite_are_refused(vectors: Vectors) -> None:
    for bad in (np.nan, np.inf):
        broken = vectors.copy()
        broken[7, 2] = bad
        with pytest.raises(InputError, match="finite"):
            fit_whitening([broken])


def test_another_size_is_refused(vectors: Vectors) -> None:
    with pytest.raises(InputError, match="made of vectors of 6 numbers; these have 4"):
        fit_whitening([vectors])(vectors[:, :4])


@pytest.mark.parametrize("suffix", ["npy", "npz", "jsonl", "parquet"])
def test_commands_whiten_what_they_embed(suffix: str, folder: Path, tmp_path: Path) -> None:
    words = "the cat dog sees finds a garden house in x y z".split()
    lines = [f"{a} {b} {c}" for a in words for b in words for c in words[:3]]
    (tmp_path / "texts.txt").write_text("\n".join(lines))
    plain, made = tmp_path / f"plain.{suffix}", tmp_path / "w.safetensors"
    place = ["embed", "--model", str(folder), "--input", str(tmp_path / "texts.txt"), "--output"]
    assert cli.main([*place, str(plain)]) == 0
    whiten = ["whiten", "--input", str(plain), "--output", str(made), "--num-dimensions", "4"]
    assert cli.main(whiten) == 0
    white = tmp_path / "white.npy"
    assert cli.main([*place, str(white), "--whitening", str(made)]) == 0
    found = np.load(white)
    assert found.shape == (len(lines), 4)
    np.testing.assert_allclose(np.cov(found.T, bias=True), np.eye(4), atol=1e-2)
    assert Whitening.load(str(made)).matrix.shape[1] == 4


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ["whiten", "--input", "none.npy", "--output", "w.safetensors"],
            "none.npy: does not exist",
        ),
        (["whiten", "--input", "a.npy", "--output", "w.npz"], "must end in .safetensors"),
        (
            ["whiten", "--input", "BAD", "--output", "w.safetensors"],
            "is not a file of text vectors",
        ),
        (["whiten", "--input", ".", "--output", "w.safetensors"], "--input .: is a folder"),
        (
            ["whiten", "--input", __file__, "--output", "w.safetensors"],
            "is no file of vectors by its name; give one that embed wrote, which ends in one of "
            ".npy, .npz, .jsonl, .parquet",
        ),
    ],
)
def test_wrong_input_is_one_line(
    arguments: list[str], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    np.save(tmp_path / "bad.npy", np.ones((2, 2, 2), np.float32))
    arguments = [str(tmp_path / "bad.npy") if a == "BAD" else a for a in arguments]
    assert cli.main(arguments) == 2
    error = capsys.readouterr().err
    assert message in error and error.count("\n") == 1


def test_vectors_are_not_overwritten_by_their_whitening(
    tmp_path: Path, vectors: Vectors, capsys: pytest.CaptureFixture[str]
) -> None:
    file, link = tmp_path / "a.npy", tmp_path / "w.safetensors"
    np.save(file, vectors)
    link.symlink_to(file)
    before = file.read_bytes()
    assert cli.main(["whiten", "--input", str(file), "--output", str(link)]) == 2
    assert "is the file of --input" in capsys.readouterr().err
    assert file.read_bytes() == before


def test_a_file_that_is_no_whitening_is_refused(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="is not a file that the command whiten wrote"):
        Whitening.load(str(folder / "model.safetensors"))
    with pytest.raises(InputError, match="is not a file that the command whiten wrote"):
        Whitening.load(str(folder / "config.json"))


def test_one_array_is_all_the_vectors(tmp_path: Path) -> None:
    vectors = np.random.default_rng(0).normal(size=(9, 3)).astype(np.float32)
    found = fit_whitening(vectors)
    np.testing.assert_array_equal(found.matrix, fit_whitening([vectors]).matrix)
    found.save(str(tmp_path / "white.safetensors"))
    read = Whitening.load(tmp_path / "white.safetensors")
    np.testing.assert_array_equal(read.matrix, found.matrix)
    with pytest.raises(InputError, match="num_dimensions must be >= 1; got 0"):
        fit_whitening(vectors, 0)
