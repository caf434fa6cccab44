"""Make a hanging process say where it hangs and end, instead of blocking a machine for days."""

from __future__ import annotations

import faulthandler
import os
import sys
import threading
import time
from collections.abc import Generator, Iterable
from typing import TypeVar

T = TypeVar("T")

LAST_RESORT = 50
"""Timeouts after which a hang ends that lets no thread of Python's run: by default a day. It looks
like a suspension, which may last a night."""


class Watchdog:
    """Prints the stacks of all threads and ends the process after a long time without progress.

    The time in which the process is suspended (Ctrl-Z, SIGSTOP, a sleeping laptop) is no hang. The
    watching thread notices it by a wait that took far longer than asked, and counts anew.
    """

    def __init__(self, timeout_s: float) -> None:
        """Start watching.

        Args:
            timeout_s: seconds without `alive` that count as a hang; 0 disables it.
        """
        self.timeout_s = timeout_s
        self.alive()
        self._is_closed = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="watchdog", daemon=True)
        if timeout_s:
            self._thread.start()

    def alive(self) -> None:
        """Report progress; this costs next to nothing, so call it often."""
        self._alive_at = time.monotonic()

    def watch(self, items: Iterable[T]) -> Generator[T, None, None]:
        """Yield the items, reporting progress before and after each is worked on."""
        for item in items:
            self.alive()
            yield item
            self.alive()

    def close(self) -> None:
        """Stop watching."""
        self._is_closed.set()
        if self.timeout_s:
            self._thread.join()

    def _watch(self) -> None:
        """Look ten times per timeout, so that a hang ends at most a tenth late."""
        # By its number, as the thread that hangs may hold the lock of the stream.
        stderr = (sys.__stderr__ or sys.stderr).fileno()
        looked_at = time.monotonic()
        while True:
            # It needs no lock, so it also ends a hang inside C code that keeps this thread waiting.
            faulthandler.dump_traceback_later(LAST_RESORT * self.timeout_s, exit=True, file=stderr)
            if self._is_closed.wait(self.timeout_s / 10):
                break
            now = time.monotonic()
            if now - looked_at > self.timeout_s / 2:
                self.alive()  # the process was suspended
            looked_at = now
            if now - self._alive_at > self.timeout_s:
                os.write(stderr, f"Timeout: no step in {self.timeout_s:g} s\n".encode())
                faulthandler.dump_traceback(stderr)
                os._exit(1)
        faulthandler.cancel_dump_traceback_later()
