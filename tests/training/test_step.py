"""Pins one update and evaluation in a single process: cutting a batch changes no update, what is
not finite is not learned from and is named. Several ranks: tests/integration/test_ranks.py.
Runs anywhere: `pytest tests/training/test_step.py`."""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Callable
from contextlib import AbstractContextManager
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch._subclasses.fake_tensor import DataDependentOutputException

from bert_scratch.batch import Batch
from bert_scratch.config import BertConfig
from bert_scratch.model.heads import BertForPreTraining
from bert_scratch.training import step as step_module
from bert_scratch.training.all_reduce import AllReduce
from bert_scratch.training.compiled import FewShapes
from bert_scratch.training.interruption import StopRequest
from bert_scratch.training.loss_scale import LossScale
from bert_scratch.training.objective import PRETRAINING, PretrainingObjective
from bert_scratch.training.optimizer import build_optimizer
from bert_scratch.training.packing import PackedRows
from bert_scratch.training.runtime import Runtime
from bert_scratch.training.step import (
    NonFinite,
    StepResult,
    Updater,
    evaluation_sums,
)

RUNTIME = Runtime(device=torch.device("cpu"), dtype=torch.float32, num_threads=1)


def optimizer_of(model: BertForPreTraining, **changes: Any) -> torch.optim.Optimizer:
    usual = {"learning_rate": 0.0, "weight_decay": 0.1, "betas": (0.9, 0.98), "epsilon": 1e-6}
    return build_optimizer(model, **({"bias_correction": True} | usual | changes))


def updater_of(model: BertForPreTraining, **changes: Any) -> Updater[Batch]:
    usual = {"objective": PRETRAINING, "runtime": RUNTIME, "micro_batch_size": 6}
    changes = {"optimizer": optimizer_of(model)} | usual | changes
    return Updater(model=model, seed=1, max_grad_norm=1.0, **changes)


def updated(
    model: BertForPreTraining, batch: Batch, *, micro_batch_size: int = 6, objective=PRETRAINING
) -> tuple[BertForPreTraining, StepResult]:
    model = copy.deepcopy(model)
    updater = updater_of(model, micro_batch_size=micro_batch_size, objective=objective)
    return model, updater.update(batch, step=3, learning_rate=1e-2).result()


@pytest.mark.parametrize("micro_batch_size", [1, 2, 4])
def test_micro_batches_make_the_update_of_the_whole(
    micro_batch_size: int, model: BertForPreTraining, batch: Batch
) -> None:
    _, whole = updated(model, batch)
    _, cut = updated(model, batch, micro_batch_size=micro_batch_size)
    assert cut.sums == pytest.approx(whole.sums, rel=1e-5)
    assert cut.grad_norm == pytest.approx(whole.grad_norm, rel=1e-5)
    assert cut.num_tokens == whole.num_tokens == batch.num_tokens
    assert cut.num_positions <= whole.num_positions == batch.num_positions


def test_infinite_loss_changes_no_weight_and_names_step_and_examples(
    model: BertForPreTraining, batch: Batch
) -> None:
    class Infinite:
        sum_names, counts = PRETRAINING.sum_names, staticmethod(PRETRAINING.counts)

        def loss(self, *arguments):
            loss, sums = PRETRAINING.loss(*arguments)
            return loss * torch.inf, sums * torch.inf

    before = copy.deepcopy(model.state_dict())
    with pytest.raises(NonFinite, match=r"step 3: .*mlm_loss inf.*epoch:slot") as caught:
        updated(model, batch, objective=Infinite())
    assert caught.value.num_tokens == batch.num_tokens
    assert "rank" not in str(caught.value)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_batch_without_labels_divides_by_no_zero(model: BertForPreTraining, batch: Batch) -> None:
    empty = torch.empty(0, dtype=torch.int64)
    bare = Batch(
        **{**vars(batch), "masked_positions": empty, "masked_labels": empty}  # only pairs are left
    )
    _, result = updated(model, bare)
    assert dict(zip(PRETRAINING.sum_names, result.sums, strict=True))["mlm_count"] == 0


