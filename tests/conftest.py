"""Fixtures every test may use: where the development data lies, and a quiet, small torch."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

# Before torch is imported anywhere: two xdist workers on two cores must not fight for threads.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")


@pytest.fixture(scope="session")
def _torch_of_this_process() -> tuple[int, bool]:
    import torch

    return torch.get_num_threads(), torch.are_deterministic_algorithms_enabled()


@pytest.fixture(autouse=True)
def _each_test_finds_torch_as_the_process_began(_torch_of_this_process: tuple[int, bool]) -> None:
    """A run made within a test sets threads and algorithms for the whole process."""
    import torch

    num_threads, deterministic = _torch_of_this_process
    torch.set_num_threads(num_threads)
    torch.use_deterministic_algorithms(deterministic)


@pytest.fixture(scope="session")
def repository() -> Path:
    """The root of the checkout."""
    return Path(__file__).resolve().parent.parent


@pytest.fixture(scope="session")
def shared(repository: Path) -> Path:
    """The developers' folder of real corpora and weights; absent on a user's machine."""
    folder = repository.parent / "shared"
    if not folder.is_dir():
        pytest.skip("the developers' shared data is not on this machine")
    return folder
