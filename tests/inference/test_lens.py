"""Pins what layers would say, the nearest words, and how alike layers and tokens are, beside
one-line references. Run alone: `pytest tests/inference/test_lens.py`.
"""

from __future__ import annotations

import pytest
import torch
from tokenizers import Tokenizer
from torch import Tensor

from bert_scratch.inference.fill_mask import fill_mask
from bert_scratch.inference.inputs import EncodedText, encode_pair
from bert_scratch.inference.layer_similarity import drift, layer_similarity, token_similarity
from bert_scratch.inference.lens import hidden_states, layer_states, logit_lens, nearest_words
from bert_scratch.inference.masked_rows import MaskedRows, hide_each_token
from bert_scratch.model.heads import BertForPreTraining

TEXT = "the cat [MASK] a dog"


@pytest.fixture
def encoded(tokenizer: Tokenizer, model: BertForPreTraining) -> EncodedText:
    return encode_pair(tokenizer, TEXT, "un", config=model.config, with_masks=True)


@pytest.fixture
def rows(encoded: EncodedText, tokenizer: Tokenizer) -> MaskedRows:
    return hide_each_token(encoded, tokenizer)


def test_each_row_hides_another_token(
    encoded: EncodedText, rows: MaskedRows, tokenizer: Tokenizer
) -> None:
    mask = tokenizer.token_to_id("[MASK]")
    assert rows.positions.tolist() == [1, 2, 3, 4, 5, 7]
    for row, position, label in zip(rows.input_ids, rows.positions, rows.labels, strict=True):
        expected = list(encoded.ids)
        assert label == expected[position]
        expected[position] = mask
        assert row.tolist() == expected
    assert rows.token_type_ids.tolist() == [encoded.token_type_ids] * 6


def test_chosen_positions_alone_are_hidden(
    encoded: EncodedText, rows: MaskedRows, tokenizer: Tokenizer
) -> None:
    chosen = hide_each_token(encoded, tokenizer, positions=[2, 7])
    assert torch.equal(chosen.input_ids, rows.input_ids[[1, 5]])
    assert torch.equal(chosen.labels, rows.labels[[1, 5]])


def test_passes_hold_every_row_once(rows: MaskedRows, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bert_scratch.inference.masked_rows._TOKENS_A_PASS", 20)
    parts = list(rows.passes())
    assert [len(part.positions) for part in parts] == [2, 2, 2]
    assert torch.equal(torch.cat([part.input_ids for part in parts]), rows.input_ids)


def test_states_at_masks_are_those_of_each_row_alone(
    model: BertForPreTraining, rows: MaskedRows, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bert_scratch.inference.masked_rows._TOKENS_A_PASS", 20)
    found = hidden_states(model, rows)
    assert found.shape == (6, 3, 24)
    for n, position in enumerate(rows.positions.tolist()):
        alone = layer_states(model, rows.input_ids[n : n + 1], rows.token_type_ids[n : n + 1])
        torch.testing.assert_close(found[n], alone[:, position], atol=1e-5, rtol=0)


def test_lens_on_the_last_layer_is_fill_mask(
    model: BertForPreTraining, tokenizer: Tokenizer
) -> None:
    encoded = encode_pair(tokenizer, TEXT, config=model.config, with_masks=True)
    rows = hide_each_token(encoded, tokenizer)
    states = hidden_states(model, rows)
    guesses, own = logit_lens(model.mlm_head, states, 4, rows.labels[:, None].expand(-1, 3))
    (expected,) = fill_mask(model, tokenizer, TEXT, top_k=4)
    at = rows.positions.tolist().index(encoded.ids.index(tokenizer.token_to_id("[MASK]")))
    assert guesses.ids.shape == (5, 3, 4)
    assert guesses.ids[at, -1].tolist() == [guess.id for guess in expected]
    torch.testing.assert_close(
        guesses.scores[at, -1], torch.tensor([guess.score for guess in expected])
    )
    with torch.no_grad():
        every = model.mlm_head(states[1, 0]).softmax(dim=-1)
    assert float(own.probability[1, 0]) == pytest.approx(float(every[rows.labels[1]]), abs=1e-6)
    order = every.argsort(descending=True).tolist()
    assert order[int(own.rank[1, 0]) - 1] == rows.labels[1]


def test_nearest_words_have_the_largest_cosine() -> None:
    torch.manual_seed(1)
    words, states = torch.randn(50, 8), torch.randn(2, 300, 8)
    words[7] = 5 * states[1, 2]
    found = nearest_words(words, states, 3)
    assert found.ids.shape == (2, 300, 3)
    assert found.ids[1, 2, 0] == 7
    assert float(found.scores[1, 2, 0]) == pytest.approx(1, abs=1e-5)
    cosines = torch.nn.functional.cosine_similarity(states[0, 9], words)
    assert found.ids[0, 9].tolist() == cosines.argsort(descending=True)[:3].tolist()


def cka(x: Tensor, y: Tensor) -> float:
    """Linear CKA as the paper writes it, over dimensions."""
    x, y = x - x.mean(dim=0), y - y.mean(dim=0)
    return float((y.T @ x).norm() ** 2 / ((x.T @ x).norm() * (y.T @ y).norm()))


def test_layer_similarity_is_linear_cka() -> None:
    torch.manual_seed(2)
    states = torch.randn(4, 9, 6, dtype=torch.float64)
    turn, _ = torch.linalg.qr(torch.randn(6, 6, dtype=torch.float64))
    states[3] = 2 * states[0] @ turn + 5
    found = layer_similarity(states)
    for a in range(4):
        for b in range(4):
            assert float(found[a, b]) == pytest.approx(cka(states[a], states[b]), abs=1e-9)
    assert float(found[0, 3]) == pytest.approx(1), "blind to rotation, scale and shift"


def test_cosines_of_tokens_and_of_their_way() -> None:
    torch.manual_seed(2)
    states = torch.randn(3, 5, 6)
    between, moved = token_similarity(states), drift(states)
    cosine = torch.nn.functional.cosine_similarity
    assert float(between[2, 1, 4]) == pytest.approx(float(cosine(states[2, 1], states[2, 4], 0)))
    assert float(moved[2, 3]) == pytest.approx(float(cosine(states[0, 3], states[2, 3], 0)))
    torch.testing.assert_close(moved[0], torch.ones(5))
