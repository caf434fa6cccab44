"""Slices of text to shards of tokens, in any number of processes.

A slice becomes a shard, whoever does it, so the bytes do not depend on the number of processes;
and a shard that is finished stays finished, so a stopped run goes on where it was.
"""

from __future__ import annotations

import functools
import hashlib
import heapq
import json
import multiprocessing
import os
import re
import signal
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from bert_scratch import durable
from bert_scratch.data.corpus import Slice, Source, read_documents
from bert_scratch.data.processes import starting_processes
from bert_scratch.data.sentences import sections, split_document
from bert_scratch.data.shard import SPLITS, write_shard
from bert_scratch.data.store import MANIFEST
from bert_scratch.data.wordpiece import TextEncoder, load_tokenizer

TOKENIZER_FOLDER = "tokenizer"

NUM_HASHES = 2**64
_BATCH_CHARACTERS = 1 << 19
_OWN_NAME = re.compile(
    r"(\d{5,}\.((train|eval)\.\w+|json)|token_counts|manifest\.json|plan\.json)(\.\d+\.tmp)?"
)


@dataclass(frozen=True, kw_only=True)
class ReadingRules:
    """How text becomes documents of sentences, and which of them are held out."""

    sources: Sequence[Source]
    sentence_rules: Sequence[str]
    """rules or lines, of each source."""
    encoding_errors: str
    """strict or replace."""
    eval_fraction: float
    """Documents whose hash is below this share of all hashes are held out."""


class Document(NamedTuple):
    """A document, or a section of a long one."""

    sentences: list[str]
    hash: int
    """The first 64 bits of the text's BLAKE2b hash."""
    is_held_out: bool


def read_sections(part: Slice, rules: ReadingRules) -> Iterator[Document]:
    """Read the documents that begin in a slice, long ones in sections.

    Args:
        part: from `slices_of`.
        rules: the same for every slice.

    Raises:
        InputError: naming file and byte offset where the text cannot be read.
    """
    threshold = int(rules.eval_fraction * NUM_HASHES)
    source = rules.sources[part.source_index]
    sentence_rule = rules.sentence_rules[part.source_index]
    for paragraphs in read_documents(part, source, rules.encoding_errors):
        for sentences in sections(split_document(paragraphs, sentence_rule)):
            digest = hashlib.blake2b("\n".join(sentences).encode(), digest_size=8).digest()
            number = int.from_bytes(digest, "big")
            yield Document(sentences, number, number < threshold)


def tokenise(
    folder: Path, slices: Sequence[Slice], rules: ReadingRules, *, num_processes: int
) -> Iterator[tuple[int, dict[str, Any]]]:
    """Turn each slice into a shard; those that are finished already are left as they are.

    Args:
        folder: of the store; its tokenizer is in TOKENIZER_FOLDER.
        slices: shard i is made of slice i.
        rules: the same for every slice.
        num_processes: > 0; one works in this process.

    Yields:
        (index, record) of each shard, in the order in which they are finished.
    """
    todo = []
    for index, part in enumerate(slices):
        record = _finished_shard(folder, index)
        if record is None:
            todo.append((index, part))
        else:
            yield index, record
    if num_processes == 1 or len(todo) < 2:
        encoder = _open_encoder(folder)
        for index, part in todo:
            yield index, tokenise_slice(folder, index, part, rules, encoder)
        return
    with _processes(min(num_processes, len(todo))) as pool:
        with starting_processes(signal.SIGINT):
            futures = {
                pool.submit(_tokenise_in_worker, folder, index, part, rules): index
                for index, part in todo
            }
        for future in as_completed(futures):
            yield futures[future], future.result()


def tokenise_slice(
    folder: Path, index: int, part: Slice, rules: ReadingRules, encoder: TextEncoder
) -> dict[str, Any]:
    """Write the shard of one slice, then its record, which says that it is finished."""
    smallest: list[int] = []
    num_replacements = 0
    with (
        write_shard(folder, index, "train", encoder.vocab_size) as train,
        write_shard(folder, index, "eval", encoder.vocab_size) as held_out,
    ):
        for documents in _batches(read_sections(part, rules)):
            texts = [sentence for document in documents for sentence in document.sentences]
            num_replacements += sum(text.count("\ufffd") for text in texts)
            ids = iter(encoder.encode(texts))
            for document in documents:
                writer = held_out if document.is_held_out else train
                writer.add_document([next(ids) for _ in document.sentences])
            smallest = heapq.nsmallest(2, [*smallest, *(d.hash for d in documents)])
    record = {
        "train": train.record,
        "eval": held_out.record,
        "replacement_characters": num_replacements,
        "smallest_hashes": [number / NUM_HASHES for number in smallest],
    }
    durable.write_json(folder / _record_name(index), record)
    return record


def remove_unfinished(folder: Path) -> None:
    """Remove shards, records and temporary files that a stopped run left in a folder."""
    for path in folder.iterdir():
        if path.is_file() and _OWN_NAME.fullmatch(path.name):
            path.unlink()


def remove_temporary(folder: Path) -> None:
    """Remove the temporary files and, once there is a manifest, the records of a run."""
    is_done = (folder / MANIFEST).exists()
    for path in folder.iterdir():
        is_record = is_done and path.suffix == ".json" and path.name[:1].isdigit()
        if _OWN_NAME.fullmatch(path.name) and (is_record or path.suffix == ".tmp"):
            path.unlink()


def _finished_shard(folder: Path, index: int) -> dict[str, Any] | None:
    """Return the record of a shard that a former run finished, if its files are as it says."""
    try:
        record: dict[str, Any] = json.loads((folder / _record_name(index)).read_bytes())
        for split in SPLITS:
            for name, stated in record[split]["files"].items():
                if durable.file_digest(folder / name) != stated:
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


def _open_encoder(folder: Path) -> TextEncoder:
    return TextEncoder(load_tokenizer(folder / TOKENIZER_FOLDER))


# One tokenizer, with its memory of words, for all slices of a worker.
_worker_encoder = functools.cache(_open_encoder)


def _tokenise_in_worker(
    folder: Path, index: int, part: Slice, rules: ReadingRules
) -> dict[str, Any]:
    return tokenise_slice(folder, index, part, rules, _worker_encoder(folder))


@contextmanager
def _processes(num_processes: int) -> Iterator[ProcessPoolExecutor]:
    """Yield a pool of fresh processes; when the block fails they are stopped at once."""
    others = set(multiprocessing.active_children())
    # Never forked: this process may have threads, and a fork would copy their locks.
    context = multiprocessing.get_context("spawn")
    pool = ProcessPoolExecutor(num_processes, context, initializer=_start_worker)
    try:
        yield pool
    except BaseException:
        pool.shutdown(wait=False, cancel_futures=True)
        for process in set(multiprocessing.active_children()) - others:
            process.terminate()
        raise
    finally:
        pool.shutdown()


def _start_worker() -> None:
    """Leave Ctrl-C to the parent, end when it ends, and use one thread."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    threading.Thread(target=_follow_parent, daemon=True).start()


def _follow_parent() -> None:
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)
