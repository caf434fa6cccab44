"""Prepare a corpus once: turn text into documents, a vocabulary and a store of tokens.

A folder with a manifest is a complete store, and is reused as long as it matches the settings and
the text. A folder without one is left by a stopped run, which is resumed.
"""

from __future__ import annotations

import heapq
import os
import shlex
import sys
from collections.abc import Collection, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tqdm import tqdm

from bert_scratch.config import InputError, counted, read_json_object
from bert_scratch.data.corpus_files import check_output_apart
from bert_scratch.data.segmenter import open_segmenter
from bert_scratch.data.sentences import split_document
from bert_scratch.data.store import MANIFEST, TokenStore, write_manifest
from bert_scratch.data.wordpiece import load_tokenizer
from bert_scratch.output_places import make_output_folder
from bert_scratch.pretraining import corpus_plan
from bert_scratch.pretraining.corpus_facts import describe_store
from bert_scratch.pretraining.corpus_plan import Text, find_text
from bert_scratch.pretraining.corpus_settings import CorpusSettings
from bert_scratch.pretraining.disk_space import check_free_disk
from bert_scratch.pretraining.store_plan import (
    PLAN,
    changed_text,
    make_plan,
    manifest_facts,
    store_differences,
    with_held_out,
)
from bert_scratch.pretraining.tokenise import (
    TOKENIZER_FOLDER,
    finished_shards,
    read_records,
    remove_temporary,
    tokenise,
)
from bert_scratch.training.distributed import Ranks, joined_ranks, rank_and_world_size
from bert_scratch.training.run_folder import alone_in


@dataclass(frozen=True, kw_only=True)
class PrepareConfig(CorpusSettings):
    """Prepare a corpus: learn a vocabulary and tokenise, once, for any number of runs."""

    output_dir: str
    """Where the prepared corpus is written; `pretrain --data` takes it."""


def run_prepare(config: PrepareConfig) -> None:
    """Prepare a corpus, or verify an existing one, and print what it holds.

    Raises:
        InputError: as `prepare`, or if the folder holds text that would be searched.
    """
    folder = Path(config.output_dir)
    check_output_apart(config.corpus, folder)
    rank, _ = rank_and_world_size()
    store = prepare(config, folder, verify=rank == 0)
    if rank == 0:
        for line in describe_store(store):
            print(line)
        print(
            f"pretrain on it with: bert-scratch pretrain --data "
            f"{shlex.quote(str(folder))} --output-dir DIR"
        )


def prepare(settings: CorpusSettings, folder: str | Path, *, verify: bool = False) -> TokenStore:
    """Prepare a corpus in a folder, or use an existing one.

    Settings left out are chosen from the text by documented rules, printed with their reasons, and
    recorded in the manifest. The tokenizer is saved in the subfolder `tokenizer`. After a stop,
    the same call resumes with the shards that are finished. Under torchrun, each rank makes its
    share of the shards, in a folder that all of them share.

    Args:
        settings: which text, and how; only the fields of CorpusSettings are used.
        folder: made if absent.
        verify: read every file of an existing corpus and check its SHA-256.

    Raises:
        InputError: if text or tokenizer cannot be used, there are too few documents to hold out
            two, the disk is too full, the folder cannot be written to, or it holds a corpus
            prepared from other text or settings.
        PeerEnded: if another rank ended first.
    """
    folder = Path(folder)
    with joined_ranks() as ranks:
        if ranks.rank > 0:
            return _prepare_as_other_rank(settings, folder, ranks, verify=verify)
        text = find_text(settings)
        if (folder / MANIFEST).exists():
            store = _reuse(settings, text, folder, verify=verify)
            ranks.tell("plan", "done")
            return store
        for source in text.sources:
            print(f"corpus     {source.evidence}")
        make_output_folder(folder)
        with alone_in(folder):
            _prepare_as_first_rank(settings, text, folder, ranks)
        return TokenStore(folder)


def _prepare_as_first_rank(
    settings: CorpusSettings, text: Text, folder: Path, ranks: Ranks
) -> None:
    """Plan a corpus, make this rank's shards, and write the manifest when all ranks are done."""
    _open_libraries(settings)
    plan = make_plan(settings, text, folder)
    text = with_held_out(text, plan)
    finished = finished_shards(folder, range(len(text.shards)))
    check_free_disk(
        folder,
        text,
        load_tokenizer(folder / TOKENIZER_FOLDER),
        finished=finished,
        has_word_starts=settings.word_segmenter is not None,
    )
    ranks.tell("plan", "made")
    _tokenise(settings, folder, text, ranks, finished)
    for other in range(1, ranks.world_size):
        ranks.wait_for(f"rank {other} is done")
    _write_manifest(folder, text, plan)
    ranks.tell("manifest")


def _open_libraries(settings: CorpusSettings) -> None:
    """Open the user's segmenter and sentence splitter, before a vocabulary takes minutes."""
    if settings.word_segmenter is not None:
        open_segmenter(settings.word_segmenter)
    if settings.sentences != "auto":
        split_document(["A sentence."], settings.sentences)


