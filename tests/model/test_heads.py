"""Pins the heads and losses: which logits are returned when, losses against float64, the tied
decoder, and that a batch with nothing to predict costs nothing instead of becoming NaN.

Run alone: `pytest tests/model/test_heads.py`.
"""

from __future__ import annotations

import dataclasses

import pytest
import torch

from bert_scratch.config import BertConfig, InputError
from bert_scratch.model.heads import (
    BertForMaskedLM,
    BertForNextSentencePrediction,
    BertForPreTraining,
    MaskedLMHead,
    NextSentenceHead,
)

ROWS, WIDTH = 5, 17


@pytest.fixture
def model(config, randomize):
    return randomize(BertForPreTraining(config), 0.15)


@pytest.fixture
def batch(config, inputs):
    return inputs(config)


@pytest.fixture
def labels(batch):
    chosen = (torch.arange(ROWS * WIDTH).view(ROWS, WIDTH) % 4 == 2) & (
        batch["attention_mask"] == 1
    )
    return batch["input_ids"].masked_fill(~chosen, -100)


PAIRS = torch.tensor([0, 1, 1, 0, 1])


def cross_entropy_by_hand(logits, labels):
    kept = labels != -100
    scores = logits.double()[kept]
    normalizer = scores.exp().sum(-1).log()
    return (normalizer - scores[torch.arange(len(scores)), labels[kept]]).sum()


def test_heads_alone_map_hidden_states_to_scores(config):
    hidden = torch.randn(2, 3, config.hidden_size)
    assert MaskedLMHead(config)(hidden).shape == (2, 3, config.vocab_size)
    assert NextSentenceHead(config)(hidden[:, 0]).shape == (2, 2)


def test_decoder_is_the_word_embedding_with_a_bias_of_its_own(model, config):
    assert model.mlm_head.decoder.weight is model.bert.embeddings.word_embeddings.weight
    assert model.mlm_head.decoder.bias.shape == (config.vocab_size,)
    fresh = BertForPreTraining(config)
    assert not fresh.mlm_head.decoder.bias.any()
    assert not fresh.bert.embeddings.word_embeddings.weight[config.pad_token_id].any()


def test_without_labels_there_is_a_score_for_every_position_and_no_loss(model, batch, config):
    output = model(**batch)
    assert output.prediction_logits.shape == (ROWS, WIDTH, config.vocab_size)
    assert output.seq_relationship_logits.shape == (ROWS, 2)
    assert output.loss is output.mlm_loss is output.nsp_loss is None
    assert output.hidden_states is output.attentions is None


def test_with_labels_scores_are_those_of_labelled_positions_in_reading_order(model, batch, labels):
    everywhere = model(**batch).prediction_logits
    output = model(**batch, labels=labels)
    torch.testing.assert_close(
        output.prediction_logits, everywhere[labels != -100], atol=2e-6, rtol=0
    )
    expected = cross_entropy_by_hand(everywhere.flatten(0, 1), labels.flatten())
    count = (labels != -100).sum()
    torch.testing.assert_close(output.mlm_loss.double(), expected / count, atol=1e-6, rtol=0)


def test_positions_with_their_labels_equal_labels_everywhere(model, batch, labels):
    positions = (labels.flatten() != -100).nonzero()[:, 0]
    picked = labels.flatten()[positions]
    filler = torch.zeros(3, dtype=torch.int64)
    expected = model(**batch, labels=labels, next_sentence_label=PAIRS)
    output = model(
        **batch,
        masked_positions=torch.cat([positions, filler]),
        labels=torch.cat([picked, filler - 100]),
        next_sentence_label=PAIRS,
    )
    assert output.prediction_logits.shape[0] == len(positions) + 3
    torch.testing.assert_close(output.prediction_logits[:-3], expected.prediction_logits)
    torch.testing.assert_close(output.loss, expected.loss)
    gradients = []
    for result in (expected, output):
        model.zero_grad()
        result.loss.backward()
        gradients.append([p.grad.clone() for p in model.parameters()])
    for one, other in zip(*gradients, strict=True):
        torch.testing.assert_close(one, other, atol=1e-6, rtol=1e-4)


def test_positions_without_labels_give_scores_and_no_loss(model, batch):
    positions = torch.tensor([2, 40, 41])
    output = model(**batch, masked_positions=positions)
    everywhere = model(**batch).prediction_logits.flatten(0, 1)
    torch.testing.assert_close(output.prediction_logits, everywhere[positions], atol=2e-6, rtol=0)
    assert output.loss is None