@pytest.mark.filterwarnings("ignore:CUDA is not available")
@pytest.mark.parametrize("dropout", [0.0, 0.1])
@pytest.mark.parametrize(
    "arrange",
    [
        FewShapes(max_seq_length=16, masked_lm_prob=0.3),
        PackedRows(max_seq_length=16, masked_lm_prob=0.3, for_compiler=False),
    ],
)
@pytest.mark.parametrize(
    ("optimizer", "dtype"),
    [("adamw", torch.float32), ("google", torch.bfloat16), ("muon", torch.float16)],
)
def test_an_update_mixes_no_devices_and_asks_a_gpu_for_no_number(
    dropout: float,
    arrange: Callable[[Batch], Batch],
    optimizer: str,
    dtype: torch.dtype,
    bert_config: BertConfig,
    batch: Batch,
    fake_gpu: Callable[..., AbstractContextManager[torch.device]],
) -> None:
    config = dataclasses.replace(
        bert_config, hidden_dropout_prob=dropout, attention_probs_dropout_prob=dropout
    )
    model = BertForPreTraining(config).train()
    batch = arrange(batch)
    with fake_gpu(model) as device:
        built = optimizer_of(
            model,
            bias_correction=optimizer != "google",
            muon_dtype=dtype if optimizer == "muon" else None,
        )
        updater = updater_of(
            model,
            optimizer=built,
            runtime=Runtime(device=device, dtype=dtype, num_threads=1),
            loss_scale=LossScale(device) if dtype == torch.float16 else None,
        )
        for step in range(2):
            made = updater.update(batch, step=step, learning_rate=1e-3)
        assert made.own_sums.device.type == made.own_norm.device.type == "cuda"
        with pytest.raises(DataDependentOutputException):  # here the host would wait
            made.own_norm.item()
        with pytest.raises(RuntimeError, match="on the same device"):
            made.own_norm + torch.zeros(1)


@pytest.mark.gpu
@pytest.mark.filterwarnings("ignore:Synchronization debug mode")
@pytest.mark.parametrize("micro_batch_size", [6, 4])
def test_the_host_waits_for_nothing_on_a_gpu(
    micro_batch_size: int, model: BertForPreTraining, batch: Batch
) -> None:
    device = torch.device("cuda")
    runtime = Runtime(device=device, dtype=torch.float32, num_threads=1)
    updater = updater_of(model.to(device), runtime=runtime, micro_batch_size=micro_batch_size)
    updater.update(batch, step=0, learning_rate=1e-3).result()
    torch.cuda.set_sync_debug_mode("error")
    try:
        made = updater.update(batch, step=1, learning_rate=1e-3)
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert made.result().num_tokens == batch.num_tokens


def test_sums_are_those_of_all_batches_and_a_stop_ends_them(
    model: BertForPreTraining, batch: Batch
) -> None:
    model.eval()
    once = evaluation_sums(model, [batch], objective=PRETRAINING, runtime=RUNTIME)
    twice = evaluation_sums(model, [batch, batch], objective=PRETRAINING, runtime=RUNTIME)
    assert twice == pytest.approx([2 * value for value in once])
    stop = StopRequest()
    stop.signal_name = "SIGTERM"
    stopped = evaluation_sums(model, [batch], objective=PRETRAINING, runtime=RUNTIME, stop=stop)
    assert stopped == [0.0] * len(once)


def test_each_rank_and_micro_batch_has_dropout_of_its_own(
    model: BertForPreTraining, batch: Batch, monkeypatch: pytest.MonkeyPatch
) -> None:
    seeds = []
    monkeypatch.setattr(step_module, "seed_dropout", lambda _seed, **where: seeds.append(where))
    all_reduce = AllReduce()
    all_reduce.ranks = SimpleNamespace(rank=3, world_size=1)
    updater = updater_of(model, micro_batch_size=3, all_reduce=all_reduce)
    updater.update(batch, step=5, learning_rate=0.0)
    assert seeds == [{"step": 5, "micro_step": n, "rank": 3} for n in (0, 1)]


def test_positions_are_those_of_all_micro_batches(model: BertForPreTraining, batch: Batch) -> None:
    _, result = updated(model, batch, micro_batch_size=2)
    assert result.num_positions == sum(piece.num_positions for piece in batch.split(2))


def test_evaluation_computes_in_the_dtype_of_the_runtime(
    model: BertForPreTraining, batch: Batch
) -> None:
    class Noting(PretrainingObjective):
        def loss(self, *arguments: Any) -> Any:
            assert torch.is_autocast_enabled("cpu")
            return super().loss(*arguments)

    runtime = Runtime(device=torch.device("cpu"), dtype=torch.bfloat16, num_threads=1)
    assert any(evaluation_sums(model.eval(), [batch], objective=Noting(), runtime=runtime))


def test_muon_multiplies_in_the_dtype_it_is_given(model: BertForPreTraining) -> None:
    for dtype in (torch.float32, torch.bfloat16):
        assert optimizer_of(model, muon_dtype=dtype).arithmetic is dtype
