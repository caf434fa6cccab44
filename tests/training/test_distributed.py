"""Pins who a process is among the ranks of a job, and that one alone needs no other.
Runs anywhere: `pytest tests/training/test_distributed.py`; several ranks are started by
tests/integration/test_prepare_ranks.py."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from bert_scratch.config import InputError
from bert_scratch.training.all_reduce import AllReduce, _AgreedStop
from bert_scratch.training.distributed import (
    gpu_of_this_rank,
    joined_ranks,
    rank_and_world_size,
    ranks_on_this_machine,
    times_restarted,
)
from bert_scratch.training.interruption import StopRequest
from bert_scratch.training.peers import PeerEnded


def test_process_outside_torchrun_is_the_only_rank(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RANK", raising=False)
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    before = signal.getsignal(signal.SIGUSR1)
    with joined_ranks() as ranks:
        assert (ranks.rank, ranks.world_size) == (0, 1)
        ranks.tell("something")
        assert signal.getsignal(signal.SIGUSR1) is before


def test_rank_is_read_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RANK", "2")
    monkeypatch.setenv("WORLD_SIZE", "3")
    assert rank_and_world_size() == (2, 3)


@pytest.mark.parametrize(("rank", "world_size"), [("3", "3"), ("-1", "2"), ("one", "2"), ("0", "")])
def test_wrong_environment_is_named(
    rank: str, world_size: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RANK", rank)
    monkeypatch.setenv("WORLD_SIZE", world_size)
    with pytest.raises(InputError, match="RANK"):
        rank_and_world_size()


def test_rank_that_ends_because_of_another_has_its_exit_code() -> None:
    assert PeerEnded("rank 0 ends because rank 1 did", 2).exit_code == 2


def test_one_process_does_not_import_torch(repository: Path) -> None:
    code = (
        "import sys; from bert_scratch.training.distributed import joined_ranks\n"
        "with joined_ranks(): sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], cwd=repository).returncode == 0


@pytest.mark.slow
def test_ranks_do_one_job_after_another(repository: Path) -> None:
    code = """
import sys
from bert_scratch.training.distributed import joined_ranks
for job in ("first", "second"):
    with joined_ranks() as ranks:
        if ranks.rank == 0:
            ranks.tell("news", job)
        else:
            print(ranks.wait_for("news"))
"""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port = str(listener.getsockname()[1])
    place = {**os.environ, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "WORLD_SIZE": "2"}
    ranks = [
        subprocess.Popen(
            [sys.executable, "-c", code],
            cwd=repository,
            env={**place, "RANK": rank},
            stdout=subprocess.PIPE,
            text=True,
        )
        for rank in "01"
    ]
    outputs = [rank.communicate(timeout=90)[0] for rank in ranks]
    assert [rank.returncode for rank in ranks] == [0, 0]
    assert outputs == ["", "first\nsecond\n"]


def test_block_inside_a_block_of_one_process_is_the_same_process() -> None:
    with joined_ranks() as ranks, joined_ranks() as again:
        assert again is ranks
        assert ranks.from_first("news", lambda: "text") == "text"
        assert ranks.from_all("news", "text") == ["text"]
        done: list[str] = []
        ranks.leave_together(lambda: done.append("finished"))
        assert done == ["finished"]


def test_restarts_and_places_are_read_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("TORCHELASTIC_RESTART_COUNT", "LOCAL_WORLD_SIZE", "LOCAL_RANK"):
        monkeypatch.delenv(name, raising=False)
    assert (times_restarted(), ranks_on_this_machine()) == (0, 1)
    with pytest.raises(InputError, match="LOCAL_RANK"):
        gpu_of_this_rank()
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    assert gpu_of_this_rank() == 0
    monkeypatch.setenv("TORCHELASTIC_RESTART_COUNT", "2")
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "8")
    monkeypatch.setenv("LOCAL_RANK", "5")
    assert (times_restarted(), ranks_on_this_machine(), gpu_of_this_rank()) == (2, 8, 5)


def test_a_rank_that_is_asked_to_stop_tells_it_with_its_sums() -> None:
    asked = StopRequest()
    all_reduce = AllReduce()
    all_reduce.stop = _AgreedStop(asked)
    sums = torch.ones(2, dtype=torch.float64)
    assert all_reduce.totals(sums).read() == [1.0, 1.0] and not all_reduce.stop
    asked.signal_name = "SIGTERM"
    assert all_reduce.totals(sums).read() == [1.0, 1.0]
    assert all_reduce.stop.signal_name == "SIGTERM"
