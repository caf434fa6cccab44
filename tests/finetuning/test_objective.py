"""Each task's loss on a GPU, as far as shapes and devices go: none is mixed, none waited for.
Runs anywhere: `pytest tests/finetuning/test_objective.py`."""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

import pytest
import torch
from torch._subclasses.fake_tensor import DataDependentOutputException

from bert_scratch.data.wordpiece import load_tokenizer
from bert_scratch.finetuning.objective import TaskObjective
from bert_scratch.finetuning.rows import RowBatch
from bert_scratch.finetuning.task import load_task
from bert_scratch.finetuning.task_settings import TaskSettings

REVIEWS = "sentence\tlabel\na good film\t1\ndull plot\t0\na great actor\t1\n"
PAIRS = "sentence1\tsentence2\tscore\na film\tthe film\t4.5\na plot\tgood actor was\t1\n"
QUESTION = {"question": "good", "answers": [{"text": "film", "answer_start": 7}]}
SQUAD = json.dumps({"data": [{"paragraphs": [{"context": "a good film", "qas": [QUESTION]}]}]})
CHOICES = json.dumps({"question": "a film", "choices": ["good", "dull plot"], "label": 0}) + "\n"
TASKS: dict[str, tuple[str, str, dict[str, str]]] = {
    "classes": ("classification", REVIEWS, {}),
    "balanced classes": ("classification", REVIEWS, {"class_weights": "balanced"}),
    "labels together": (
        *("classification", REVIEWS.replace("\t1\n", "\t1,0\n")),
        {"class_weights": "balanced"},
    ),
    "numbers": ("regression", PAIRS, {}),
    "entities": ("token-classification", "a O\nfilm B-X\nplot I-X\n\ngood O\n", {}),
    "words": ("token-classification", "a DET\nfilm NOUN\n\ngood ADJ\n", {}),
    "questions": ("question-answering", SQUAD, {}),
    "choices": ("multiple-choice", CHOICES, {}),
    "scored pairs": ("sentence-embedding", PAIRS, {}),
    "pairs": ("sentence-embedding", "anchor\tpositive\na film\tthe film\ngood\tgreat\n", {}),
}


def built(name: str, folder: Path, write: Callable[[str, str], str]):
    """Return the objective, the model and a batch of a task."""
    kind, text, flags = TASKS[name]
    settings = TaskSettings(task=kind, multi_label=name == "labels together", **flags)
    task = load_task(settings)
    examples = task.read(write("examples" + ending(text), text), labels_needed=True)
    task.learn(examples)
    rows = task.encode(examples, load_tokenizer(folder))
    model = task.load_model(folder, new_head=True).train()
    return TaskObjective(task), model, RowBatch.of(rows, pad_id=0)


@pytest.mark.parametrize("name", TASKS)
def test_a_loss_mixes_no_devices_and_asks_a_gpu_for_no_number(
    name: str,
    folder: Path,
    write: Callable[[str, str], str],
    fake_gpu: Callable[..., AbstractContextManager[torch.device]],
) -> None:
    objective, model, batch = built(name, folder, write)
    counts = objective.counts(batch)
    assert counts.item() > 0
    with fake_gpu(model) as device:
        loss, sums = objective.loss(model, batch.to(device), counts.to(device))
        assert loss.requires_grad and not sums.requires_grad
        assert loss.device == sums.device and loss.is_cuda
        with pytest.raises(DataDependentOutputException):  # here the host would wait
            loss.item()


@pytest.mark.gpu
@pytest.mark.filterwarnings("ignore:Synchronization debug mode")
@pytest.mark.parametrize("name", TASKS)
def test_the_host_waits_for_nothing_in_a_loss_on_a_gpu(
    name: str, folder: Path, write: Callable[[str, str], str]
) -> None:
    objective, model, batch = built(name, folder, write)
    device = torch.device("cuda")
    model, counts, batch = model.to(device), objective.counts(batch).to(device), batch.to(device)
    objective.loss(model, batch, counts)[0].backward()  # the libraries set themselves up
    torch.cuda.set_sync_debug_mode("error")
    try:
        loss, _ = objective.loss(model, batch, counts)
        loss.backward()  # raises where the host would wait
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert loss.isfinite()


def ending(text: str) -> str:
    if text.startswith("{"):
        return ".json" if text == SQUAD else ".jsonl"
    return ".tsv" if "\t" in text else ".conll"


@pytest.mark.parametrize("name", TASKS)
def test_pieces_of_a_batch_count_as_much_as_the_whole(
    name: str, folder: Path, write: Callable[[str, str], str]
) -> None:
    objective, _, batch = built(name, folder, write)
    pieces = [objective.counts(piece).item() for piece in batch.split(1)]
    assert sum(pieces) == pytest.approx(objective.counts(batch).item())
