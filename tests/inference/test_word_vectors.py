"""Pins static word vectors: the mean over contexts, what counts as a word, and that gensim loads
the file. Run alone: `pytest tests/inference/test_word_vectors.py`."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
from tokenizers import Tokenizer

from bert_scratch import cli, embed, static_word_vectors
from bert_scratch.config import InputError
from bert_scratch.inference.embed import ReadingOptions
from bert_scratch.model.heads import BertForPreTraining

TEXTS = ["The cat sees the believers.", "a cat, qqq!", "", "dog THE 北京 北"]


def test_vector_is_the_mean_over_all_contexts(
    model: BertForPreTraining, tokenizer: Tokenizer
) -> None:
    found = static_word_vectors(model, tokenizer, lambda: TEXTS)
    counts = dict(zip(found.words, found.counts.tolist(), strict=True))
    assert counts["the"] == 3 and counts["cat"] == counts["北"] == 2 and counts["believers"] == 1
    assert found.words[0] == "the" and "qqq" not in counts
    contexts = embed(model, tokenizer, TEXTS, unit="word")
    the = np.stack([contexts[0][0], contexts[0][3], contexts[3][1]])
    np.testing.assert_allclose(found.vectors[0], the.mean(axis=0), atol=1e-6)
    believers = found.words.index("believers")
    np.testing.assert_allclose(found.vectors[believers], contexts[0][4], atol=1e-6)


def test_options_choose_layers_and_rare_words_are_left_out(
    model: BertForPreTraining, tokenizer: Tokenizer
) -> None:
    options = ReadingOptions(layers=("0", "-1"), layer_combine="concat")
    found = static_word_vectors(model, tokenizer, lambda: TEXTS, options, min_count=2)
    assert sorted(found.words) == ["cat", "the", "北"]
    assert found.vectors.shape == (3, 2 * model.config.hidden_size)


def test_words_beyond_a_row_have_no_vector(model: BertForPreTraining, tokenizer: Tokenizer) -> None:
    texts = ["the cat dog", "x x x house"]
    options = ReadingOptions(max_seq_length=5)
    found = static_word_vectors(model, tokenizer, lambda: texts, options)
    assert (
        "house" not in found.words and dict(zip(found.words, found.counts, strict=True))["x"] == 3
    )


def test_only_contexts_within_a_row_count(model: BertForPreTraining, tokenizer: Tokenizer) -> None:
    texts = ["the cat dog dog dog"] * 3 + ["cat dog"] * 2 + ["dog dog"]
    options = ReadingOptions(max_seq_length=4)
    found = static_word_vectors(model, tokenizer, lambda: texts, options, min_count=3)
    assert found.words == ["cat", "dog", "the"] and found.counts.tolist() == [5, 4, 3]
    found = static_word_vectors(model, tokenizer, lambda: texts, options, min_count=5)
    assert found.words == ["cat"]
    with pytest.raises(InputError, match="cut off at the end of a row; give --stride"):
        static_word_vectors(model, tokenizer, lambda: texts, options, min_count=6)


def test_nothing_frequent_enough_is_refused(
    model: BertForPreTraining, tokenizer: Tokenizer
) -> None:
    with pytest.raises(InputError, match="no word occurs in the texts 9 times or more"):
        static_word_vectors(model, tokenizer, lambda: TEXTS, min_count=9)
    with pytest.raises(InputError, match="choose --layer-combine"):
        static_word_vectors(model, tokenizer, lambda: TEXTS, ReadingOptions(layers=("all",)))


def test_gensim_loads_what_the_command_writes(
    folder: Path,
    tmp_path: Path,
    model: BertForPreTraining,
    tokenizer: Tokenizer,
    capsys: pytest.CaptureFixture[str],
) -> None:
    gensim = pytest.importorskip("gensim.models")
    (tmp_path / "texts.txt").write_text("\n".join(TEXTS), encoding="utf-8")
    output = tmp_path / "vectors.txt"
    place = ["--input", str(tmp_path / "texts.txt"), "--output", str(output)]
    flags = ["--min-count", "1", "--layers", "1"]
    assert cli.main(["word-vectors", "--model", str(folder), *place, *flags]) == 0
    assert "words of 24 numbers" in capsys.readouterr().out
    expected = static_word_vectors(model, tokenizer, lambda: TEXTS, ReadingOptions(layers=("1",)))
    loaded = gensim.KeyedVectors.load_word2vec_format(str(output))
    assert loaded.index_to_key == expected.words
    np.testing.assert_allclose(loaded.vectors, expected.vectors, rtol=1e-4, atol=1e-5)
    assert loaded.most_similar("cat", topn=1)


def test_pipe_which_cannot_be_read_twice_is_refused(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    reading, writing = os.pipe()
    os.write(writing, b"the cat the cat\n" * 9)
    os.close(writing)
    pipe = f"/dev/fd/{reading}"  # as the shell names <(zcat texts.gz)
    place = ["--input", pipe, "--output", str(tmp_path / "vectors.txt")]
    assert cli.main(["word-vectors", "--model", str(folder), *place]) == 2
    os.close(reading)
    error = capsys.readouterr().err
    assert f"--input {pipe}: must be a file, not a pipe: it is read twice" in error
    assert error.count("\n") == 1


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--input", "-", "--output", "v.txt"], "it is read twice"),
        (["--input", "none.txt", "--output", "v.txt"], "none.txt: does not exist"),
        (["--input", "none.txt", "--output", "{model}/config.json/v.txt"], "cannot be written"),
    ],
)
def test_wrong_input_is_one_line(
    flags: list[str], message: str, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    flags = [flag.format(model=folder) for flag in flags]
    assert cli.main(["word-vectors", "--model", str(folder), *flags]) == 2
    error = capsys.readouterr().err
    assert message in error and error.count("\n") == 1


def test_texts_that_can_be_read_only_once_are_refused(
    model: BertForPreTraining, tokenizer: Tokenizer
) -> None:
    once = iter(TEXTS)
    with pytest.raises(InputError, match="it must open the texts anew"):
        static_word_vectors(model, tokenizer, lambda: once)
