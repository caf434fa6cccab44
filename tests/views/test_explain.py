"""Pins what `explain` writes: the numbers of the analyses, one inert file, clear refusals.
Run alone: `pytest tests/views/test_explain.py`.
"""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tokenizers import Tokenizer

from bert_scratch.cli import main
from bert_scratch.inference.attention_maps import attention_maps
from bert_scratch.inference.fill_mask import fill_mask
from bert_scratch.inference.next_sentence import next_sentence
from bert_scratch.model.heads import BertForPreTraining
from bert_scratch.views.explain import explain_page
from bert_scratch.views.explain_data import explanation, packed
from bert_scratch.views.page import data_block

TEXT = "the cat [MASK] a dog"
SCRIPT = "</script><script>alert(1)</script><!-- & ' \""

Run = Callable[..., tuple[int, str, str]]


def unpacked(array: dict[str, Any]) -> np.ndarray:
    steps = np.frombuffer(base64.b64decode(array["data"]), "<u2").astype(np.float64)
    values = array["low"] + steps / 65535 * (array["high"] - array["low"])
    return values.reshape(array["shape"])


@pytest.fixture(scope="module")
def values(model: BertForPreTraining, tokenizer: Tokenizer) -> dict[str, Any]:
    return explanation(model, tokenizer, TEXT, "in 北京", num_steps=4)


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Run:
    def call(*arguments: object) -> tuple[int, str, str]:
        code = main([str(argument) for argument in arguments])
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return call


def test_packed_values_come_back() -> None:
    torch.manual_seed(0)
    for given in (torch.randn(3, 4, 5), torch.zeros(2, 2), torch.tensor([-2.0, 7.0])):
        step = float(given.max() - given.min()) / 65535
        np.testing.assert_allclose(unpacked(packed(given)), given.numpy(), atol=step)


def test_page_holds_the_numbers_of_the_analyses(
    values: dict[str, Any], model: BertForPreTraining, tokenizer: Tokenizer
) -> None:
    maps = attention_maps(model, tokenizer, TEXT, "in 北京")
    assert values["tokens"] == maps.tokens
    assert values["segments"] == maps.token_type_ids
    assert values["masks"] == [maps.tokens.index("[MASK]")]
    np.testing.assert_allclose(unpacked(values["attention"]), maps.weights.numpy(), atol=1e-5)


def test_verdict_on_a_pair_is_that_of_next_sentence(
    model: BertForPreTraining, tokenizer: Tokenizer
) -> None:
    values = explanation(model, tokenizer, "the cat", "in 北京", num_steps=1)
    expected = next_sentence(model, tokenizer, "the cat", "in 北京").is_next
    assert values["is_next"] == pytest.approx(expected, abs=1e-6)


def test_no_verdict_is_shown_of_a_head_that_never_learned_next_sentence(
    model_folder: Path, tokenizer: Tokenizer
) -> None:
    other = BertForPreTraining.from_pretrained(model_folder, pair_task="sop")
    values = explanation(other, tokenizer, "the cat", "in 北京", num_steps=1)
    assert "is_next" not in values


def test_guesses_at_a_mask_are_those_of_fill_mask(
    model: BertForPreTraining, tokenizer: Tokenizer
) -> None:
    values = explanation(model, tokenizer, TEXT, None, num_steps=2)
    (expected,) = fill_mask(model, tokenizer, TEXT, top_k=6)
    hidden = values["hidden"]
    row = hidden["positions"].index(values["masks"][0])
    names = np.array(hidden["names"]).reshape(hidden["scores"]["shape"])[row, -1]
    assert [values["names"][place] for place in names] == [guess.token for guess in expected]
    shares = unpacked(hidden["scores"])[row, -1]
    np.testing.assert_allclose(shares, [guess.score for guess in expected], atol=1e-4)
    assert values["attribution"]["positions"] == values["masks"]


def test_text_without_masks_is_explained_at_each_token(
    model: BertForPreTraining, tokenizer: Tokenizer
) -> None:
    values = explanation(model, tokenizer, "the cat sees", None, num_steps=2)
    assert values["attribution"]["positions"] == values["hidden"]["positions"] == [1, 2, 3]
    assert values["attribution"]["integrated"]["shape"] == [3, 5]


def test_encoder_alone_is_shown_without_predictions(
    model: BertForPreTraining, tokenizer: Tokenizer
) -> None:
    values = explanation(model.bert, tokenizer, TEXT, None, num_steps=2)
    assert "hidden" not in values and "attribution" not in values
    page = explain_page("encoder", values)
    assert "Predictions, layer by layer" not in page
    assert "Nearest words" in page


def test_data_cannot_leave_its_block() -> None:
    block = data_block("data", {"text": SCRIPT})
    inside = block.removesuffix("</script>").partition(">")[2]
    assert not set("<>&") & set(inside)
    assert json.loads(inside) == {"text": SCRIPT}


def test_page_is_one_file_that_asks_for_nothing(values: dict[str, Any]) -> None:
    page = explain_page("model <b>", values)
    assert "http://www.w3.org/2000/svg" in page
    assert not re.findall("https?://(?!www.w3.org/2000/svg)", page)
    assert "@import" not in page and "url(" not in page and " src=" not in page
    assert "<b>model &lt;b&gt;</b>" in page
    policy = re.search('Content-Security-Policy" content="([^"]*)"', page)
    assert policy is not None
    assert re.fullmatch(
        "default-src 'none'; style-src 'unsafe-inline'; script-src 'sha256-[^' ]+'", policy[1]
    )
    assert page.count("<script") == 2, "the data and the page's own"


def test_page_is_the_same_bytes_every_time(
    values: dict[str, Any], model: BertForPreTraining, tokenizer: Tokenizer
) -> None:
    again = explanation(model, tokenizer, TEXT, "in 北京", num_steps=4)
    assert explain_page("model", again) == explain_page("model", values)


def test_command_writes_the_page(run: Run, model_folder: Path, tmp_path: Path) -> None:
    place = tmp_path / "page.html"
    arguments = ("--text", TEXT, "--text-pair", "北京", "--output", place, "--device", "cpu")
    code, out, _ = run("explain", "--model", model_folder, *arguments)
    assert code == 0
    assert out.startswith(f"{place}: ")
    assert "<h2>Next sentence</h2>" in place.read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--text", TEXT, "--output", "{folder}"], "is a folder; name a file"),
        (["--text", TEXT, "--output", "{model}/config.json/page.html"], "cannot be written"),
        (["--text", " ", "--output", "{folder}/page.html"], "has no token to look at"),
        (["--text", "the " * 127, "--output", "{folder}/page.html"], "shows at most 128"),
        (["--text", TEXT], "needs --output"),
        (["--text", TEXT, "--output", "x", "--attribution-steps", "0"], "--attribution-steps"),
    ],
)
def test_command_ends_wrong_input_with_one_line(
    run: Run, model_folder: Path, tmp_path: Path, arguments: list[str], message: str
) -> None:
    given = (argument.format(folder=tmp_path, model=model_folder) for argument in arguments)
    code, out, errors = run("explain", "--model", model_folder, *given)
    assert (code, out) == (2, "")
    assert message in errors and errors.count("\n") == 1
    assert not list(tmp_path.iterdir())
