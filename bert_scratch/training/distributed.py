"""Several processes, perhaps on several machines, that do one job: who is who, and who ended.

`torchrun` tells each process its rank, their number and where to meet through the environment.
They meet in a TCPStore of torch, which carries short texts and counters, nothing else. Each rank
shows every few seconds that it is alive and looks after the others, so that none waits for ever.
"""

from __future__ import annotations

import itertools
import json
import os
import signal
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import timedelta
from types import FrameType
from typing import TYPE_CHECKING

from bert_scratch.config import InputError

if TYPE_CHECKING:
    from torch._C._distributed_c10d import Store

HEARTBEAT_S = 2.0
SILENCE_S = 40.0
"""A rank that has not been heard of for so long has ended, or its network has."""
MEETING_S = 600.0
"""How long the first rank waits for the last one to be started."""
_POLL_S = 0.1
_FAREWELL_S = 5.0
_UNWINDING_S = 15.0

_jobs = itertools.count()
_FAILURE = "failure"
_LEFT = "left"


class PeerEnded(Exception):
    """Another rank ended before the job was done, so this one ends too, with its exit code."""

    def __init__(self, message: str, exit_code: int) -> None:
        super().__init__(message)
        self.exit_code = exit_code


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


class Ranks:
    """The processes of one job; a single one needs no other and never waits.

    Attributes:
        rank: of this process.
        world_size: number of processes.
    """

    def __init__(self, rank: int, world_size: int, store: Store | None) -> None:
        self.rank = rank
        self.world_size = world_size
        self._store = store

    def tell(self, event: str, text: str = " ") -> None:
        """Let all ranks know that something has happened.

        Args:
            event: told once.
            text: what to say about it, not empty.
        """
        if self._store is not None:
            with _store_of(self.rank):
                self._store.set(f"event {event}", text)

    def wait_for(self, event: str) -> str:
        """Wait until a rank has told the event, as long as it takes, and return its text.

        Raises:
            PeerEnded: when another rank has ended.
        """
        assert self._store is not None
        with _store_of(self.rank):
            while not self._store.check([f"event {event}"]):
                time.sleep(_POLL_S)
            return self._store.get(f"event {event}").decode()


@contextmanager
def joined_ranks() -> Iterator[Ranks]:
    """Yield the ranks that torchrun started; inside the block each ends when another one fails.

    To be used in the main thread, whose work is interrupted by SIGUSR1.

    Raises:
        InputError: if the environment is not torchrun's.
        PeerEnded: inside the block, when another rank has ended.
    """
    rank, world_size = rank_and_world_size()
    if world_size <= 1:
        yield Ranks(0, 1, None)
        return
    store = _meet(rank, world_size)
    watch = _Watch(store, rank, world_size)
    previous = signal.signal(signal.SIGUSR1, watch.interrupt)
    watch.start()
    try:
        yield Ranks(rank, world_size, store)
        watch.leave_together()
    except BaseException as error:
        # It ends with a code of its own now; a launcher that saw another end need not say so.
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        watch.fail(error)
        raise
    finally:
        watch.stop()
        signal.signal(signal.SIGUSR1, previous)


def _meet(rank: int, world_size: int) -> Store:
    # A store that goes away is told in one line here, not in the forty of its own.
    os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")
    from torch.distributed import PrefixStore  # type: ignore[attr-defined]
    from torch.distributed.rendezvous import rendezvous

    try:
        meeting = rendezvous("env://", timeout=timedelta(seconds=MEETING_S))
        # Another job of the same processes has events and beats of its own.
        store: Store = PrefixStore(f"job {next(_jobs)}", next(iter(meeting))[0])
        met = store.add("met", 1)
        deadline = time.monotonic() + MEETING_S
        while met < world_size and time.monotonic() < deadline:
            time.sleep(_POLL_S)
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


@contextmanager
def _store_of(rank: int) -> Iterator[None]:
    """Say what it means that the store does not answer."""
    try:
        yield
    except RuntimeError as error:
        reason = str(error).partition("\n")[0]
        raise PeerEnded(
            f"rank {rank} ends because it has lost the store that the ranks meet in: the rank or "
            f"launcher that held it has ended ({reason}); {_AGAIN}",
            _STOPPED,
        ) from error


