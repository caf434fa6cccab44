"""Pins that surgery on a running model does what the formula with that part changed does, and
leaves the model as it was; and what is built on it: losses without heads, causal tracing.
Run alone: `pytest tests/inference/test_surgery.py`.
"""

from __future__ import annotations

import pytest
import torch
from tokenizers import Tokenizer
from torch import Tensor

from bert_scratch.config import InputError
from bert_scratch.inference.effects import causal_trace, loss_without_heads, masked_loss
from bert_scratch.inference.inputs import encode_pair
from bert_scratch.inference.surgery import (
    SITES,
    Edit,
    Site,
    disable_heads,
    operated,
    patch,
    recorded,
    skip_layer,
    uniform_attention,
)
from bert_scratch.model.heads import BertForPreTraining

TEXT = "the cat sees a dog in the garden"
HEAD_SIZE = 8


@pytest.fixture
def ids(tokenizer: Tokenizer, model: BertForPreTraining) -> Tensor:
    return torch.tensor([encode_pair(tokenizer, TEXT, config=model.config).ids])


def states(model: BertForPreTraining, ids: Tensor) -> tuple[Tensor, ...]:
    with torch.no_grad():
        output = model.bert(ids, output_hidden_states=True)
    assert output.hidden_states is not None
    return output.hidden_states


def test_recording_finds_every_site_and_changes_nothing(
    model: BertForPreTraining, ids: Tensor
) -> None:
    plain = states(model, ids)
    with recorded(model, [Site(name, 1) for name in SITES]) as found:
        watched = states(model, ids)
    assert [site.name for site in found] == list(SITES), "the order of the forward pass"
    assert all(torch.equal(a, b) for a, b in zip(plain, watched, strict=True))
    batch, length = ids.shape
    for name in ("query", "key", "value", "heads"):
        assert found[Site(name, 1)].shape == (batch, length, 3, HEAD_SIZE)
    assert found[Site("widened", 1)].shape == (batch, length, 48)
    assert torch.equal(found[Site("embeddings", 1)], plain[0])
    assert torch.equal(found[Site("layer_input", 1)], plain[1])
    assert torch.equal(found[Site("layer", 1)], plain[2])


def test_recorded_parts_are_those_of_the_formula(model: BertForPreTraining, ids: Tensor) -> None:
    names = ("query", "key", "value", "heads", "attention", "attention_norm", "feed_forward")
    with recorded(model, [Site(name) for name in names]) as found, torch.no_grad():
        output = model.bert(ids, output_attentions=True, output_hidden_states=True)
    q, k, v, heads = (found[Site(name)].transpose(1, 2) for name in names[:4])
    weights = torch.softmax(q @ k.transpose(-1, -2) / HEAD_SIZE**0.5, dim=-1)
    torch.testing.assert_close(weights, output.attentions[0])
    torch.testing.assert_close(weights @ v, heads)
    layer = model.bert.layers[0]
    mixed = layer.attention_layer_norm(output.hidden_states[0] + found[Site("attention")])
    torch.testing.assert_close(mixed, found[Site("attention_norm")])
    after = layer.feed_forward_layer_norm(mixed + found[Site("feed_forward")])
    torch.testing.assert_close(after, output.hidden_states[1])


def test_disabled_heads_are_columns_of_zeros_in_the_output_projection(
    model: BertForPreTraining, ids: Tensor
) -> None:
    with operated(model, disable_heads(0, [0, 2])):
        without = states(model, ids)
    weight = model.bert.layers[0].attention.output.weight
    kept = weight.detach().clone()
    try:
        with torch.no_grad():
            weight[:, :HEAD_SIZE] = 0
            weight[:, 2 * HEAD_SIZE :] = 0
        expected = states(model, ids)
    finally:
        with torch.no_grad():
            weight.copy_(kept)
    torch.testing.assert_close(without[-1], expected[-1])
    assert not torch.allclose(without[-1], states(model, ids)[-1])


