"""The command `benchmark-suite`: fine-tune on every set of a GLUE-like folder."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bert_scratch import durable
from bert_scratch.config import InputError, counted, did_you_mean, read_json_object
from bert_scratch.data.records import read_text
from bert_scratch.finetuning.finetune import finetune
from bert_scratch.finetuning.finetune_config import FinetuneConfig
from bert_scratch.finetuning.labelled_rows import UnknownColumns, read_labelled_texts
from bert_scratch.finetuning.tagged_text import TAG_COLUMNS
from bert_scratch.finetuning.tagging_schemes import OUTSIDE, is_entity_tag
from bert_scratch.finetuning.task_settings import TaskSettings
from bert_scratch.model.compute_settings import ComputeSettings
from bert_scratch.output_places import make_output_folder

SUITE = "suite.json"
HELD_OUT = ("dev", "validation", "valid", "eval", "dev_matched")
ENDINGS = (".tsv", ".csv", ".jsonl", ".json")
COLUMN_ENDINGS = (".conll", ".bio", ".bioes", ".bmes", ".iob", ".iob2", ".txt")
"""Endings of files with one word and its tag a line."""
METRICS = {"cola": "matthews_corrcoef", "mrpc": "f1", "qqp": "f1"}
"""Metrics of the text sets that do not use the default, accuracy or Pearson's correlation."""
MAX_CLASSES = 50
"""Numeric labels with more distinct values than this are scores, not classes."""


@dataclass(frozen=True, kw_only=True)
class BenchmarkSuiteConfig(ComputeSettings):
    """Fine-tune a model on every data set in a folder, and print one table."""

    folder: str
    """Holds a folder for each set, with a train file and a dev (or validation, eval) file."""
    model: str
    """The pretrained model: a folder or a hub id."""
    output_dir: str
    """Where suite.json and each set's runs go."""
    sets: tuple[str, ...] = ()
    """Names of the sets to run. Left out: all."""
    seeds: tuple[int, ...] = (1, 2, 3)
    """Each set is run with each of these."""
    num_train_epochs: float | None = None
    """Passes over each training file. Left out: as finetune chooses."""
    learning_rate: float | None = None
    """The peak learning rate. Left out: as finetune chooses."""
    train_batch_size: int = 32
    """Rows per update."""
    max_seq_length: int | None = None
    """Tokens per row. Left out: as finetune chooses."""
    dtype: str = "auto"
    """auto, float32 or bfloat16."""


@dataclass(frozen=True)
class DataSet:
    """One set of a suite."""

    name: str
    task: str
    metric: str | None
    """None for the task's default: f1 of entities and of answers, accuracy of choices."""
    train_file: str
    eval_file: str


def run_benchmark_suite(config: BenchmarkSuiteConfig) -> None:
    """Run every set with every seed; if stopped, the same command resumes.

    Raises:
        InputError: if the folder holds no set, or one cannot be used.
    """
    out = Path(config.output_dir)
    make_output_folder(out)
    try:
        _run_sets(config, out)
    except UnknownColumns as error:  # its remedy is a flag of finetune
        raise InputError(
            f"{error.found}; call them (in JSON the keys) sentence, label or sentence1, sentence2, "
            f"label, or use finetune for this set, which has flags for columns"
        ) from error


def _run_sets(config: BenchmarkSuiteConfig, out: Path) -> None:
    stored = _stored_sets(out, config.model)
    results: dict[str, Any] = {}
    for data_set in find_sets(config):
        print(f"\n{data_set.name}: {data_set.task}", flush=True)
        values = finetune(_settings(config, data_set)).results
        metric = values["metric"]
        results[data_set.name] = {
            "task": data_set.task,
            "metric": metric,
            "mean": values[metric],
            "std": values["std"][metric],
            "seeds": values["seeds"],
        }
        durable.write_json(out / SUITE, {"model": config.model, "sets": stored | results})
    print(f"\n{'set':<16} {'metric':<18}   mean     std   ({counted(len(config.seeds), 'seed')})")
    for name, row in results.items():
        print(f"{name:<16} {row['metric']:<18} {row['mean']:7.4f} {row['std']:7.4f}")
    mean = sum(row["mean"] for row in results.values()) / len(results)
    print(f"{'mean':<35} {mean:7.4f}")


def _stored_sets(out: Path, model: str) -> dict[str, Any]:
    """Return what the suite's file holds of sets already run with the same model."""
    before = read_json_object(out / SUITE) if (out / SUITE).exists() else {"sets": {}}
    sets = before.get("sets")
    if not isinstance(sets, dict):
        raise InputError(
            f'{out / SUITE}: is not what benchmark-suite writes, it has no "sets"; remove it, or '
            f"give another --output-dir"
        )
    return sets if before.get("model") == model else {}


