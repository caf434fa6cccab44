"""Pairs are cut as `tokenizers` cuts them, long texts as asked.
Runs anywhere: `pytest tests/finetuning/test_texts.py`."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from tokenizers import Tokenizer, models, pre_tokenizers

from bert_scratch.config import InputError
from bert_scratch.data.wordpiece import load_tokenizer
from bert_scratch.finetuning.task import load_task
from bert_scratch.finetuning.task_settings import TaskSettings, TrainedSettings
from bert_scratch.finetuning.texts import encode_text, longest_first


def test_the_longer_text_is_cut_first_as_in_tokenizers() -> None:
    vocab = {"a": 0, "b": 1, "[UNK]": 2}
    tokenizer = Tokenizer(models.WordLevel(vocab, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    for limit in range(1, 9):
        tokenizer.enable_truncation(limit, strategy="longest_first")
        for first in range(11):
            for second in range(11):
                ids = tokenizer.encode(" ".join("a" * first), " ".join("b" * second)).ids
                kept = (ids.count(0), ids.count(1))
                assert longest_first(first, second, limit) == kept


LONG = "good fine great bad poor dull the a film plot actor is was"


@pytest.mark.parametrize(
    ("long_text", "expected"),
    [
        ("truncate", ["good fine great bad poor dull the a"]),
        ("head-tail", ["good fine a film plot actor is was"]),
        (
            "window",
            [
                "good fine great bad poor dull the a",
                "poor dull the a film plot actor is",
                "dull the a film plot actor is was",
            ],
        ),
    ],
)
def test_a_long_text_is_cut_as_asked(folder: Path, long_text: str, expected: list[str]) -> None:
    tokenizer = load_tokenizer(folder)
    (rows, short) = encode_text(tokenizer, [LONG, "a film"], max_seq_length=10, long_text=long_text)
    assert [tokenizer.decode(row.ids[1:-1].tolist()) for row in rows] == expected
    assert [tokenizer.decode(row.ids.tolist()) for row in short] == ["a film"]


SINGLE = "sentence\tlabel\ngood\t1\nbad\t0\n"
PAIRS = "sentence1\tsentence2\tlabel\ngood\tgreat\t1\nbad\tgood\t0\n"


@pytest.mark.parametrize("task", ["classification", "regression"])
@pytest.mark.parametrize(
    ("training", "other", "message"),
    [
        (SINGLE, PAIRS, r"b.tsv: has pairs of texts, but the model is trained on single texts"),
        (PAIRS, SINGLE, r"b.tsv: has single texts, but the model is trained on pairs"),
    ],
)
def test_a_model_of_pairs_takes_pairs_only_and_one_of_texts_no_pairs(
    write: Callable[[str, str], str], task: str, training: str, other: str, message: str
) -> None:
    learning = load_task(TaskSettings(task=task))
    file, others = write("a.tsv", training), write("b.tsv", other)
    learning.learn(learning.read(file, labels_needed=True))
    learning.read(file, labels_needed=True)
    kept = TrainedSettings.from_dict(learning.settings.for_prediction().to_dict())
    for trained in (learning, load_task(kept, learning.labels)):
        with pytest.raises(InputError, match=message):
            trained.read(others, labels_needed=False)


def test_a_model_folder_that_does_not_say_whether_it_knows_pairs_takes_both(
    write: Callable[[str, str], str],
) -> None:
    older = load_task(TrainedSettings.from_dict({"task": "classification"}), ["0", "1"])
    for text in (SINGLE, PAIRS):
        assert len(older.read(write("a.tsv", text), labels_needed=False)) == 2
