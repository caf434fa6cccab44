"""Labels, losses and metrics of classification.
Runs anywhere: `pytest tests/finetuning/test_classification.py`."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from bert_scratch.config import InputError
from bert_scratch.data.wordpiece import SpecialIds
from bert_scratch.finetuning.classification import ClassAnswer, Classification
from bert_scratch.finetuning.labelled_rows import LabelledText
from bert_scratch.finetuning.rows import Row, RowBatch, token_sequence
from bert_scratch.finetuning.task_settings import TaskSettings

Label = str | tuple[str, ...] | None
SEQUENCE = token_sequence(np.array([7], np.int32), None, SpecialIds(0, 1, 2, 3, 4))


def examples(*labels: Label) -> list[LabelledText]:
    return [LabelledText(place=f"f:{i}", text="a", label=v) for i, v in enumerate(labels)]


def learnt(*labels: Label, **settings: Any) -> Classification:
    task = Classification(TaskSettings(task="classification", **settings))
    task.learn(examples(*labels))
    return task


def rows_of(task: Classification, *labels: Label) -> list[Row]:
    return [
        Row(sequences=(SEQUENCE,), example=i, place=e.place, label=task.target(e))
        for i, e in enumerate(examples(*labels))
    ]


def test_numbers_are_ordered_by_value_and_names_by_letter() -> None:
    assert learnt("10", "9", "-1").labels == ("-1", "9", "10")
    assert learnt("b", "10", "a").labels == ("10", "a", "b")


def test_one_label_alone_is_refused() -> None:
    with pytest.raises(InputError, match=r"needs at least two labels; it has x"):
        learnt("x", "x")


def test_an_unknown_label_is_answered_with_the_nearest() -> None:
    with pytest.raises(InputError, match=r"f:0: label 'positiv' .*did you mean 'positive'"):
        learnt("positive", "negative").target(examples("positiv")[0])


def test_the_loss_over_its_weight_is_torchs_weighted_mean() -> None:
    labels = ("a", "b", "a", "a", "c")
    logits = torch.randn(5, 3, generator=torch.Generator().manual_seed(0))
    for kind in ("none", "balanced"):
        task = learnt(*labels, class_weights=kind)
        batch = RowBatch.of(rows_of(task, *labels), pad_id=0)
        counts = torch.tensor([3.0, 1.0, 1.0])
        weight = 5 / (3 * counts) if kind == "balanced" else None
        expected = torch.nn.functional.cross_entropy(logits, batch.labels, weight=weight)
        mean = task.loss(logits, batch) / task.loss_weight(batch)
        assert mean.item() == pytest.approx(expected.item(), abs=1e-6)


def test_metrics_are_those_of_scikit_learn() -> None:
    from sklearn.metrics import balanced_accuracy_score, f1_score, matthews_corrcoef

    true, given = ["0", "1", "1", "1", "0", "1"], ["0", "1", "0", "1", "1", "1"]
    task = learnt(*true)
    answers = [ClassAnswer(label, ()) for label in given]
    values = task.metrics(examples(*true), answers)
    assert list(values) == list(task.metric_names)
    assert values["accuracy"] == pytest.approx(4 / 6)
    assert values["f1"] == pytest.approx(f1_score(true, given, pos_label="1"))
    assert values["f1_macro"] == pytest.approx(f1_score(true, given, average="macro"))
    assert values["balanced_accuracy"] == pytest.approx(balanced_accuracy_score(true, given))
    assert values["matthews_corrcoef"] == pytest.approx(matthews_corrcoef(true, given))


def test_labels_that_hold_together() -> None:
    labels: tuple[Label, ...] = (("x", "y"), (), ("z",))
    task = learnt(*labels)
    assert task.is_multi_label and task.labels == ("x", "y", "z")
    assert task.config_fields["problem_type"] == "multi_label_classification"
    rows = rows_of(task, *labels)
    batch = RowBatch.of(rows, pad_id=0)
    logits = torch.tensor([[3.0, 2.0, -1.0], [-1.0, -2.0, -3.0], [1.0, -2.0, 4.0]])
    answers = task.answers(examples(*labels), rows, list(logits))
    assert [answer.label for answer in answers] == [("x", "y"), (), ("x", "z")]
    assert task.metrics(examples(*labels), answers)["accuracy"] == pytest.approx(2 / 3)
    expected = torch.nn.functional.binary_cross_entropy_with_logits(logits, batch.labels)  # type: ignore[arg-type]
    mean = task.loss(logits, batch) / task.loss_weight(batch)
    assert mean.item() == pytest.approx(expected.item(), abs=1e-6)


def test_a_label_alone_that_is_never_found_scores_nothing() -> None:
    labels: tuple[Label, ...] = (("toxic",), (), (), (), ())
    task = learnt(*labels)
    values = task.metrics(examples(*labels), [ClassAnswer((), (0.1,))] * 5)
    assert values == {"f1_micro": 0.0, "f1_macro": 0.0, "accuracy": 0.8}


@pytest.mark.parametrize("label", [("a", "b"), ("a",), ()])
def test_a_list_of_labels_is_refused_where_training_had_one_each(label: Label) -> None:
    with pytest.raises(InputError, match=r"f:0: has a list of labels"):
        learnt("a", "b").target(examples(label)[0])


def test_the_weight_is_that_of_the_rows_in_the_batch() -> None:
    task = learnt("a", "b", "a", "a", "c", class_weights="balanced")
    batch = RowBatch.of(rows_of(task, "b", "c"), pad_id=0)  # rarer than in training
    logits = torch.randn(2, 3, generator=torch.Generator().manual_seed(0))
    weight = 5 / (3 * torch.tensor([3.0, 1.0, 1.0]))
    expected = torch.nn.functional.cross_entropy(logits, batch.labels, weight=weight)
    mean = task.loss(logits, batch) / task.loss_weight(batch)
    assert mean.item() == pytest.approx(expected.item(), abs=1e-6)


def test_balanced_labels_that_hold_together_weigh_those_that_hold() -> None:
    task = learnt(("a",), ("a", "b"), ("a",), class_weights="balanced")
    batch = RowBatch.of(rows_of(task, ("b",)), pad_id=0)
    logits = torch.tensor([[0.5, -0.5]])
    expected = torch.nn.functional.binary_cross_entropy_with_logits(
        logits, batch.labels, pos_weight=torch.tensor([1 / 3, 2.0])
    )
    assert task.loss(logits, batch).item() == pytest.approx(expected.item(), abs=1e-6)


def test_a_label_column_that_is_never_on_is_a_label_all_the_same() -> None:
    task = learnt(("a",), (), multi_label=True, label_column=("a", "b"))
    assert task.labels == ("a", "b")
