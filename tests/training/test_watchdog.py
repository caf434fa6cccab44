"""Pins that a hang ends with stacks and a code, and that signs of life put it off.
CPU only: `pytest tests/training/test_watchdog.py`."""

from __future__ import annotations

import signal
import subprocess
import sys
import time

import pytest

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
    assert ended.returncode == 1
    assert ended.stdout == "alive\n"
    assert ended.stderr.startswith("Timeout: no step in 0.3 s\n")
    assert "waits_for_a_lock" in ended.stderr


def test_hang_that_lets_no_other_thread_run_ends_by_the_last_resort() -> None:
    ended = run("import ctypes; ctypes.PyDLL(None).sleep(50)")  # it keeps the interpreter's lock
    assert ended.returncode == 1
    assert "Timeout (0:00:15" in ended.stderr


@pytest.mark.skipif(not hasattr(signal, "SIGSTOP"), reason="Windows suspends no process")
def test_process_that_was_suspended_for_longer_than_the_timeout_goes_on() -> None:
    code = HANGS.format(end="time.sleep(0.1); watchdog.close(); print('still alive')")
    command = [sys.executable, "-c", code]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "alive\n"
        process.send_signal(signal.SIGSTOP)
        time.sleep(1)
        process.send_signal(signal.SIGCONT)
        assert process.stdout.read() == "still alive\n"
    assert process.returncode == 0


def test_closed_watchdog_ends_nothing() -> None:
    ended = run("watchdog.close(); time.sleep(0.5); print('still alive')")
    assert (ended.returncode, ended.stderr) == (0, "")
    assert ended.stdout == "alive\nstill alive\n"


def test_no_limit_is_no_watchdog() -> None:
    ended = run("Watchdog(0).alive(); watchdog.close(); time.sleep(0.5)")
    assert ended.returncode == 0
