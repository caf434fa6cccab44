"""A size that a GPU's memory does not hold has no speed, and a plan with it names the flag.
Runs anywhere: `pytest tests/pretraining/test_step_probe.py`."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from bert_scratch.config import BertConfig
from bert_scratch.pretraining import step_probe
from bert_scratch.training.runtime import Runtime

RUNTIME = Runtime(device=torch.device("cpu"), dtype=torch.float32, num_threads=1)
SHAPE = BertConfig.preset("tiny", vocab_size=97)


def test_a_size_beyond_the_memory_has_no_speed(monkeypatch: pytest.MonkeyPatch) -> None:
    def too_large(*_: Any, **__: Any) -> Any:
        raise torch.OutOfMemoryError("CUDA out of memory")

    assert step_probe.measure_tokens_per_s(SHAPE, runtime=RUNTIME, rows=2, seq_length=16) > 0
    monkeypatch.setattr(step_probe, "probe_step", too_large)
    assert step_probe.measure_tokens_per_s(SHAPE, runtime=RUNTIME, rows=2, seq_length=16) == 0


def test_what_does_not_fit_is_said_with_what_to_do() -> None:
    error = str(step_probe.does_not_fit(8, torch.device("cuda")))
    assert "--micro-batch-size 8 does not fit in the memory of cuda" in error
    assert "--activation-checkpointing" in error
