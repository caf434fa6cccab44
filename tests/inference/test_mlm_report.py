"""Pins how masked tokens are grouped, and the report's page and JSON. CPU, needs matplotlib:
`pytest tests/inference/test_mlm_report.py`."""

from __future__ import annotations

import copy
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from tokenizers import Tokenizer

from bert_scratch import cli
from bert_scratch.inference.mlm_report import (
    PARTS,
    MlmReport,
    MlmReportConfig,
    calibration_error,
    masked_tokens,
    mlm_report,
    token_counts,
)
from bert_scratch.model.heads import BertForMaskedLM
from bert_scratch.views.mlm_page import mlm_page

NOUNS = "cat dog garden believables".split()
SENTENCES = [
    f"The {NOUNS[n % 4]} sees a {NOUNS[n * n % 4]} in the house number {n}." for n in range(200)
]


@pytest.fixture(scope="module")
def text(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("mlm") / "text.txt"
    documents = ["\n".join(SENTENCES[start : start + 5]) for start in range(0, 200, 5)]
    path.write_text("\n\n".join(documents))
    return path


@pytest.fixture(scope="module")
def report(folder: Path, text: Path) -> MlmReport:
    return mlm_report(MlmReportConfig(model=str(folder), text=str(text), num_lines=60))


def test_groups_hold_each_token_once(report: MlmReport) -> None:
    whole = report.whole
    for groups in (report.by_part, report.by_place, report.by_confidence, report.by_frequency):
        assert abs(sum(group.num_tokens for group in groups) - whole.num_tokens) <= len(groups)
    for groups in (report.by_part, report.by_place):
        sums = sum(group.num_tokens * group.loss for group in groups)
        num_tokens = sum(group.num_tokens for group in groups)
        assert sums / num_tokens == pytest.approx(whole.loss, rel=0.02)


def test_guesses_and_parts_are_those_of_the_tokens(folder: Path, tokenizer: Tokenizer) -> None:
    model = copy.deepcopy(BertForMaskedLM.from_pretrained(folder))
    with torch.no_grad():
        model.mlm_head.decoder.bias[tokenizer.token_to_id("##able")] += 1000
    counts = token_counts(tokenizer, SENTENCES)
    found = masked_tokens(
        model, tokenizer, SENTENCES, counts, seed=1, progress=lambda done, total: None
    )
    is_middle = found.part == PARTS.index("middle piece")
    assert is_middle.any() and (found.is_right == is_middle).all()
    assert (found.count[is_middle] == counts[tokenizer.token_to_id("##able")]).all()
    assert (found.place[is_middle] >= 3).all()
    assert {PARTS[n] for n in np.unique(found.part)} == set(PARTS)


def test_unknown_tokens_are_never_masked(folder: Path, tokenizer: Tokenizer) -> None:
    counts = token_counts(tokenizer, ["q"] * 1000)
    assert counts.sum() == 1000  # each one is [UNK]
    model = BertForMaskedLM.from_pretrained(folder)
    sentences = ["the q q q q q q q", "q q"]
    found = masked_tokens(
        model, tokenizer, sentences * 9, counts, seed=1, progress=lambda done, total: None
    )
    assert len(found.loss) == 9 and (found.count == 0).all()


def test_calibration_error_is_the_gap_in_each_tenth() -> None:
    confidence = np.repeat([0.25, 0.75], 100)
    is_right = np.tile(np.arange(100) < 25, 2)
    assert calibration_error(confidence, is_right) == pytest.approx(0.25)
    is_right[100:] = np.arange(100) < 75
    assert calibration_error(confidence, is_right) == pytest.approx(0)
    # one tenth too sure and one too modest do not cancel
    is_right = np.concatenate([np.arange(100) < 50, np.arange(100) < 50])
    assert calibration_error(confidence, is_right) == pytest.approx(0.25)


def test_page_is_the_same_for_the_same_report_and_draws_each_part(report: MlmReport) -> None:
    pytest.importorskip("matplotlib")
    first, second = mlm_page(report), mlm_page(report)
    assert first == second
    assert first.count("<svg") >= 3 and "<script" not in first


def test_command_writes_json_and_page(
    folder: Path, text: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], report: MlmReport
) -> None:
    pytest.importorskip("matplotlib")
    place = ["--model", str(folder), "--text", str(text), "--num-lines", "60"]
    page = tmp_path / "page.html"
    assert cli.main(["mlm-report", *place, "--json", "--output-html", str(page)]) == 0
    assert json.loads(capsys.readouterr().out) == json.loads(json.dumps(report.to_dict()))
    assert page.read_text() == mlm_page(report)
    assert cli.main(["mlm-report", *place]) == 0
    assert "part of the word" in capsys.readouterr().out


def test_page_that_cannot_be_written_is_refused_first(
    folder: Path, text: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("matplotlib")
    place = ["--model", str(folder), "--text", str(text), "--output-html", f"{text}/page.html"]
    assert cli.main(["mlm-report", *place]) == 2
    error = capsys.readouterr().err
    assert f"--output-html {text}/page.html: cannot be written" in error and error.count("\n") == 1


@pytest.fixture
def unknown_text(tmp_path: Path) -> Path:
    path = tmp_path / "unknown.txt"
    path.write_text("\n\n".join("\n".join(["q q q q q q q q q"] * 4) for _ in range(30)))
    return path


def test_text_of_unknown_tokens_is_refused_in_one_line(
    folder: Path, unknown_text: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["mlm-report", "--model", str(folder), "--text", str(unknown_text)]) == 2
    error = capsys.readouterr().err
    assert f"--text {unknown_text}: no token of its sentences can be masked" in error
    assert error.count("\n") == 1


def test_text_too_short_is_named(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "short.txt"
    path.write_text("The cat sees a dog.")
    for command in ("mlm-report", "score"):
        assert cli.main([command, "--model", str(folder), "--text", str(path)]) == 2
        assert f"--text {path}: has 1 sentences of 5 words" in capsys.readouterr().err


def test_pass_without_a_masked_token_is_answered_like_the_others(
    folder: Path, tokenizer: Tokenizer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bert_scratch.inference.masked_guesses._TOKENS_PER_BATCH", 8)
    model = BertForMaskedLM.from_pretrained(folder)
    counts = token_counts(tokenizer, SENTENCES)
    sentences = ["the cat sees", "q q q q q q q q", "q q q"]  # a pass each
    found = masked_tokens(
        model, tokenizer, sentences, counts, seed=1, progress=lambda done, total: None
    )
    assert len(found.loss) == 1 and np.isfinite(found.loss).all()


def test_single_document_has_no_frequencies_to_report(
    folder: Path, text: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("matplotlib")
    page = tmp_path / "page.html"
    place = ["--model", str(folder), "--text", str(text), "--documents", "files"]
    assert cli.main(["mlm-report", *place, "--output-html", str(page)]) == 0
    said = "Frequencies and the loss of counts are left out: the text is one document"
    for shown in (capsys.readouterr().out, page.read_text()):
        assert said in shown and "part of the word" in shown
        assert "loss of counts  " not in shown and "times in the rest" not in shown
        assert "loss of counts</th>" not in shown
    assert cli.main(["mlm-report", *place, "--json"]) == 0
    values = json.loads(capsys.readouterr().out)
    assert values["num_counted_tokens"] == 0 and "by_frequency" not in values
    assert "count_loss" not in values["whole"] and "count_loss" not in values["by_part"][0]
