"""Yield the batches of many steps in order, built in this process or ahead of time by workers."""

from __future__ import annotations

import dataclasses
import functools
import multiprocessing
import os
import signal
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset

from bert_scratch.batch import Batch
from bert_scratch.config import InputError
from bert_scratch.data.loader import ExampleLoader
from bert_scratch.data.processes import end_with_parent, starting_processes
from bert_scratch.data.store import TokenStore

TOKENS_TOGETHER = 1 << 16
"""Steps are built together up to this many tokens, to amortise the cost of numpy calls."""


def iterate(loader: ExampleLoader, start: int, stop: int, num_workers: int) -> Iterator[Batch]:
    """Yield the batches of steps start to stop - 1 in order, whatever the number of workers.

    Args:
        loader: where batches come from.
        start: first step.
        stop: step after the last.
        num_workers: processes that build batches ahead; 0: build a few whenever one is needed.

    Raises:
        InputError: if the store turns out to be damaged, with or without workers.
    """
    groups = _groups(range(start, stop), loader)
    built: Iterable[list[Batch]] = map(loader.batches, groups)
    if num_workers > 0:
        built = _built_by_workers(loader, groups, num_workers)
    for batches in built:
        yield from batches


def _groups(steps: range, loader: ExampleLoader) -> Iterator[range]:
    """Yield the steps to build together; lazily, since a time-limited run has no last step."""
    size = max(1, TOKENS_TOGETHER // (loader.batch_size * loader.max_seq_length))
    for first in range(0, len(steps), size):
        yield steps[first : first + size]


def _built_by_workers(
    loader: ExampleLoader, groups: Iterator[range], num_workers: int
) -> Iterator[list[Batch]]:
    """Yield the batches of each group in order, built ahead by other processes."""
    # workers fork from a fresh process, because forking this one with its threads could deadlock
    method = "forkserver" if "forkserver" in multiprocessing.get_all_start_methods() else "spawn"
    context = multiprocessing.get_context(method)
    if method == "forkserver":
        context.set_forkserver_preload([__name__])
    messages: DataLoader[Any] = DataLoader(
        _Steps(loader),
        sampler=groups,
        batch_size=None,
        collate_fn=_unchanged,
        num_workers=num_workers,
        multiprocessing_context=context,
        worker_init_fn=_follow_parent,
        # without its own generator the DataLoader draws from torch's global one
        generator=torch.Generator(),
    )
    with starting_processes(signal.SIGINT, signal.SIGTERM):
        arriving = iter(messages)
    for message in arriving:
        if isinstance(message, InputError):
            raise message
        yield [
            Batch(**{name: _as_tensor(value) for name, value in batch.items()}) for batch in message
        ]


@contextmanager
def naming_killed_workers() -> Iterator[None]:
    """Turn torch's error about a worker that died into a plain one, around the use of batches.

    torch raises it from a signal handler, so at any line that the main thread is on.

    Raises:
        OSError: if a worker is killed.
    """
    try:
        yield
    except RuntimeError as error:
        if "DataLoader worker" not in str(error):
            raise
        raise OSError(
            "a process of --num-workers was killed, perhaps because memory ran out; run the same "
            "command again to resume, with a smaller --num-workers, such as 0, if it happens again"
        ) from error


class _Steps(Dataset[list[dict[str, Any]] | InputError]):
    """The batches of several steps as a Dataset for torch's DataLoader, in a worker process.

    Batches travel as numpy arrays, by value, several at a time: a tensor would travel as a file in
    shared memory, and a message takes longer than building a small batch.
    """

    def __init__(self, loader: ExampleLoader) -> None:
        self._folder = loader.store.folder
        names = (field.name for field in dataclasses.fields(loader) if field.name != "store")
        self._settings = {name: getattr(loader, name) for name in names}

    @functools.cached_property
    def _loader(self) -> ExampleLoader:
        """The loader of this process, over files it maps itself."""
        return ExampleLoader(TokenStore(self._folder), **self._settings)

    def __getitem__(self, steps: range) -> list[dict[str, Any]] | InputError:
        try:
            batches = self._loader.batches(steps)
        except InputError as error:
            # if raised here, it would arrive wrapped in the worker's traceback
            return error
        return [
            {name: _as_array(value) for name, value in vars(batch).items()} for batch in batches
        ]


def _unchanged(message: Any) -> Any:
    """Return the message as it is; torch's default would turn its arrays into tensors."""
    return message


def _as_array(value: Any) -> Any:
    return value.numpy() if isinstance(value, torch.Tensor) else value


def _as_tensor(value: Any) -> Any:
    return torch.from_numpy(value) if isinstance(value, np.ndarray) else value


def _follow_parent(_: int) -> None:
    """Ignore signals that a terminal or scheduler sends to the group; end when the parent does.

    In its own session a worker gets no signal of the group. It must still obey SIGTERM: that is
    how multiprocessing ends the workers left when the parent exits, and it waits for them.
    torch's workers watch their parent process, which here is the fork server.
    """
    os.setsid()
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)  # drops one that came while this one started
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTERM})
    end_with_parent()
