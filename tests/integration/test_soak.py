"""Pins that three minutes of random kills, stops and corruption ends with the bits of a quiet run.
Starts real processes: `pytest -m slow tests/integration/test_soak.py`."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest


@pytest.mark.slow
def test_three_minutes_of_harm_changes_no_bit() -> None:
    script = Path(__file__).with_name("soak.py")
    ended = subprocess.run(
        [sys.executable, str(script), "--seconds", "180", "--seed", "5"],
        capture_output=True,
        text=True,
        timeout=900,
    )
    assert ended.returncode == 0, ended.stdout + ended.stderr
    counts = json.loads(ended.stdout.splitlines()[-1])
    assert counts["runs"] >= 1 and counts.get("kill", 0) >= 1
