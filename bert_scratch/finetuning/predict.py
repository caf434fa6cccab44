"""The command `predict`: answer a file with a fine-tuned model, or several together."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from bert_scratch import durable
from bert_scratch.config import (
    BertConfig,
    InputError,
    check_choice,
    flag_of,
    read_json_object,
)
from bert_scratch.data.records import STANDARD_INPUT
from bert_scratch.data.wordpiece import load_tokenizer, special_ids, tokenizer_hash
from bert_scratch.finetuning.choices import row_length_for
from bert_scratch.finetuning.custom_head import is_custom
from bert_scratch.finetuning.predictions import conll_lines, json_lines, tsv_lines
from bert_scratch.finetuning.rows import Row, check_token_types
from bert_scratch.finetuning.scoring import score_rows
from bert_scratch.finetuning.task import Task, load_task
from bert_scratch.finetuning.task_settings import (
    CHOOSING_ANSWERS,
    TASK_FILE,
    TaskSettings,
    TrainedSettings,
    answered_with,
    had_pairs,
    reads,
)
from bert_scratch.model.compute_settings import ComputeSettings
from bert_scratch.model.devices import DTYPES, resolve_device, resolve_dtype
from bert_scratch.model.folder import read_config
from bert_scratch.model.task_heads import MULTI_LABEL, REGRESSION
from bert_scratch.model.weight_files import CONFIG, find_folder
from bert_scratch.output_places import make_place_for
from bert_scratch.training.runtime import Runtime

_TASKS_OF_CLASSES = {
    "BertForMultipleChoice": "multiple-choice",
    "BertForQuestionAnswering": "question-answering",
    "BertForSequenceClassification": "classification",
    "BertForTokenClassification": "token-classification",
}
"""Tasks of the classes of transformers that config.json names."""
_WRITERS = {"jsonl": json_lines, "tsv": tsv_lines, "conll": conll_lines}
FORMATS = ("auto", *_WRITERS)


@dataclass(frozen=True, kw_only=True)
class PredictConfig(ComputeSettings):
    """Answer a file with a fine-tuned model: labels with probabilities, numbers or spans."""

    model: tuple[str, ...]
    """Model folders; the scores of several are averaged."""
    task: str | None = None
    """FILE.py:CLASS of a user-defined head. Left out: the task that the model folder names."""
    input: str
    """Texts without labels (or with): .tsv, .csv, .jsonl, .txt, or - for standard input."""
    output: str = STANDARD_INPUT
    """Where the answers go: .jsonl, .tsv, .conll, or - for standard output."""
    format: str = "auto"
    """jsonl, tsv or conll (a word and its tag per line); auto goes by the output's
    name, and is jsonl for standard output."""
    text_column: str | None = None
    """The column of the text. Left out: found by its name, or the one of training."""
    text_pair_column: str | None = None
    """The column of a pair's second text."""
    dtype: str = "float32"
    """Dtype of matrix products: auto (bfloat16 where the hardware has it), float32 or bfloat16."""

    def __post_init__(self) -> None:
        """Check the format and the threads.

        Raises:
            InputError: naming the flag.
        """
        super().__post_init__()
        check_choice("--format", self.format, FORMATS)


def run_predict(config: PredictConfig) -> None:
    """Answer a file and write the answers.

    Raises:
        InputError: if a model, the input or the output cannot be used.
    """
    kind = config.format
    if kind == "auto":
        ending = Path(config.output).suffix.lower().removeprefix(".")
        kind = "jsonl" if config.output == STANDARD_INPUT else ending
    if kind not in _WRITERS:
        raise InputError(
            f"--output {config.output}: must end in .jsonl, .tsv or .conll; otherwise give --format"
        )
    if config.output == STANDARD_INPUT:
        sys.stdout.write(_WRITERS[kind](predict(config)))
        return
    output = Path(config.output)
    make_place_for(output, source=config.input)
    durable.write_text(output, _WRITERS[kind](predict(config)))


def predict(config: PredictConfig) -> list[dict[str, Any]]:
    """Return a record for each example: the answer first, then the text.

    Raises:
        InputError: if a model or the input cannot be used.
    """
    folders = [find_folder(name) for name in config.model]
    task = load_trained_task(folders[0], config.task)
    columns = {
        name: value
        for name in ("text_column", "text_pair_column")
        if (value := getattr(config, name)) is not None
    }
    for name in columns:
        if not reads(task.settings.task, name):
            raise InputError(
                f"{flag_of(name)} has no effect with {folders[0]}, a model for "
                f"{task.settings.task}; leave it out"
            )
    task.settings = _alike(folders, task, config).replace(**columns)
    task.columns_asked = tuple(map(flag_of, columns))
    tokenizer = load_tokenizer(folders[0])
    examples = task.read(config.input, labels_needed=False)
    rows = task.encode([task.unlabelled(example) for example in examples], tokenizer)
    device = resolve_device(config.device)
    dtype, _ = resolve_dtype(config.dtype, device)
    runtime = Runtime(device=device, dtype=DTYPES[dtype], num_threads=config.threads)
    pad_id = special_ids(tokenizer).pad
    logits = _mean_logits(folders, task, rows, runtime=runtime, pad_id=pad_id)
    answers = task.answers(examples, rows, logits)
    return [task.record(e, answer) for e, answer in zip(examples, answers, strict=True)]