def find_sets(config: BenchmarkSuiteConfig) -> list[DataSet]:
    """Return the requested sets of the folder, in order of their names.

    Raises:
        InputError: if there is none, or a requested one is missing.
    """
    found = dict(_files_of_sets(Path(config.folder)))
    if not found:
        raise InputError(
            f"--folder {config.folder}: holds no data set: a folder with train{ENDINGS[0]} and "
            f"dev{ENDINGS[0]} (or {', '.join((*ENDINGS[1:], *COLUMN_ENDINGS))})"
        )
    for name in config.sets:
        if name not in found:
            raise InputError(
                f"--sets {name}: {config.folder} has {', '.join(found)}{did_you_mean(name, found)}"
            )
    return [_data_set(name, *found[name]) for name in config.sets or found]


def _files_of_sets(folder: Path) -> Iterator[tuple[str, tuple[str, str]]]:
    """Yield each set's name with its training and evaluation file."""
    if not folder.is_dir():
        raise InputError(f"--folder {folder}: is not a folder")
    for path in sorted(inner for inner in folder.iterdir() if inner.is_dir()):
        train, held_out = _file(path, ("train",)), _file(path, HELD_OUT)
        if train is None or held_out is None:
            lacking = "train" if train is None else "dev"
            print(f"left out   {path}: has no {lacking} file", file=sys.stderr)
            continue
        yield path.name, (train, held_out)


def _data_set(name: str, train_file: str, eval_file: str) -> DataSet:
    task, metric = _task_of(train_file), None
    if task == "classification":
        metric = METRICS.get(name.lower(), "accuracy")
    elif task == "regression":
        metric = "pearson"
    return DataSet(name, task, metric, train_file, eval_file)


def _file(folder: Path, names: tuple[str, ...]) -> str | None:
    """Return the first file with such a name: train.tsv, train.char.bmes, train-v1.1.json."""
    files = sorted(path for path in folder.iterdir() if path.is_file())
    for name in names:
        for ending in (*ENDINGS, *COLUMN_ENDINGS):
            for path in files:
                is_named = re.fullmatch(rf"{name}(-v\d+)?", path.name.partition(".")[0])
                if is_named and path.suffix == ending:
                    return str(path)
    return None


def _task_of(file: str) -> str:
    """Tell a file's task from its ending and its first lines."""
    _, text = read_text(file)
    if Path(file).suffix in COLUMN_ENDINGS or _has_tags(text):
        return "token-classification"
    if _has_choices(text):
        return "multiple-choice"
    if text.lstrip().startswith("{") and _is_of_questions(text):
        return "question-answering"
    asked = TaskSettings(task="classification")
    examples = read_labelled_texts(file, asked, labels_needed=True)
    return "regression" if _are_scores([e.label for e in examples]) else "classification"


def _has_tags(text: str) -> bool:
    """Tell whether the first JSON object or table row has tagged words or spans."""
    first, _, rest = text.partition("\n")
    if text.lstrip().startswith("{"):
        record = _object(first)
        if "tokens" in record and any(isinstance(record.get(key), list) for key in TAG_COLUMNS):
            return True
        return isinstance(record.get("label"), dict) or "spans" in record
    tags = rest.partition("\n")[0].rpartition("\t")[2].split()
    return len(tags) > 1 and all(tag == OUTSIDE or is_entity_tag(tag) for tag in tags)


def _is_of_questions(text: str) -> bool:
    """Tell whether the first JSON object is a question, or the whole file a SQuAD document."""
    first = _object(text.partition("\n")[0])
    return {"question", "context"} <= first.keys() or "data" in (first or _object(text))


def _has_choices(text: str) -> bool:
    """Tell whether the first JSON object has choices, or a table the columns of SWAG."""
    first = text.partition("\n")[0]
    return "choices" in _object(first) or bool(re.search(r"\bending0\b.*\bending1\b", first))


def _object(text: str) -> dict[str, Any]:
    """Return the JSON object in a text, or an empty one if there is none."""
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return {}
    return value if isinstance(value, dict) else {}


def _are_scores(labels: list[Any]) -> bool:
    """Tell whether labels are numbers with many distinct values."""
    distinct = set(labels)
    if len(distinct) <= MAX_CLASSES:
        return False
    try:
        for label in distinct:
            float(str(label))
    except ValueError:
        return False
    return True


def _settings(config: BenchmarkSuiteConfig, data_set: DataSet) -> FinetuneConfig:
    return FinetuneConfig(
        task=data_set.task,
        metric=data_set.metric,
        model=config.model,
        train_file=data_set.train_file,
        eval_file=data_set.eval_file,
        output_dir=str(Path(config.output_dir) / data_set.name),
        seeds=config.seeds,
        num_train_epochs=config.num_train_epochs,
        learning_rate=config.learning_rate,
        train_batch_size=config.train_batch_size,
        max_seq_length=config.max_seq_length,
        device=config.device,
        dtype=config.dtype,
        num_threads=config.num_threads,
    )
