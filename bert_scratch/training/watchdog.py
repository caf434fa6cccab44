"""Make a hanging process say where it hangs and end, instead of blocking a machine for days."""

from __future__ import annotations

import faulthandler
import sys
import time
from collections.abc import Generator, Iterable
from typing import TypeVar

T = TypeVar("T")


class Watchdog:
    """Prints the stacks of all threads and ends the process after a long time without progress."""

    def __init__(self, timeout_s: float) -> None:
        """Start waiting.

        Args:
            timeout_s: seconds without `alive` that count as a hang; 0 disables it.
        """
        self.timeout_s = timeout_s
        self._armed_at = float("-inf")
        self.alive()

    def alive(self) -> None:
        """Report progress; this costs next to nothing, so call it often."""
        now = time.monotonic()
        # Arming starts a thread, so not at each step: a hang may be detected a tenth late.
        if self.timeout_s and now - self._armed_at > self.timeout_s / 10:
            self._armed_at = now
            # Exits with code 1; it needs no lock, so it also ends a hang inside C code.
            faulthandler.dump_traceback_later(
                1.1 * self.timeout_s, exit=True, file=sys.__stderr__ or sys.stderr
            )

    def watch(self, items: Iterable[T]) -> Generator[T, None, None]:
        """Yield the items, reporting progress before and after each is worked on."""
        for item in items:
            self.alive()
            yield item
            self.alive()

    def close(self) -> None:
        """Stop waiting."""
        if self.timeout_s:
            faulthandler.cancel_dump_traceback_later()
