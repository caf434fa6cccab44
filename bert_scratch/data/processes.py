"""How the package starts new Python processes."""

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
    """Start processes that do not re-run the caller's script, even if it has no __main__ guard.

    Args:
        withheld: signals blocked in the new processes. A terminal or scheduler sends them to the
            whole group, and a process that is still importing cannot ignore them yet. This
            process receives them when the block ends.
    """
    main = sys.modules["__main__"]
    sys.modules["__main__"] = types.ModuleType("__main__")
    resource_tracker.ensure_running()  # starting it would unblock these signals again
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, withheld)
    try:
        yield
    finally:
        sys.modules["__main__"] = main
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)


def end_with_parent() -> None:
    """Make this child process of the package end when its parent does."""
    threading.Thread(target=_follow_parent, daemon=True).start()


def _follow_parent() -> None:
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)
