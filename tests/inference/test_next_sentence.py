"""Pins next-sentence: transformers' probabilities on the same folder, which class is which, and the
command. Needs transformers. Run alone: `pytest tests/inference/test_next_sentence.py`.
"""

from __future__ import annotations

import io
import json
from pathlib import Path

import pytest
import torch
from tokenizers import Tokenizer

from bert_scratch import cli
from bert_scratch.cli import parse
from bert_scratch.config import InputError
from bert_scratch.inference.inputs import load_with_tokenizer
from bert_scratch.inference.next_sentence import (
    NextSentenceConfig,
    next_sentence,
    next_sentences,
    run_next_sentence,
)
from bert_scratch.model.heads import BertForNextSentencePrediction, BertForPreTraining

transformers = pytest.importorskip("transformers")

PAIRS = [
    ("The cat sees a dog.", "the dog finds the garden!"),
    ("北京", "unbelievables"),
    ("the cat", "q"),
    ("a b c d", "The " * 20),
]


@pytest.mark.parametrize("kind", ["folder", "old_folder"])
@pytest.mark.parametrize("pair", PAIRS)
def test_probabilities_are_those_of_transformers(
    kind: str, pair: tuple[str, str], request: pytest.FixtureRequest
) -> None:
    path: Path = request.getfixturevalue(kind)
    model, tokenizer = load_with_tokenizer(BertForNextSentencePrediction, str(path))
    theirs = transformers.BertForNextSentencePrediction.from_pretrained(path).eval()
    inputs = transformers.AutoTokenizer.from_pretrained(path)(*pair, return_tensors="pt")
    with torch.no_grad():
        is_next, random = theirs(**inputs).logits.softmax(dim=-1)[0].tolist()
    verdict = next_sentence(model, tokenizer, *pair)
    assert abs(verdict.is_next - is_next) <= 1e-6
    assert abs(verdict.random - random) <= 1e-6


def test_first_class_is_b_follows_a(model: BertForPreTraining, tokenizer: Tokenizer) -> None:
    before = next_sentence(model, tokenizer, *PAIRS[0])
    with torch.no_grad():
        model.nsp_head.classifier.bias[0] += 10
    after = next_sentence(model, tokenizer, *PAIRS[0])
    with torch.no_grad():
        model.nsp_head.classifier.bias[0] -= 10
    assert after.is_next > 0.99 > before.is_next
    assert abs(after.is_next + after.random - 1) < 1e-6


def test_several_pairs_at_once_change_nothing(
    model: BertForPreTraining, tokenizer: Tokenizer
) -> None:
    for pair, verdict in zip(PAIRS, next_sentences(model, tokenizer, PAIRS), strict=True):
        alone = next_sentence(model, tokenizer, *pair)
        assert abs(alone.is_next - verdict.is_next) <= 1e-6


def test_too_long_pair_is_refused(model: BertForPreTraining, tokenizer: Tokenizer) -> None:
    with pytest.raises(InputError, match="is 33 tokens long .* at most 31"):
        next_sentence(model, tokenizer, "the " * 15, "cat " * 15)


@pytest.mark.parametrize("pair_task", ["none", "sop"])
def test_model_that_never_learned_next_sentence_is_refused(
    pair_task: str, folder: Path, tokenizer: Tokenizer
) -> None:
    other = BertForPreTraining.from_pretrained(folder, pair_task=pair_task)
    with pytest.raises(InputError, match=f"trained with --pair-task {pair_task}: "):
        next_sentence(other, tokenizer, *PAIRS[0])


def run(arguments: list[str]) -> None:
    config = parse(NextSentenceConfig, arguments, prog="next-sentence")
    assert isinstance(config, NextSentenceConfig)
    run_next_sentence(config)


def test_command_prints_the_probabilities(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run(["--model", str(folder), "--a", "the cat", "--b", "a dog"])
    words = capsys.readouterr().out.split()
    assert words[:2] == ["is", "next"]
    assert abs(float(words[2]) + float(words[4]) - 1) < 1e-3


def test_command_reads_pairs_and_prints_json(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO("the cat\ta dog\nx\ty\n"))
    run(["--model", str(folder), "--a", "-", "--json"])
    first, second = map(json.loads, capsys.readouterr().out.splitlines())
    assert first.keys() == {"a", "b", "is_next", "random"}
    assert (second["a"], second["b"]) == ("x", "y")


def test_line_without_a_tab_is_refused_by_number(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO("a\tb\nno tab\n"))
    with pytest.raises(InputError, match="--a -, line 2: has no tab"):
        run(["--model", str(folder), "--a", "-"])


def test_command_reads_pairs_of_a_file(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "pairs.tsv").write_text("the cat\ta dog\n\nx\ty\n")
    objects = [{"a": "the cat", "b": "a dog"}, {"a": "x", "b": "y"}]
    (tmp_path / "pairs.jsonl").write_text("".join(json.dumps(pair) + "\n" for pair in objects))
    found = []
    for name in ("pairs.tsv", "pairs.jsonl"):
        run(["--model", str(folder), "--pairs", str(tmp_path / name), "--json"])
        found.append([json.loads(line) for line in capsys.readouterr().out.splitlines()])
    assert found[0] == found[1]
    assert [{"a": pair["a"], "b": pair["b"]} for pair in found[0]] == objects


@pytest.mark.parametrize(
    "given", [{}, {"a": "the"}, {"b": "the"}, {"a": "-", "b": "the"}, {"pairs": "f", "a": "-"}]
)
def test_anything_but_one_source_of_pairs_is_refused(given: dict[str, str]) -> None:
    with pytest.raises(InputError, match="--a TEXT --b TEXT"):
        NextSentenceConfig(model="m", **given)


def test_command_with_an_empty_file_of_pairs_is_refused(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["next-sentence", "--model", str(folder), "--pairs", "/dev/null"]
    assert cli.main(command) == 2
    assert "--pairs /dev/null: there are no pairs to judge" in capsys.readouterr().err
