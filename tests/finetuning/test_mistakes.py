"""Pins which mistakes a finished classifier writes down.
Run alone: `pytest tests/finetuning/test_mistakes.py`.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from bert_scratch.finetuning.classification import ClassAnswer
from bert_scratch.finetuning.finetune import finetune
from bert_scratch.finetuning.finetune_config import FinetuneConfig
from bert_scratch.finetuning.labelled_rows import LabelledText
from bert_scratch.finetuning.mistakes import (
    MAX_CONFUSED_LABELS,
    MISTAKES,
    NUM_WORST,
    mistakes,
    write_mistakes,
)
from bert_scratch.finetuning.task import load_task
from bert_scratch.finetuning.task_settings import TaskSettings


def example(line: int, label: str, text: str = "a text", pair: str | None = None) -> LabelledText:
    return LabelledText(place=f"dev.tsv:{line}", text=text, text_pair=pair, label=label)


def test_wrong_answers_come_worst_first_and_right_ones_not_at_all() -> None:
    examples = [
        example(1, "bad"),
        example(2, "good", "x" * 1000),
        example(3, "good", pair="b"),
        example(4, "bad"),
    ]
    answers = [
        ClassAnswer("bad", (0.9, 0.1)),
        ClassAnswer("bad", (0.6, 0.4)),
        ClassAnswer("bad", (0.95, 0.05)),
        ClassAnswer("good", (0.3, 0.7)),
    ]
    found = mistakes(("bad", "good"), examples, answers)
    assert found["confusion"] == [[1, 1], [2, 0]]
    assert (found["num_wrong"], found["num_examples"]) == (3, 4)
    assert [worst["place"] for worst in found["worst"]] == ["dev.tsv:3", "dev.tsv:4", "dev.tsv:2"]
    assert found["worst"][0] == {
        "place": "dev.tsv:3", "text": "a text", "text_pair": "b", "label": "good",
        "probability": 0.05, "answer": "bad", "answer_probability": 0.95,
    }  # fmt: skip
    assert len(found["worst"][2]["text"]) == 400


def test_file_stays_small_whatever_is_wrong() -> None:
    labels = tuple(str(number) for number in range(MAX_CONFUSED_LABELS + 1))
    shares = (1.0, *(0.0 for _ in labels[1:]))
    examples = [example(line, "1") for line in range(100)]
    found = mistakes(labels, examples, [ClassAnswer("0", shares)] * 100)
    assert found["confusion"] is None
    assert len(found["worst"]) == NUM_WORST and found["num_wrong"] == 100


@pytest.mark.parametrize("name", ["regression", "classification"])
def test_tasks_without_one_label_a_text_leave_no_file(name: str, tmp_path: Path) -> None:
    settings = TaskSettings(task=name, multi_label=name == "classification")
    write_mistakes(tmp_path, load_task(settings, ("bad", "good")), [example(1, "bad")], [None])
    assert not list(tmp_path.iterdir())


def test_finished_run_of_a_classifier_has_them(settings: Callable[..., FinetuneConfig]) -> None:
    config = settings(num_train_epochs=1, learning_rate=1e-5)
    results = finetune(config).results
    found = json.loads((Path(config.output_dir) / MISTAKES).read_text())
    assert found["num_examples"] == results["num_eval_examples"] == 40
    assert sum(map(sum, found["confusion"])) == 40
    right = found["confusion"][0][0] + found["confusion"][1][1]
    assert right == 40 - found["num_wrong"] == round(40 * results["accuracy"])
    assert all(worst["probability"] <= 0.5 for worst in found["worst"])
