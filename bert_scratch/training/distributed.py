"""Processes, perhaps on several machines, that share one job: who is who, and who ended.

`torchrun` tells each process its rank, the number of ranks and the meeting point through the
environment. They meet in a torch TCPStore, which carries only short texts and counters. `peers.py`
watches the other ranks, so that none waits forever.
"""

from __future__ import annotations

import itertools
import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import TYPE_CHECKING

from bert_scratch.config import STOPPED_EXIT_CODE, InputError
from bert_scratch.training.peers import (
    AGAIN,
    FAREWELL_S,
    POLL_S,
    PeerEnded,
    Watch,
    store_of,
    told_failure,
)

if TYPE_CHECKING:
    from torch._C._distributed_c10d import Store

MEETING_S = 600.0
"""How long the first rank waits for the last one to be started."""

_jobs = itertools.count()


def rank_and_world_size() -> tuple[int, int]:
    """Return this process's rank and the number of ranks, (0, 1) outside `torchrun`.

    Raises:
        InputError: if the environment holds anything else.
    """
    found = os.environ.get("RANK", "0"), os.environ.get("WORLD_SIZE", "1")
    if not all(text.isascii() and text.isdigit() for text in found):
        raise InputError(f"RANK and WORLD_SIZE must be numbers; got {found[0]!r} and {found[1]!r}")
    rank, world_size = map(int, found)
    if rank >= max(1, world_size):
        raise InputError(f"RANK must be below WORLD_SIZE; got {rank} and {world_size}")
    return rank, world_size


def ranks_on_this_machine() -> int:
    """Return how many ranks share this machine's cores."""
    return int(os.environ.get("LOCAL_WORLD_SIZE", "1"))


def gpu_of_this_rank() -> int:
    """Return the index of this rank's GPU on this machine, as NCCL will count.

    Raises:
        InputError: if the launcher does not set it and the machine has several.
    """
    if "LOCAL_RANK" not in os.environ:
        import torch  # prepare's processes do without it

        if torch.cuda.device_count() == 1 and ranks_on_this_machine() == 1:
            return 0  # as under launchers that show each process one GPU
        raise InputError(
            "several ranks on GPUs need LOCAL_RANK, each one's number on its machine, in the "
            "environment; torchrun sets it"
        )
    return int(os.environ["LOCAL_RANK"])


def times_restarted() -> int:
    """Return how often torchrun has restarted the ranks after one of them ended."""
    return int(os.environ.get("TORCHELASTIC_RESTART_COUNT", "0"))


