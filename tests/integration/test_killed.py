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

pytestmark = pytest.mark.slow
KILLS = 20
SPARE = 3
"""Kills more than are asked for: one that comes when its phase is over does not count."""


def command(asked: PretrainConfig, file: Path) -> list[str]:
    file.write_text(asked.to_json(), encoding="utf-8")
    return [sys.executable, "-m", "bert_scratch", "pretrain", "--config", str(file)]


def final_bits(asked: PretrainConfig) -> list[bytes]:
    folder = Path(str(asked.output_dir))
    newest = sorted((folder / "checkpoints").iterdir())[-1]
    names = ("model.safetensors", "optimizer.safetensors")
    return [(newest / name).read_bytes() for name in names]


def holds(path: Path, text: str) -> bool:
    return path.exists() and text in path.read_text(encoding="utf-8")


def moments_to_kill(folder: Path) -> dict[str, Callable[[], bool]]:
    """Return what can be seen from outside when a run is in one of its phases."""
    metrics = folder / "metrics.jsonl"
    return {
        "start-up": lambda: True,
        "tokenising": lambda: (folder / "corpus" / "plan.json").exists(),
        "rehearsal": lambda: (folder / "rehearsal").exists(),
        "evaluation": lambda: metrics.exists(),
        "step": lambda: holds(metrics, '"train"'),
        "save": lambda: any((folder / "checkpoints").glob("*.tmp")),
        "keeping the best": lambda: (folder / "best.tmp").exists(),
        "result": lambda: (folder / "model.tmp").exists(),
    }


def test_killed_run_ends_with_the_bits_of_an_uninterrupted_one(
    settings: Callable[..., PretrainConfig], tmp_path: Path
) -> None:
    long = {"num_train_steps": 1500, "save_steps": 50, "eval_steps": 100, "logging_steps": 10}
    through, killed = settings("through", **long), settings("killed", **long)
    subprocess.run(command(through, tmp_path / "a.json"), check=True, capture_output=True)
    arguments = command(killed, tmp_path / "b.json")
    phases = moments_to_kill(Path(str(killed.output_dir)))
    draw = random.Random(7)
    often = ["start-up", "step", "save", "keeping the best"]
    plan = [*phases, *draw.choices(often, k=KILLS + SPARE - len(phases))]
    plan.sort(key="result".__eq__)  # last: a run that is done cannot be killed
    killed_in: list[str] = []
    for phase in plan:
        process = subprocess.Popen(arguments, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
        while process.poll() is None and not phases[phase]():
            time.sleep(0.001)
        time.sleep(draw.uniform(0.0, {"start-up": 2.0, "step": 0.3}.get(phase, 0.02)))
        if process.poll() is None:
            killed_in.append(phase)
        process.kill()
        _, error = process.communicate()
        assert process.returncode in (0, -signal.SIGKILL), error
    ended = subprocess.run(arguments, capture_output=True, text=True)
    assert ended.returncode == 0, ended.stderr
    print(f"killed {len(killed_in)} times: {killed_in}")
    assert final_bits(killed) == final_bits(through)
    models = [Path(str(c.output_dir)) / "model" / "model.safetensors" for c in (killed, through)]
    assert models[0].read_bytes() == models[1].read_bytes()
    left = [path.name for path in Path(str(killed.output_dir)).rglob("*.tmp")]
    assert len(killed_in) >= KILLS and not left


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
    assert "run the same command again" in error
    status = json.loads((Path(str(asked.output_dir)) / "status.json").read_text())
    assert status["state"] == "stopped" and 50 <= status["step"] < 3000
    ended = subprocess.run(arguments, capture_output=True, text=True)
    assert ended.returncode == 0, ended.stderr
    assert f"after {status['step']:,} steps" in ended.stdout


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize("phase", ["tokenising", "rehearsal", "evaluation", "step", "save"])
def test_signal_in_any_phase_ends_with_75_and_a_right_status(
    phase: str, number: signal.Signals, settings: Callable[..., PretrainConfig], tmp_path: Path
) -> None:
    asked = settings(num_train_steps=100_000, save_steps=20, eval_steps=40, logging_steps=10)
    folder = Path(str(asked.output_dir))
    arguments = command(asked, tmp_path / "asked.json")
    process = subprocess.Popen(arguments, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    is_there = moments_to_kill(folder)[phase]
    while process.poll() is None and not is_there():
        time.sleep(0.001)
    process.send_signal(number)
    _, error = process.communicate(timeout=60)
    assert process.returncode == 75, error
    status = json.loads((folder / "status.json").read_text())
    assert (status["state"], status["code"]) == ("stopped", 75)
    assert error.count(b"\n") == 1, error
