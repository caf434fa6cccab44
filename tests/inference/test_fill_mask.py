"""Pins fill-mask: the guesses of transformers' pipeline on the same folder, several masks, and what
is refused; and the command. Needs transformers.
Run alone: `pytest tests/inference/test_fill_mask.py`.
"""

from __future__ import annotations

import io
import json
from pathlib import Path

import pytest
import torch
from tokenizers import Tokenizer

from bert_scratch.cli import parse
from bert_scratch.config import InputError
from bert_scratch.data.wordpiece import TokenizerFolder
from bert_scratch.inference.convert import ConvertConfig, run_convert
from bert_scratch.inference.fill_mask import FillMaskConfig, fill_mask, fill_masks, run_fill_mask
from bert_scratch.inference.inputs import load_with_tokenizer
from bert_scratch.model.heads import BertForMaskedLM, BertForPreTraining

transformers = pytest.importorskip("transformers")

TEXTS = (
    "The cat sees a [MASK] in the garden.",
    "[MASK]",
    "un[MASK], 北[MASK] é!",
    "[MASK] [MASK][MASK] the unbelievables Dog.",
    "q [MASK] the\tcat  in a house ?",
)


@pytest.mark.parametrize("kind", ["folder", "old_folder"])
@pytest.mark.parametrize("text", TEXTS)
def test_guesses_are_those_of_transformers(
    kind: str, text: str, request: pytest.FixtureRequest
) -> None:
    path: Path = request.getfixturevalue(kind)
    model, tokenizer = load_with_tokenizer(BertForMaskedLM, str(path))
    pipeline = transformers.pipeline("fill-mask", model=str(path), device="cpu", top_k=7)
    expected = pipeline(text)
    expected = expected if isinstance(expected[0], list) else [expected]
    actual = fill_mask(model, tokenizer, text, top_k=7)
    assert len(actual) == len(expected) == text.count("[MASK]")
    for ours, theirs in zip(actual, expected, strict=True):
        assert [guess.id for guess in ours] == [guess["token"] for guess in theirs]
        for our, their in zip(ours, theirs, strict=True):
            assert abs(our.score - their["score"]) <= 1e-5


def test_pretraining_and_masked_lm_models_agree(
    model: BertForPreTraining, folder: Path, tokenizer: Tokenizer
) -> None:
    small = BertForMaskedLM.from_pretrained(folder)
    assert fill_mask(model, tokenizer, TEXTS[0]) == fill_mask(small, tokenizer, TEXTS[0])


def test_scores_are_probabilities_in_falling_order(
    model: BertForPreTraining, tokenizer: Tokenizer
) -> None:
    size = model.config.vocab_size
    (guesses,) = fill_mask(model, tokenizer, TEXTS[0], top_k=size)
    scores = [guess.score for guess in guesses]
    assert scores == sorted(scores, reverse=True)
    assert abs(sum(scores) - 1) < 1e-5
    assert sorted(guess.id for guess in guesses) == list(range(size))


def test_texts_hold_the_guess_and_the_other_masks(
    model: BertForPreTraining, tokenizer: Tokenizer
) -> None:
    text = "the [MASK] sees un [MASK] ."
    first, second = fill_mask(model, tokenizer, text, top_k=model.config.vocab_size)
    assert {g.token: g.text for g in first}["cat"] == "the cat sees un [MASK] ."
    assert {g.token: g.text for g in second}["##able"] == "the [MASK] sees unable ."
    assert {g.text for g in second if not g.token} == {"the [MASK] sees un  ."}, "unused rows"


def test_several_texts_at_once_change_nothing(
    model: BertForPreTraining, tokenizer: Tokenizer
) -> None:
    together = fill_masks(model, tokenizer, TEXTS)
    for text, masks in zip(TEXTS, together, strict=True):
        for guesses, alone in zip(masks, fill_mask(model, tokenizer, text), strict=True):
            assert [guess.id for guess in guesses] == [guess.id for guess in alone]
            difference = [a.score - b.score for a, b in zip(guesses, alone, strict=True)]
            assert max(map(abs, difference)) <= 1e-6


def test_dropout_is_off_and_the_mode_is_kept(
    model: BertForPreTraining, tokenizer: Tokenizer
) -> None:
    expected = fill_mask(model, tokenizer, TEXTS[0])
    model.train()
    try:
        assert fill_mask(model, tokenizer, TEXTS[0]) == expected
        assert model.training
        assert model.bert.layers[0].training
    finally:
        model.eval()
    assert torch.is_grad_enabled()


