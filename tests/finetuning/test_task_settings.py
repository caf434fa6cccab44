"""Flags that a task does not read are refused; what model folders hold is not looked at again.
Runs anywhere: `pytest tests/finetuning/test_task_settings.py`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from bert_scratch.config import InputError, flag_of
from bert_scratch.finetuning.finetune_config import FinetuneConfig
from bert_scratch.finetuning.task import TASKS
from bert_scratch.finetuning.task_settings import _READ_BY, TrainedSettings, reads

Make = Callable[..., FinetuneConfig]

SET: dict[str, Any] = {
    "text_column": "x",
    "text_pair_column": "y",
    "label_column": ("z",),
    "multi_label": True,
    "doc_stride": 8,
    "n_best_size": 3,
    "max_answer_length": 9,
    "null_score_threshold": 3.0,
    "negative_column": "w",
    "long_text": "head-tail",
    "class_weights": "balanced",
}


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("name", SET)
def test_a_flag_that_the_task_does_not_read_is_refused(
    settings: Make, task: str, name: str
) -> None:
    if task in _READ_BY[name]:
        settings(task=task, **{name: SET[name]})
        return
    message = f"{flag_of(name)} has no effect with --task {task}; leave it out"
    with pytest.raises(InputError, match=message):
        settings(task=task, **{name: SET[name]})


def test_every_task_is_known_and_heads_of_ones_own_may_read_anything(settings: Make) -> None:
    assert SET.keys() == _READ_BY.keys()
    assert {task for task in TASKS if not all(reads(task, name) for name in SET)} == TASKS.keys()
    settings(task="my_head.py:Head", **SET)


def test_what_training_resolved_is_read_again(settings: Make) -> None:
    asked = settings(task="question-answering", max_answer_length=9, null_score_threshold=0.0)
    assert FinetuneConfig.from_dict(asked.to_dict()) == asked
    kept = asked.for_prediction()
    assert TrainedSettings.from_dict(kept.to_dict()) == kept
    older = {"task": "regression", "class_weights": "balanced", "multi_label": True}
    assert TrainedSettings.from_dict(older).has_pairs is None
