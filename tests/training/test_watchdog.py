"""Pins that a hang ends with stacks and a code, and that signs of life put it off.
CPU only: `pytest tests/training/test_watchdog.py`."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time

import pytest

from bert_scratch.training.watchdog import Watchdog

HANGS = """
import threading, time
from bert_scratch.training import watchdog as module
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


def test_hang_ends_even_if_nobody_can_read_its_stack() -> None:
    code = HANGS.format(end="waits_for_a_lock()")
    read, write = os.pipe()
    os.close(read)
    command = [sys.executable, "-c", code]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=write) as process:
        os.close(write)
        assert process.wait(timeout=60) == 1


def test_hang_ends_without_a_standard_error() -> None:
    assert run("import sys; sys.__stderr__ = sys.stderr = None; waits_for_a_lock()").returncode == 1
    ended = run(
        "import sys; watchdog.close(); sys.__stderr__ = sys.stderr = None\n"
        "watchdog = Watchdog(0.3); waits_for_a_lock()"
    )
    assert (ended.returncode, ended.stderr) == (1, "")


@pytest.mark.skipif(sys.platform == "win32", reason="has no sleep in its C library")
def test_hang_that_lets_no_other_thread_run_ends_by_the_last_resort() -> None:
    ended = run(
        "module.LAST_RESORT = 3; watchdog.close(); watchdog = Watchdog(0.3); time.sleep(0.1)\n"
        "import ctypes; ctypes.PyDLL(None).sleep(50)"  # it keeps the interpreter's lock
    )
    assert ended.returncode == 1
    assert "Timeout (0:00:00.9" in ended.stderr


@pytest.mark.skipif(not hasattr(signal, "SIGSTOP"), reason="Windows suspends no process")
def test_process_that_was_suspended_for_longer_than_the_timeout_goes_on() -> None:
    # it is stopped in its first sleep; in its second the thread looks three times
    code = HANGS.format(end="time.sleep(0.05); time.sleep(0.1); watchdog.close(); print('goes on')")
    command = [sys.executable, "-c", code]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "alive\n"
        process.send_signal(signal.SIGSTOP)
        time.sleep(1)
        process.send_signal(signal.SIGCONT)
        assert process.stdout.read() == "goes on\n"
    assert process.returncode == 0


@pytest.mark.parametrize("timeout_s", [1e9, 1e30, float("inf")])
def test_a_timeout_longer_than_any_clock_is_watched_for(
    timeout_s: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    died: list[threading.ExceptHookArgs] = []
    monkeypatch.setattr(threading, "excepthook", died.append)
    watchdog = Watchdog(timeout_s)
    time.sleep(0.05)
    watchdog.close()
    assert not died


def test_closed_watchdog_ends_nothing() -> None:
    ended = run("watchdog.close(); time.sleep(0.5); print('still alive')")
    assert (ended.returncode, ended.stderr) == (0, "")
    assert ended.stdout == "alive\nstill alive\n"


def test_no_limit_is_no_watchdog() -> None:
    ended = run("Watchdog(0).alive(); watchdog.close(); time.sleep(0.5)")
    assert ended.returncode == 0