def load_trained_task(folder: Path, named: str | None = None) -> Task[Any, Any]:
    """Return the task of a fine-tuned model, from its task.json or its config.json.

    Args:
        folder: a result of `finetune`, or a Hugging Face folder with a model for a task.
        named: FILE.py:CLASS of a user-defined head. A folder alone never makes code run.

    Raises:
        InputError: if the folder does not say what its model was trained for.
    """
    config = read_config(folder)
    path = folder / TASK_FILE
    settings = TrainedSettings.from_json_file(path) if path.is_file() else _guessed(folder, config)
    if named is not None:
        settings = settings.replace(task=named)
    elif is_custom(settings.task):
        raise InputError(
            f"{folder}: was trained with a user-defined head; give --task {settings.task}"
        )
    if settings.task == "sentence-embedding":
        raise InputError(
            f"{folder}: is a sentence-embedding model, which gives vectors, not answers; use embed "
            f"--model {folder} for vectors of texts, or similarity --model {folder} for the cosine "
            f"of pairs"
        )
    unnamed = {} if path.is_file() else {n: f"LABEL_{n}" for n in range(config.num_labels)}
    names = config.id2label or unnamed
    labels = [names[number] for number in sorted(names)]
    return load_task(settings, labels)


def _guessed(folder: Path, config: BertConfig) -> TrainedSettings:
    """Return the settings of a folder of transformers, by its model's class and labels."""
    (name,) = (read_json_object(folder / CONFIG).get("architectures") or [""])[:1]
    if name not in _TASKS_OF_CLASSES and not config.id2label:
        raise InputError(
            f"{folder}: is not a fine-tuned model: it has no {TASK_FILE}, and its config.json "
            f"names neither labels (id2label) nor a class for a task (architectures); run finetune "
            f"first"
        )
    task = _TASKS_OF_CLASSES.get(name, "classification")
    is_single = config.problem_type is None and config.num_labels == 1  # as transformers decides
    if task == "classification" and (config.problem_type == REGRESSION or is_single):
        task = "regression"
    longest = row_length_for(config)
    multi_label = config.problem_type == MULTI_LABEL
    return TrainedSettings(task=task, max_seq_length=longest, multi_label=multi_label)


def _alike(folders: Sequence[Path], task: Task[Any, Any], config: PredictConfig) -> TrainedSettings:
    """Return the settings that all models read with; refuse scores that cannot be averaged.

    Among answers, the largest of the models' limits choose: training found them in its file.

    Args:
        folders: of the models.
        task: that of the first.
        config: whose columns are read, whatever those of training were.

    Raises:
        InputError: naming two models and what tells them apart.
    """
    first = tokenizer_hash(load_tokenizer(folders[0]))
    settings = task.settings.for_prediction()
    given: dict[str, list[Any]] = {name: [getattr(settings, name)] for name in CHOOSING_ANSWERS}
    for folder in folders[1:]:
        other = load_trained_task(folder, config.task)
        if other.labels != task.labels or other.settings.task != settings.task:
            raise InputError(
                f"--model {folder}: has a different task or different labels from {folders[0]}"
            )
        are_pairs = had_pairs(other.settings)
        if {settings.has_pairs, are_pairs} == {True, False}:
            raise InputError(
                f"--model {folder}: one of it and {folders[0]} was trained on pairs of texts, the "
                f"other on single texts; predict with each separately"
            )
        if settings.has_pairs is None:  # not recorded by every model
            settings = settings.replace(has_pairs=are_pairs)
        _check_settings(folders[0], settings, folder, other.settings, config)
        for name, values in given.items():
            values.append(getattr(other.settings, name))
        if tokenizer_hash(load_tokenizer(folder)) != first:
            raise InputError(
                f"--model {folder}: has a different tokenizer from {folders[0]}; their scores "
                f"cannot be averaged"
            )
    largest = {
        name: max((value for value in values if value is not None), default=None)
        for name, values in given.items()
    }
    return settings.replace(**largest)


def _check_settings(
    folder: Path,
    settings: TaskSettings,
    other_folder: Path,
    other: TaskSettings,
    config: PredictConfig,
) -> None:
    """Refuse two models that read their input differently."""
    lengths = other.row_length, settings.row_length
    if lengths[0] != lengths[1]:
        raise InputError(
            f"--model {other_folder}: was trained on rows of {lengths[0]} tokens, {folder} on "
            f"rows of {lengths[1]}; predict with each separately, or train both with one "
            f"--max-seq-length"
        )
    for name in answered_with(settings.task):
        if getattr(config, name, None) is not None:
            continue  # a column that `predict` was given
        values = getattr(other, name), getattr(settings, name)
        if values[0] != values[1]:
            remedy = f", or name it here with {flag_of(name)}" if hasattr(config, name) else ""
            raise InputError(
                f"--model {other_folder}: was trained {_shown(name, values[0])}, {folder} "
                f"{_shown(name, values[1])}; predict with each separately, train both alike{remedy}"
            )


def _shown(name: str, value: Any) -> str:
    """Return a setting as a command line has it."""
    if value is None or value is False or value == ():
        return f"without {flag_of(name)}"
    words = value if isinstance(value, tuple) else () if value is True else (value,)
    return " ".join(["with", flag_of(name), *map(str, words)])


def _mean_logits(
    folders: Sequence[Path],
    task: Task[Any, Any],
    rows: Sequence[Row],
    *,
    runtime: Runtime,
    pad_id: int,
) -> list[Tensor]:
    """Return the scores of each row, averaged over the models."""
    of_models = []
    for folder in folders:
        model = task.load_model(folder, new_head=False).to(runtime.device)
        check_token_types(rows, model.config, model=str(folder))
        of_models.append(score_rows(model, task, rows, runtime=runtime, pad_id=pad_id).logits)
    return [torch.stack(scores).mean(dim=0) for scores in zip(*of_models, strict=True)]
