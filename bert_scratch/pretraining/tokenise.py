"""Turn slices of text into shards of tokens, in any number of processes.

What a shard holds does not depend on the process that makes it. A finished shard stays finished, so
a stopped run resumes where it was.
"""

from __future__ import annotations

import functools
import heapq
import json
import multiprocessing
import os
import re
import signal
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from multiprocessing.context import SpawnContext
from multiprocessing.sharedctypes import Synchronized
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from bert_scratch import durable
from bert_scratch.data.corpus import Slice
from bert_scratch.data.encoding import TextEncoder
from bert_scratch.data.processes import end_with_parent, starting_processes
from bert_scratch.data.segmenter import open_segmenter, word_start_flags
from bert_scratch.data.shard import SPLITS, write_shard
from bert_scratch.data.store import MANIFEST
from bert_scratch.data.wordpiece import load_tokenizer
from bert_scratch.pretraining.corpus_plan import text_bytes
from bert_scratch.pretraining.reading import NUM_HASHES, Document, ReadingRules, read_sections
from bert_scratch.training.interruption import stop_signals

TOKENIZER_FOLDER = "tokenizer"

_BATCH_CHARACTERS = 1 << 19
_LOOK_S = 0.5
"""Seconds between checks of the workers' progress."""
_OWN_NAME = re.compile(
    r"(\d{5,}\.((train|eval)\.\w+|json)|token_counts|manifest\.json|plan\.json)(\.\d+\.tmp)?"
    r"|text_places\.json\.\d+\.tmp"
)


class ShardTokeniser:
    """Writes shards; a process uses one for all of its, to keep its word cache."""

    def __init__(self, folder: Path, rules: ReadingRules, word_segmenter: str | None) -> None:
        """Load the tokenizer in the folder, and the segmenter.

        Args:
            folder: of the store; its tokenizer is in TOKENIZER_FOLDER.
            rules: the same for every slice.
            word_segmenter: as `open_segmenter` takes it; None stores no word starts.

        Raises:
            InputError: if there is no such segmenter.
        """
        self._folder = folder
        self._rules = rules
        self._tokenizer = load_tokenizer(folder / TOKENIZER_FOLDER)
        self._encoder = TextEncoder(self._tokenizer)
        self._segment = None if word_segmenter is None else open_segmenter(word_segmenter)

    def write(self, index: int, parts: Sequence[Slice]) -> Iterator[int]:
        """Write the shard of some slices, then its record, which marks it as finished.

        Yields:
            Bytes of text done since the last yield; they add up to the slices' `text_bytes`.
        """
        to_come = sum(map(text_bytes, parts))
        smallest: list[int] = []
        replaced = [0] * len(parts)
        shape: dict[str, Any] = {
            "vocab_size": self._encoder.vocab_size,
            "with_word_starts": self._segment is not None,
        }
        with (
            write_shard(self._folder, index, "train", **shape) as train,
            write_shard(self._folder, index, "eval", **shape) as held_out,
        ):
            for documents in _batches(self._read(parts, replaced)):
                texts = [sentence for document in documents for sentence in document.sentences]
                ids = self._encoder.encode(texts)
                word_starts = self._word_starts(texts, ids)
                start = 0
                for document in documents:
                    end = start + len(document.sentences)
                    writer = held_out if document.is_held_out else train
                    writer.add_document(ids[start:end], word_starts[start:end])
                    start = end
                smallest = heapq.nsmallest(2, [*smallest, *(d.hash for d in documents)])
                done = min(to_come, sum(len(text.encode()) + 1 for text in texts))
                to_come -= done
                yield done
        record = {
            "train": train.record,
            "eval": held_out.record,
            "replacement_characters": replaced,
            "smallest_hashes": [number / NUM_HASHES for number in smallest],
        }
        durable.write_json(self._folder / _record_name(index), record)
        yield to_come

    def _read(self, parts: Sequence[Slice], replaced: list[int]) -> Iterator[Document]:
        """Read the slices one after the other, counting U+FFFD in each."""
        for number, part in enumerate(parts):
            for document in read_sections(part, self._rules):
                replaced[number] += sum(text.count("\ufffd") for text in document.sentences)
                yield document

    def _word_starts(
        self, texts: Sequence[str], ids: Sequence[npt.NDArray[np.int32]]
    ) -> list[npt.NDArray[np.bool_]]:
        if self._segment is None:
            return []
        return word_start_flags(self._tokenizer, self._segment, texts, ids)


