"""Sums over all ranks with the same bits on each, which make them one training run.

Each step has three: the label counts, before the backward pass that divides by them; the gradients;
and one small vector of sums, which carries stop requests. Decisions based on these sums are the
same on all ranks at the same step. A single process sums nothing and pays nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from datetime import timedelta

import torch
from torch import Tensor, nn

from bert_scratch.training.distributed import ALONE, Ranks
from bert_scratch.training.interruption import StopRequest
from bert_scratch.training.runtime import PendingCopy

_NEVER = timedelta(days=365)
"""Sums wait for a slow rank as long as it lives; `joined_ranks` detects a dead one."""


class _AgreedStop(StopRequest):
    """A stop requested of any rank, which all ranks make at the same place."""

    def __init__(self, asked: StopRequest) -> None:
        super().__init__()
        self.asked = asked

    def agree(self) -> None:
        self.signal_name = self.asked.signal_name or "a signal to another rank"


class Totals:
    """[C] float64 sums over ranks, being copied to the host along with any stop request."""

    def __init__(self, values: Tensor, stop: _AgreedStop | None) -> None:
        self._copy, self._stop = PendingCopy(values), stop

    def read(self) -> list[float]:
        """Wait for the sums and return them; the ranks may then have agreed to stop."""
        found = self._copy.read()
        if self._stop is not None and found.pop():
            self._stop.agree()
        return found


class AllReduce:
    """Sums over ranks, whose process group is open; see `open_all_reduce`.

    Attributes:
        ranks: the ranks summed over.
        stop: the stop request; with several ranks, one that all have agreed on.
        own_norm: [] float32, the norm of this rank's gradients before the last sum; None in a
            single process.
    """

    def __init__(self, ranks: Ranks = ALONE, stop: StopRequest | None = None) -> None:
        self.ranks = ranks
        self.own_norm: Tensor | None = None
        self.stop = StopRequest() if stop is None else stop
        if ranks.world_size > 1:
            self.stop = _AgreedStop(self.stop)
        self._flat = torch.empty(0)

    def sum_(self, values: Tensor) -> Tensor:
        """Add the values of all ranks in place; return them.

        Raises:
            PeerEnded: if a rank has ended.
        """
        if self.ranks.world_size > 1:
            try:
                torch.distributed.all_reduce(values)
            except RuntimeError as error:
                raise self.ranks.peer_ended(error) from error
        return values

    def totals(self, values: Tensor) -> Totals:
        """Sum [C] float64 values over ranks, along with any stop request.

        All ranks read the totals at the same place, so they agree there.
        """
        if not isinstance(self.stop, _AgreedStop):
            return Totals(values, None)
        wish = torch.tensor([float(bool(self.stop.asked))], dtype=values.dtype)
        wish = wish.to(values.device, non_blocking=True)
        return Totals(self.sum_(torch.cat([values, wish])), self.stop)

    def sum_gradients(self, parameters: Iterable[nn.Parameter]) -> None:
        """Replace gradients by their sums over ranks, the same on all ranks.

        They are copied into one buffer, reused at every step, and summed in one call, so that the
        order of additions depends only on the number of ranks: a restarted run has the same bits
        as an uninterrupted one.
        """
        if self.ranks.world_size == 1:
            return
        with_gradient = [p for p in parameters if p.grad is not None]
        own = [p.grad for p in with_gradient if p.grad is not None]
        sizes = [gradient.numel() for gradient in own]
        if len(self._flat) != sum(sizes):
            self._flat = own[0].new_empty(sum(sizes))
        self.own_norm = torch.linalg.vector_norm(torch.stack(torch._foreach_norm(own)))
        summed = [
            part.view_as(p)
            for part, p in zip(torch.split(self._flat, sizes), with_gradient, strict=True)
        ]
        torch._foreach_copy_(summed, own)
        self.sum_(self._flat)
        for p, gradient in zip(with_gradient, summed, strict=True):
            p.grad = gradient


IN_ONE_PROCESS = AllReduce()


@contextmanager
def open_all_reduce(ranks: Ranks, device: torch.device, stop: StopRequest) -> Iterator[AllReduce]:
    """Yield the all-reduce of the ranks, over gloo on CPUs and NCCL on GPUs.

    Args:
        ranks: from `joined_ranks`, inside its block.
        device: of this rank's model.
        stop: this rank's stop request.

    Raises:
        PeerEnded: if a rank has ended.
    """
    if ranks.world_size == 1:
        yield AllReduce(ranks, stop)
        return
    if device.type == "cuda":
        torch.cuda.set_device(device)
    try:
        torch.distributed.init_process_group(
            "nccl" if device.type == "cuda" else "gloo",
            store=ranks.store("sums"),
            rank=ranks.rank,
            world_size=ranks.world_size,
            timeout=_NEVER,
        )
    except RuntimeError as error:
        raise ranks.peer_ended(error) from error
    try:
        yield AllReduce(ranks, stop)
    except BaseException:
        if device.type == "cuda":  # NCCL's orderly shutdown waits for the other ranks
            torch.distributed.distributed_c10d._abort_process_group()
        raise
    finally:
        if torch.distributed.is_initialized():
            torch.distributed.destroy_process_group()
