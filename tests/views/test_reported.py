"""Pins that a run writes its report along the way, and that a failing one never ends it.
CPU only, one tiny run: `pytest tests/views/test_reported.py`."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import bert_scratch
from bert_scratch.config import InputError
from bert_scratch.pretraining.pretrain_config import PretrainConfig
from bert_scratch.views import reported
from bert_scratch.views.reported import ReportAlong

SENTENCES = ["the cat sees a dog in the big garden of the house .", "a dog finds the cat there ."]


@pytest.fixture
def config(tmp_path: Path) -> PretrainConfig:
    corpus = tmp_path / "texts.txt"
    documents = ["\n".join(f"{word} {s}" for s in SENTENCES * 3) for word in "abcdefghijklmnopqrst"]
    corpus.write_text("\n\n".join(documents))
    return PretrainConfig(
        corpus=(str(corpus),), documents="blank-lines", output_dir=str(tmp_path / "run"),
        vocab_size=90, eval_fraction=0.2, num_processes=1, hidden_size=16, num_hidden_layers=1,
        num_attention_heads=2, intermediate_size=32, max_position_embeddings=32, max_seq_length=32,
        train_batch_size=4, num_train_steps=4, num_warmup_steps=1, learning_rate=1e-3,
        logging_steps=2, eval_steps=2, save_steps=2, device="cpu", dtype="float32", num_threads=1,
    )  # fmt: skip


def test_run_leaves_a_report_of_its_norms_and_fill_ins(
    config: PretrainConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    states: list[str] = []

    class Watched(ReportAlong):
        def __call__(self, folder: Path) -> None:
            super().__call__(folder)
            page = folder / "report.html"
            states.append(page.read_text().split('class="state ')[1].split('"')[0])

    monkeypatch.setattr(reported, "ReportAlong", Watched)
    bert_scratch.pretrain(config)
    folder = Path(str(config.output_dir))
    assert states == ["running", "running", "running", "done"]
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    train = [line for line in lines if line["split"] == "train"]
    for line in train:
        parts = [v for name, v in line.items() if name.startswith("grad_norm/")]
        assert len(parts) == 6
        assert sum(part**2 for part in parts) ** 0.5 == pytest.approx(line["grad_norm"], rel=1e-4)
        assert line["weight_norm/layers.0.attention"] > 0
    said = [json.loads(line) for line in (folder / "fill_ins.jsonl").read_text().splitlines()]
    assert [line["step"] for line in said] == [0, 2]
    hidden = [[s["hidden"] for s in line["sentences"]] for line in said]
    assert hidden[0] == hidden[1] and len(hidden[0]) > 0


def test_report_that_fails_is_said_once_and_the_run_ends_well(
    config: PretrainConfig, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(_: object) -> str:
        raise ValueError("no room")

    monkeypatch.setattr(reported, "report_page", fail)
    result = bert_scratch.pretrain(config)
    assert result is not None and result.num_train_steps == 4
    assert (
        capsys.readouterr().err.count("report.html was not written; the run continues: no room")
        == 1
    )


def test_missing_tracker_is_refused_before_any_work(config: PretrainConfig) -> None:
    with pytest.raises(InputError, match="pip install trackio"):
        bert_scratch.pretrain(config.replace(report_to=("trackio",)))
    assert not Path(str(config.output_dir)).exists()


def test_unknown_tracker_is_refused(config: PretrainConfig) -> None:
    with pytest.raises(InputError, match="--report-to.*tensorbord"):
        config.replace(report_to=("tensorbord",))
