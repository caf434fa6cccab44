"""The machine a run computes on: device, dtype, threads, random seeds, and its arithmetic peak."""

from __future__ import annotations

import ctypes
import hashlib
import os
import sys
import time
from contextlib import AbstractContextManager
from dataclasses import dataclass

import torch

from bert_scratch.config import BertConfig


@dataclass(frozen=True, kw_only=True)
class Runtime:
    """Where and in which precision a run computes; resolved once and stored with the run."""

    device: torch.device
    dtype: torch.dtype
    """Dtype of matrix products; weights, LayerNorm statistics, softmax and loss stay float32."""
    num_threads: int

    @property
    def reads_late(self) -> bool:
        """Whether the host reads a step's results only while the next step is running."""
        return self.device.type == "cuda"

    def autocast(self) -> AbstractContextManager[object]:
        """Return the context in which the forward pass runs."""
        return torch.autocast(
            self.device.type, dtype=self.dtype, enabled=self.dtype != torch.float32
        )


class PendingCopy:
    """A small vector being copied to the host, which does not wait for it.

    Args:
        values: [C], on any device; must not change until it is read.
    """

    def __init__(self, values: torch.Tensor) -> None:
        self._values = values.to("cpu", non_blocking=True)
        self._has_arrived: torch.cuda.Event | None = None
        if values.is_cuda:
            self._has_arrived = torch.cuda.Event()  # type: ignore[no-untyped-call]
            self._has_arrived.record()

    def read(self) -> list[float]:
        """Wait for the values and return them."""
        if self._has_arrived is not None:
            self._has_arrived.synchronize()
        values: list[float] = self._values.tolist()
        return values


def set_up(runtime: Runtime, *, deterministic: bool) -> None:
    """Prepare torch for a run: threads and deterministic algorithms (always on a CPU)."""
    torch.set_num_threads(runtime.num_threads)
    if runtime.device.type == "cuda" and runtime.device.index is not None:
        torch.cuda.set_device(runtime.device)  # so that events and random seeds use this GPU
    torch.use_deterministic_algorithms(deterministic or runtime.device.type == "cpu")
    _keep_freed_memory()
    # Otherwise torch fills every empty tensor with NaN first, which costs a pass over memory.
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
    if deterministic and runtime.device.type == "cuda":
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")


def _keep_freed_memory() -> None:
    """Ask glibc to keep what a step frees for the next one.

    By default it returns large blocks to the system, and each page faults in anew: 5,200 faults
    per step instead of 800, an eighth to a quarter of a small model's step on a CPU.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None) if sys.platform == "linux" else None
    if mallopt is not None:
        trim_threshold, mmap_threshold = -1, -3
        mallopt(trim_threshold, 2**31 - 1)
        mallopt(mmap_threshold, 2**30)


def seed_for(*parts: int | str) -> int:
    """Hash the parts to 63 bits: equal parts give equal seeds on any machine."""
    text = "/".join(str(part) for part in parts).encode()
    return int.from_bytes(hashlib.blake2b(text, digest_size=8).digest(), "big") >> 1


def seed_dropout(seed: int, *, step: int, micro_step: int, rank: int = 0) -> None:
    """Make the dropout of a micro-step depend only on its coordinates.

    torch.manual_seed would also seed unused devices, which takes 0.6 ms.
    """
    value = seed_for("dropout", seed, step, micro_step, rank)
    torch.default_generator.manual_seed(value)
    if torch.cuda.is_initialized():  # type: ignore[no-untyped-call]
        torch.cuda.manual_seed(value)


def measure_peak_flops_per_s(runtime: Runtime, *, budget_s: float = 0.3) -> float:
    """Measure the floating-point operations per second of a large matrix product.

    Args:
        runtime: device and dtype to measure.
        budget_s: approximate measuring time in seconds.
    """
    size = 8192 if runtime.device.type == "cuda" else 1024
    own = torch.Generator(runtime.device).manual_seed(0)
    # Use random numbers: a GPU's clock is higher when it multiplies ones.
    a = torch.randn(size, size, device=runtime.device, generator=own).to(runtime.dtype)
    best = float("inf")
    torch.mm(a, a)
    stop = time.perf_counter() + budget_s
    while best == float("inf") or time.perf_counter() < stop:
        start = time.perf_counter()
        torch.mm(a, a)
        if runtime.device.type == "cuda":
            torch.cuda.synchronize(runtime.device)
        best = min(best, time.perf_counter() - start)
    return 2.0 * size**3 / best


def train_flops_per_token(
    config: BertConfig, *, seq_length: int, masked_lm_prob: float | None
) -> float:
    """Return the floating-point operations one training token needs, forward and backward.

    Args:
        config: the model's shape.
        seq_length: positions each token attends to.
        masked_lm_prob: share of positions whose vocabulary logits are computed; None without a
            vocabulary head.

    Source:
        Per layer and token forward: 6 D^2 (QKV) + 4 S D (scores and values), then 2 D^2 (output)
        + 4 D F (feed-forward), the latter two in the last layer at predicted positions only; per
        predicted position 2 D^2 + 2 D V. Backward is twice that.
    """
    d, f = config.hidden_size, config.intermediate_size
    mixing, refining = 6 * d * d + 4 * seq_length * d, 2 * d * d + 4 * d * f
    layers = config.num_hidden_layers * (mixing + refining)
    if masked_lm_prob is None:
        return 3.0 * layers
    head = 2 * d * d + 2 * d * config.vocab_size
    return 3.0 * (layers - (1 - masked_lm_prob) * refining + masked_lm_prob * head)
