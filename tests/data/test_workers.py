"""Pins the batches of worker processes: the same bits for any number of them, and their end.

Run alone: pytest tests/data/test_workers.py (each case starts processes, a few seconds each).
"""

from __future__ import annotations

import dataclasses
import multiprocessing
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from bert_scratch.batch import Batch
from bert_scratch.config import InputError
from bert_scratch.data.loader import ExampleLoader
from bert_scratch.data.store import TokenStore
from bert_scratch.data.wordpiece import special_ids, unselectable_ids
from bert_scratch.data.workers import iterate, naming_killed_workers


def loader_of(store: TokenStore, tokenizer) -> ExampleLoader:
    return ExampleLoader(
        store,
        batch_size=3,
        max_seq_length=61,
        seed=7,
        special_ids=special_ids(tokenizer),
        unselectable_ids=unselectable_ids(tokenizer),
    )


@pytest.fixture
def stored_loader(store, tokenizer) -> ExampleLoader:
    return loader_of(store, tokenizer)


def content(batch: Batch) -> list:
    return [
        value.tolist() if isinstance(value, torch.Tensor) else value
        for value in dataclasses.asdict(batch).values()
    ]


@pytest.mark.filterwarnings("ignore:This DataLoader will create")  # on a single core
@pytest.mark.parametrize("num_workers", [1, 2])
def test_workers_give_the_same_batches(stored_loader: ExampleLoader, num_workers: int) -> None:
    expected = [content(batch) for batch in iterate(stored_loader, 3, 20, 0)]
    before = torch.get_rng_state()
    batches = iterate(stored_loader, 3, 20, num_workers)
    assert [content(batch) for batch in batches] == expected
    assert torch.equal(torch.get_rng_state(), before)
    assert not multiprocessing.active_children()


def test_workers_end_when_the_iterator_is_dropped(stored_loader: ExampleLoader) -> None:
    batches = iterate(stored_loader, 0, sys.maxsize // 3, 1)
    next(batches)
    assert multiprocessing.active_children()
    batches.close()
    assert not multiprocessing.active_children()


SCRIPT = """
import multiprocessing, sys
from bert_scratch.data.loader import ExampleLoader
from bert_scratch.data.store import TokenStore
from bert_scratch.data.wordpiece import SpecialIds
from bert_scratch.data.workers import iterate

if __name__ == "__main__":
    loader = ExampleLoader(
        TokenStore(sys.argv[1]), batch_size=4, max_seq_length=32, seed=0,
        special_ids=SpecialIds(0, 1, 2, 3, 4), unselectable_ids=range(5),
    )
    batches = iterate(loader, 0, 10**9, 2)
    next(batches)
    print(*(child.pid for child in multiprocessing.active_children()), flush=True)
    sys.stdin.read()
"""


def is_running(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="looks processes up in /proc")
def test_workers_end_when_the_parent_is_killed(store_folder, repository, tmp_path) -> None:
    script = tmp_path / "train.py"
    script.write_text(SCRIPT)
    parent = subprocess.Popen(
        [sys.executable, script, store_folder],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": str(repository)},
    )
    with parent:
        workers = [int(pid) for pid in parent.stdout.readline().split()]
        assert len(workers) == 2 and all(map(is_running, workers))
        parent.kill()
    deadline = time.monotonic() + 20
    while any(map(is_running, workers)) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not any(map(is_running, workers))


@pytest.mark.slow
def test_process_that_leaves_batches_unread_ends(store_folder, repository, tmp_path) -> None:
    script = tmp_path / "train.py"
    script.write_text(SCRIPT)
    ended = subprocess.run(
        [sys.executable, script, store_folder],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        env={**os.environ, "PYTHONPATH": str(repository)},
        timeout=60,
    )
    assert ended.returncode == 0


def test_a_damaged_store_is_reported_the_same_with_workers(
    store_folder, tokenizer, tmp_path
) -> None:
    folder = shutil.copytree(store_folder, tmp_path / "store")
    store = TokenStore(folder)
    for file in folder.glob("*.train.tokens"):
        content = bytearray(file.read_bytes())
        content[10] ^= 1
        file.write_bytes(content)
    messages = []
    for num_workers in (0, 1):
        with pytest.raises(InputError) as raised:
            list(iterate(loader_of(store, tokenizer), 0, 50, num_workers))
        messages.append(str(raised.value))
    assert messages[0] == messages[1]
    assert "train.tokens" in messages[0]


def test_a_killed_worker_is_told_in_one_line_wherever_the_consumer_is() -> None:
    with pytest.raises(OSError, match="of --num-workers was killed"), naming_killed_workers():
        # torch raises from a signal handler; a real kill in the middle of a message may hang it
        raise RuntimeError("DataLoader worker (pid 7) is killed by signal: Killed. ")
    with pytest.raises(RuntimeError, match="another"), naming_killed_workers():
        raise RuntimeError("another error")
