"""`predict` answers files, lines and pairs, with one model or the average of several.
Runs anywhere: `pytest tests/finetuning/test_predict.py`."""

from __future__ import annotations

import io
import itertools
import json
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from bert_scratch.config import InputError, flag_of
from bert_scratch.finetuning.finetune import finetune
from bert_scratch.finetuning.finetune_config import FinetuneConfig
from bert_scratch.finetuning.predict import (
    PredictConfig,
    _alike,
    load_trained_task,
    predict,
    run_predict,
)
from bert_scratch.finetuning.task_settings import TaskSettings
from bert_scratch.model.pretrained_model import PretrainedModel
from bert_scratch.model.task_heads import (
    BertForQuestionAnswering,
    BertForSequenceClassification,
    BertForTokenClassification,
)

Make = Callable[..., FinetuneConfig]
Write = Callable[[str, str], str]


@pytest.fixture
def model(settings: Make) -> str:
    return str(finetune(settings("one", num_train_epochs=1)).folder)


def test_answers_are_those_of_the_run(settings: Make) -> None:
    asked = settings(num_train_epochs=2)
    folder = str(finetune(asked).folder)
    assert asked.test_file is not None
    records = predict(PredictConfig(model=(folder,), input=asked.test_file))
    written = (Path(asked.output_dir) / "test_predictions.jsonl").read_text()
    assert records == [json.loads(line) for line in written.splitlines()]


def test_labels_of_the_input_are_not_looked_at(model: str, write: Write) -> None:
    file = write("in.tsv", "sentence\tlabel\na good film\tunknown\n")
    (record,) = predict(PredictConfig(model=(model,), input=file))
    assert record["label"] in ("0", "1") and record["text"] == "a good film"
    assert sum(record["probabilities"].values()) == pytest.approx(1, abs=1e-5)


def test_lines_of_standard_input_are_answered_on_standard_output(
    model: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    stdin = io.TextIOWrapper(io.BytesIO(b"a good film\nthe plot is bad\n"))
    monkeypatch.setattr(sys, "stdin", stdin)
    capsys.readouterr()
    run_predict(PredictConfig(model=(model,), input="-"))
    lines = capsys.readouterr().out.splitlines()
    assert [json.loads(line)["text"] for line in lines] == ["a good film", "the plot is bad"]


@pytest.mark.parametrize(
    ("model_class", "labels", "task", "known"),
    [
        (BertForSequenceClassification, None, "classification", ("LABEL_0", "LABEL_1")),
        (BertForSequenceClassification, {0: "LABEL_0"}, "regression", ("LABEL_0",)),
        (BertForTokenClassification, {0: "O", 1: "I-PER"}, "token-classification", ("O", "I-PER")),
        (BertForQuestionAnswering, None, "question-answering", ("LABEL_0", "LABEL_1")),
    ],
)
def test_a_folder_of_transformers_is_used_for_the_task_of_its_class(
    model_class: type[PretrainedModel],
    labels: dict[int, str] | None,
    task: str,
    known: tuple[str, ...],
    folder: Path,
    tmp_path: Path,
) -> None:
    made = model_class.from_pretrained(folder, new_head=True, id2label=labels)
    made.save_pretrained(tmp_path / "model")
    found = load_trained_task(tmp_path / "model")
    assert found.settings.task == task and tuple(found.labels) == known


def test_a_pretrained_model_has_no_task(folder: Path) -> None:
    with pytest.raises(InputError, match=r"is not a fine-tuned model: it has no task.json"):
        load_trained_task(folder)


def test_a_table_has_a_column_for_each_probability(
    model: str, write: Write, tmp_path: Path
) -> None:
    out = tmp_path / "out.tsv"
    run_predict(PredictConfig(model=(model,), input=write("in.txt", "a film"), output=str(out)))
    head, line = out.read_text().splitlines()
    assert head.split("\t") == ["label", "probabilities.0", "probabilities.1", "text"]
    assert line.endswith("\ta film")


def test_a_name_that_tells_no_format_is_refused_before_any_work(write: Write) -> None:
    config = PredictConfig(model=("nowhere",), input=write("in.txt", "a film"), output="out.csv")
    with pytest.raises(InputError, match=r"--output out.csv: must end in .jsonl, .tsv or .conll"):
        run_predict(config)


def test_a_place_that_cannot_be_written_is_refused_before_any_work(
    write: Write, tmp_path: Path
) -> None:
    file = write("in.txt", "a film")
    config = PredictConfig(model=("nowhere",), input=file, output=f"{file}/out.tsv")
    with pytest.raises(InputError, match=r"--output .*in.txt/out.tsv: cannot be written"):
        run_predict(config)
    beside = tmp_path / "new" / "out.tsv"
    with pytest.raises(InputError, match=r"nowhere"):
        run_predict(PredictConfig(model=("nowhere",), input=file, output=str(beside)))
    assert beside.parent.is_dir() and not beside.exists()


def test_two_models_together_are_between_them(settings: Make, write: Write) -> None:
    models = [str(finetune(settings(f"s{n}", seed=n, num_train_epochs=1)).folder) for n in (1, 2)]
    file = write("in.txt", "a good film was bad")

    def share(*folders: str) -> float:
        record = predict(PredictConfig(model=folders, input=file))[0]
        value: float = record["probabilities"]["1"]
        return value

    low, high = sorted(share(model) for model in models)
    assert low < share(*models) < high


@pytest.mark.parametrize("is_first", [True, False])
@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"max_seq_length": 12}, r"trained on rows of \d+ tokens, .* on rows of \d+; predict"),
        ({"has_pairs": True}, r"was trained on pairs of texts, the other on single texts"),
    ],
)
def test_models_whose_rows_differ_are_refused_in_either_order(
    model: str,
    write: Write,
    tmp_path: Path,
    changes: dict[str, Any],
    message: str,
    is_first: bool,
) -> None:
    other = shutil.copytree(model, tmp_path / "other")
    kept = json.loads((other / "task.json").read_text())
    assert (kept["max_seq_length"], kept["has_pairs"]) == (24, False)
    (other / "task.json").write_text(json.dumps(kept | changes))
    models = (str(other), model) if is_first else (model, str(other))
    with pytest.raises(InputError, match=message) as refused:
        predict(PredictConfig(model=models, input=write("in.txt", "a film")))
    assert all(name in str(refused.value) for name in models)


