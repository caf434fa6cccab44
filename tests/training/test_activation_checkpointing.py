"""Pins what recomputing layers changes: the memory that is held, and not one bit of the result.

CPU only: `pytest tests/training/test_activation_checkpointing.py`.
"""

from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor

from bert_scratch.batch import Batch
from bert_scratch.config import BertConfig
from bert_scratch.model.heads import BertForPreTraining
from bert_scratch.training.objective import PRETRAINING
from bert_scratch.training.runtime import Runtime, seed_dropout


def gradients(model: BertForPreTraining, batch: Batch, dtype: torch.dtype) -> list[Tensor]:
    runtime = Runtime(device=torch.device("cpu"), dtype=dtype, num_threads=1)
    model = copy.deepcopy(model)
    seed_dropout(1, step=2, micro_step=3)
    with runtime.autocast():
        loss, sums = PRETRAINING.loss(model, batch, PRETRAINING.counts(batch))
    torch.autograd.backward(loss)
    return [sums, *(p.grad for p in model.parameters() if p.grad is not None)]


@pytest.fixture
def model(bert_config: BertConfig) -> BertForPreTraining:
    """A model with dropout, in training."""
    torch.manual_seed(0)
    rates = {"hidden_dropout_prob": 0.2, "attention_probs_dropout_prob": 0.3}
    return BertForPreTraining(bert_config.replace(**rates)).train()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_recomputing_layers_gives_the_same_bits_with_dropout(
    model: BertForPreTraining, batch: Batch, dtype: torch.dtype
) -> None:
    kept = gradients(model, batch, dtype)
    model.bert.activation_checkpointing = True
    recomputed = gradients(model, batch, dtype)
    assert len(kept) == len(recomputed) == 1 + len(list(model.parameters()))
    assert all(torch.equal(one, other) for one, other in zip(kept, recomputed, strict=True))


def test_only_the_inputs_of_layers_are_held(model: BertForPreTraining, batch: Batch) -> None:

    def bytes_held() -> int:
        held: dict[int, int] = {}

        def pack(tensor: Tensor) -> Tensor:
            held[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
            model.bert(batch.input_ids, batch.token_type_ids, batch.attention_mask)
        return sum(held.values())

    everything = bytes_held()
    model.bert.activation_checkpointing = True
    assert bytes_held() < everything / 2


def test_layers_are_recomputed_in_training_only(model: BertForPreTraining, batch: Batch) -> None:
    model.bert.activation_checkpointing = True
    calls: list[int] = []
    for index, layer in enumerate(model.bert.layers):
        layer.register_forward_pre_hook(lambda *_, index=index: calls.append(index))
    torch.autograd.backward(model(batch.input_ids).prediction_logits.sum())
    assert calls == [0, 1, 1, 0]
    calls.clear()
    torch.autograd.backward(model.eval()(batch.input_ids).prediction_logits.sum())
    assert calls == [0, 1]
