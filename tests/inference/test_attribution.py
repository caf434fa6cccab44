"""Pins attributions by gradients: beside finite differences, and that shares add up.
Run alone: `pytest tests/inference/test_attribution.py`.
"""

from __future__ import annotations

import pytest
import torch
from tokenizers import Tokenizer
from torch import Tensor

from bert_scratch.inference.attribution import gradient_x_input, integrated_gradients
from bert_scratch.inference.inputs import encode_pair
from bert_scratch.inference.masked_rows import MaskedRows, hide_each_token
from bert_scratch.model.heads import BertForPreTraining

TEXT = "the cat sees [MASK] dog"


@pytest.fixture
def rows(tokenizer: Tokenizer, model: BertForPreTraining) -> MaskedRows:
    encoded = encode_pair(tokenizer, TEXT, "a x", config=model.config, with_masks=True)
    return hide_each_token(encoded, tokenizer)


@pytest.fixture
def targets(rows: MaskedRows) -> Tensor:
    return torch.arange(7, 7 + len(rows.positions))


def log_probability(
    model: BertForPreTraining, rows: MaskedRows, n: int, words: Tensor, target: int
) -> Tensor:
    states = model.bert(inputs_embeds=words, token_type_ids=rows.token_type_ids[n : n + 1])
    logits = model.mlm_head(states.last_hidden_state[:, rows.positions[n]])
    return logits.log_softmax(dim=-1)[0, target]


def test_gradient_x_input_is_the_effect_of_a_small_scaling(
    model: BertForPreTraining, rows: MaskedRows, targets: Tensor
) -> None:
    found = gradient_x_input(model, rows, targets)
    assert found.shape == rows.input_ids.shape
    n, small = 2, 1e-3
    with torch.no_grad():
        words = model.bert.embeddings.word_embeddings(rows.input_ids[n : n + 1])
        for position in range(words.shape[1]):
            scale = torch.zeros(words.shape[1], 1)
            scale[position] = small
            more, less = (
                log_probability(model, rows, n, words * (1 + sign * scale), int(targets[n]))
                for sign in (1, -1)
            )
            measured = float((more - less) / (2 * small))
            assert float(found[n, position]) == pytest.approx(measured, abs=2e-2, rel=2e-2)


def test_integrated_gradients_add_up(
    model: BertForPreTraining, rows: MaskedRows, targets: Tensor, tokenizer: Tokenizer
) -> None:
    found = integrated_gradients(model, rows, targets, tokenizer, num_steps=128)
    explained = found.shares.sum(dim=-1)
    torch.testing.assert_close(explained, found.log_probability - found.baseline, atol=2e-2, rtol=0)
    for n, position in enumerate(rows.positions.tolist()):
        is_kept = (rows.input_ids[n] == 2) | (rows.input_ids[n] == 3)
        assert not found.shares[n][is_kept].any(), "the baseline keeps [CLS] and [SEP]"
        assert found.shares[n, position] == 0, "and is hidden there as the row is"


def test_ends_of_the_path_are_the_row_and_the_row_of_masks(
    model: BertForPreTraining, rows: MaskedRows, targets: Tensor, tokenizer: Tokenizer
) -> None:
    found = integrated_gradients(model, rows, targets, tokenizer, num_steps=2)
    embed = model.bert.embeddings.word_embeddings
    ids = rows.input_ids[1:2]
    hidden = torch.where((ids == 2) | (ids == 3), ids, tokenizer.token_to_id("[MASK]"))
    with torch.no_grad():
        for ends, tokens in ((found.log_probability, ids), (found.baseline, hidden)):
            expected = log_probability(model, rows, 1, embed(tokens), int(targets[1]))
            assert float(ends[1]) == pytest.approx(float(expected), abs=1e-5)


def test_model_keeps_mode_and_gradients(
    model: BertForPreTraining, rows: MaskedRows, targets: Tensor, tokenizer: Tokenizer
) -> None:
    model.train()
    try:
        first = gradient_x_input(model, rows, targets)
        assert torch.equal(first, gradient_x_input(model, rows, targets)), "dropout is off"
        assert model.training
    finally:
        model.eval()
    assert all(parameter.grad is None for parameter in model.parameters())
    assert all(parameter.requires_grad for parameter in model.parameters())