def test_columns_are_refused_where_there_are_none(model: str, write: Write) -> None:
    lines, pairs = write("in.txt", "a film"), write("in.tsv", "sentence1\tsentence2\na\tfilm\n")
    for name in ("text_column", "text_pair_column"):
        asked = PredictConfig(model=(model,), input=lines, **{name: "foo"})  # type: ignore[arg-type]
        with pytest.raises(InputError, match=f"in.txt: has no header.*{flag_of(name)} foo is not"):
            predict(asked)
    with pytest.raises(InputError, match=r"in.tsv: has pairs of texts, but the model is trained"):
        predict(PredictConfig(model=(model,), input=pairs))
    assert predict(PredictConfig(model=(model,), input=pairs, text_column="sentence2"))


@pytest.mark.parametrize(
    ("task", "flag"),
    [
        ("multiple-choice", "--text-column"),
        ("question-answering", "--text-column"),
        ("question-answering", "--text-pair-column"),
        ("token-classification", "--text-pair-column"),
    ],
)
def test_columns_are_refused_by_a_task_that_reads_none(
    folder: Path, write: Write, tmp_path: Path, task: str, flag: str
) -> None:
    other = shutil.copytree(folder, tmp_path / "other")
    (other / "task.json").write_text(json.dumps({"task": task}))
    name = flag.removeprefix("--").replace("-", "_")
    asked = PredictConfig(model=(str(other),), input=write("in.txt", ""), **{name: "foo"})  # type: ignore[arg-type]
    with pytest.raises(InputError, match=f"{flag} has no effect with .*, a model for {task}"):
        predict(asked)


def test_a_model_that_was_not_fine_tuned_is_refused(folder: Path, write: Write) -> None:
    with pytest.raises(InputError, match=r"is not a fine-tuned model"):
        predict(PredictConfig(model=(str(folder),), input=write("in.txt", "a film")))


