"""Pins BERTScore beside a straightforward reference: transformers' hidden states, a pair at a time,
in the authors' own order of steps. Run alone: `pytest tests/inference/test_bert_score.py`."""

from __future__ import annotations

import io
import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from tokenizers import Tokenizer

from bert_scratch import bert_score, cli
from bert_scratch.config import InputError
from bert_scratch.model.heads import BertForPreTraining

CANDIDATES = ["the cat sees a dog.", "x", "a garden!", "", "the dog", "believers in a house"]
REFERENCES = ["the dog sees a cat.", "x", "the house in a garden", "x", "", "un believers, 北"]


def reference_scores(folder: Path, tokenizer: Tokenizer, layer: int, *, idf: bool) -> np.ndarray:
    """[N, 3]: for each pair precision, recall and F1."""
    transformers = pytest.importorskip("transformers")
    model = transformers.AutoModel.from_pretrained(folder).eval()

    def encode(text: str) -> tuple[list[int], torch.Tensor]:
        ids = tokenizer.encode(text).ids
        with torch.no_grad():
            states = model(torch.tensor([ids]), output_hidden_states=True).hidden_states[layer][0]
        return ids, states / states.norm(dim=-1, keepdim=True)

    documents = [set(tokenizer.encode(text).ids) for text in REFERENCES]
    ends = {tokenizer.token_to_id("[CLS]"), tokenizer.token_to_id("[SEP]")}

    def weight(token: int) -> float:
        if token in ends:
            return 0.0
        having = sum(token in document for document in documents)
        return math.log((len(documents) + 1) / (having + 1)) if idf else 1.0

    rows = []
    for candidate, reference in zip(CANDIDATES, REFERENCES, strict=True):
        (own_ids, own), (their_ids, theirs) = encode(candidate), encode(reference)
        cosines = own @ theirs.T
        parts = []
        for ids, best in ((own_ids, cosines.amax(1)), (their_ids, cosines.amax(0))):
            weights = torch.tensor([weight(token) for token in ids])
            parts.append(float((best * weights).sum() / weights.sum()))
        if not candidate or not reference:
            parts = [0.0, 0.0]
        rows.append([*parts, 2 * parts[0] * parts[1] / (sum(parts) or 1)])
    return np.array(rows)


@pytest.mark.parametrize("idf", [False, True])
@pytest.mark.parametrize("layer", [-1, 1])
def test_equals_the_straightforward_reference(
    layer: int, idf: bool, folder: Path, model: BertForPreTraining, tokenizer: Tokenizer
) -> None:
    found = bert_score(model, tokenizer, CANDIDATES, REFERENCES, layer=layer, idf=idf)
    columns = np.stack([found.precision, found.recall, found.f1], axis=1)
    expected = reference_scores(folder, tokenizer, layer, idf=idf)
    np.testing.assert_allclose(columns, expected, atol=1e-5)
    assert found.f1[1] == pytest.approx(1) and found.f1[3] == 0


def test_turning_a_pair_around_swaps_precision_and_recall(
    model: BertForPreTraining, tokenizer: Tokenizer
) -> None:
    there = bert_score(model, tokenizer, CANDIDATES, REFERENCES)
    back = bert_score(model, tokenizer, REFERENCES, CANDIDATES)
    np.testing.assert_allclose(there.precision, back.recall, atol=1e-6)
    np.testing.assert_allclose(there.f1, back.f1, atol=1e-6)


def test_many_pairs_are_as_one_at_a_time(
    monkeypatch: pytest.MonkeyPatch, model: BertForPreTraining, tokenizer: Tokenizer
) -> None:
    whole = bert_score(model, tokenizer, CANDIDATES, REFERENCES, idf=True)
    monkeypatch.setattr("bert_scratch.inference.bert_score._PAIRS_AT_ONCE", 2)
    parts = bert_score(model, tokenizer, CANDIDATES, REFERENCES, idf=True)
    np.testing.assert_allclose(whole.f1, parts.f1, atol=1e-6)


def test_unequal_numbers_and_unknown_layers_are_refused(
    model: BertForPreTraining, tokenizer: Tokenizer
) -> None:
    with pytest.raises(InputError, match="each candidate needs a reference; got 1 and 0"):
        bert_score(model, tokenizer, ["a"], [])
    with pytest.raises(InputError, match="layers must be"):
        bert_score(model, tokenizer, ["a"], ["a"], layer=7)
    assert len(bert_score(model, tokenizer, [], []).f1) == 0


def test_command_prints_pairs_and_their_mean(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    run = ["bert-score", "--model", str(folder)]
    monkeypatch.setattr("sys.stdin", io.StringIO("the cat\tthe cat\nx\ta garden\n"))
    assert cli.main([*run, "--a", "-", "--idf"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "P 1.0000  R 1.0000  F1 1.0000  the cat | the cat"
    assert len(lines) == 3 and lines[2].endswith("mean of 2 pairs")
    assert cli.main([*run, "--a", "x", "--b", "a garden", "--json"]) == 0
    record = json.loads(capsys.readouterr().out)
    assert record.keys() == {"a", "b", "precision", "recall", "f1"}
    assert cli.main([*run, "--pairs", "/dev/null"]) == 2
    assert "there are no pairs" in capsys.readouterr().err
    assert cli.main([*run, "--a", "x", "--b", "x", "--idf"]) == 2
    error = capsys.readouterr().err
    assert "--idf needs at least two references" in error and error.count("\n") == 1


def test_tokens_that_every_reference_has_weigh_alike(
    model: BertForPreTraining, tokenizer: Tokenizer
) -> None:
    found = bert_score(model, tokenizer, ["the cat", "the", ""], ["the cat"] * 3, idf=True)
    alike = bert_score(model, tokenizer, ["the cat", "the", ""], ["the cat"] * 3)
    assert found.f1[0] == pytest.approx(1) and found.f1[2] == 0
    np.testing.assert_allclose(found.f1, alike.f1, atol=1e-6)
