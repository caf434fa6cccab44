"""Every set of a folder is found with its task and metric, run, and summed up.
Runs anywhere: `pytest tests/finetuning/test_benchmark_suite.py`."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from bert_scratch.config import InputError
from bert_scratch.finetuning.benchmark_suite import (
    BenchmarkSuiteConfig,
    find_sets,
    run_benchmark_suite,
)
from bert_scratch.finetuning.finetune_config import FinetuneConfig

Make = Callable[..., FinetuneConfig]


@pytest.fixture
def suite(settings: Make, tmp_path: Path) -> Path:
    """Two small sets in GLUE's layout: one of labels, one of scores."""
    asked, folder = settings(), tmp_path / "suite"
    (folder / "CoLA").mkdir(parents=True)
    shutil.copy(asked.train_file, folder / "CoLA" / "train.tsv")
    shutil.copy(asked.eval_file, folder / "CoLA" / "dev.tsv")
    (folder / "STS").mkdir()
    for name in ("train", "validation"):
        lines = "".join(f"a film\tis {'good ' * (n % 5)}\t{n / 20}\n" for n in range(60))
        (folder / "STS" / f"{name}.tsv").write_text(f"sentence1\tsentence2\tscore\n{lines}")
    (folder / "notes").mkdir()
    return folder


def config(suite: Path, model: Path, out: Path, **changes: object) -> BenchmarkSuiteConfig:
    values = {
        "folder": str(suite),
        "model": str(model),
        "output_dir": str(out),
        "seeds": (1, 2),
        "num_train_epochs": 1,
        "max_seq_length": 24,
        "num_threads": 1,
        "device": "cpu",
    }
    return BenchmarkSuiteConfig(**(values | changes))  # type: ignore[arg-type]


def test_each_set_is_run_and_summed_up(
    suite: Path, folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run_benchmark_suite(config(suite, folder, tmp_path / "out"))
    sets = json.loads((tmp_path / "out" / "suite.json").read_text())["sets"]
    assert {name: (row["task"], row["metric"]) for name, row in sets.items()} == {
        "CoLA": ("classification", "matthews_corrcoef"),
        "STS": ("regression", "pearson"),
    }
    scores = [row["matthews_corrcoef"] for row in sets["CoLA"]["seeds"].values()]
    assert len(scores) == 2 and sets["CoLA"]["mean"] == pytest.approx(sum(scores) / 2)
    table = capsys.readouterr().out.splitlines()[-4:]
    assert [line.split()[0] for line in table] == ["set", "CoLA", "STS", "mean"]


def test_some_sets_run_again_leave_the_others_in_the_file(
    suite: Path, folder: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    run_benchmark_suite(config(suite, folder, out))
    before = (out / "suite.json").read_text()
    run_benchmark_suite(config(suite, folder, out, sets=("STS",)))
    assert (out / "suite.json").read_text() == before


def test_entities_and_questions_are_found_and_measured_by_f1(folder: Path, tmp_path: Path) -> None:
    columns = "a O\nfilm B-X\n\ngood O\nplot B-X\n"
    rows = "text_a\tlabel\na film\tO B-X\ngood plot\tO B-X\n"
    spans = '{"text": "a film", "label": {"X": {"film": [[2, 5]]}}}\n'
    question = {"id": "1", "question": "was", "answers": [{"text": "good", "answer_start": 2}]}
    paragraph = {"context": "a good film", "qas": [question]}
    document = json.dumps({"version": "1.1", "data": [{"paragraphs": [paragraph]}]}, indent=1)
    files = {
        "columns": ("train.char.bmes", "dev.char.bmes", columns),
        "rows": ("train.tsv", "dev.tsv", rows),
        "spans": ("train.json", "dev.json", spans),
        "squad": ("train-v1.1.json", "dev-v1.1.json", document),
    }
    for name, (train, held_out, text) in files.items():
        (tmp_path / "suite" / name).mkdir(parents=True)
        for file in (train, held_out):
            (tmp_path / "suite" / name / file).write_text(text)
    run_benchmark_suite(config(tmp_path / "suite", folder, tmp_path / "out", seeds=(1,)))
    sets = json.loads((tmp_path / "out" / "suite.json").read_text())["sets"]
    kinds = dict.fromkeys(("columns", "rows", "spans"), "token-classification")
    kinds["squad"] = "question-answering"
    assert {name: row["task"] for name, row in sets.items()} == kinds
    assert {row["metric"] for row in sets.values()} == {"f1"}


def test_choices_and_words_with_any_column_of_tags_are_found(folder: Path, tmp_path: Path) -> None:
    ways = {
        "choices": (
            "jsonl",
            '{"context": "a", "question": "b", "choices": ["c", "d"], "label": 0}',
        ),
        "swag": ("csv", "sent1,sent2,ending0,ending1,label\na,b,c,d,0"),
        "hub": ("jsonl", '{"tokens": ["a", "film"], "ner_tags": ["O", "B-X"]}'),
    }
    for name, (ending, content) in ways.items():
        (tmp_path / name).mkdir()
        for part in ("train", "dev"):
            (tmp_path / name / f"{part}.{ending}").write_text(f"{content}\n")
    found = find_sets(config(tmp_path, folder, tmp_path / "out"))
    assert {each.name: each.task for each in found} == {
        "choices": "multiple-choice",
        "swag": "multiple-choice",
        "hub": "token-classification",
    }


def test_a_set_that_was_not_asked_for_is_not_read(
    suite: Path, folder: Path, tmp_path: Path
) -> None:
    (suite / "broken").mkdir()
    for part in ("train", "dev"):
        (suite / "broken" / f"{part}.tsv").write_text("one\ttwo\n1\t2\n")
    asked = config(suite, folder, tmp_path / "out", sets=("STS",))
    assert [each.name for each in find_sets(asked)] == ["STS"]


def test_a_set_that_is_not_there_is_answered_with_those_that_are(
    suite: Path, folder: Path, tmp_path: Path
) -> None:
    with pytest.raises(InputError, match=r"has CoLA, STS \(did you mean 'CoLA'"):
        find_sets(config(suite, folder, tmp_path, sets=("CoL",)))
    with pytest.raises(InputError, match=r"holds no data set"):
        find_sets(config(suite / "notes", folder, tmp_path))


@pytest.mark.parametrize("unknown", ["train", "dev"])
def test_columns_of_unknown_names_are_answered_with_what_the_suite_can_do(
    unknown: str, suite: Path, folder: Path, tmp_path: Path
) -> None:
    file = suite / "CoLA" / f"{unknown}.tsv"
    file.write_text(file.read_text().replace("sentence\t", "words\t", 1))
    message = rf"{unknown}.tsv: has columns words, label; call them .* or use finetune"
    with pytest.raises(InputError, match=message) as raised:
        run_benchmark_suite(config(suite, folder, tmp_path / "out", sets=("CoLA",)))
    assert "-column" not in str(raised.value)


def test_a_file_that_is_no_suite_is_refused(suite: Path, folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    (out / "suite.json").write_text(json.dumps({"model": str(folder)}))
    with pytest.raises(InputError, match=r"suite.json: is not what benchmark-suite writes"):
        run_benchmark_suite(config(suite, folder, out))
