"""Pins preparing by several ranks: the same bytes as one, and one that ends ends them all.
Starts real processes: `pytest -m slow tests/integration/test_prepare_ranks.py`."""

from __future__ import annotations

import gzip
import json
import os
import random
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

FLAGS = ["--sentences", "lines", "--vocab-size", "300", "--num-processes", "1"]
WORDS = "river stone cloud meadow winter lantern harbour copper silver orchard".split()

# A rank of its own, without torchrun, which would end the others by itself.
ALONE = """
import sys
from bert_scratch.training import peers
peers.HEARTBEAT_S, peers.SILENCE_S = 0.2, 3.0
from bert_scratch.cli import main
sys.exit(main(sys.argv[1:]))
"""
# One that waits for ever once it has made its share of the plan, as if it were reading.
STALLED = """
import sys, time
from bert_scratch.pretraining import prepare
def stall(*_):
    print("stalled", flush=True)
    time.sleep(1000)
prepare.make_plan = stall
prepare._tokenise = stall
"""


def documents(draw: random.Random, number: int) -> list[str]:
    return [
        "\n".join(
            f"{' '.join(draw.choices(WORDS, k=8))} {draw.randint(0, 999)}."
            for _ in range(draw.randint(2, 8))
        )
        for _ in range(number)
    ]


