"""Several processes, perhaps on several machines, that do one job: who is who, and who ended.

`torchrun` tells each process its rank, their number and where to meet through the environment.
They meet in a TCPStore of torch, which carries short texts and counters, nothing else. `peers.py`
looks after the others, so that none waits for ever.
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
    """Return this process's rank and their number, (0, 1) outside `torchrun`.

    Raises:
        InputError: if the environment holds other than that.
    """
    found = os.environ.get("RANK", "0"), os.environ.get("WORLD_SIZE", "1")
    if not all(text.isascii() and text.isdigit() for text in found):
        raise InputError(f"RANK and WORLD_SIZE must be numbers; got {found[0]!r} and {found[1]!r}")
    rank, world_size = map(int, found)
    if rank >= max(1, world_size):
        raise InputError(f"RANK must be below WORLD_SIZE; got {rank} and {world_size}")
    return rank, world_size


def ranks_on_this_machine() -> int:
    """Return how many of the ranks share this machine's cores."""
    return int(os.environ.get("LOCAL_WORLD_SIZE", "1"))


def gpu_of_this_rank() -> int:
    """Return the number of the GPU on this machine that is this rank's."""
    return int(os.environ.get("LOCAL_RANK", "0"))


def times_restarted() -> int:
    """Return how often torchrun has started the ranks again after one of them ended."""
    return int(os.environ.get("TORCHELASTIC_RESTART_COUNT", "0"))


class Ranks:
    """The processes of one job; a single one needs no other and never waits.

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
        """Let all ranks know that something has happened.

        Args:
            event: told once.
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
        """Return the text, not empty, that the first rank says; the others wait for it.

        Raises:
            PeerEnded: when another rank has ended.
        """
        if not self.is_first:
            return self.wait_for(event)
        text = say()
        self.tell(event, text)
        return text

    def from_all(self, event: str, text: str) -> list[str]:
        """Return what each rank says, not empty, in the order of ranks.

        Raises:
            PeerEnded: when another rank has ended.
        """
        if self._store is None:
            return [text]
        self.tell(f"{event} {self.rank}", text)
        return [self.wait_for(f"{event} {rank}") for rank in range(self.world_size)]

    def part(self, name: str) -> Ranks:
        """Return the same ranks with events of their own, for a job within the job."""
        return self if self._store is None else Ranks(self.rank, self.world_size, self.store(name))

    def store(self, name: str) -> Store:
        """Return a part of the store under a name of its own; only where there are others."""
        from torch.distributed import PrefixStore  # type: ignore[attr-defined]

        assert self._store is not None
        return PrefixStore(name, self._store)

    def peer_ended(self, error: RuntimeError) -> PeerEnded:
        """Return why the ranks cannot go on together: what one has told, else that one is lost.

        Args:
            error: of the library that no longer reaches another rank.
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
        """Let the first rank finish while the others wait; then each ends as they have agreed.

        Args:
            finish: what the first rank alone does.

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
        # A launcher that sees one of them end with a code need not tell the others to.
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        self._watch.leave_together()


ALONE = Ranks(0, 1, None)

_joined: list[Ranks] = []


@contextmanager
def joined_ranks() -> Iterator[Ranks]:
    """Yield the ranks that torchrun started; inside the block each ends when another one fails.

    To be used in the main thread, whose work is interrupted by SIGUSR1. Inside another such block
    the ranks are joined already, and get events of their own.

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
        # It ends with a code of its own now; a launcher that saw another end need not say so.
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
        # Another job of the same processes, and what torchrun starts again beside the store that
        # outlives it, has events and beats of its own.
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
