"""`predict` answers files, lines and pairs, with one model or the average of several.
Runs anywhere: `pytest tests/finetuning/test_predict.py`."""

from __future__ import annotations

import io
import json
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from bert_scratch.config import InputError
from bert_scratch.finetuning.finetune import finetune
from bert_scratch.finetuning.finetune_config import FinetuneConfig
from bert_scratch.finetuning.predict import PredictConfig, predict, run_predict

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


def test_a_model_that_was_not_fine_tuned_is_refused(folder: Path, write: Write) -> None:
    with pytest.raises(InputError, match=r"is no fine-tuned model"):
        predict(PredictConfig(model=(str(folder),), input=write("in.txt", "a film")))
