"""Pins training on several ranks: the examples and losses of one, all end when one ends, and a
restarted run has the bits of an uninterrupted one.
Starts real processes: `pytest -m slow tests/integration/test_ranks.py`."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path

import pytest

from bert_scratch.pretraining.pretrain_config import PretrainConfig

pytestmark = pytest.mark.slow

ONE_RANK = str(Path(__file__).with_name("one_rank.py"))
NUM_STEPS = 12
TIMEOUT_S = 300
MakeSettings = Callable[..., PretrainConfig]


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


class Run:
    """A run in a folder of its own, and what its ranks noted of each step."""

    def __init__(self, asked: PretrainConfig) -> None:
        self.folder = Path(str(asked.output_dir))
        self.notes = self.folder.with_name(self.folder.name + "-notes")
        self.notes.mkdir()
        self.config = self.notes / "asked.json"
        self.config.write_text(asked.to_json())

    def arguments(self, ending: str = "", rank: int = 0, step: int = 0) -> list[str]:
        return [ONE_RANK, str(self.notes), ending, str(rank), str(step), str(self.config)]

    def start(
        self, num_ranks: int, *ending: object, restarts: int = 0
    ) -> list[subprocess.Popen[str]]:
        """Start each rank by itself, without a launcher that would end the others."""
        place = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free_port())}
        place |= {"WORLD_SIZE": str(num_ranks), "LOCAL_WORLD_SIZE": str(num_ranks)}
        place |= {"TORCHELASTIC_RESTART_COUNT": str(restarts), "TORCH_CPP_LOG_LEVEL": "ERROR"}
        return [
            subprocess.Popen(
                [sys.executable, *self.arguments(*ending)],
                env={**os.environ, **place, "RANK": str(rank)},
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
            )
            for rank in range(num_ranks)
        ]

    def torchrun(self, num_ranks: int, *ending: object, max_restarts: int = 0) -> None:
        """Run all ranks, started again after one ended, to the end."""
        launcher = [sys.executable, "-m", "torch.distributed.run", "--master-addr", "127.0.0.1"]
        launcher += ["--master-port", str(free_port()), "--nproc-per-node", str(num_ranks)]
        launcher += ["--max-restarts", str(max_restarts), "--monitor-interval", "0.1"]
        done = subprocess.run(
            [*launcher, *self.arguments(*ending)],
            capture_output=True,
            text=True,
            timeout=TIMEOUT_S,
        )
        assert done.returncode == 0, done.stderr

    def status(self) -> dict[str, object]:
        return json.loads((self.folder / "status.json").read_text())

    def examples(self) -> dict[int, list[list[int]]]:
        """Return the examples of each step over all ranks, in one order."""
        found = defaultdict(list)
        for note in self._notes():
            found[note["step"]] += note["examples"]
        return {step: sorted(examples) for step, examples in found.items()}

    def sums(self) -> dict[int, list[float]]:
        return {note["step"]: note["sums"] for note in self._notes()}

    def final_bits(self) -> list[bytes]:
        newest = sorted((self.folder / "checkpoints").iterdir())[-1]
        names = ("model.safetensors", "optimizer.safetensors")
        return [(newest / name).read_bytes() for name in names]

    def _notes(self) -> list[dict]:
        files = sorted(self.notes.glob("*.jsonl"))
        return [json.loads(line) for file in files for line in file.read_text().splitlines()]


def ended(ranks: list[subprocess.Popen[str]]) -> tuple[list[int], list[str]]:
    """Wait for all ranks; return their exit codes and what they wrote to stderr."""
    errors = [rank.communicate(timeout=TIMEOUT_S)[1] for rank in ranks]
    return [rank.returncode for rank in ranks], errors


WITHOUT_DROPOUT = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
_ALONE: list[Run] = []


@pytest.fixture
def alone(settings: MakeSettings, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """The run of one process without dropout, made once; not to be changed."""
    if not _ALONE:
        folder = tmp_path_factory.mktemp("alone") / "run"
        run = Run(settings(output_dir=str(folder), **WITHOUT_DROPOUT))
        subprocess.run([sys.executable, *run.arguments()], check=True, capture_output=True)
        _ALONE.append(run)
    return _ALONE[0]


@pytest.mark.parametrize("num_ranks", [2, 3, 4])
def test_ranks_have_the_examples_and_losses_of_one(
    num_ranks: int, alone: Run, settings: MakeSettings
) -> None:
    run = Run(settings(**WITHOUT_DROPOUT))
    codes, errors = ended(run.start(num_ranks))
    assert codes == [0] * num_ranks, errors
    assert run.examples() == alone.examples()
    sums, expected = run.sums(), alone.sums()
    assert sorted(sums) == list(range(NUM_STEPS))
    for step, values in sums.items():
        assert values == pytest.approx(expected[step], rel=1e-5), step
    assert run.status()["state"] == "done"


def test_ranks_that_count_other_word_vectors_start_with_those_of_the_first(
    alone: Run, settings: MakeSettings
) -> None:
    run = Run(settings(**WITHOUT_DROPOUT))
    codes, errors = ended(run.start(2, "apart", 1))
    assert codes == [0, 0], errors
    for step, values in run.sums().items():
        assert values == pytest.approx(alone.sums()[step], rel=1e-5), step


def test_killed_rank_is_started_again_and_the_bits_are_the_same(settings: MakeSettings) -> None:
    through, killed = Run(settings("through")), Run(settings("killed"))
    through.torchrun(3)
    killed.torchrun(3, "kill", 1, 8, max_restarts=1)
    assert killed.final_bits() == through.final_bits()
    assert killed.status() == through.status()


@pytest.mark.parametrize("killed", [0, 1])
def test_killed_rank_ends_the_others_with_code_75(killed: int, settings: MakeSettings) -> None:
    run = Run(settings())
    ranks = run.start(3, "kill", killed, 7)
    ranks[killed].wait(timeout=TIMEOUT_S)
    start = time.monotonic()
    codes, errors = ended(ranks)
    assert time.monotonic() - start < 30
    assert codes == [-signal.SIGKILL if rank == killed else 75 for rank in range(3)], errors
    assert (run.status()["state"], run.status()["code"]) == ("lost", 75)
    left = [error for rank, error in enumerate(errors) if rank != killed]
    assert all(error.count("\n") == 1 and "run the same command again" in error for error in left)


def test_an_input_error_after_the_start_is_in_the_status(settings: MakeSettings) -> None:
    run = Run(settings(**WITHOUT_DROPOUT))
    codes, errors = ended(run.start(2, "terminate", 1, 3))
    assert codes == [75, 75], errors
    for weights in run.folder.glob("checkpoints/*/model.safetensors"):
        weights.write_bytes(b"broken")
    codes, errors = ended(run.start(2))
    assert codes == [2, 2], errors
    status = run.status()
    assert (status["state"], status["code"]) == ("failed", 2)
    assert "no complete checkpoint" in str(status["message"])


def test_signalled_rank_stops_all_and_other_numbers_of_ranks_go_on(
    alone: Run, settings: MakeSettings
) -> None:
    run = Run(settings(**WITHOUT_DROPOUT))
    codes, errors = ended(run.start(3, "terminate", 1, 3))
    assert codes == [75, 75, 75], errors
    status = run.status()
    assert (status["state"], status["code"]) == ("stopped", 75)
    assert 3 <= int(str(status["step"])) <= 5
    codes, errors = ended(run.start(2, restarts=1))
    assert codes == [75, 75] and "not started again" in errors[1], errors
    codes, errors = ended(run.start(2))
    assert codes == [0, 0], errors
    assert run.examples() == alone.examples()
    for step, values in run.sums().items():
        assert values == pytest.approx(alone.sums()[step], rel=1e-5), step


def test_infinite_loss_of_one_rank_fails_all_and_is_named(settings: MakeSettings) -> None:
    run = Run(settings())
    codes, errors = ended(run.start(2, "infinite", 1, 6))
    assert codes == [3, 3], errors
    status = run.status()
    assert (status["state"], status["code"], status["step"]) == ("failed", 3, 6)
    assert "step 6" in str(status["message"]) and "rank 1: " in str(status["message"])
    assert "rank 0: " not in str(status["message"])
    codes, errors = ended(run.start(2, restarts=1))
    assert codes == [3, 3], errors


def test_more_ranks_than_examples_are_refused_with_one_line(settings: MakeSettings) -> None:
    run = Run(settings(train_batch_size=2))
    codes, errors = ended(run.start(3))
    assert codes == [2, 2, 2], errors
    assert all(error.count("\n") == 1 for error in errors), errors
    assert "--train-batch-size 2" in errors[0]