@pytest.fixture(scope="module")
def sources(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """Two sources: plain and compressed text, and objects a line.

    A plain file holds more than half a mebibyte, so no two of them share a shard.
    """
    draw, folder = random.Random(2), tmp_path_factory.mktemp("text")
    for name in ("plain", "objects"):
        (folder / name).mkdir()
    for number in range(4):
        text = "\n\n".join(documents(draw, 2_000)) + "\n"
        assert len(text) > 1 << 19
        (folder / "plain" / f"{number}.txt").write_text(text)
    packed = "\n\n".join(documents(draw, 20)) + "\n"
    (folder / "plain" / "packed.txt.gz").write_bytes(gzip.compress(packed.encode()))
    for number in range(2):
        lines = (json.dumps({"text": text}) + "\n" for text in documents(draw, 20))
        (folder / "objects" / f"{number}.jsonl").write_text("".join(lines))
    return [str(folder / "plain"), str(folder / "objects")]


def contents(folder: Path) -> dict[str, bytes]:
    files = (path for path in folder.rglob("*") if path.is_file())
    return {file.relative_to(folder).as_posix(): file.read_bytes() for file in files}


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


def command(sources: list[str], folder: Path) -> list[str]:
    return ["prepare", "--corpus", *sources, "--output-dir", str(folder), *FLAGS]


def torchrun(num_ranks: int, logs: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    launcher = [sys.executable, "-m", "torch.distributed.run", "--redirects", "3"]
    launcher += ["--log-dir", str(logs), "--master-addr", "127.0.0.1"]
    launcher += ["--master-port", str(free_port()), "--nproc-per-node", str(num_ranks)]
    return subprocess.run(
        [*launcher, "-m", "bert_scratch", *arguments], capture_output=True, text=True, timeout=120
    )


def start_rank(
    rank: int, num_ranks: int, port: int, arguments: list[str], before: str = ""
) -> subprocess.Popen[str]:
    place = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    return subprocess.Popen(
        [sys.executable, "-c", before + ALONE, *arguments],
        env={**os.environ, **place, "RANK": str(rank), "WORLD_SIZE": str(num_ranks)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


@pytest.fixture(scope="module")
def prepared(sources: list[str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The sources prepared by one process; not to be changed."""
    folder = tmp_path_factory.mktemp("prepared")
    arguments = [sys.executable, "-m", "bert_scratch", *command(sources, folder)]
    subprocess.run(arguments, check=True, capture_output=True)
    return folder


@pytest.mark.parametrize("num_ranks", [2, 3])
def test_ranks_write_the_bytes_of_one_process(
    num_ranks: int, sources: list[str], prepared: Path, tmp_path: Path
) -> None:
    done = torchrun(num_ranks, tmp_path / "logs", *command(sources, tmp_path / "out"))
    assert done.returncode == 0, done.stderr
    assert contents(tmp_path / "out") == contents(prepared)
    outputs = sorted((tmp_path / "logs").rglob("stdout.log"))
    assert [bool(file.read_text()) for file in outputs] == [True] + [False] * (num_ranks - 1)


def test_ranks_use_a_prepared_corpus_again(
    sources: list[str], prepared: Path, tmp_path: Path
) -> None:
    before = {path: path.stat().st_mtime_ns for path in prepared.rglob("*")}
    done = torchrun(2, tmp_path / "logs", *command(sources, prepared))
    assert done.returncode == 0, done.stderr
    assert {path: path.stat().st_mtime_ns for path in prepared.rglob("*")} == before


def test_bad_input_of_one_rank_ends_all_with_one_line_and_code_2(
    sources: list[str], tmp_path: Path
) -> None:
    bad = tmp_path / "bad.jsonl"  # the sixth shard, so the third rank's of three
    good = json.dumps({"text": "A river.\nA stone and a river."}) + "\n"
    bad.write_text(2000 * good + "{broken\n")  # far behind what the estimate of space reads
    tokenizer = tmp_path / "vocab.txt"  # learning one would read the text, on the first rank
    tokenizer.write_text("\n".join(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "river", "."]))
    arguments = command([*sources, str(bad)], tmp_path / "out")
    place = arguments.index("--vocab-size")
    arguments[place : place + 2] = ["--tokenizer", str(tokenizer), "--eval-fraction", "0.1"]
    port = free_port()
    ranks = [start_rank(rank, 3, port, arguments) for rank in range(3)]
    assert ranks[2].wait(timeout=90) == 2
    start = time.monotonic()
    errors = [rank.communicate(timeout=60)[1] for rank in ranks]
    assert time.monotonic() - start < 30
    assert [rank.returncode for rank in ranks] == [2, 2, 2], errors
    assert all(error.count("\n") == 1 and "bad.jsonl" in error for error in errors), errors
    assert ["ends because rank 2 did" in error for error in errors] == [True, True, False]


def test_bad_flag_under_torchrun_ends_every_rank_with_code_2(tmp_path: Path) -> None:
    start = time.monotonic()
    done = torchrun(2, tmp_path / "logs", "prepare", "--corpus", "nowhere", "--output-dir", "out")
    assert time.monotonic() - start < 30
    assert done.returncode == 1
    errors = [file.read_text() for file in sorted((tmp_path / "logs").rglob("stderr.log"))]
    assert all(error.count("\n") == 1 and "nowhere" in error for error in errors), errors
    assert "exitcode  : 2" in done.stderr


@pytest.mark.parametrize("killed", [0, 1])
def test_killed_rank_ends_the_others(killed: int, sources: list[str], tmp_path: Path) -> None:
    port, arguments = free_port(), command(sources, tmp_path / "out")
    ranks = [
        start_rank(rank, 2, port, arguments, STALLED if rank == killed else "") for rank in (0, 1)
    ]
    assert ranks[killed].stdout.readline().startswith("stalled" if killed else "corpus")
    time.sleep(1)
    ranks[killed].kill()
    start = time.monotonic()
    error = ranks[1 - killed].communicate(timeout=60)[1]
    ranks[killed].communicate()
    assert time.monotonic() - start < 60
    assert ranks[1 - killed].returncode == 75, error
    assert error.count("\n") == 1 and f"rank {1 - killed} ends because" in error
    assert "run the same command again" in error


def test_stopped_rank_stops_the_others_and_the_command_goes_on(
    sources: list[str], prepared: Path, tmp_path: Path
) -> None:
    port, arguments = free_port(), command(sources, tmp_path / "out")
    ranks = [start_rank(rank, 2, port, arguments, STALLED if rank else "") for rank in (0, 1)]
    assert ranks[1].stdout.readline() == "stalled\n"
    ranks[1].send_signal(signal.SIGTERM)
    errors = [rank.communicate(timeout=60)[1] for rank in ranks]
    assert [rank.returncode for rank in ranks] == [75, 75], errors
    assert all(error.count("\n") == 1 for error in errors), errors
    assert "rank 1 did: it was stopped" in errors[0]
    done = torchrun(2, tmp_path / "logs", *arguments)
    assert done.returncode == 0, done.stderr
    assert contents(tmp_path / "out") == contents(prepared)


def test_ranks_wait_for_a_slow_plan(sources: list[str], prepared: Path, tmp_path: Path) -> None:
    slow = """
import time
from bert_scratch.pretraining import prepare
make_plan = prepare.make_plan
def make_slowly(*arguments):
    time.sleep(10)  # three times as long as silence may last
    return make_plan(*arguments)
prepare.make_plan = make_slowly
"""
    port, arguments = free_port(), command(sources, tmp_path / "out")
    ranks = [start_rank(rank, 2, port, arguments, slow) for rank in (0, 1)]
    errors = [rank.communicate(timeout=90)[1] for rank in ranks]
    assert [rank.returncode for rank in ranks] == [0, 0], errors
    assert contents(tmp_path / "out") == contents(prepared)


def test_rank_without_a_meeting_place_is_refused(sources: list[str], tmp_path: Path) -> None:
    environment = {k: v for k, v in os.environ.items() if not k.startswith("MASTER_")}
    done = subprocess.run(
        [sys.executable, "-m", "bert_scratch", *command(sources, tmp_path / "out")],
        env={**environment, "RANK": "0", "WORLD_SIZE": "2"},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 2
    assert "start the command with torchrun" in done.stderr and done.stderr.count("\n") == 1
