"""How new Python processes are started, wherever the package starts any."""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
import threading
import types
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing import resource_tracker


@contextmanager
def starting_processes(*withheld: signal.Signals) -> Iterator[None]:
    """Start processes that do not run the caller's script, guarded by __main__ or not.

    Args:
        withheld: signals that never reach the new processes. A terminal or a scheduler sends them
            to a whole group, and a process that is still importing cannot ignore them yet. This
            process receives them when the block ends.
    """
    main = sys.modules["__main__"]
    sys.modules["__main__"] = types.ModuleType("__main__")
    resource_tracker.ensure_running()  # when it is started it lets these signals in again
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, withheld)
    try:
        yield
    finally:
        sys.modules["__main__"] = main
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)


def end_with_parent() -> None:
    """Let this process, started by another one of the package, end when that one does."""
    threading.Thread(target=_follow_parent, daemon=True).start()


def _follow_parent() -> None:
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)
