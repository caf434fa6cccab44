"""Pins that a hang ends with stacks and a code, and that signs of life put it off.
CPU only: `pytest tests/training/test_watchdog.py`."""

from __future__ import annotations

import subprocess
import sys

HANGS = """
import threading, time
from bert_scratch.training.watchdog import Watchdog

def waits_for_a_lock():
    lock = threading.Lock()
    lock.acquire()
    lock.acquire()

watchdog = Watchdog(0.3)
for _ in watchdog.watch(range(4)):
    time.sleep(0.1)
print("alive", flush=True)
{end}
"""


def run(end: str) -> subprocess.CompletedProcess[str]:
    code = HANGS.format(end=end)
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)


def test_hang_ends_with_the_stack_that_hangs_and_the_stated_code() -> None:
    ended = run("waits_for_a_lock()")
    assert ended.returncode == 1  # faulthandler's
    assert ended.stdout == "alive\n"
    assert "waits_for_a_lock" in ended.stderr


def test_closed_watchdog_ends_nothing() -> None:
    ended = run("watchdog.close(); time.sleep(0.5); print('still alive')")
    assert (ended.returncode, ended.stderr) == (0, "")
    assert ended.stdout == "alive\nstill alive\n"


def test_no_limit_is_no_watchdog() -> None:
    ended = run("Watchdog(0).alive(); watchdog.close(); time.sleep(0.5)")
    assert ended.returncode == 0