class _Watch:
    """A thread that shows that this rank is alive and looks whether the others are."""

    def __init__(self, store: Store, rank: int, world_size: int) -> None:
        # The store serves one request at a time, and the main thread makes its own.
        self._store = store.clone()
        self._rank = rank
        self._beat = f"beat {rank}"
        self._others = [other for other in range(world_size) if other != rank]
        self._is_over = threading.Event()
        self._ended: PeerEnded | None = None
        self._thread = threading.Thread(target=self._run, daemon=True)

    def start(self) -> None:
        self._store.set(self._beat, "0")
        self._thread.start()

    def stop(self) -> None:
        self._is_over.set()
        self._thread.join(timeout=HEARTBEAT_S)

    def interrupt(self, _number: int, _frame: FrameType | None) -> None:
        """Raise in the main thread what the watching one has found."""
        if self._ended is not None and not self._is_over.is_set():
            raise self._ended

    def leave_together(self) -> None:
        """Wait for the others to be done: the first rank's process may hold the store."""
        with _store_of(self._rank):
            self._leave(SILENCE_S)

    def fail(self, error: BaseException) -> None:
        """Tell the others why this rank ends, and give them time to say so themselves."""
        said = {"rank": self._rank, "code": _exit_code(error), "message": _reason(error)}
        self.stop()
        # Where the store is gone, the rank that held it has ended.
        with suppress(RuntimeError):
            if not isinstance(error, PeerEnded):
                self._store.compare_set(_FAILURE, "", json.dumps(said))
            self._leave(_FAREWELL_S)

    def _leave(self, timeout_s: float) -> None:
        self.stop()
        self._store.set(self._beat, _LEFT)
        deadline = time.monotonic() + timeout_s
        while time.monotonic() < deadline:
            if all(self._heard(other) == _LEFT for other in self._others):
                return
            time.sleep(_POLL_S)

    def _heard(self, other: int) -> str:
        beat = f"beat {other}"
        return self._store.get(beat).decode() if self._store.check([beat]) else ""

    def _run(self) -> None:
        heard: dict[int, tuple[str, float]] = {}
        number = 0
        while not self._is_over.wait(HEARTBEAT_S):
            number += 1
            try:
                with _store_of(self._rank):
                    self._ended = self._failure() or self._silent_peer(heard)
                    self._store.set(self._beat, str(number))
            except PeerEnded as error:
                self._ended = error
            if self._ended is not None:
                self._stop_work(self._ended)
                return

    def _stop_work(self, ended: PeerEnded) -> None:
        main = threading.main_thread().ident
        assert main is not None
        signal.pthread_kill(main, signal.SIGUSR1)
        if not self._is_over.wait(_UNWINDING_S):
            # The main thread is deep in a library and does not hear signals.
            print(f"{ended}", file=sys.stderr, flush=True)
            os._exit(ended.exit_code)

    def _failure(self) -> PeerEnded | None:
        if not self._store.check([_FAILURE]):
            return None
        said = json.loads(self._store.get(_FAILURE))
        message = f"rank {self._rank} ends because rank {said['rank']} did: {said['message']}"
        return PeerEnded(message, said["code"])

    def _silent_peer(self, heard: dict[int, tuple[str, float]]) -> PeerEnded | None:
        """Compare each beat with the last one; clocks of different machines are never compared."""
        now = time.monotonic()
        for other in self._others:
            found = self._heard(other)
            before, since = heard.get(other, (None, now))
            if found != before:
                heard[other] = found, now
            elif found != _LEFT and now - since > SILENCE_S:
                return PeerEnded(
                    f"rank {self._rank} ends because rank {other} has not been heard of for "
                    f"{SILENCE_S:.0f} s: it was killed or its machine is gone; {_AGAIN}",
                    _STOPPED,
                )
        return None


_AGAIN = "the same command goes on with what is finished"
_STOPPED = 75


def _exit_code(error: BaseException) -> int:
    if isinstance(error, InputError):
        return 2
    if isinstance(error, KeyboardInterrupt):
        return _STOPPED
    return int(getattr(error, "exit_code", 1))


def _reason(error: BaseException) -> str:
    if isinstance(error, KeyboardInterrupt):
        return f"it was stopped; {_AGAIN}"
    return str(error) or type(error).__name__