def tokenise(
    folder: Path,
    shards: Mapping[int, Sequence[Slice]],
    rules: ReadingRules,
    *,
    word_segmenter: str | None,
    num_processes: int,
) -> Iterator[int]:
    """Write shards.

    Args:
        folder: of the store; its tokenizer is in TOKENIZER_FOLDER.
        shards: the slices that shard i is made of, by i.
        rules: the same for every slice.
        word_segmenter: as `open_segmenter` takes it; None stores no word starts.
        num_processes: > 0; one works in this process.

    Yields:
        Bytes of text done since the last yield, several times a second; for a packed file, which
        is one slice, they are an estimate.

    Raises:
        OSError: if one of the processes is killed.
    """
    if num_processes == 1 or len(shards) < 2:
        tokeniser = ShardTokeniser(folder, rules, word_segmenter)
        for index, parts in shards.items():
            yield from tokeniser.write(index, parts)
        return
    # Never fork: this process may have threads, and a fork would copy their locks.
    context = multiprocessing.get_context("spawn")
    num_done = context.Value("q", 0)
    arguments = (folder, rules, word_segmenter, num_done)
    with _processes(min(num_processes, len(shards)), context, arguments) as pool:
        with starting_processes(signal.SIGINT):
            pending = {pool.submit(_write_in_worker, *shard) for shard in shards.items()}
        told = 0
        while pending:
            finished, pending = wait(pending, _LOOK_S, return_when=FIRST_COMPLETED)
            for future in finished:
                future.result()
            now = num_done.value
            yield now - told
            told = now


def finished_shards(folder: Path, indices: Iterable[int]) -> dict[int, dict[str, Any]]:
    """Return the records of those shards that an earlier run finished and that are unchanged.

    Files that are newer than their record are read and compared; another size is a change.
    """
    found = {index: _finished_shard(folder, index) for index in indices}
    return {index: record for index, record in found.items() if record is not None}


def read_records(folder: Path, num_shards: int) -> list[dict[str, Any]]:
    """Return the record of every shard, in order; all must be finished."""
    return [json.loads((folder / _record_name(index)).read_bytes()) for index in range(num_shards)]


def unfinished_files(folder: Path) -> list[Path]:
    """Return the files in a folder named like those of a stopped run: shards, records, a plan."""
    return [path for path in folder.iterdir() if path.is_file() and _OWN_NAME.fullmatch(path.name)]


def remove_temporary(folder: Path) -> None:
    """Remove temporary files and, once there is a manifest, the records and the plan."""
    is_done = (folder / MANIFEST).exists()
    for path in folder.iterdir():
        is_spent = is_done and path.suffix == ".json" and path.name != MANIFEST
        if _OWN_NAME.fullmatch(path.name) and (is_spent or path.suffix == ".tmp"):
            path.unlink()


def _finished_shard(folder: Path, index: int) -> dict[str, Any] | None:
    path = folder / _record_name(index)
    try:
        record: dict[str, Any] = json.loads(path.read_bytes())
        since = path.stat().st_mtime
        for split in SPLITS:
            for name, stated in record[split]["files"].items():
                if not durable.is_same(folder / name, stated, since=since):
                    return None
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None
    return record


def _record_name(index: int) -> str:
    return f"{index:05d}.json"


def _batches(documents: Iterator[Document]) -> Iterator[list[Document]]:
    batch: list[Document] = []
    num_characters = 0
    for document in documents:
        batch.append(document)
        num_characters += sum(map(len, document.sentences))
        if num_characters >= _BATCH_CHARACTERS:
            yield batch
            batch, num_characters = [], 0
    if batch:
        yield batch


@contextmanager
def _processes(
    num_processes: int, context: SpawnContext, arguments: tuple[Any, ...]
) -> Iterator[ProcessPoolExecutor]:
    """Yield a pool of fresh processes; if the block fails, they are stopped at once."""
    others = set(multiprocessing.active_children())
    pool = ProcessPoolExecutor(num_processes, context, _start_worker, arguments)
    try:
        yield pool
    except BaseException as error:
        pool.shutdown(wait=False, cancel_futures=True)
        for process in set(multiprocessing.active_children()) - others:
            process.terminate()
        if isinstance(error, BrokenProcessPool):
            raise OSError(
                "a process that tokenises was killed, perhaps because memory ran out; the same "
                "command goes on with what is finished, and with a smaller --num-processes it "
                "needs less memory"
            ) from error
        raise
    finally:
        pool.shutdown()


def _start_worker(
    folder: Path, rules: ReadingRules, word_segmenter: str | None, num_done: Synchronized[int]
) -> None:
    """Leave Ctrl-C and SIGHUP to the parent, end when it ends, and use one thread."""
    global _open_tokeniser, _num_done
    for number in set(stop_signals()) - {signal.SIGTERM}:
        signal.signal(number, signal.SIG_IGN)
    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    end_with_parent()
    _num_done = num_done
    # Opened with the first slice: an error here would only break the pool.
    _open_tokeniser = functools.cache(
        functools.partial(ShardTokeniser, folder, rules, word_segmenter)
    )


_open_tokeniser: Callable[[], ShardTokeniser]
_num_done: Synchronized[int]
"""Bytes of text done by all workers."""


def _write_in_worker(index: int, parts: Sequence[Slice]) -> None:
    for num_bytes in _open_tokeniser().write(index, parts):
        with _num_done.get_lock():
            _num_done.value += num_bytes
