"""(seed, step) -> Batch, without state: resuming at any step costs nothing.

The examples of all epochs stand in one endless line, epoch after epoch, each epoch in its own
keyed order; step s takes places s * B to s * B + B - 1 of it.
"""

from __future__ import annotations

import functools
import multiprocessing
import os
import signal
import threading
from collections.abc import Collection, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch.utils.data import DataLoader, Dataset

from bert_scratch.batch import Batch
from bert_scratch.config import InputError, check_choice, check_range
from bert_scratch.data.examples import ExampleBatch
from bert_scratch.data.google_pairs import GooglePairs
from bert_scratch.data.joined_text import JoinedText
from bert_scratch.data.masking import TokenMasker
from bert_scratch.data.pairs import BalancedPairs
from bert_scratch.data.philox import permuted
from bert_scratch.data.processes import starting_processes
from bert_scratch.data.shard import Shard
from bert_scratch.data.store import TokenStore
from bert_scratch.data.wordpiece import SpecialIds

EVALUATION_SEED = 0x0E7A1_5EED
"""The key of evaluation's order, pairs and masks: the same in every run, so runs compare."""
EVALUATION_MASKED_LM_PROB = 0.15
ROW_MULTIPLE = 8
TOKENS_A_MESSAGE = 1 << 16


