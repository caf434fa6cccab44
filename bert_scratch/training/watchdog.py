"""Make a hanging process say where it hangs and end, instead of blocking a machine for days."""

from __future__ import annotations

import faulthandler
import os
import sys
import threading
from collections.abc import Generator, Iterable
from typing import TypeVar

T = TypeVar("T")

NUM_LOOKS = 10
"""How often the watching thread looks in one timeout; so a hang ends at most a tenth late."""
LAST_RESORT = 50
"""Timeouts after which a hang ends that lets no thread of Python's run: by default a day. It looks
like a suspension, which may last a night."""


class Watchdog:
    """Prints the stacks of all threads and ends the process after a long time without progress.

    A thread looks for signs of life, and counts the looks that find none. While the process is
    suspended (Ctrl-Z, SIGSTOP, a sleeping laptop) nobody looks, so that is no hang.
    """

    def __init__(self, timeout_s: float) -> None:
        """Start watching.

        Args:
            timeout_s: seconds without `alive` that count as a hang; 0 disables it.
        """
        self.timeout_s = timeout_s
        self._signs_of_life = 0
        self._is_closed = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="watchdog", daemon=True)
        if timeout_s:
            self._thread.start()

    def alive(self) -> None:
        """Report progress; this costs next to nothing, so call it often."""
        self._signs_of_life += 1

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
        stderr = _stderr()
        wait_s, last_resort_s = (
            min(seconds, threading.TIMEOUT_MAX)
            for seconds in (self.timeout_s / NUM_LOOKS, self.timeout_s * LAST_RESORT)
        )
        seen, num_without = -1, 0
        while num_without < NUM_LOOKS:
            # It needs no lock, so it also ends a hang inside C code that keeps this thread waiting.
            faulthandler.dump_traceback_later(last_resort_s, exit=True, file=stderr)
            if self._is_closed.wait(wait_s):
                faulthandler.cancel_dump_traceback_later()
                return
            num_without = num_without + 1 if self._signs_of_life == seen else 0
            seen = self._signs_of_life
        try:
            os.write(stderr, f"Timeout: no step in {self.timeout_s:g} s\n".encode())
            faulthandler.dump_traceback(stderr)
        finally:  # even if nobody can read it
            os._exit(1)


def _stderr() -> int:
    """Return standard error's number, as the thread that hangs may hold the stream's lock."""
    try:
        return (sys.__stderr__ or sys.stderr).fileno()
    except (AttributeError, OSError, ValueError):  # closed, or there is none
        return os.open(os.devnull, os.O_WRONLY)
