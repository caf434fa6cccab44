"""Pins the pretraining loss against Hugging Face's and its independence of how a batch is cut.
CPU only: `pytest tests/training/test_objective.py`."""

from __future__ import annotations

import dataclasses

import pytest
import torch
import torch.nn.functional as F

from bert_scratch.batch import PREDICTION_MULTIPLE, Batch
from bert_scratch.model.heads import BertForPreTraining
from bert_scratch.model.huggingface import config_to_hf, to_hf
from bert_scratch.training.objective import PRETRAINING

COUNTS = torch.tensor([13.0, 6.0])


def named(sums: torch.Tensor) -> dict[str, float]:
    return dict(zip(PRETRAINING.sum_names, sums.tolist(), strict=True))


def gradients(model: BertForPreTraining, batch: Batch, size: int) -> list[torch.Tensor]:
    model.zero_grad()
    for part in batch.split(size):
        loss, _ = PRETRAINING.loss(model, part, COUNTS)
        loss.backward()
    return [p.grad.clone() for p in model.parameters() if p.grad is not None]


@pytest.mark.parametrize("size", [1, 2, 4, 5])
def test_micro_batches_give_the_gradients_of_one_batch(
    model: BertForPreTraining, batch: Batch, size: int
) -> None:
    for whole, cut in zip(gradients(model, batch, 6), gradients(model, batch, size), strict=True):
        torch.testing.assert_close(cut, whole, atol=1e-6, rtol=1e-5)


def test_loss_is_the_sum_of_both_means(model: BertForPreTraining, batch: Batch) -> None:
    loss, sums = PRETRAINING.loss(model, batch, COUNTS)
    total = named(sums)
    assert (total["mlm_count"], total["nsp_count"]) == (13, 6)
    assert float(loss.detach()) == pytest.approx(total["mlm_loss"] / 13 + total["nsp_loss"] / 6)


def test_loss_equals_hugging_face(model: BertForPreTraining, batch: Batch) -> None:
    transformers = pytest.importorskip("transformers")
    config = transformers.BertConfig(**config_to_hf(model.config, "BertForPreTraining"))
    theirs = transformers.BertForPreTraining(config)
    theirs.load_state_dict(to_hf(model.state_dict(), model.config), strict=False)
    labels = torch.full((6 * 16,), -100)
    labels[batch.masked_positions] = batch.masked_labels
    with torch.no_grad():
        expected = theirs.eval()(
            input_ids=batch.input_ids,
            token_type_ids=batch.token_type_ids,
            attention_mask=batch.attention_mask,
            labels=labels.view(6, 16),
            next_sentence_label=batch.next_sentence_label,
        ).loss
    loss, _ = PRETRAINING.loss(model, batch, COUNTS)
    torch.testing.assert_close(loss, expected, atol=1e-5, rtol=0)


def test_accuracies_count_the_labels_that_score_highest(
    model: BertForPreTraining, batch: Batch
) -> None:
    output = model(
        batch.input_ids,
        batch.token_type_ids,
        batch.attention_mask,
        masked_positions=batch.masked_positions,
    )
    best = output.prediction_logits.argmax(dim=1)
    labels = best.clone()
    labels[:5] = (labels[:5] + 1) % 61
    known = dataclasses.replace(batch, masked_labels=labels)
    _, sums = PRETRAINING.loss(model, known, COUNTS)
    assert named(sums)["mlm_correct"] == 8


def test_filler_slots_change_nothing(model: BertForPreTraining, batch: Batch) -> None:
    filled = dataclasses.replace(
        batch,
        masked_positions=F.pad(batch.masked_positions, (0, 40)),
        masked_labels=F.pad(batch.masked_labels, (0, 40), value=-100),
    )
    loss, sums = PRETRAINING.loss(model, batch, COUNTS)
    other, other_sums = PRETRAINING.loss(model, filled, COUNTS)
    torch.testing.assert_close(other, loss)
    torch.testing.assert_close(other_sums, sums)


def test_numbers_of_predictions_recur(model: BertForPreTraining, batch: Batch) -> None:
    computed = []
    model.mlm_head.register_forward_hook(lambda *args: computed.append(len(args[-1])))
    for number in range(1, 14):
        few = {
            name: getattr(batch, name)[:number] for name in ("masked_positions", "masked_labels")
        }
        PRETRAINING.loss(model, dataclasses.replace(batch, **few), COUNTS)
    assert computed == [PREDICTION_MULTIPLE] * 13


def test_without_pairs_the_loss_is_that_of_masked_tokens(
    model: BertForPreTraining, batch: Batch
) -> None:
    single = dataclasses.replace(batch, next_sentence_label=None)
    loss, sums = PRETRAINING.loss(model, single, COUNTS)
    assert float(loss.detach()) == pytest.approx(sums[0].item() / 13)
    assert sums[3:].tolist() == [0.0, 0.0, 0.0]


def test_counts_are_those_of_labels_not_of_filler_slots(batch: Batch) -> None:
    filled = dataclasses.replace(
        batch, masked_labels=F.pad(batch.masked_labels, (0, 3), value=-100)
    )
    assert PRETRAINING.counts(filled).tolist() == [13, 6]
    single = dataclasses.replace(batch, next_sentence_label=None)
    assert PRETRAINING.counts(single).tolist() == [13, 0]


def test_means_are_over_predictions_and_over_pairs() -> None:
    values = PRETRAINING.means([30.0, 4.0, 10.0, 6.0, 3.0, 4.0])
    assert values["mlm_loss"] == 3.0
    assert values["mlm_accuracy"] == 0.4
    assert values["nsp_loss"] == 1.5
    assert values["nsp_accuracy"] == 0.75
    assert values["loss"] == 4.5


def test_means_without_pairs_leave_pairs_out() -> None:
    values = PRETRAINING.means([30.0, 4.0, 10.0, 0.0, 0.0, 0.0])
    assert "nsp_loss" not in values
    assert values["loss"] == 3.0
