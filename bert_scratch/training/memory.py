"""How much memory training takes, predicted from shapes or measured, and how much is free.

Letters: D hidden, F feed-forward, H heads, L layers, S sequence, V vocabulary.
"""

from __future__ import annotations

import gc
import os
import resource
import sys
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import torch

from bert_scratch.config import BertConfig
from bert_scratch.model.heads import BertForPreTraining
from bert_scratch.training.runtime import Runtime

ResultT = TypeVar("ResultT")

STATE_BYTES = 16
"""Bytes per parameter, in float32: the weight, its gradient, and Adam's two moments."""
SUM_BYTES = 4
"""Additional bytes per parameter with several ranks: the sum of its gradient over them."""
USABLE_SHARE = 0.8
"""Usable share of free memory: predictions are inexact, and other programs need some too."""


@dataclass(frozen=True, kw_only=True)
class StepMemory:
    """The memory of one update of a `BertForPreTraining`, derived from its shapes.

    It counts the tensors that autograd saves in each layer. A test compares the counts, so a
    change to a layer that saves more or less shows there.
    """

    config: BertConfig
    runtime: Runtime
    seq_length: int
    masked_lm_prob: float
    """Share of positions whose vocabulary logits are computed."""
    activation_checkpointing: bool
    world_size: int = 1
    """Number of ranks."""

    @property
    def state_bytes(self) -> int:
        """Weights, gradients and moments, and the copies of matrices in the compute dtype."""
        with torch.device("meta"):
            model = BertForPreTraining(self.config)
        each = STATE_BYTES + (SUM_BYTES if self.world_size > 1 else 0)
        state = each * sum(parameter.numel() for parameter in model.parameters())
        if self.runtime.dtype == torch.float32:
            return state
        d, f = self.config.hidden_size, self.config.intermediate_size
        layers = 0 if self.activation_checkpointing else self.config.num_hidden_layers
        matrices = self.config.vocab_size * d + 2 * d * d + layers * (4 * d * d + 2 * d * f)
        return state + self._size * matrices

    @property
    def mixing_bytes(self) -> int:
        """Bytes per token saved for the backward pass of one layer's attention."""
        config, size = self.config, self._size
        d, h = config.hidden_size, config.num_attention_heads
        if self._is_gpu:  # input, q, k, v and sdpa's output; it saves no weights
            return 5 * size * d + 4 * h
        weights = 3 if config.attention_probs_dropout_prob else 1
        return size * (4 * d + h * self.seq_length * weights)

    @property
    def refining_bytes(self) -> int:
        """Bytes per token saved for the backward pass of the rest of a layer."""
        config, size = self.config, self._size
        d, f = config.hidden_size, config.intermediate_size
        masks = 2 * d * bool(config.hidden_dropout_prob)
        return size * (4 * d + 2 * f + masks) + 16

    @property
    def layer_bytes(self) -> int:
        """Bytes per token saved for the backward pass of one layer; the last one saves less."""
        return self.mixing_bytes + self.refining_bytes

    @property
    def held_bytes(self) -> float:
        """Bytes per token saved for the whole backward pass when the forward pass ends."""
        config, size = self.config, self._size
        d, layers = config.hidden_size, config.num_hidden_layers
        wanted = self.masked_lm_prob + 1 / self.seq_length  # and the first position of each row
        embeddings = 24 + 4 * d * (1 + bool(config.hidden_dropout_prob))
        held = (layers - 1) * self.layer_bytes + self.mixing_bytes + wanted * self.refining_bytes
        if self.activation_checkpointing:
            held = layers * size * d
        logits = max(size, 4 if self._is_gpu else 0) * config.vocab_size
        head = wanted * (size * d + 8) + self.masked_lm_prob * (logits + 3 * size * d + 16)
        return embeddings + held + head

    @property
    def token_bytes(self) -> float:
        """Bytes per token at the peak: what is saved, and the current gradients.

        The gradient of the logits takes as much as they do, or twice that on a GPU, where it is
        float32 before and after the softmax. That of a layer takes about as much as the layer
        saves; a recomputed layer is held for a while too.
        """
        logits = 8 if self._is_gpu else self._size
        layers = self.layer_bytes * (2 if self.activation_checkpointing else 1)
        return self.held_bytes + max(self.masked_lm_prob * logits * self.config.vocab_size, layers)

    def rows_that_fit(self, free_bytes: int) -> int:
        """Return how many examples a forward pass can take besides the state; at least 1."""
        left = USABLE_SHARE * free_bytes - self.state_bytes
        return max(1, int(left / (self.seq_length * self.token_bytes)))

    def predicted_peak_bytes(self, rows: int) -> int:
        """Return the memory that updates need on top of the process without a model."""
        return self.state_bytes + round(rows * self.seq_length * self.token_bytes)

    @property
    def _size(self) -> int:
        return self.runtime.dtype.itemsize

    @property
    def _is_gpu(self) -> bool:
        return self.runtime.device.type == "cuda"


def free_bytes(device: torch.device) -> int:
    """Return the memory that this process can still allocate on a device.

    On a GPU, memory that the allocator holds but does not use counts as free; on a CPU a
    container's limit applies.
    """
    if device.type == "cuda":
        unused = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        return torch.cuda.mem_get_info(device)[0] + unused
    return min(_available_bytes(), _left_in_container())


def _available_bytes() -> int:
    for line in _lines("/proc/meminfo"):
        if line.startswith("MemAvailable"):
            return int(line.split()[1]) * 1024
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // 2


def _left_in_container(root: str = "/sys/fs/cgroup") -> int:
    """Return what a control group's limit leaves, counting file caches as free."""
    for folder, limit, used, cached in (
        (root, "memory.max", "memory.current", "inactive_file"),
        (f"{root}/memory", "memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"),
    ):
        found = [_lines(f"{folder}/{name}") for name in (limit, used)]
        if all(lines and lines[0].isdigit() for lines in found):
            stat = dict(line.split() for line in _lines(f"{folder}/memory.stat"))
            return int(found[0][0]) - int(found[1][0]) + int(stat.get(cached, 0))
    return sys.maxsize


def reset_peak(device: torch.device) -> None:
    """Make `measured_peak_bytes` measure from here on (on Linux and on a GPU)."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        return
    with suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")


def measured_peak_bytes(device: torch.device) -> int:
    """Return the peak memory, of the process or on a GPU of its allocator."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    for line in _lines("/proc/self/status"):
        if line.startswith("VmHWM"):
            return int(line.split()[1]) * 1024
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def _lines(path: str) -> list[str]:
    """Return the lines of a system file, or none if there is no such file."""
    try:
        return Path(path).read_text().splitlines()
    except OSError:
        return []


def within_memory(attempt: Callable[[], ResultT]) -> ResultT | None:
    """Return what an attempt returns, or None if it runs out of GPU memory.

    Nothing of a failed attempt is kept: the error, which holds all its tensors, is gone.
    """
    try:
        return attempt()
    except RuntimeError as error:
        if not is_lack_of_memory(error):
            raise
    release_memory()
    return None


def is_lack_of_memory(error: Exception) -> bool:
    """Tell whether an error says that memory, of a GPU or of the machine, has run out."""
    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return True
    # The driver and Triton say it in these words; cuBLAS and torch on a CPU in their own.
    words = ("out of memory", "alloc_failed", "can't allocate memory")
    return isinstance(error, RuntimeError) and any(each in str(error).lower() for each in words)


def release_memory() -> None:
    """Free what a failed attempt held; call it once its error is gone too."""
    gc.collect()
    torch.cuda.empty_cache()
