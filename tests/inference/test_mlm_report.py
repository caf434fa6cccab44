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
    path.write_text("\n".join(SENTENCES))
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
