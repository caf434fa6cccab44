"""Pins that a compiled loss is the plain one, that filling up changes no gradient, and that the
shapes stay few. CPU only: `pytest tests/training/test_compiled.py`."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from bert_scratch.batch import Batch
from bert_scratch.model.heads import BertForPreTraining
from bert_scratch.training.compiled import MAX_PADDED_SHAPES, NUM_WIDTHS, Compiled, FewShapes
from bert_scratch.training.objective import PRETRAINING, Objective, PretrainingObjective
from bert_scratch.training.packing import PackedRows
from bert_scratch.training.runtime import Runtime, set_up

FILL_UP = FewShapes(max_seq_length=64, masked_lm_prob=0.2)


def gradients(
    model: BertForPreTraining,
    batch: Batch,
    objective: Objective[Batch] = PRETRAINING,
    seed: int = 5,
) -> tuple[Tensor, Tensor, list[Tensor]]:
    model.zero_grad()
    torch.manual_seed(seed)  # of dropout
    loss, sums = objective.loss(model, batch, PRETRAINING.counts(batch))
    loss.backward()
    return loss.detach(), sums, [p.grad.clone() for p in model.parameters() if p.grad is not None]


def test_filling_up_changes_neither_loss_nor_gradient(
    model: BertForPreTraining, batch: Batch
) -> None:
    narrow = batch.split(3)[1]
    assert narrow.input_ids.shape == (3, 16)
    filled = FewShapes(max_seq_length=16, masked_lm_prob=0.5)(narrow)
    assert len(filled.masked_positions) == 3 * 8 > len(narrow.masked_positions)
    for plain, other in zip(gradients(model, narrow), gradients(model, filled), strict=True):
        torch.testing.assert_close(other, plain, atol=1e-6, rtol=1e-5)


@given(num_rows=st.integers(1, 5), width=st.integers(1, 8), data=st.data())
def test_filled_up_batches_have_few_shapes_and_the_same_tokens(
    num_rows: int, width: int, data: st.DataObject
) -> None:
    width *= 8
    room = num_rows * max(1, round(width * FILL_UP.masked_lm_prob))
    flat = st.sets(st.integers(0, num_rows * width - 1), max_size=room)
    positions = torch.tensor(sorted(data.draw(flat)), dtype=torch.int64)
    ids = torch.arange(1, num_rows * width + 1).view(num_rows, width)
    batch = Batch(
        input_ids=ids,
        token_type_ids=torch.zeros_like(ids),
        attention_mask=torch.ones_like(ids),
        masked_positions=positions,
        masked_labels=ids.flatten()[positions],
        next_sentence_label=None,
        example_ids=torch.zeros(num_rows, 2, dtype=torch.int64),
        num_tokens=ids.numel(),
    )
    filled = FILL_UP(batch)
    wide = filled.input_ids.shape[1]
    assert wide in (16, 32, 48, 64) and width <= wide
    assert torch.equal(filled.input_ids[:, :width], ids)
    assert filled.attention_mask.sum() == batch.attention_mask.sum()
    assert len(filled.masked_positions) == num_rows * round(wide * FILL_UP.masked_lm_prob)
    is_real = filled.masked_labels != -100
    read = filled.input_ids.flatten()[filled.masked_positions]
    assert torch.equal(read[is_real], filled.masked_labels[is_real])
    assert torch.equal(read[is_real], batch.masked_labels)


@pytest.mark.slow
def test_compiled_loss_has_the_gradients_of_the_plain_one(
    model: BertForPreTraining, batch: Batch
) -> None:
    compiled = Compiled(PRETRAINING)
    for plain, other in zip(
        gradients(model, batch), gradients(model, batch, compiled), strict=True
    ):
        torch.testing.assert_close(other, plain, atol=1e-6, rtol=1e-4)


@pytest.mark.slow
def test_compiled_gradients_have_the_same_bits_every_time_on_two_threads(
    model: BertForPreTraining, batch: Batch
) -> None:
    # without what a run sets, the gradient of the embeddings is added up in any order
    cpu = Runtime(device=torch.device("cpu"), dtype=torch.float32, num_threads=2)
    set_up(cpu, deterministic=False)
    compiled = Compiled(PRETRAINING)
    first, *others = (gradients(model, batch, compiled)[2] for _ in range(50))
    for other in others:
        assert all(torch.equal(a, b) for a, b in zip(first, other, strict=True))


@pytest.mark.slow
def test_dropout_of_a_compiled_loss_is_a_function_of_the_seed(
    model: BertForPreTraining, batch: Batch
) -> None:
    shape = model.config.replace(hidden_dropout_prob=0.3, attention_probs_dropout_prob=0.3)
    dropping = BertForPreTraining(shape).train()
    compiled = Compiled(PRETRAINING, backend="aot_eager")
    one, same, other = (gradients(dropping, batch, compiled, seed)[2] for seed in (5, 5, 6))
    assert all(torch.equal(a, b) for a, b in zip(one, same, strict=True))
    assert not all(torch.equal(a, b) for a, b in zip(one, other, strict=True))


@pytest.mark.gpu
def test_gradients_of_compiled_micro_batches_add_up_on_a_gpu(
    model: BertForPreTraining, batch: Batch
) -> None:
    model = model.cuda()
    found = []
    for objective in (PRETRAINING, Compiled(PRETRAINING)):
        model.zero_grad()
        for micro_batch in batch.split(2):
            filled = FewShapes(max_seq_length=16, masked_lm_prob=0.5)(micro_batch)
            counts = PRETRAINING.counts(batch).cuda()
            loss, _ = objective.loss(model, filled.to(counts.device), counts)
            loss.backward()
        found.append([p.grad for p in model.parameters()])
    torch.testing.assert_close(found[1], found[0], atol=1e-5, rtol=1e-3)


def test_evaluation_is_not_compiled(model: BertForPreTraining, batch: Batch) -> None:
    class Noting(PretrainingObjective):
        was_compiling: bool | None = None

        def loss(self, *arguments: Any) -> tuple[Tensor, Tensor]:
            self.was_compiling = torch.compiler.is_compiling()
            return super().loss(*arguments)

    noting = Noting()
    Compiled(noting).loss(model.eval(), batch, PRETRAINING.counts(batch))
    assert noting.was_compiling is False


def test_there_are_no_more_shapes_than_may_be_compiled() -> None:
    longest = range(8, 129)
    fill_ups = [FewShapes(max_seq_length=length, masked_lm_prob=0.15) for length in longest]
    for fill_up in fill_ups:
        widths = {fill_up._width(width) for width in range(1, fill_up.max_seq_length + 1)}
        assert len(widths) <= NUM_WIDTHS == MAX_PADDED_SHAPES / 2
        assert max(widths) == fill_up.max_seq_length


@pytest.mark.slow
def test_compiled_loss_of_packed_rows_has_the_gradients_of_the_plain_one(
    model: BertForPreTraining, batch: Batch
) -> None:
    compiled = Compiled(PRETRAINING, backend="aot_eager")
    for micro_batch in batch.split(4):
        packed = PackedRows(max_seq_length=16, masked_lm_prob=0.2, for_compiler=True)(micro_batch)
        plain, other = gradients(model, micro_batch), gradients(model, packed, compiled)
        for mine, theirs in zip(other, plain, strict=True):
            torch.testing.assert_close(mine, theirs, atol=1e-6, rtol=1e-4)
