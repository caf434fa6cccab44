"""What a finished classifier gets wrong on its evaluation file: which labels, and which texts.

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
"""A larger table is not read by anybody."""
_MAX_CHARACTERS = 400


def write_mistakes(
    folder: Path, task: Task[Any, Any], examples: Sequence[Any], answers: Sequence[Any]
) -> None:
    """Write `mistakes.json` into a run's folder, for a task that gives each text one label.

    Args:
        folder: of the run.
        task: any; nothing is written for another kind.
        examples: all labelled.
        answers: one an example.
    """
    if isinstance(task, Classification) and not task.is_multi_label:
        durable.write_json(folder / MISTAKES, mistakes(task.labels, examples, answers))


def mistakes(
    labels: Sequence[str], examples: Sequence[LabelledText], answers: Sequence[ClassAnswer]
) -> dict[str, Any]:
    """Count which labels are taken for which, and choose the worst examples.

    Args:
        labels: C, in the order of the probabilities.
        examples: each with one of the labels.
        answers: one an example.

    Returns:
        labels; confusion, [C][C] numbers of examples, from the right label (row) to the one given
        (column), None for too many labels; num_wrong; worst, the wrong answers whose right label
        was thought the least likely, at most NUM_WORST.
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
