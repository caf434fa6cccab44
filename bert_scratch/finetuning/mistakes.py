"""The labels and texts that a finished classifier gets wrong on its evaluation file.

Letters: C classes.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from bert_scratch import durable
from bert_scratch.extras import import_extra
from bert_scratch.finetuning.classification import ClassAnswer, Classification
from bert_scratch.finetuning.labelled_rows import LabelledText
from bert_scratch.finetuning.task import Task

MISTAKES = "mistakes.json"
NUM_WORST = 20
MAX_CONFUSED_LABELS = 30
"""With more labels there is no confusion table, as nobody would read it."""
_MAX_CHARACTERS = 400


def write_mistakes(
    folder: Path, task: Task[Any, Any], examples: Sequence[Any], answers: Sequence[Any]
) -> None:
    """Write `mistakes.json` to a run's folder, for a task that gives each text one label.

    Args:
        folder: the run's folder.
        task: any task; nothing is written for other kinds.
        examples: the examples, all labelled.
        answers: one answer for each example.
    """
    if isinstance(task, Classification) and not task.is_multi_label:
        durable.write_json(folder / MISTAKES, mistakes(task.labels, examples, answers))


def mistakes(
    labels: Sequence[str], examples: Sequence[LabelledText], answers: Sequence[ClassAnswer]
) -> dict[str, Any]:
    """Count which labels are mistaken for which, and choose the worst examples.

    Args:
        labels: the C labels, in the order of the probabilities.
        examples: the examples, each with one of the labels.
        answers: one answer for each example.

    Returns:
        labels; confusion, [C][C] counts of examples by right label (row) and predicted label
        (column), None if there are too many labels; num_wrong; worst, at most NUM_WORST wrong
        answers, those with the lowest probability of the right label.
    """
    sklearn = import_extra("sklearn.metrics", "measuring a fine-tuned model", "sklearn")
    true = [str(example.label) for example in examples]
    given = [str(answer.label) for answer in answers]
    confusion = None
    if len(labels) <= MAX_CONFUSED_LABELS:
        confusion = sklearn.confusion_matrix(true, given, labels=list(labels)).tolist()
    numbers = {label: number for number, label in enumerate(labels)}
    wrong: list[dict[str, Any]] = [
        {
            "place": example.place,
            "text": _short(example.text),
            **({} if example.text_pair is None else {"text_pair": _short(example.text_pair)}),
            "label": right,
            "probability": round(answer.probabilities[numbers[right]], 6),
            "answer": said,
            "answer_probability": round(answer.probabilities[numbers[said]], 6),
        }
        for example, answer, right, said in zip(examples, answers, true, given, strict=True)
        if right != said
    ]
    worst = sorted(wrong, key=lambda example: example["probability"])[:NUM_WORST]
    return {
        "labels": list(labels),
        "confusion": confusion,
        "num_wrong": len(wrong),
        "num_examples": len(examples),
        "worst": worst,
    }


def _short(text: str) -> str:
    return text if len(text) <= _MAX_CHARACTERS else text[: _MAX_CHARACTERS - 1] + "…"
