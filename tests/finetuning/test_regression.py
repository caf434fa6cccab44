"""Regression learns numbers, measures correlations, and names what is no number.
Runs anywhere: `pytest tests/finetuning/test_regression.py`."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest

from bert_scratch.config import InputError
from bert_scratch.finetuning.finetune import finetune
from bert_scratch.finetuning.finetune_config import FinetuneConfig
from bert_scratch.finetuning.labelled_rows import LabelledText
from bert_scratch.finetuning.regression import Regression
from bert_scratch.finetuning.task_settings import TaskSettings

Make = Callable[..., FinetuneConfig]


def examples(*labels: str) -> list[LabelledText]:
    return [LabelledText(place=f"f:{i}", text="a", label=v) for i, v in enumerate(labels)]


def test_a_run_measures_correlations_and_loads_in_transformers(settings: Make) -> None:
    from transformers import AutoModelForSequenceClassification

    result = finetune(settings(task="regression", num_train_epochs=2))
    assert {"pearson", "spearman", "mean_squared_error"} <= result.results.keys()
    assert result.results["loss"] == pytest.approx(result.results["mean_squared_error"], abs=1e-5)
    config = json.loads((result.folder / "config.json").read_text())
    assert config["problem_type"] == "regression"
    assert AutoModelForSequenceClassification.from_pretrained(result.folder).num_labels == 1


def test_metrics_are_those_of_scipy_and_scikit_learn() -> None:
    task = Regression(TaskSettings(task="regression"))
    values = task.metrics(examples("1", "2", "4"), [1.0, 2.0, 3.0])
    assert values["spearman"] == pytest.approx(1.0)
    assert values["pearson"] == pytest.approx(0.98198, abs=1e-5)
    assert values["mean_squared_error"] == pytest.approx(1 / 3)
    assert task.metrics(examples("1", "2", "4"), [2.0, 2.0, 2.0])["pearson"] == 0.0


@pytest.mark.parametrize("label", ["one", "nan", "inf", "1,5"])
def test_what_is_no_number_is_named_with_its_place(label: str) -> None:
    with pytest.raises(InputError, match=r"f:0: .* is not a number"):
        Regression(TaskSettings(task="regression")).target(examples(label)[0])


def test_a_lone_number_has_no_correlation_and_is_measured_all_the_same() -> None:
    values = Regression(TaskSettings(task="regression")).metrics(examples("1"), [0.5])
    assert values == {"pearson": 0.0, "spearman": 0.0, "mean_squared_error": 0.25}
