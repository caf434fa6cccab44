"""Pins what `trace` prints: a line a step, one head's table, JSON, clear refusals.
Run alone: `pytest tests/views/test_trace.py`.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from tokenizers import Tokenizer

from bert_scratch.cli import main
from bert_scratch.inference.attention_maps import attention_maps
from bert_scratch.inference.trace import trace
from bert_scratch.model.heads import BertForPreTraining
from bert_scratch.views.trace import lines

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str], model_folder: Path) -> Run:
    def call(*arguments: object) -> tuple[int, str, str]:
        given = ["trace", "--model", str(model_folder), *map(str, arguments)]
        code = main(given)
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return call


def test_five_tokens_have_a_table_of_real_numbers(
    run: Run, model: BertForPreTraining, tokenizer: Tokenizer
) -> None:
    code, out, _ = run("--text", "the [MASK] 北", "--layer", 2, "--head", 3)
    assert code == 0
    printed = out.split("\n")
    assert max(map(len, printed)) <= 100
    start = printed.index("      weights of head 3: rows look at columns") + 2
    assert printed[start - 1].split() == ["[CLS]", "the", "[MASK]", "北", "[SEP]"]
    weights = attention_maps(model, tokenizer, "the [MASK] 北").weights[1, 2]
    for line, row in zip(printed[start:], weights.tolist(), strict=False):
        assert line.split()[1:] == [f"{weight:.3f}" for weight in row]
    assert out.count(" = softmax(scores), rows add up to 1") == 2, "a line for each layer"
    assert out.count("rows look at columns") == 2, "tables of the chosen layer alone"


def test_layers_and_heads_count_from_one_as_on_the_pages(run: Run) -> None:
    _, out, _ = run("--text", "the cat")
    parts = [line for line in out.splitlines() if line.startswith("layer ")]
    assert parts == ["layer 1", "layer 2"]
    first, second = out.split("\nlayer 2\n")
    assert first.count("of head 1: rows look at columns") == 2, "by default the first of the first"
    assert "rows look at columns" not in second


def test_line_has_formula_shape_and_the_watched_tokens_numbers(
    model: BertForPreTraining, tokenizer: Tokenizer
) -> None:
    traced = trace(model, tokenizer, "the [MASK] 北")
    printed = list(lines(traced, tokenizer, layer=1, head=2))
    (query,) = (step.value for step in traced.steps if (step.part, step.name) == ("layer 1", "Q"))
    numbers = " ".join(f"{value:>7.3f}" for value in query[1, 2, :4].tolist())
    shape = "H=3 S=5 K=8"
    line = f"  Q        = {'x W_Q + b_Q, cut into heads':<34} {shape:<16} {numbers} ..."
    assert line in printed
    (said,) = (line for line in printed if line.strip().startswith("[MASK] 1:"))
    best = traced.steps[-1].value[0].argmax()
    assert said.split()[2] == tokenizer.id_to_token(int(best))


def test_long_texts_show_the_beginning_of_the_table(run: Run) -> None:
    code, out, _ = run("--text", "the cat " * 10)
    assert code == 0
    assert out.count("(the first 12 of 22 tokens; --json has all)") == 2
    assert "with [MASK] in the text, the model would say" in out


def test_pair_ends_with_the_verdict(run: Run) -> None:
    _, out, _ = run("--text", "the cat", "--text-pair", "a dog")
    assert "softmax(n): follows, random" in out


def test_json_has_every_number(run: Run) -> None:
    code, out, _ = run("--text", "the [MASK]", "--json")
    assert code == 0
    found = json.loads(out)
    assert found["tokens"] == ["[CLS]", "the", "[MASK]", "[SEP]"]
    assert found["masks"] == [2]
    for step in found["steps"]:
        values, shape = step["values"], []
        while isinstance(values, list):
            shape.append(len(values))
            values = values[0]
        assert shape == step["shape"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--text", "the", "--layer", "0"], "--layer must be >= 1 and <= 2; got 0"),
        (["--text", "the", "--head", "4"], "--head must be >= 1 and <= 3; got 4"),
        (["--text", "the " * 200], "at most 160"),
    ],
)
def test_wrong_input_ends_with_one_line(run: Run, arguments: list[str], message: str) -> None:
    code, out, errors = run(*arguments)
    assert (code, out) == (2, "")
    assert message in errors and errors.count("\n") == 1
