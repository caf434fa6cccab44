"""Pins that a run killed without warning, wherever it was, ends with the same bits when its
command is given again. Starts real processes: `pytest -m slow tests/integration/test_killed.py`."""

from __future__ import annotations

import json
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from bert_scratch.pretraining.pretrain_config import PretrainConfig


def command(asked: PretrainConfig, file: Path) -> list[str]:
    file.write_text(asked.to_json(), encoding="utf-8")
    return [sys.executable, "-m", "bert_scratch", "pretrain", "--config", str(file)]


def final_bits(asked: PretrainConfig) -> list[bytes]:
    folder = Path(str(asked.output_dir))
    newest = sorted((folder / "checkpoints").iterdir())[-1]
    names = ("model.safetensors", "optimizer.safetensors")
    return [(newest / name).read_bytes() for name in names]


@pytest.mark.slow
def test_killed_run_ends_with_the_bits_of_an_uninterrupted_one(
    settings: Callable[..., PretrainConfig], tmp_path: Path
) -> None:
    long = {"num_train_steps": 400, "save_steps": 40, "eval_steps": 100, "logging_steps": 50}
    through, killed = settings("through", **long), settings("killed", **long)
    start = time.monotonic()
    subprocess.run(command(through, tmp_path / "a.json"), check=True, capture_output=True)
    whole_s = time.monotonic() - start
    draw = random.Random(7)
    kills = 0
    for _ in range(4):
        process = subprocess.Popen(
            command(killed, tmp_path / "b.json"), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
        )
        try:
            process.wait(timeout=draw.uniform(0.3, 1.0) * whole_s)
        except subprocess.TimeoutExpired:
            process.kill()
            kills += 1
        process.communicate()
    ended = subprocess.run(command(killed, tmp_path / "b.json"), capture_output=True, text=True)
    assert ended.returncode == 0, ended.stderr
    assert kills >= 1
    assert final_bits(killed) == final_bits(through)


@pytest.mark.slow
def test_terminated_process_exits_75_and_the_same_command_finishes(
    settings: Callable[..., PretrainConfig], tmp_path: Path
) -> None:
    asked = settings(num_train_steps=3000, save_steps=1000, eval_steps=1000, logging_steps=50)
    arguments = command(asked, tmp_path / "asked.json")
    process = subprocess.Popen(arguments, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    metrics = Path(str(asked.output_dir)) / "metrics.jsonl"
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline and not (metrics.exists() and "train" in metrics.read_text()):
        time.sleep(0.1)
    process.send_signal(signal.SIGTERM)
    _, error = process.communicate(timeout=60)
    assert process.returncode == 75, error
    assert "the same command goes on" in error
    status = json.loads((Path(str(asked.output_dir)) / "status.json").read_text())
    assert status["state"] == "stopped" and 50 <= status["step"] < 3000
    ended = subprocess.run(arguments, capture_output=True, text=True)
    assert ended.returncode == 0, ended.stderr
    assert f"after {status['step']:,} steps" in ended.stdout
