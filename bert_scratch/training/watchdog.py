"""A process that hangs says where, and ends, instead of holding a machine for days."""

from __future__ import annotations

import faulthandler
import sys
import time
from collections.abc import Generator, Iterable
from typing import TypeVar

T = TypeVar("T")


class Watchdog:
    """Prints the stacks of all threads and ends the process when nothing has happened for long."""

    def __init__(self, timeout_s: float) -> None:
        """Start waiting.

        Args:
            timeout_s: seconds without `alive` that are a hang; 0 never is.
        """
        self.timeout_s = timeout_s
        self._armed_at = float("-inf")
        self.alive()

    def alive(self) -> None:
        """Say that something has happened; costs next to nothing, so say it often."""
        now = time.monotonic()
        # Arming starts a thread, so not at each step: a hang is told a tenth of the limit late.
        if self.timeout_s and now - self._armed_at > self.timeout_s / 10:
            self._armed_at = now
            # With exit code 1; it needs no lock, so a hang inside C code ends too.
            faulthandler.dump_traceback_later(
                1.1 * self.timeout_s, exit=True, file=sys.__stderr__ or sys.stderr
            )

    def watch(self, items: Iterable[T]) -> Generator[T, None, None]:
        """Yield the items; each one is a sign of life, before and after it is worked on."""
        for item in items:
            self.alive()
            yield item
            self.alive()

    def close(self) -> None:
        """Stop waiting."""
        if self.timeout_s:
            faulthandler.cancel_dump_traceback_later()
