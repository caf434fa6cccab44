"""Pins what the prediction of memory says against what autograd holds, and where free memory is
looked up. CPU only: `pytest tests/training/test_memory.py`."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import Tensor

from bert_scratch.batch import Batch
from bert_scratch.config import BertConfig
from bert_scratch.model.heads import BertForPreTraining
from bert_scratch.training import memory
from bert_scratch.training.memory import StepMemory, free_bytes
from bert_scratch.training.objective import PRETRAINING
from bert_scratch.training.runtime import Runtime

CPU = torch.device("cpu")
SEQ_LENGTH, PREDICTED_PER_ROW = 48, 12


def runtime(dtype: torch.dtype = torch.float32) -> Runtime:
    return Runtime(device=CPU, dtype=dtype, num_threads=1)


def rows_of(count: int) -> Batch:
    ids = torch.randint(5, 500, (count, SEQ_LENGTH))
    columns = torch.arange(0, SEQ_LENGTH, SEQ_LENGTH // PREDICTED_PER_ROW)
    positions = (columns + SEQ_LENGTH * torch.arange(count)[:, None]).flatten()
    return Batch(
        input_ids=ids,
        token_type_ids=torch.zeros_like(ids),
        attention_mask=torch.ones_like(ids),
        masked_positions=positions,
        masked_labels=ids.flatten()[positions],
        next_sentence_label=torch.zeros(count, dtype=torch.int64),
        example_ids=torch.zeros(count, 2, dtype=torch.int64),
        num_tokens=ids.numel(),
    )


def held_by_autograd(model: BertForPreTraining, batch: Batch, runtime: Runtime) -> int:
    """Return the bytes kept for backward, each storage once, the weights left out."""
    weights = {parameter.untyped_storage().data_ptr() for parameter in model.parameters()}
    held: dict[int, Tensor] = {}

    def pack(tensor: Tensor) -> Tensor:
        held.setdefault(tensor.untyped_storage().data_ptr(), tensor)
        return tensor

    hooks = torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor)
    with hooks, runtime.autocast():
        loss, _ = PRETRAINING.loss(model, batch, PRETRAINING.counts(batch))
    assert loss.requires_grad
    kept = [t.untyped_storage().nbytes() for place, t in held.items() if place not in weights]
    return sum(kept)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("activation_checkpointing", [False, True])
@pytest.mark.parametrize("dropout", [0.0, 0.1])
def test_prediction_counts_what_autograd_holds_for_a_token(
    dtype: torch.dtype, activation_checkpointing: bool, dropout: float
) -> None:
    config = BertConfig.preset(
        "tiny", vocab_size=500, num_hidden_layers=3, max_position_embeddings=64,
        hidden_dropout_prob=dropout, attention_probs_dropout_prob=dropout,
    )  # fmt: skip
    model = BertForPreTraining(config).train()
    model.bert.activation_checkpointing = activation_checkpointing
    fewer, more = (held_by_autograd(model, rows_of(n), runtime(dtype)) for n in (64, 128))
    predicted = StepMemory(
        config=config,
        runtime=runtime(dtype),
        seq_length=SEQ_LENGTH,
        masked_lm_prob=PREDICTED_PER_ROW / SEQ_LENGTH,
        activation_checkpointing=activation_checkpointing,
    )
    assert predicted.held_bytes == pytest.approx((more - fewer) / (64 * SEQ_LENGTH), rel=0.02)


def of_base(**changes: int) -> StepMemory:
    settings = {"activation_checkpointing": False, **changes}
    config = BertConfig.preset("base", vocab_size=30522)
    return StepMemory(
        config=config,
        runtime=runtime(torch.bfloat16),
        seq_length=128,
        masked_lm_prob=0.15,
        **settings,
    )


def test_rows_that_fit_need_no_more_than_the_usable_share() -> None:
    step = of_base()
    rows = step.rows_that_fit(20 * 10**9)
    usable = memory.USABLE_SHARE * 20 * 10**9
    assert step.predicted_peak_bytes(rows) <= usable < step.predicted_peak_bytes(rows + 1)
    assert step.rows_that_fit(0) == 1


def test_recomputing_layers_lets_several_times_the_rows_fit() -> None:
    recomputing = of_base(activation_checkpointing=True)
    assert recomputing.rows_that_fit(10**10) > 3 * of_base().rows_that_fit(10**10)


def test_a_container_limit_counts_and_its_file_cache_is_free(tmp_path: Path) -> None:
    assert memory._left_in_container(str(tmp_path)) > 2**60
    (tmp_path / "memory.max").write_text("max\n")
    (tmp_path / "memory.current").write_text("700\n")
    assert memory._left_in_container(str(tmp_path)) > 2**60
    (tmp_path / "memory.max").write_text("1000\n")
    (tmp_path / "memory.stat").write_text("anon 600\ninactive_file 50\n")
    assert memory._left_in_container(str(tmp_path)) == 350


def test_free_memory_is_a_part_of_the_machine() -> None:
    assert 2**20 < free_bytes(CPU) < 2**50


PEAKS = """
import torch
from bert_scratch.training.memory import measured_peak_bytes, reset_peak

CPU = torch.device("cpu")
torch.ones(2**26).sum()
high = measured_peak_bytes(CPU)
reset_peak(CPU)
low = measured_peak_bytes(CPU)
torch.ones(2**24).sum()
print(high, low, measured_peak_bytes(CPU))
"""


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="needs Linux")
def test_peak_counts_from_the_reset_on() -> None:
    """In a process of its own: this one's allocator may keep what is freed."""
    run = subprocess.run([sys.executable, "-c", PEAKS], capture_output=True, text=True, check=True)
    high, low, later = map(int, run.stdout.split())
    assert high - low > 2**27
    assert later - low > 2**25


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB"),
        torch.AcceleratorError("CUDA error: out of memory", 2),
        RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling cublasCreate"),
        RuntimeError("Triton Error [CUDA]: out of memory"),
    ],
)
def test_a_lack_of_memory_is_one_in_whatever_words(error: RuntimeError) -> None:
    def attempt() -> None:
        raise error

    assert memory.within_memory(attempt) is None


def test_another_error_is_no_lack_of_memory() -> None:
    def attempt() -> None:
        raise RuntimeError("CUDA error: an illegal memory access was encountered")

    with pytest.raises(RuntimeError, match="illegal"):
        memory.within_memory(attempt)


def test_ranks_hold_the_sums_of_their_gradients_too() -> None:
    alone, shared = of_base(), of_base(world_size=2)
    parameters = sum(p.numel() for p in BertForPreTraining(alone.config).parameters())
    assert shared.state_bytes - alone.state_bytes == 4 * parameters


def test_a_container_limits_what_is_free(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "_left_in_container", lambda: 5)
    assert free_bytes(torch.device("cpu")) == 5