def test_other_special_tokens_in_a_text_are_text(
    model: BertForPreTraining, tokenizer: Tokenizer
) -> None:
    spelt = fill_mask(model, tokenizer, "the [ SEP ] [MASK]")
    assert fill_mask(model, tokenizer, "the [SEP] [MASK]")[0][0].score == spelt[0][0].score


@pytest.mark.parametrize(
    ("text", "top_k", "message"),
    [
        ("no mask", 5, r"needs at least one \[MASK\]; got 'no mask'"),
        ("[mask]", 5, r"needs at least one \[MASK\]"),
        ("the " * 30 + "[MASK]", 5, "is 33 tokens long .* at most 31"),
        ("[MASK]", 0, "top_k must be >= 1"),
        ("[MASK]", 10_000, "top_k must be >= 1 and <= "),
    ],
)
def test_unusable_input_is_refused(
    model: BertForPreTraining, tokenizer: Tokenizer, text: str, top_k: int, message: str
) -> None:
    with pytest.raises(InputError, match=message):
        fill_mask(model, tokenizer, text, top_k)


def test_longest_text_that_fits_is_taken(model: BertForPreTraining, tokenizer: Tokenizer) -> None:
    assert fill_mask(model, tokenizer, "the " * 28 + "[MASK]")


def run(arguments: list[str]) -> None:
    config = parse(FillMaskConfig, arguments, prog="fill-mask")
    assert isinstance(config, FillMaskConfig)
    run_fill_mask(config)


def test_command_prints_each_text_and_its_guesses(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run(["--model", str(folder), "--text", "the [MASK]", "[MASK] a [MASK]", "--top-k", "2"])
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "the [MASK]"
    assert lines[3] == "[MASK] a [MASK]"
    assert [line for line in lines if line.startswith("  [MASK]")] == ["  [MASK] 1", "  [MASK] 2"]
    assert len(lines) == 3 + 7


def test_command_reads_lines_and_prints_json(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO("the [MASK]\n\n北[MASK]\n"))
    run(["--model", str(folder), "--text", "-", "--json"])
    first, second = map(json.loads, capsys.readouterr().out.splitlines())
    assert first["text"] == "the [MASK]"
    assert second["text"] == "北[MASK]"
    assert first["masks"][0][0].keys() == {"token", "id", "score", "text"}


def test_command_reads_a_file(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "texts.txt").write_text("the [MASK]\n\nx [MASK]\n")
    run(["--model", str(folder), "--input", str(tmp_path / "texts.txt"), "--json"])
    lines = capsys.readouterr().out.splitlines()
    assert [json.loads(line)["text"] for line in lines] == ["the [MASK]", "x [MASK]"]


def test_command_without_texts_says_what_to_give() -> None:
    with pytest.raises(InputError, match="--text TEXT..., or --input FILE"):
        FillMaskConfig(model="m")


def test_a_vocabulary_that_is_not_the_models_is_refused(
    model: BertForPreTraining,
    tokenizer: Tokenizer,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    fewer = model.config.replace(vocab_size=tokenizer.get_vocab_size() - 1)
    BertForPreTraining(fewer).save_pretrained(tmp_path, TokenizerFolder(tokenizer))
    with pytest.raises(InputError, match="they do not belong together"):
        load_with_tokenizer(BertForMaskedLM, str(tmp_path))
    run_convert(ConvertConfig(input=str(tmp_path), output_dir=str(tmp_path / "out")))
    assert "they do not belong together" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("bad", "problem"),
    [
        ("no mask", r"needs at least one \[MASK\]; got 'no mask'"),
        ("the " * 30 + "[MASK]", "is 33 tokens long"),
    ],
)
def test_bad_line_is_named_and_the_lines_before_it_are_answered(
    bad: str, problem: str, folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "texts.txt"
    file.write_text(f"the [MASK]\n\nx [MASK]\n{bad}\na [MASK]\n")
    with pytest.raises(InputError, match=rf"--input {file}, line 4: .*{problem}"):
        run(["--model", str(folder), "--input", str(file), "--json"])
    lines = capsys.readouterr().out.splitlines()
    assert [json.loads(line)["text"] for line in lines] == ["the [MASK]", "x [MASK]"]


def test_every_line_of_several_batches_is_answered(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "texts.txt"
    file.write_text("the [MASK]\n" * 70)
    run(["--model", str(folder), "--input", str(file), "--json"])
    assert len(capsys.readouterr().out.splitlines()) == 70