@pytest.mark.parametrize("is_first", [True, False])
@pytest.mark.parametrize(
    ("task", "changes", "shown"),
    [
        ("classification", {"long_text": "window"}, ("with --long-text window", "truncate")),
        ("classification", {"text_column": "b"}, ("with --text-column b", "without --text-column")),
        ("classification", {"multi_label": True}, ("with --multi-label", "without --multi-label")),
        ("token-classification", {"doc_stride": 3}, ("with --doc-stride 3", "without --doc")),
        ("token-classification", {"label_column": ["2"]}, ("with --label-column 2", "without --l")),
        ("question-answering", {"doc_stride": 5}, ("with --doc-stride 5", "without --doc-stride")),
    ],
)
def test_models_that_read_or_answer_differently_are_refused_in_either_order(
    folder: Path,
    write: Write,
    tmp_path: Path,
    task: str,
    changes: dict[str, Any],
    shown: tuple[str, str],
    is_first: bool,
) -> None:
    models = []
    for name, values in (("changed", changes), ("plain", {})):
        model = shutil.copytree(folder, tmp_path / name)
        (model / "task.json").write_text(json.dumps({"task": task} | values))
        models.append(str(model))
    asked = PredictConfig(
        model=tuple(models if is_first else reversed(models)), input=write("in.txt", "a film")
    )
    with pytest.raises(
        InputError, match="predict with each separately, train both alike"
    ) as refused:
        predict(asked)
    assert all(part in str(refused.value) for part in (*models, *shown))


def test_differences_without_effect_on_answers_are_no_obstacle(
    model: str, write: Write, tmp_path: Path
) -> None:
    other = shutil.copytree(model, tmp_path / "other")
    kept = json.loads((other / "task.json").read_text())
    changes = {"label_column": ["stars"], "class_weights": "balanced", "text_column": "review"}
    (other / "task.json").write_text(json.dumps(kept | changes))
    file = write("in.tsv", "words\nlabel\na film\n")
    for models in ((str(other), model), (model, str(other))):
        assert predict(PredictConfig(model=models, input=file, text_column="words"))
        with pytest.raises(InputError, match=r"both alike, or name it here with --text-column"):
            predict(PredictConfig(model=models, input=file))


def test_answers_are_chosen_by_the_largest_limits_in_any_order(
    folder: Path, tmp_path: Path
) -> None:
    """Training finds these limits in its file, so two folds of a set differ in them."""
    models = []
    for number, (length, threshold) in enumerate(((31, None), (44, 0.0), (None, -1.0))):
        model = shutil.copytree(folder, tmp_path / str(number))
        limits = {"max_answer_length": length, "null_score_threshold": threshold}
        (model / "task.json").write_text(json.dumps({"task": "question-answering"} | limits))
        models.append(model)
    for order in itertools.permutations(models):
        asked = PredictConfig(model=tuple(map(str, order)), input="-")
        settings = _alike(order, load_trained_task(order[0]), asked)
        assert (settings.max_answer_length, settings.null_score_threshold) == (44, 0.0)
        assert settings.n_best_size == TaskSettings.n_best_size


def test_pairs_known_to_any_of_the_models_count_in_any_order(
    model: str, write: Write, tmp_path: Path
) -> None:
    models = {}
    for name, has_pairs in (("older", None), ("single", False), ("pairs", True)):
        models[name] = str(shutil.copytree(model, tmp_path / name))
        file = Path(models[name]) / "task.json"
        file.write_text(json.dumps(json.loads(file.read_text()) | {"has_pairs": has_pairs}))
    file_of_pairs = write("in.tsv", "sentence1\tsentence2\na\tfilm\n")
    for names in (("older", "single"), ("single", "older")):
        asked = PredictConfig(model=tuple(models[n] for n in names), input=file_of_pairs)
        with pytest.raises(InputError, match=r"has pairs of texts, but the model is trained on s"):
            predict(asked)
    for names in itertools.permutations(models):
        asked = PredictConfig(model=tuple(models[n] for n in names), input=file_of_pairs)
        with pytest.raises(InputError, match=r"was trained on pairs of texts, the other on s"):
            predict(asked)


def test_a_tagger_of_a_table_answers_lines_of_text(settings: Make, write: Write) -> None:
    table = write("t.tsv", "words\tner\na good film\tO B-WORD O\nbad plot\tB-WORD O\n")
    asked = settings(
        task="token-classification",
        train_file=table,
        eval_file=table,
        test_file=None,
        num_train_epochs=1,
        text_column="words",
        label_column=("ner",),
    )
    model = (str(finetune(asked).folder),)
    lines = write("in.txt", "a good film\n\nthe plot was bad\n")
    records = predict(PredictConfig(model=model, input=lines))
    assert [record["text"] for record in records] == ["a good film", "", "the plot was bad"]
    assert [len(record["tags"]) for record in records] == [3, 0, 4]
    assert [record["text"] for record in predict(PredictConfig(model=model, input=table))] == [
        "a good film",
        "bad plot",
    ]
