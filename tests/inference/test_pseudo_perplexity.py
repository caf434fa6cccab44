"""Pins pseudo-perplexity: the exponential of the mean loss, per text and over all, and the command.
Run alone: `pytest tests/inference/test_pseudo_perplexity.py`."""

from __future__ import annotations

import io
import json
import math
from pathlib import Path

import pytest
from tokenizers import Tokenizer

from bert_scratch import cli, pseudo_log_likelihoods, pseudo_perplexities
from bert_scratch.model.heads import BertForPreTraining

TEXTS = ["the cat sees a believers", "", "x y z"]


@pytest.mark.parametrize("left_to_right", [True, False])
def test_is_the_exponential_of_the_mean_loss(
    left_to_right: bool, model: BertForPreTraining, tokenizer: Tokenizer
) -> None:
    choice = {"within_word_left_to_right": left_to_right}
    parts = pseudo_log_likelihoods(model, tokenizer, TEXTS, **choice)
    for found, values in zip(
        pseudo_perplexities(model, tokenizer, TEXTS, **choice), parts, strict=True
    ):
        assert found.num_tokens == len(values)
        assert math.isclose(found.pseudo_log_likelihood, values.sum(), abs_tol=1e-4)
        if len(values):
            assert found.pseudo_perplexity is not None
            assert math.isclose(found.pseudo_perplexity, math.exp(-values.mean()), rel_tol=1e-4)
        else:
            assert found.pseudo_perplexity is None


def run(folder: Path, *flags: str) -> int:
    return cli.main(["pseudo-perplexity", "--model", str(folder), *flags])


def test_command_prints_each_text_and_all_of_them(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(folder, "--text", "the cat sees", "x y") == 0
    first, second, overall = capsys.readouterr().out.splitlines()
    assert first.endswith("  the cat sees") and second.endswith("  x y")
    assert overall.endswith("  2 texts, 5 tokens")
    logs = [math.log(float(line.split()[0])) for line in (first, second, overall)]
    assert math.isclose(3 * logs[0] + 2 * logs[1], 5 * logs[2], rel_tol=1e-3)


def test_command_reads_lines_and_prints_json(
    folder: Path,
    model: BertForPreTraining,
    tokenizer: Tokenizer,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO("believers\nthe cat\n"))
    assert run(folder, "--text", "-", "--json", "--no-within-word-left-to-right") == 0
    first, second = map(json.loads, capsys.readouterr().out.splitlines())
    (expected, _) = pseudo_perplexities(
        model, tokenizer, ["believers", "the cat"], within_word_left_to_right=False
    )
    assert first["text"] == "believers" and second["num_tokens"] == 2
    assert math.isclose(first["pseudo_perplexity"], expected.pseudo_perplexity or 0, rel_tol=1e-5)


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ([], "give --text TEXT..., or --input FILE"),
        (["--input", "none.txt"], "--input none.txt: does not exist"),
        (["--text", "x", "--tokens-per-batch", "0"], "--tokens-per-batch must be >= 1"),
        (["--input", "/"], "--input /: is a folder"),
        (["--input", "/dev/null"], "--input /dev/null: holds no text"),
    ],
)
def test_wrong_input_is_one_line(
    flags: list[str], message: str, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(folder, *flags) == 2
    error = capsys.readouterr().err
    assert message in error and error.count("\n") == 1
