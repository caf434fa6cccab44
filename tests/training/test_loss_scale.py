"""Pins loss scaling: torch's own rule, no update on overflow, and float16 learning as float32 does.

CPU only: `pytest tests/training/test_loss_scale.py`.
"""

from __future__ import annotations

import copy

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from bert_scratch.batch import Batch
from bert_scratch.model.heads import BertForPreTraining
from bert_scratch.training import loss_scale as module
from bert_scratch.training.loss_scale import INITIAL_SCALE, LOWEST_SCALE, LossScale
from bert_scratch.training.objective import PRETRAINING
from bert_scratch.training.optimizer import build_optimizer
from bert_scratch.training.runtime import Runtime
from bert_scratch.training.step import NonFinite, StepResult, Updater

CPU = torch.device("cpu")
OVERFLOWING = 2.0**40
"""No float16 holds a gradient so much larger than 1."""


class Learner:
    """A model being trained, a step at a time."""

    def __init__(self, model: BertForPreTraining, batch: Batch, dtype: torch.dtype) -> None:
        self.model, self.batch = copy.deepcopy(model), batch
        self.runtime = Runtime(device=CPU, dtype=dtype, num_threads=1)
        self.optimizer = build_optimizer(
            self.model, learning_rate=0.0, weight_decay=0.1, betas=(0.9, 0.98), epsilon=1e-6,
            bias_correction=True,
        )  # fmt: skip
        self.loss_scale = LossScale(CPU) if dtype == torch.float16 else None
        self.steps = 0

    def step(self) -> StepResult:
        updater = Updater(
            model=self.model, optimizer=self.optimizer, objective=PRETRAINING, runtime=self.runtime,
            seed=0, micro_batch_size=4, max_grad_norm=1.0, loss_scale=self.loss_scale,
        )  # fmt: skip
        result = updater.update(self.batch, step=self.steps, learning_rate=1e-3).result()
        self.steps += 1
        return result


@given(overflows=st.lists(st.booleans(), max_size=40), interval=st.integers(1, 5))
def test_scale_follows_the_rule_of_torch(overflows: list[bool], interval: int) -> None:
    scale, growth = torch.tensor(INITIAL_SCALE), torch.tensor(0, dtype=torch.int32)
    ours = LossScale(CPU)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "GROWTH_INTERVAL", interval)
        for overflowed in overflows:
            found = torch.tensor(float(overflowed))
            ours.adapt(found)
            torch._amp_update_scale_(scale, growth, found, 2.0, 0.5, interval)
            assert ours.state() == {"scale": scale.item(), "updates_since": growth.item()}


def test_overflow_leaves_everything_but_the_scale_as_it_was(
    model: BertForPreTraining, batch: Batch
) -> None:
    learner = Learner(model, batch, torch.float16)
    assert learner.loss_scale is not None
    learner.loss_scale.scale.fill_(OVERFLOWING)
    result = learner.step()
    assert result.overflowed
    assert learner.loss_scale.scale.item() == OVERFLOWING / 2
    weights = zip(model.parameters(), learner.model.parameters(), strict=True)
    assert all(torch.equal(before, after) for before, after in weights)
    while learner.step().overflowed:
        pass
    assert not all(
        torch.equal(before, after)
        for before, after in zip(model.parameters(), learner.model.parameters(), strict=True)
    )


def test_float16_learns_as_float32_does(model: BertForPreTraining, batch: Batch) -> None:
    half, full = Learner(model, batch, torch.float16), Learner(model, batch, torch.float32)
    while half.step().overflowed:
        pass
    full.step()
    for _ in range(20):
        in_half, in_full = half.step(), full.step()
        assert in_half.sums[0] == pytest.approx(in_full.sums[0], rel=1e-2)
        assert in_half.grad_norm == pytest.approx(in_full.grad_norm, rel=5e-2)
    assert in_full.sums[0] < 0.9 * full.batch.masked_labels.numel() * 4.1


def test_gradients_that_overflow_without_any_scale_are_a_failure(
    model: BertForPreTraining, batch: Batch
) -> None:
    learner = Learner(model, batch, torch.float16)
    assert learner.loss_scale is not None
    learner.loss_scale.scale.fill_(LOWEST_SCALE)
    for parameter in learner.model.parameters():
        parameter.register_hook(lambda gradient: gradient * float("inf"))
    with pytest.raises(NonFinite, match="gradient norm"):
        learner.step()


def test_infinite_loss_is_a_failure_at_any_scale(model: BertForPreTraining, batch: Batch) -> None:
    learner = Learner(model, batch, torch.float16)
    with torch.no_grad():
        learner.model.mlm_head.decoder.bias.fill_(float("inf"))
    with pytest.raises(NonFinite, match="mlm_loss"):
        learner.step()


def test_state_is_what_a_restored_scale_goes_on_from() -> None:
    one, other = LossScale(CPU), LossScale(CPU)
    for overflowed in (1.0, 0.0, 0.0):
        one.adapt(torch.tensor(overflowed))
    other.load(one.state())
    assert other.state() == one.state() == {"scale": INITIAL_SCALE / 2, "updates_since": 2.0}