def test_loss_is_the_sum_of_those_whose_labels_are_given(model, batch, labels):
    both = model(**batch, labels=labels, next_sentence_label=PAIRS)
    torch.testing.assert_close(both.loss, both.mlm_loss + both.nsp_loss)
    words = model(**batch, labels=labels)
    torch.testing.assert_close(words.loss, both.mlm_loss)
    assert words.nsp_loss is None
    pairs = model(**batch, next_sentence_label=PAIRS)
    torch.testing.assert_close(pairs.loss, both.nsp_loss)
    assert pairs.mlm_loss is None


def test_a_batch_with_nothing_masked_trains_on_pairs_alone(model, batch, labels):
    output = model(**batch, labels=torch.full_like(labels, -100), next_sentence_label=PAIRS)
    assert output.mlm_loss.item() == 0.0
    assert output.prediction_logits.shape[0] == 0
    output.loss.backward()
    assert not model.mlm_head.dense.weight.grad.any()
    assert model.nsp_head.classifier.weight.grad.any()


def test_labels_of_the_wrong_shape_are_refused(model, batch, labels):
    with pytest.raises(InputError, match=r"must be \[B, S\] = \[5, 17\]; got \[85\]"):
        model(**batch, labels=labels.flatten())
    with pytest.raises(InputError, match=r"with masked_positions \[2\].*got \[5, 17\]"):
        model(**batch, masked_positions=torch.tensor([1, 2]), labels=labels)


def test_packed_rows_have_the_losses_of_padded_rows(model, batch, labels):
    real = batch["attention_mask"] == 1
    lengths = real.sum(1)
    starts = torch.cat([torch.zeros(1, dtype=torch.int64), lengths.cumsum(0)]).int()
    packed = model(
        batch["input_ids"][real][None],
        batch["token_type_ids"][real][None],
        row_starts=starts,
        labels=labels[real][None],
        next_sentence_label=PAIRS,
    )
    padded = model(**batch, labels=labels, next_sentence_label=PAIRS)
    torch.testing.assert_close(packed.mlm_loss, padded.mlm_loss)
    torch.testing.assert_close(packed.nsp_loss, padded.nsp_loss)


def test_models_with_one_head_agree_with_the_one_with_both(model, config, batch, labels):
    both = model(**batch, labels=labels, next_sentence_label=PAIRS)
    words = BertForMaskedLM(config).eval()
    state = model.state_dict()
    words.load_state_dict({name: state[name] for name in words.state_dict()})
    output = words(**batch, labels=labels)
    torch.testing.assert_close(output.loss, both.mlm_loss)
    assert torch.equal(output.logits, both.prediction_logits)
    assert words.bert.pooler is None
    pairs = BertForNextSentencePrediction(config).eval()
    pairs.load_state_dict({name: state[name] for name in pairs.state_dict()})
    output = pairs(**batch, labels=PAIRS)
    torch.testing.assert_close(output.loss, both.nsp_loss)
    assert torch.equal(output.logits, both.seq_relationship_logits)


def test_loss_is_float32_under_bfloat16_autocast(model, batch, labels):
    expected = model(**batch, labels=labels, next_sentence_label=PAIRS)
    with torch.autocast("cpu", torch.bfloat16):
        output = model(**batch, labels=labels, next_sentence_label=PAIRS)
    assert output.loss.dtype == torch.float32
    torch.testing.assert_close(output.loss, expected.loss, atol=0.05, rtol=0)


def test_outputs_cannot_be_changed_or_unpacked(model, batch):
    output = model(**batch)
    with pytest.raises(dataclasses.FrozenInstanceError):
        output.loss = None
    with pytest.raises(TypeError):
        tuple(output)


@pytest.mark.parametrize(
    "model_class", [BertForPreTraining, BertForMaskedLM, BertForNextSentencePrediction]
)
def test_heads_begin_with_the_configured_spread(model_class) -> None:
    config = BertConfig.preset("tiny", vocab_size=61, initializer_range=0.05)
    heads = [(n, p) for n, p in model_class(config).named_parameters() if "head" in n]
    assert heads
    for name, parameter in heads:
        if name.endswith("bias") and "norm" not in name:
            assert not parameter.any(), name
        if name.endswith("weight") and parameter.ndim == 2:
            assert 0.03 < parameter.std() < 0.07, name
