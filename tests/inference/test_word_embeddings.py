"""Pins word vectors of other programs as word embeddings: which token gets which vector, the scale,
fewer dimensions, and what is refused. Run alone: `pytest tests/inference/test_word_embeddings.py`.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from tokenizers import Tokenizer

from bert_scratch import word_embeddings_from_vectors
from bert_scratch.config import InputError

LINES = [
    "The 1 2 3",
    "cat -1 0 2",
    "the 4 4 -4",
    "CAT 9 9 9",
    ". . 7 7 7",
    "##s 5 5 5",
    "[SEP] 1 1 1",
]


def ids_of(tokenizer: Tokenizer, *tokens: str) -> list[int]:
    return sorted(tokenizer.token_to_id(token) for token in tokens)


@pytest.mark.parametrize("header", ["", "7 3\n"])
def test_words_get_their_vectors_at_the_scale_asked_for(
    header: str, tokenizer: Tokenizer, tmp_path: Path
) -> None:
    (tmp_path / "v.txt").write_text(header + "\n".join(LINES) + "\n")
    found = word_embeddings_from_vectors(
        tokenizer, str(tmp_path / "v.txt"), hidden_size=3, standard_deviation=0.02
    )
    assert found.ids.tolist() == ids_of(tokenizer, "the", "cat")
    raw = {"the": [4, 4, -4], "cat": [-1, 0, 2]}
    expected = np.array([raw[tokenizer.id_to_token(number)] for number in found.ids.tolist()])
    np.testing.assert_allclose(found.vectors, expected * 0.02 / expected.std(), rtol=1e-5)
    assert found.vectors.std() == pytest.approx(0.02)
    assert found.coverage.startswith("2 of ") and " words (" in found.coverage


def test_longer_vectors_are_reduced_to_their_principal_components(
    tokenizer: Tokenizer, tmp_path: Path
) -> None:
    words = "the cat dog sees finds a garden house".split()
    plane = np.random.default_rng(1).normal(size=(len(words), 2))
    wide = plane @ np.array([[1, 0, 2, 0, 1], [0, 3, 0, 1, 0]]) + 5
    lines = [f"{word} {' '.join(map(str, row))}" for word, row in zip(words, wide, strict=True)]
    (tmp_path / "v.txt").write_text("\n".join(lines))
    found = word_embeddings_from_vectors(
        tokenizer, str(tmp_path / "v.txt"), hidden_size=2, standard_deviation=1
    )
    order = [words.index(tokenizer.id_to_token(number)) for number in found.ids.tolist()]
    distances = [
        np.linalg.norm(rows[:, None] - rows[None], axis=-1) for rows in (wide[order], found.vectors)
    ]
    ratio = distances[0].max() / distances[1].max()
    np.testing.assert_allclose(distances[1] * ratio, distances[0], atol=1e-3)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("zebra 1 2 3\n", "has none of the vocabulary's"),
        ("the 1 2 3\ncat 1 2\n", "line 2: needs a word and 3 numbers"),
        ("the 1 x 3\n", "line 1: is not a word and numbers"),
        ("the 1 nan 3\n", "line 1: has a number that is not finite"),
        ("2 3\nthe 1 2\n", "line 2: needs a word and 3 numbers"),
        ("the\n", "line 1: needs a word and its numbers"),
    ],
)
def test_other_files_are_refused(
    content: str, message: str, tokenizer: Tokenizer, tmp_path: Path
) -> None:
    (tmp_path / "v.txt").write_text(content)
    with pytest.raises(InputError, match=message):
        word_embeddings_from_vectors(
            tokenizer, str(tmp_path / "v.txt"), hidden_size=3, standard_deviation=1
        )


@pytest.mark.parametrize(
    ("content", "width", "message"),
    [
        ("the 1 2 3\n", 2, "only 1 of the vocabulary's words; at least 3 are needed"),
        ("the 1 2 3\ncat 3 1 2\n", 2, "only 2 of the vocabulary's words; at least 3 are needed"),
        ("the 1 2 3\ncat 1 2 3\ndog 1 2 3\n", 2, "do not differ"),
        ("the 1 1 1\ncat 1 1 1\n", 3, "do not differ"),
    ],
)
def test_vectors_that_tell_no_words_apart_are_refused(
    content: str, width: int, message: str, tokenizer: Tokenizer, tmp_path: Path
) -> None:
    (tmp_path / "v.txt").write_text(content)
    with pytest.raises(InputError, match=message):
        word_embeddings_from_vectors(
            tokenizer, str(tmp_path / "v.txt"), hidden_size=width, standard_deviation=1
        )


def test_shorter_vectors_and_absent_files_are_refused(tokenizer: Tokenizer, tmp_path: Path) -> None:
    (tmp_path / "v.txt").write_text("2 3\nthe 1 2 3\ncat 3 4 5\n")
    with pytest.raises(InputError, match="have 3 numbers, the model is 8 wide"):
        word_embeddings_from_vectors(
            tokenizer, str(tmp_path / "v.txt"), hidden_size=8, standard_deviation=1
        )
    with pytest.raises(InputError, match="cannot be read"):
        word_embeddings_from_vectors(
            tokenizer, str(tmp_path / "none.txt"), hidden_size=8, standard_deviation=1
        )
