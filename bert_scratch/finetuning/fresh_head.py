"""Whether a model's classifier can be trained further, or was trained for something else."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from bert_scratch.config import BertConfig, counted, first_few
from bert_scratch.finetuning.task import Task
from bert_scratch.finetuning.task_settings import TASK_FILE, TrainedSettings
from bert_scratch.model.huggingface import TASK_PARTS
from bert_scratch.model.pretrained_model import PretrainedModel
from bert_scratch.model.weight_files import read_weights

_SHOWN = 5


def why_fresh(folder: Path, config: BertConfig, task: Task[Any, Any]) -> str | None:
    """Return what a model's classifier was trained for, or None if it fits the task.

    Labels without names (LABEL_0, ...) are taken to be those of the task if there are as many.

    Args:
        folder: the model's folder.
        config: the model's configuration.
        task: the task to learn, with its labels.

    Returns:
        None also for a model without a classifier.
    """
    if not any(name.startswith(TASK_PARTS) for name in read_weights(folder)):
        return None
    if (folder / TASK_FILE).is_file():
        was = TrainedSettings.from_json_file(folder / TASK_FILE).task
        if was != task.settings.task:
            return f"the task {was}"
    before, now = _in_order(config.id2label), _in_order(task.config_fields.get("id2label"))
    unnamed = all(name.startswith("LABEL_") for name in before)
    if before == now or (unnamed and len(before) in (0, len(now))):
        return None
    return f"{counted(len(before), 'label')}: {first_few(before, _SHOWN)}"


def _in_order(names: dict[int, str] | None) -> list[str]:
    return [] if names is None else [names[number] for number in sorted(names)]


def draw_head(model: PretrainedModel) -> None:
    """Draw a task's head anew from torch's default generator; the encoder is unchanged."""
    fresh = type(model)(model.config).state_dict()
    head = {name: values for name, values in fresh.items() if name.startswith(TASK_PARTS)}
    model.load_state_dict(head, strict=False)
