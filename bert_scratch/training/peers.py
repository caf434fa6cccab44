"""Detect whether the other ranks of a job are alive, by heartbeats in the store they meet in.

Every few seconds each rank shows that it is alive and checks the next one, so the store's work per
rank does not grow with their number. A rank that finds the next one silent, or ends itself, tells
all why.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from types import FrameType
from typing import TYPE_CHECKING

from bert_scratch.config import STOPPED_EXIT_CODE, exit_code_of

if TYPE_CHECKING:
    from torch._C._distributed_c10d import Store

HEARTBEAT_S = 2.0
SILENCE_S = 40.0
"""A rank silent for this long has ended, or its network has."""
POLL_S = 0.1
FAREWELL_S = 5.0
"""How long a failing rank stays, so that the others hear of it through the store."""
_UNWINDING_S = 15.0

_FAILURE = "failure"
_LEFT = "left"
_GONE = "gone"
AGAIN = "run the same command again to resume"


class PeerEnded(Exception):
    """Another rank ended before the job was done, so this one ends too, with the same exit code.

    Attributes:
        exit_code: of that rank, or 75 if it was lost.
        was_lost: whether it was killed or its machine is gone, so that it did not say why.
    """

    def __init__(self, message: str, exit_code: int, *, was_lost: bool = False) -> None:
        super().__init__(message)
        self.exit_code = exit_code
        self.was_lost = was_lost


@contextmanager
def store_of(rank: int) -> Iterator[None]:
    """Turn an unreachable store into a `PeerEnded` that explains it."""
    try:
        yield
    except RuntimeError as error:
        reason = str(error).partition("\n")[0]
        raise PeerEnded(
            f"rank {rank} ends because it has lost the store that the ranks meet in: the rank or "
            f"launcher that held it has ended ({reason}); {AGAIN}",
            STOPPED_EXIT_CODE,
            was_lost=True,
        ) from error


def told_failure(store: Store, rank: int) -> PeerEnded | None:
    """Return why another rank ended, if one has said so."""
    if not store.check([_FAILURE]):
        return None
    said = json.loads(store.get(_FAILURE))
    message = f"rank {rank} ends because rank {said['rank']} did: {said['message']}"
    return PeerEnded(message, said["code"], was_lost=said["was_lost"])


class Watch:
    """A thread that shows that this rank is alive and checks whether the others are."""

    def __init__(self, store: Store, rank: int, world_size: int) -> None:
        # The store serves one request at a time, and the main thread makes its own.
        self._store = store.clone()
        self._rank = rank
        self._world_size = world_size
        self._beat = f"beat {rank}"
        self._next = (rank + 1) % world_size
        self._has_left = False
        self._is_over = threading.Event()
        self._ended: PeerEnded | None = None
        self._heard, self._since = "", time.monotonic()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def start(self) -> None:
        """Start sending heartbeats and watching."""
        self._since = time.monotonic()
        self._store.set(self._beat, "0")
        self._thread.start()

    def stop(self) -> None:
        """Stop sending heartbeats and watching."""
        self._is_over.set()
        self._thread.join(timeout=HEARTBEAT_S)

    def interrupt(self, _number: int, _frame: FrameType | None) -> None:
        """Raise in the main thread what the watching thread has found."""
        if self._ended is not None and not self._is_over.is_set():
            raise self._ended

    def leave_together(self) -> None:
        """Wait until the others are done; the first rank also waits until they are gone."""
        with store_of(self._rank):
            self._leave(SILENCE_S)

    def fail(self, error: BaseException) -> None:
        """Tell the others why this rank ends, and give them time to report it themselves."""
        self.stop()
        # If the store is gone, the rank that held it has ended.
        with suppress(RuntimeError):
            self._tell(error)
            self._leave(FAREWELL_S)

    def _tell(self, error: BaseException) -> None:
        """Tell the others; only the first rank to do so is heard."""
        was_lost = isinstance(error, PeerEnded) and error.was_lost
        if was_lost or not isinstance(error, PeerEnded):
            said = {"rank": self._rank, "code": exit_code_of(error), "message": _reason(error)}
            self._store.compare_set(_FAILURE, "", json.dumps({**said, "was_lost": was_lost}))

    def _leave(self, timeout_s: float) -> None:
        self.stop()
        if self._has_left:
            return
        self._has_left = True
        self._store.set(self._beat, _LEFT)
        self._store.add(_LEFT, 1)
        self._wait_until(_LEFT, self._world_size, timeout_s)
        # The first rank's process may hold the store, so it leaves last.
        if self._rank != 0:
            self._store.add(_GONE, 1)
        else:
            self._wait_until(_GONE, self._world_size - 1, FAREWELL_S)

    def _wait_until(self, counter: str, count: int, timeout_s: float) -> None:
        deadline = time.monotonic() + timeout_s
        while self._store.add(counter, 0) < count and time.monotonic() < deadline:
            time.sleep(POLL_S)

    def _run(self) -> None:
        number = 0
        while not self._is_over.wait(HEARTBEAT_S):
            number += 1
            try:
                with store_of(self._rank):
                    self._ended = told_failure(self._store, self._rank)
                    if self._ended is None and (silence := self._silence()) is not None:
                        self._ended = silence
                        self._tell(silence)
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
            # The main thread is deep in a library and does not handle signals.
            print(f"{ended}", file=sys.stderr, flush=True)
            os._exit(ended.exit_code)

    def _silence(self) -> PeerEnded | None:
        """Return an error if the next rank's beat has stopped changing; no clocks are compared."""
        beat = f"beat {self._next}"
        heard = self._store.get(beat).decode() if self._store.check([beat]) else ""
        now = time.monotonic()
        if heard != self._heard:
            self._heard, self._since = heard, now
        if heard == _LEFT or now - self._since <= SILENCE_S:
            return None
        return PeerEnded(
            f"rank {self._rank} ends because rank {self._next} has not been heard from for "
            f"{SILENCE_S:.0f} s: it was killed or its machine is gone; {AGAIN}",
            STOPPED_EXIT_CODE,
            was_lost=True,
        )


def _reason(error: BaseException) -> str:
    if isinstance(error, KeyboardInterrupt):
        return f"it was stopped; {AGAIN}"
    return str(error) or type(error).__name__
