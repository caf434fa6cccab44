"""Pins Gibbs sampling: seeds, prefixes, what may be drawn, the figures, and the command.
Run alone: `pytest tests/inference/test_generate.py`."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from tokenizers import Tokenizer

from bert_scratch import GenerateOptions, cli, generate
from bert_scratch.config import InputError
from bert_scratch.inference.generate import _distinct, _repetition
from bert_scratch.inference.sampling import draw, drawable_tokens
from bert_scratch.model.heads import BertForPreTraining

OPTIONS = GenerateOptions(num_texts=4, num_tokens=6, num_sweeps=2, top_k=1000)


def test_the_same_seed_gives_the_same_texts(
    model: BertForPreTraining, tokenizer: Tokenizer
) -> None:
    first, again = generate(model, tokenizer, OPTIONS), generate(model, tokenizer, OPTIONS)
    assert first.texts == again.texts
    assert generate(model, tokenizer, OPTIONS.replace(seed=1)).texts != first.texts
    assert len(set(first.texts)) == 4 and first.tokens_per_s > 0


def test_prefix_stays_and_no_special_token_is_drawn(
    model: BertForPreTraining, tokenizer: Tokenizer
) -> None:
    wild = OPTIONS.replace(num_texts=20, prefix="The cat [SEP]", temperature=50.0)
    for text in generate(model, tokenizer, wild).texts:
        assert text.startswith("The cat [SEP]"), "spelt out in a prefix it is text"
        drawn = text.removeprefix("The cat [SEP]")
        assert drawn and not any(token in drawn for token in ("[MASK]", "[PAD]", "[CLS]", "[SEP]"))


def test_one_token_is_the_most_probable_in_the_end(
    model: BertForPreTraining, tokenizer: Tokenizer
) -> None:
    greedy = OPTIONS.replace(top_k=1, num_sweeps=30, prefix="the cat")
    (text, *others) = generate(model, tokenizer, greedy).texts
    ids = torch.tensor([tokenizer.encode(text).ids])
    if ids.shape[1] == 2 + 2 + OPTIONS.num_tokens:
        drawable = drawable_tokens(tokenizer, model.config.vocab_size)
        for place in range(3, ids.shape[1] - 1):
            masked = ids.clone()
            masked[0, place] = tokenizer.token_to_id("[MASK]")
            with torch.no_grad():
                scores = model(masked).prediction_logits[0, place]
            assert scores.masked_fill(~drawable, -torch.inf).argmax() == ids[0, place]
    assert len(others) == 3


def test_draws_follow_the_probabilities_of_the_top_k() -> None:
    logits = torch.tensor([[0.0, 1.0, 2.0, 9.0]]).repeat(4000, 1)
    drawable = torch.tensor([True, True, True, False])
    generator = torch.Generator().manual_seed(0)
    found = draw(logits, drawable, top_k=2, temperature=0.5, generator=generator)
    shares = torch.bincount(found, minlength=4) / len(found)
    expected = torch.softmax(torch.tensor([2.0, 4.0]), 0)
    torch.testing.assert_close(shares[1:3], expected, atol=0.02, rtol=0)
    assert shares[0] == shares[3] == 0


def test_figures_of_known_texts() -> None:
    rows = [[1, 2, 1, 2, 1, 2], [1, 2, 3, 4, 5, 6]]
    assert _distinct(rows, 1) == 6 / 12
    assert _distinct(rows, 2) == len({(1, 2), (2, 1), (2, 3), (3, 4), (4, 5), (5, 6)}) / 10
    assert _repetition(rows) == pytest.approx(1 / 6), "1 2 1 2 comes twice"
    assert _repetition([[1, 1]]) == _distinct([[1]], 2) == 0


def test_what_does_not_fit_is_refused(model: BertForPreTraining, tokenizer: Tokenizer) -> None:
    fits = OPTIONS.replace(num_tokens=28, prefix="the", num_sweeps=1, num_texts=1)
    assert generate(model, tokenizer, fits).texts
    with pytest.raises(InputError, match="are 32 tokens with .CLS. and .SEP.; the model takes at"):
        generate(model, tokenizer, fits.replace(num_tokens=29))
    for wrong in ({"num_texts": 0}, {"temperature": 0.0}, {"top_k": 0}, {"num_sweeps": 0}):
        with pytest.raises(InputError, match="must be >"):
            OPTIONS.replace(**wrong)


@pytest.mark.parametrize("seed", [-1, 2**63])
def test_a_seed_out_of_range_is_refused(seed: int) -> None:
    with pytest.raises(InputError, match=rf"--seed must be >= 0 and < \d+; got {seed}"):
        GenerateOptions(seed=seed)


def test_an_empty_prefix_is_no_prefix(model: BertForPreTraining, tokenizer: Tokenizer) -> None:
    without = generate(model, tokenizer, OPTIONS).texts
    assert generate(model, tokenizer, OPTIONS.replace(prefix="")).texts == without


def test_command_prints_texts_and_figures(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = ["generate", "--model", str(folder), "--num-texts", "2", "--num-tokens", "5"]
    assert cli.main([*run, "--prefix", "a dog"]) == 0
    *texts, figures = capsys.readouterr().out.splitlines()
    assert len(texts) == 2 and all(text.startswith("a dog") for text in texts)
    assert figures.startswith("distinct-1 ") and figures.endswith("tokens/s")
    assert cli.main([*run, "--prefix", "a dog", "--json"]) == 0
    record = json.loads(capsys.readouterr().out)
    assert record["texts"] == texts and 0 < record["distinct_2"] <= 1
