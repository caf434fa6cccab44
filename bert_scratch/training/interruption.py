"""Stopping on request: the first signal asks for a clean stop, a second one ends at once."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from bert_scratch.config import STOPPED_EXIT_CODE


class Interrupted(Exception):
    """A stop was requested and progress was saved; the same command resumes."""

    exit_code = STOPPED_EXIT_CODE


class StopRequest:
    """Remembers that a signal to stop arrived; long loops poll it between units of work."""

    def __init__(self) -> None:
        self.signal_name: str | None = None

    def __bool__(self) -> bool:
        return self.signal_name is not None

    def _on_signal(self, number: int, _frame: FrameType | None) -> None:
        if self.signal_name is not None:
            os._exit(128 + number)
        self.signal_name = signal.Signals(number).name


def stop_signals() -> list[signal.Signals]:
    """Return the signals that request a stop, including SIGHUP unless it is ignored.

    SIGHUP comes from a closed terminal; `nohup` ignores it, and Windows has none.
    """
    numbers = [signal.SIGTERM, signal.SIGINT]
    if hasattr(signal, "SIGHUP") and signal.getsignal(signal.SIGHUP) != signal.SIG_IGN:
        numbers.append(signal.SIGHUP)
    return numbers


@contextmanager
def stop_on_signals() -> Iterator[StopRequest]:
    """Turn SIGTERM, SIGINT and SIGHUP into a `StopRequest` inside the block (main thread only)."""
    request = StopRequest()
    previous = {number: signal.signal(number, request._on_signal) for number in stop_signals()}
    try:
        yield request
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