def test_uniform_attention_looks_at_real_tokens_alike(
    model: BertForPreTraining, ids: Tensor
) -> None:
    mask = torch.ones_like(ids)
    mask[0, -2:] = 0
    plain = model.bert(ids, None, mask, output_attentions=True).attentions
    with operated(model, uniform_attention(1, [2])):
        weights = model.bert(ids, None, mask, output_attentions=True).attentions
    real = ids.shape[1] - 2
    assert torch.equal(weights[1][0, 2, :, real:], torch.zeros(ids.shape[1], 2))
    torch.testing.assert_close(
        weights[1][0, 2, :, :real], torch.full((ids.shape[1], real), 1 / real)
    )
    assert torch.equal(weights[0], plain[0])
    assert torch.equal(weights[1][0, :2], plain[1][0, :2])


def test_uniform_attention_of_a_layer_is_the_mean_of_the_values(
    model: BertForPreTraining, ids: Tensor
) -> None:
    with (
        operated(model, uniform_attention(0)),
        recorded(model, [Site("value"), Site("heads")]) as f,
    ):
        states(model, ids)
    mean = f[Site("value")].mean(dim=1, keepdim=True).expand_as(f[Site("heads")])
    torch.testing.assert_close(f[Site("heads")], mean)


def test_skipped_layer_passes_on_what_it_is_given(model: BertForPreTraining, ids: Tensor) -> None:
    embedded, first, _ = states(model, ids)
    with operated(model, skip_layer(0) + skip_layer(1)):
        assert all(torch.equal(state, embedded) for state in states(model, ids))
    with operated(model, skip_layer(1)):
        assert torch.equal(states(model, ids)[2], first)


def test_patch_puts_a_state_of_another_run_into_chosen_positions_and_heads(
    model: BertForPreTraining, ids: Tensor
) -> None:
    other = ids.flip(1)
    with recorded(model, [Site("layer"), Site("heads", 1)]) as source:
        states(model, other)
    with operated(model, patch(Site("layer"), source[Site("layer")], positions=[1, 4])):
        patched = states(model, ids)[1]
    plain = states(model, ids)[1]
    for position in range(ids.shape[1]):
        expected = source[Site("layer")] if position in (1, 4) else plain
        assert torch.equal(patched[:, position], expected[:, position])
    edits = patch(Site("heads", 1), source[Site("heads", 1)], heads=[1])
    with operated(model, edits), recorded(model, [Site("heads", 1)]) as after:
        states(model, ids)
    with recorded(model, [Site("heads", 1)]) as before:
        states(model, ids)
    site = Site("heads", 1)
    assert torch.equal(after[site][:, :, 1], source[site][:, :, 1])
    assert torch.equal(after[site][:, :, [0, 2]], before[site][:, :, [0, 2]])


def test_edits_at_one_site_act_one_after_the_other(model: BertForPreTraining, ids: Tensor) -> None:
    site = Site("feed_forward")
    edits = [Edit(site, lambda value: value + 1), Edit(site, lambda value: value * 2)]
    with recorded(model, [site]) as plain:
        states(model, ids)
    with operated(model, edits), recorded(model, [site]) as changed:
        states(model, ids)
    torch.testing.assert_close(changed[site], (plain[site] + 1) * 2)


def test_model_is_as_it_was_even_after_an_error(model: BertForPreTraining, ids: Tensor) -> None:
    plain = states(model, ids)
    with pytest.raises(RuntimeError, match="stop"), operated(model, uniform_attention(0)):
        raise RuntimeError("stop")
    assert all(torch.equal(a, b) for a, b in zip(states(model, ids), plain, strict=True))
    assert not [m for m in model.modules() if m._forward_hooks or m._forward_pre_hooks]


@pytest.mark.parametrize(
    ("edits", "message"),
    [
        ([Edit(Site("head", 0), torch.zeros_like)], "site must be one of .*did you mean 'heads'"),
        (skip_layer(2), "layer must be >= 0 and < 2; got 2"),
        (disable_heads(0, [3]), "head must be >= 0 and < 3; got 3"),
        ([Edit(Site("layer", 1), lambda v: v[0])], "at layer of layer 1 must give .* it gave"),
    ],
)
def test_edits_that_do_not_fit_are_refused(
    model: BertForPreTraining, ids: Tensor, edits: list[Edit], message: str
) -> None:
    with pytest.raises(InputError, match=message), operated(model, edits):
        states(model, ids)