class ExampleLoader:
    """Give the batch of any step.

    Args:
        store: the prepared corpus.
        split: "train" or "eval".
        batch_size: B, examples of a step.
        max_seq_length: the longest row, special tokens included.
        seed: the key of order, pairs and masks.
        special_ids: of the tokenizer.
        unselectable_ids: tokens never masked nor drawn (see `TokenMasker`).
        pair_task: nsp, sop or none.
        pair_sampling: balanced, or (nsp only) google.
        short_seq_prob: share of examples with a shorter target length.
        masked_lm_prob: share of tokens to predict.
        max_predictions: at most this many in a row; None: no limit.
        mask_special: let masks fall on special tokens and draw them, as Google does.

    Raises:
        InputError: on a value out of range or a corpus that cannot serve the pair task.
    """

    def __init__(
        self,
        store: TokenStore,
        *,
        split: str = "train",
        batch_size: int,
        max_seq_length: int,
        seed: int,
        special_ids: SpecialIds,
        unselectable_ids: Collection[int],
        pair_task: str = "nsp",
        pair_sampling: str = "balanced",
        short_seq_prob: float = 0.1,
        masked_lm_prob: float = 0.15,
        max_predictions: int | None = None,
        mask_special: bool = False,
    ) -> None:
        check_range("train_batch_size", batch_size, at_least=1)
        self.arguments = {
            name: value for name, value in locals().items() if name not in ("self", "store")
        }
        self.store = store
        self.batch_size = batch_size
        self.max_seq_length = max_seq_length
        self.seed = seed
        self._special_ids = special_ids
        self._source = open_examples(
            store.shards(split),
            split=split,
            max_seq_length=max_seq_length,
            pair_task=pair_task,
            pair_sampling=pair_sampling,
            short_seq_prob=short_seq_prob,
            seed=seed,
        )
        self._masker = TokenMasker(
            vocab_size=store.vocab_size,
            special_ids=special_ids,
            unselectable_ids=unselectable_ids,
            seed=seed,
            masked_lm_prob=masked_lm_prob,
            max_predictions=max_predictions,
            mask_special=mask_special,
        )
        self.facts = self._source.facts
        self.num_examples = self.facts.num_examples

    def epoch_of(self, step: int) -> int:
        """Return the epoch of the step's first example."""
        return step * self.batch_size // self.num_examples

    def batch_at(self, step: int) -> Batch:
        """Return the batch of a step, padded to its longest row rounded up to a multiple of 8."""
        first = step * self.batch_size
        return self.batch_of(np.arange(first, first + self.batch_size, dtype=np.int64))

    def batch_of(self, places: npt.NDArray[np.int64]) -> Batch:
        """Return a batch of the examples at any places of the endless line.

        Args:
            places: [B] int64, global example numbers.
        """
        epochs, positions = places // self.num_examples, places % self.num_examples
        slots = np.empty_like(positions)
        for epoch in np.unique(epochs).tolist():
            within = epochs == epoch
            slots[within] = permuted(positions[within], self.num_examples, self.seed, epoch)
        return self._assembled(self._source.batch(epochs, slots), np.stack([epochs, slots], axis=1))

    def _assembled(self, examples: ExampleBatch, example_ids: npt.NDArray[np.int64]) -> Batch:
        """Lay the examples out as rows and mask them."""
        special = self._special_ids
        num_rows = len(example_ids)
        ends = np.cumsum(examples.segment_lengths + 1)
        last_segments = np.cumsum(examples.segments_per_row) - 1
        first_segments = last_segments + 1 - examples.segments_per_row
        lengths = 1 + np.diff(ends[last_segments], prepend=0)
        width = min(-(-int(lengths.max()) // ROW_MULTIPLE) * ROW_MULTIPLE, self.max_seq_length)
        input_ids = np.full((num_rows, width), special.pad, np.int64)
        input_ids[:, 0] = special.cls
        # the segments, each with its [SEP], fill the rows from column 1 in their order
        content = np.full(ends[-1], special.sep, np.int32)
        is_token = np.ones(ends[-1], bool)
        is_token[ends - 1] = False
        content[is_token] = examples.tokens
        columns = np.arange(width)
        input_ids[(columns > 0) & (columns < lengths[:, None])] = content
        row_lengths = torch.from_numpy(lengths)
        attention_mask = (torch.arange(width) < row_lengths[:, None]).long()
        first_ends = lengths
        if examples.labels is not None:
            first_ends = 2 + examples.segment_lengths[first_segments]
        second = torch.arange(width) >= torch.from_numpy(first_ends)[:, None]
        ids = torch.from_numpy(example_ids)
        masked_ids, masked_positions, masked_labels = self._masker.mask(
            torch.from_numpy(input_ids), row_lengths, ids
        )
        labels = examples.labels
        return Batch(
            input_ids=masked_ids,
            token_type_ids=attention_mask * second,
            attention_mask=attention_mask,
            masked_positions=masked_positions,
            masked_labels=masked_labels,
            next_sentence_label=None if labels is None else torch.from_numpy(labels),
            example_ids=ids,
            num_tokens=int(lengths.sum()),
        )


def open_examples(
    shards: Sequence[Shard],
    *,
    split: str,
    max_seq_length: int,
    pair_task: str,
    pair_sampling: str,
    short_seq_prob: float,
    seed: int,
) -> BalancedPairs | GooglePairs | JoinedText:
    """Return the way to build examples that the pair task and sampling name.

    Raises:
        InputError: on an unknown choice, a sequence length without room for two tokens, google
            sampling without nsp, or a split that cannot serve the task.
    """
    check_choice("--pair-task", pair_task, ("nsp", "sop", "none"))
    check_choice("--pair-sampling", pair_sampling, ("balanced", "google"))
    check_range("--max-seq-length", max_seq_length, at_least=5)
    if pair_sampling == "google" and pair_task != "nsp":
        raise InputError(
            f"--pair-sampling google makes nsp pairs only; got --pair-task {pair_task}. "
            "Leave --pair-sampling out"
        )
    num_special = 2 if pair_task == "none" else 3
    shape: dict[str, Any] = {
        "max_tokens": max_seq_length - num_special,
        "short_seq_prob": short_seq_prob,
        "seed": seed,
        "split": split,
    }
    if pair_task == "none":
        return JoinedText(shards, **shape)
    if pair_sampling == "google":
        return GooglePairs(shards, **shape)
    return BalancedPairs(shards, **shape, swap=pair_task == "sop")


def evaluation_batches(
    store: TokenStore,
    *,
    batch_size: int,
    max_seq_length: int,
    special_ids: SpecialIds,
    unselectable_ids: Collection[int],
    pair_task: str = "nsp",
    max_examples: int | None = 1024,
) -> Iterator[Batch]:
    """Return held-out batches whose order, pairs and masks no run's seed changes.

    Args:
        store: the prepared corpus.
        batch_size: examples of a batch; the last may hold fewer.
        max_seq_length: the longest row.
        special_ids: of the tokenizer.
        unselectable_ids: tokens never masked nor drawn.
        pair_task: nsp, sop or none.
        max_examples: only the first that many, spread over the whole text; None: each once.

    Raises:
        InputError: if the held-out text cannot serve the pair task.
    """
    loader = ExampleLoader(
        store,
        split="eval",
        batch_size=batch_size,
        max_seq_length=max_seq_length,
        seed=EVALUATION_SEED,
        special_ids=special_ids,
        unselectable_ids=unselectable_ids,
        pair_task=pair_task,
        masked_lm_prob=EVALUATION_MASKED_LM_PROB,
    )
    limit = loader.num_examples
    if max_examples is not None:
        limit = min(limit, max_examples)
    places = np.arange(limit, dtype=np.int64)
    starts = range(0, limit, batch_size)
    return (loader.batch_of(places[start : start + batch_size]) for start in starts)


def iterate(
    loader: ExampleLoader, start: int, stop: int, num_workers: int, *, pin_memory: bool = False
) -> Iterator[Batch]:
    """Yield the batches of steps start to stop - 1 in order, whatever the number of workers.

    Args:
        loader: where batches come from.
        start: first step.
        stop: step after the last.
        num_workers: processes that build batches ahead; 0: build each when it is asked for.
        pin_memory: put batches in page-locked memory, for copies to a CUDA device.

    Raises:
        InputError: if the store turns out to be damaged, as without workers.
    """
    batches: Iterable[Batch] = map(loader.batch_at, range(start, stop))
    if num_workers > 0:
        batches = _batches_of_workers(loader, range(start, stop), num_workers)
    for batch in batches:
        yield batch.pin_memory() if pin_memory else batch


def _batches_of_workers(loader: ExampleLoader, steps: range, num_workers: int) -> Iterator[Batch]:
    """Yield the batches of the steps in order, built ahead by other processes."""
    # workers fork from a fresh process: forking this one with its threads could deadlock
    method = "forkserver" if "forkserver" in multiprocessing.get_all_start_methods() else "spawn"
    context = multiprocessing.get_context(method)
    if method == "forkserver":
        context.set_forkserver_preload([__name__])
    steps_a_message = max(1, TOKENS_A_MESSAGE // (loader.batch_size * loader.max_seq_length))
    messages: DataLoader[Any] = DataLoader(
        _Steps(loader.store.folder, loader.arguments),
        # lazily: a run with a time limit asks for all steps there could be
        sampler=(
            steps[first : first + steps_a_message]
            for first in range(0, len(steps), steps_a_message)
        ),
        batch_size=None,
        collate_fn=_unchanged,
        num_workers=num_workers,
        multiprocessing_context=context,
        worker_init_fn=_follow_parent,
        # without one of its own the DataLoader draws from torch's global generator
        generator=torch.Generator(),
    )
    with starting_processes(signal.SIGINT, signal.SIGTERM):
        arriving = iter(messages)
    for message in arriving:
        if isinstance(message, InputError):
            raise message
        for batch in message:
            yield Batch(**{name: _as_tensor(value) for name, value in batch.items()})


class _Steps(Dataset[list[dict[str, Any]] | InputError]):
    """The batches of several steps as torch's DataLoader asks for them, in a worker process.

    They travel as numpy arrays, by value, and several at a time: a tensor would travel as a file
    in shared memory, and a message takes longer than a small batch takes to build.
    """

    def __init__(self, folder: Path, arguments: dict[str, Any]) -> None:
        self._folder = folder
        self._arguments = arguments

    @functools.cached_property
    def _loader(self) -> ExampleLoader:
        """The loader of this process, over files it maps itself."""
        return ExampleLoader(TokenStore(self._folder), **self._arguments)

    def __getitem__(self, steps: range) -> list[dict[str, Any]] | InputError:
        try:
            batches = [self._loader.batch_at(step) for step in steps]
        except InputError as error:
            # raised here it would arrive wrapped in the worker's traceback
            return error
        return [
            {name: _as_array(value) for name, value in vars(batch).items()} for batch in batches
        ]


def _unchanged(message: Any) -> Any:
    """Return the message: torch's own choice here would turn its arrays into tensors."""
    return message


def _as_array(value: Any) -> Any:
    return value.numpy() if isinstance(value, torch.Tensor) else value


def _as_tensor(value: Any) -> Any:
    return torch.from_numpy(value) if isinstance(value, np.ndarray) else value


def _follow_parent(_: int) -> None:
    """Leave what a terminal or scheduler sends to a whole group to the parent; end when it does.

    In a session of its own a worker gets no signal of the group. It must still obey SIGTERM:
    that is how multiprocessing ends workers that are left when the parent exits, and it waits
    for them. torch's workers watch their parent process, which here is the fork server.
    """
    os.setsid()
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)  # drops one that came while this one started
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTERM})
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)