def _prepare_as_other_rank(
    settings: CorpusSettings, folder: Path, ranks: Ranks, *, verify: bool
) -> TokenStore:
    """Make this rank's share of the shards once the first rank has made the plan."""
    if ranks.wait_for("plan") == "made":
        text, plan = find_text(settings), read_json_object(folder / PLAN)
        if corpus_plan.describe_shards(text) != plan["slices"]:
            raise InputError(
                "--corpus: this rank does not find the same files as rank 0; every machine must "
                "see the same ones"
            )
        text = with_held_out(text, plan)
        finished = finished_shards(folder, _shards_of_rank(ranks, text))
        _tokenise(settings, folder, text, ranks, finished)
        ranks.tell(f"rank {ranks.rank} is done")
        ranks.wait_for("manifest")
    return TokenStore(folder, verify=verify)


def check_same_corpus(folder: str | Path, settings: CorpusSettings) -> list[str]:
    """Return what differs between a prepared corpus and what the settings would give today.

    Args:
        folder: of the prepared corpus.
        settings: today's settings.

    Returns:
        One line per difference in settings, tokenizer or text; none if it can be reused.

    Raises:
        InputError: if the folder holds no prepared corpus, or today's text cannot be found.
    """
    return store_differences(Path(folder), settings, find_text(settings))


def _reuse(settings: CorpusSettings, text: Text, folder: Path, *, verify: bool) -> TokenStore:
    differences = store_differences(folder, settings, text)
    if differences:
        listing = "\n  ".join(differences)
        raise InputError(
            f"{folder} holds a corpus prepared from other text or settings:\n  {listing}\ngive "
            f"the settings it was prepared with, choose another output folder, or delete {folder}"
        )
    with suppress(OSError):  # it may be read only
        remove_temporary(folder)  # a kill after writing the manifest may have left them
    print(f"corpus     already prepared in {folder}; reusing it")
    return TokenStore(folder, verify=verify)


def _shards_of_rank(ranks: Ranks, text: Text) -> range:
    """Return the shards that this rank makes."""
    return range(ranks.rank, len(text.shards), ranks.world_size)


def _tokenise(
    settings: CorpusSettings,
    folder: Path,
    text: Text,
    ranks: Ranks,
    finished: Collection[int],
) -> None:
    """Make this rank's shards, with a progress bar on a terminal and plain lines otherwise."""
    is_shown = ranks.rank == 0
    shards = {index: text.shards[index] for index in _shards_of_rank(ranks, text)}
    sizes = {index: sum(map(corpus_plan.text_bytes, parts)) for index, parts in shards.items()}
    total = sum(sizes.values())
    done = sum(size for index, size in sizes.items() if index in finished)
    made = tokenise(
        folder,
        {index: parts for index, parts in shards.items() if index not in finished},
        text.rules,
        word_segmenter=settings.word_segmenter,
        num_processes=settings.num_processes or _num_cores(),
    )
    is_terminal = sys.stderr.isatty()
    told = 10 * done // max(1, total)
    with tqdm(
        total=total,
        initial=done,
        unit="B",
        unit_scale=True,
        desc="tokenising",
        disable=not (is_terminal and is_shown),
    ) as bar:
        for num_bytes in made:
            bar.update(num_bytes)
            done += num_bytes
            if is_shown and not is_terminal and 10 * done // total > told:
                told = 10 * done // total
                print(f"tokenising {done / total:.0%} of {total / 1e6:,.1f} MB", flush=True)


def _write_manifest(folder: Path, text: Text, plan: dict[str, Any]) -> None:
    """Write the manifest once every shard exists and the text has not changed since."""
    records = read_records(folder, len(text.shards))
    _check_split(text, records)
    changed = changed_text(plan, text, folder)
    if changed:
        raise InputError(
            f"--corpus: changed while being read: {'; '.join(changed)}; run the command again"
        )
    vocab_size = plan["resolved"]["vocab_size"]
    write_manifest(folder, records, vocab_size=vocab_size, facts=manifest_facts(plan))
    remove_temporary(folder)


def _num_cores() -> int:
    """Return the cores this process may use, shared with the other ranks on the machine.

    If the system does not say which it may use, all cores count.
    """
    if hasattr(os, "sched_getaffinity"):
        cores = len(os.sched_getaffinity(0))
    else:
        cores = os.cpu_count() or 1
    return max(1, cores // int(os.environ.get("LOCAL_WORLD_SIZE", "1")))


def _check_split(text: Text, records: Sequence[dict[str, Any]]) -> None:
    """Refuse a corpus without two documents to hold out and two to learn from."""
    train, held_out = (
        sum(record[split]["documents"] for record in records) for split in ("train", "eval")
    )
    if min(train, held_out) >= corpus_plan.MIN_DOCUMENTS:
        return
    total = train + held_out
    sentences = sum(r[split]["sentences"] for r in records for split in ("train", "eval"))
    if total < 2 * corpus_plan.MIN_DOCUMENTS:
        found = f"{counted(total, 'document')} with {counted(sentences, 'sentence')}"
        raise corpus_plan.too_few_documents(text, found)
    smallest = heapq.nsmallest(2, (h for record in records for h in record["smallest_hashes"]))
    corpus_plan.check_not_copies(text)
    if smallest[0] == smallest[-1]:
        raise InputError(
            f"--corpus: the documents that are held out first, of {total:,}, are copies of one "
            f"another; give other text, or say what a document is with --documents"
        )
    enough = corpus_plan.share_above(smallest[-1])
    raise InputError(
        f"--eval-fraction: holds out {held_out} of {counted(total, 'document')}, but at "
        f"least two must be held out and two learned from; use --eval-fraction {enough:.4f}"
    )
