"""Pins which sentences of a text models are asked about. CPU: `pytest
tests/inference/test_text_sample.py`."""

from __future__ import annotations

from pathlib import Path

import pytest

from bert_scratch.config import InputError
from bert_scratch.inference.text_sample import read_text, sample_sentences

DOCUMENTS = [[f"Document {d} has the sentence {s}." for s in range(10)] for d in range(40)]


def test_followers_stand_behind_and_no_sentence_comes_twice() -> None:
    sample = sample_sentences(DOCUMENTS, num_sentences=30, seed=1)
    assert len(sample.sentences) == len(sample.followers) == 30
    for sentence, follower, d in zip(
        sample.sentences, sample.followers, sample.documents, strict=True
    ):
        assert DOCUMENTS[d][DOCUMENTS[d].index(sentence) + 1] == follower
    asked = [*sample.sentences, *sample.followers]
    assert len(set(asked)) == 60


def test_counting_text_is_of_other_documents() -> None:
    sample = sample_sentences(DOCUMENTS, num_sentences=30, seed=1)
    asked = {f"Document {d} " for d in sample.documents}
    assert sample.rest and not [s for s in sample.rest if s.startswith(tuple(asked))]


def test_seed_decides_the_sentences() -> None:
    first, again, other = (
        sample_sentences(DOCUMENTS, num_sentences=30, seed=seed) for seed in (1, 1, 2)
    )
    assert first == again and first.sentences != other.sentences


def test_documents_of_one_sentence_have_no_followers() -> None:
    lines = [[sentence] for document in DOCUMENTS for sentence in document]
    sample = sample_sentences(lines, num_sentences=30, seed=1)
    assert len(sample.sentences) == 30 and sample.followers == []


def test_sentence_that_a_model_cannot_take_is_not_drawn() -> None:
    sample = sample_sentences(
        DOCUMENTS, num_sentences=30, seed=1, fits=lambda text: text.endswith(("1.", "2."))
    )
    assert {text[-2:] for text in sample.sentences} == {"1."}
    assert {text[-2:] for text in sample.followers} == {"2."}


def test_small_text_is_refused_saying_what_is_needed() -> None:
    short = [["One.", "Two words.", "A"] * 30 for _ in range(9)]
    with pytest.raises(InputError, match="has 0 sentences of 5 words .* at least 20"):
        sample_sentences(short, num_sentences=30, seed=1)
    with pytest.raises(InputError, match=r"--text notes\.txt: has 0 sentences"):
        sample_sentences(short, num_sentences=30, seed=1, source="--text notes.txt")


def test_documents_are_read_as_prepare_reads_them(tmp_path: Path) -> None:
    path = tmp_path / "text.txt"
    path.write_text("\n\n".join("\n".join(document) for document in DOCUMENTS))
    assert read_text(str(path), documents="auto", sentences="auto") == DOCUMENTS
    lines = read_text(str(path), documents="lines", sentences="lines")
    assert lines == [[sentence] for document in DOCUMENTS for sentence in document]
