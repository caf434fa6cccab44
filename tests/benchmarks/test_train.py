"""Both sides of the training benchmark compute the same loss, and ours runs on a GPU, as far as
shapes and devices go. Runs anywhere: `pytest tests/benchmarks/test_train.py`."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import pytest
import torch
from torch._subclasses.fake_tensor import DataDependentOutputException

from bert_scratch.model.heads import BertForPreTraining
from bert_scratch.training.runtime import Runtime

OPTIONS = argparse.Namespace(
    preset="tiny", vocab_size=97, dropout=0.1, train_batch_size=4, max_seq_length=16
)


@pytest.fixture(scope="module")
def benchmark(repository: Path) -> Any:
    """The script, which finds others beside itself."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(repository / "benchmarks"))
        import train

        yield train


def test_arms_compute_the_same_loss_and_step(benchmark: Any) -> None:
    config = benchmark.shape(OPTIONS)
    batch = benchmark.make_batch(OPTIONS, config.vocab_size)
    runtime = Runtime(device=torch.device("cpu"), dtype=torch.float32, num_threads=1)
    arms = {name: benchmark.build(name, config, batch, runtime) for name in ("ours", "sdpa")}
    losses = {name: arm.loss() for name, arm in arms.items()}
    benchmark.check_equal(losses, benchmark.LOSS_TOLERANCE["float32"])
    for name, arm in arms.items():
        arm.step()
        assert arm.loss() != losses[name]


def test_our_arm_mixes_no_devices(
    benchmark: Any,
    fake_gpu: Callable[..., AbstractContextManager[torch.device]],
) -> None:
    config = benchmark.shape(OPTIONS)
    batch = benchmark.make_batch(OPTIONS, config.vocab_size)
    model = BertForPreTraining(config)
    with fake_gpu(model) as device:
        runtime = Runtime(device=device, dtype=torch.float32, num_threads=1)
        arm = benchmark.ours("ours", model, batch, runtime)
        arm.step()
        with pytest.raises(DataDependentOutputException):  # it came as far as the number
            arm.loss()