def test_masked_loss_is_the_mean_over_tokens_hidden_one_by_one(
    model: BertForPreTraining, tokenizer: Tokenizer, ids: Tensor
) -> None:
    mask = tokenizer.token_to_id("[MASK]")
    losses = []
    for position in range(1, ids.shape[1] - 1):
        row = ids.clone()
        row[0, position] = mask
        with torch.no_grad():
            logits = model(row).prediction_logits[0, position]
        losses.append(-torch.log_softmax(logits, dim=-1)[ids[0, position]])
    expected = float(torch.stack(losses).mean())
    assert masked_loss(model, tokenizer, TEXT) == pytest.approx(expected, abs=1e-5)
    with pytest.raises(InputError, match="at least one token"):
        masked_loss(model, tokenizer, " ")


def test_loss_without_heads_is_that_of_each_disabled_head(
    model: BertForPreTraining, tokenizer: Tokenizer
) -> None:
    losses = loss_without_heads(model, tokenizer, TEXT)
    assert losses.shape == (2, 3)
    expected = masked_loss(model, tokenizer, TEXT, disable_heads(1, [2]))
    assert float(losses[1, 2]) == pytest.approx(expected, abs=1e-6)
    assert losses.unique().numel() == losses.numel(), "each head does something else"


def test_causal_trace_agrees_with_layers_called_by_hand(
    model: BertForPreTraining, tokenizer: Tokenizer
) -> None:
    clean, corrupted = "the cat sees a [MASK]", "the dog finds a [MASK]"
    traced = causal_trace(model, tokenizer, clean, corrupted, "garden")
    rows = [
        torch.tensor([encode_pair(tokenizer, t, config=model.config, with_masks=True).ids])
        for t in (clean, corrupted)
    ]
    mask, answer = traced.tokens.index("[MASK]"), tokenizer.token_to_id("garden")
    assert traced.tokens == ["[CLS]", "the", "dog", "finds", "a", "[MASK]", "[SEP]"]

    @torch.no_grad()
    def probability(hidden: Tensor) -> float:
        return float(model.mlm_head(hidden[:, mask]).softmax(dim=-1)[0, answer])

    source, target = (states(model, row) for row in rows)
    assert traced.clean == pytest.approx(probability(source[-1]), abs=1e-6)
    assert traced.corrupted == pytest.approx(probability(target[-1]), abs=1e-6)
    for layer in range(3):
        for position in range(len(traced.tokens)):
            hidden = target[layer].clone()
            hidden[:, position] = source[layer][:, position]
            with torch.no_grad():
                for block in model.bert.layers[layer:]:
                    hidden = block(hidden)
                expected = probability(hidden)
            assert float(traced.restored[layer, position]) == pytest.approx(expected, abs=1e-6)
    assert float(traced.restored[2, mask]) == pytest.approx(traced.clean, abs=1e-6)


@pytest.mark.parametrize(
    ("clean", "corrupted", "answer", "message"),
    [
        (
            "the [MASK]",
            "the cat [MASK]",
            "cat",
            "same number of tokens and the .MASK. in the same place",
        ),
        ("the [MASK] cat", "the dog [MASK]", "cat", "with it at 2 and 5 with it at 3"),
        ("the cat", "the dog", "cat", "each text needs one .MASK.; got 'the cat'"),
        ("the [MASK]", "a [MASK]", "unbelievable", "the answer must be one token"),
    ],
)
def test_texts_that_do_not_match_are_refused(
    model: BertForPreTraining,
    tokenizer: Tokenizer,
    clean: str,
    corrupted: str,
    answer: str,
    message: str,
) -> None:
    with pytest.raises(InputError, match=message):
        causal_trace(model, tokenizer, clean, corrupted, answer)