class Ranks:
    """The processes of one job; a single process never waits.

    Attributes:
        rank: of this process.
        world_size: number of processes.
    """

    def __init__(
        self, rank: int, world_size: int, store: Store | None, watch: Watch | None = None
    ) -> None:
        self.rank = rank
        self.world_size = world_size
        self._store = store
        self._watch = watch

    @property
    def is_first(self) -> bool:
        """Whether this rank is the one that prints and writes files."""
        return self.rank == 0

    def tell(self, event: str, text: str = " ") -> None:
        """Tell all ranks that something has happened.

        Args:
            event: its name; told only once.
            text: what to say about it, not empty.
        """
        if self._store is not None:
            with store_of(self.rank):
                self._store.set(f"event {event}", text)

    def wait_for(self, event: str) -> str:
        """Wait until a rank has told the event, as long as it takes, and return its text.

        Raises:
            PeerEnded: when another rank has ended.
        """
        assert self._store is not None
        with store_of(self.rank):
            while not self._store.check([f"event {event}"]):
                time.sleep(POLL_S)
            return self._store.get(f"event {event}").decode()

    def from_first(self, event: str, say: Callable[[], str]) -> str:
        """Return the non-empty text that the first rank says; the others wait for it.

        Raises:
            PeerEnded: when another rank has ended.
        """
        if not self.is_first:
            return self.wait_for(event)
        text = say()
        self.tell(event, text)
        return text

    def from_all(self, event: str, text: str) -> list[str]:
        """Return the non-empty text that each rank says, in the order of ranks.

        Raises:
            PeerEnded: when another rank has ended.
        """
        if self._store is None:
            return [text]
        self.tell(f"{event} {self.rank}", text)
        return [self.wait_for(f"{event} {rank}") for rank in range(self.world_size)]

    def part(self, name: str) -> Ranks:
        """Return the same ranks with separate events, for a job within the job."""
        return self if self._store is None else Ranks(self.rank, self.world_size, self.store(name))

    def store(self, name: str) -> Store:
        """Return a named part of the store; only with several ranks."""
        from torch.distributed import PrefixStore  # type: ignore[attr-defined]

        assert self._store is not None
        return PrefixStore(name, self._store)

    def peer_ended(self, error: RuntimeError) -> PeerEnded:
        """Return why the ranks cannot continue: the failure one has told, else that one is lost.

        Args:
            error: from the library that cannot reach another rank.
        """
        assert self._store is not None
        deadline = time.monotonic() + FAREWELL_S
        while time.monotonic() < deadline:
            with store_of(self.rank):
                told = told_failure(self._store, self.rank)
            if told is not None:
                return told
            time.sleep(POLL_S)
        reason = str(error).partition("\n")[0].partition(". ")[0]
        return PeerEnded(
            f"rank {self.rank} ends because it has lost another rank, which was killed or whose "
            f"machine is gone ({reason}); {AGAIN}",
            STOPPED_EXIT_CODE,
            was_lost=True,
        )

    def leave_together(self, finish: Callable[[], None]) -> None:
        """Let the first rank finish while the others wait; then all leave together.

        Args:
            finish: what only the first rank does.

        Raises:
            PeerEnded: when another rank has ended before.
        """
        if self._watch is None:
            finish()
            return
        if self.is_first:
            finish()
            self.tell("finished")
        else:
            self.wait_for("finished")
        # The ranks end by themselves, so ignore a launcher that ends the rest when one has ended.
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        self._watch.leave_together()


ALONE = Ranks(0, 1, None)

_joined: list[Ranks] = []


@contextmanager
def joined_ranks() -> Iterator[Ranks]:
    """Yield the ranks that torchrun started; inside the block, if one fails all end.

    Use it in the main thread, whose work is interrupted by SIGUSR1. Inside another such block the
    ranks are joined already, and get separate events.

    Raises:
        InputError: if the environment is not torchrun's.
        PeerEnded: inside the block, when another rank has ended.
    """
    rank, world_size = rank_and_world_size()
    if world_size <= 1:
        yield ALONE
        return
    if _joined:
        yield _joined[-1].part(f"job {next(_jobs)}")
        return
    store = _meet(rank, world_size)
    watch = Watch(store, rank, world_size)
    previous = signal.signal(signal.SIGUSR1, watch.interrupt)
    watch.start()
    _joined.append(Ranks(rank, world_size, store, watch))
    try:
        yield _joined[-1]
        watch.leave_together()
    except BaseException as error:
        # This rank ends with its own exit code; ignore a launcher that saw another one end.
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        watch.fail(error)
        raise
    finally:
        _joined.clear()
        watch.stop()
        signal.signal(signal.SIGUSR1, previous)


def _meet(rank: int, world_size: int) -> Store:
    from torch.distributed import PrefixStore  # type: ignore[attr-defined]
    from torch.distributed.rendezvous import rendezvous

    try:
        meeting = rendezvous("env://", timeout=timedelta(seconds=MEETING_S))
        # The name separates events and heartbeats of other jobs of these processes, and of
        # restarts by torchrun, whose store survives.
        name = f"start {times_restarted()} job {next(_jobs)}"
        store: Store = PrefixStore(name, next(iter(meeting))[0])
        met = store.add("met", 1)
        deadline = time.monotonic() + MEETING_S
        while met < world_size and time.monotonic() < deadline:
            time.sleep(POLL_S)
            met = store.add("met", 0)
    except (ValueError, RuntimeError) as error:
        reason = str(error).partition("\n")[0]
        raise InputError(
            f"WORLD_SIZE is {world_size}, but rank {rank} cannot meet the others ({reason}); start "
            f"the command with torchrun"
        ) from error
    if met < world_size:
        raise InputError(
            f"only {met} of {world_size} ranks have started within {MEETING_S:.0f} s; start the "
            f"command on every machine"
        )
    return store
