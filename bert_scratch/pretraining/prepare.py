"""Prepare a corpus: text to documents, a vocabulary, and a store of tokens, once.

A folder with a manifest is a whole store and is used again as long as it is what the settings
and the text would give. A folder without one, of a stopped run, is gone on with.
"""

from __future__ import annotations

import heapq
import math
import os
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer
from tqdm import tqdm

from bert_scratch import durable
from bert_scratch.config import (
    InputError,
    Settings,
    check_choice,
    check_range,
    make_output_folder,
    read_json_object,
)
from bert_scratch.data.corpus import DOCUMENT_RULES
from bert_scratch.data.documentation import build_documentation_corpus
from bert_scratch.data.store import MANIFEST, TokenStore, read_manifest, write_manifest
from bert_scratch.data.vocabulary import MAX_TRAINING_BYTES, VocabularyLearner
from bert_scratch.data.wordpiece import (
    load_tokenizer,
    save_tokenizer,
    special_ids,
    tokenizer_hash,
    vocab_size_of,
)
from bert_scratch.pretraining import corpus_plan
from bert_scratch.pretraining.corpus_facts import corpus_facts
from bert_scratch.pretraining.corpus_plan import Text, find_text
from bert_scratch.pretraining.tokenise import (
    TOKENIZER_FOLDER,
    read_sections,
    remove_temporary,
    remove_unfinished,
    tokenise,
)

SENTENCE_RULES = ("auto", "rules", "lines")
ENCODING_ERRORS = ("strict", "replace")
DOCUMENTATION_FOLDER = Path("data")

_PLAN = "plan.json"


@dataclass(frozen=True, kw_only=True)
class CorpusSettings(Settings):
    """What text to learn from, and how it becomes tokens."""

    corpus: tuple[str, ...] = ()
    """Files, folders or globs of text: .txt, .jsonl, each also .gz. Left out: Python's own docs."""
    documents: str = "auto"
    """What a document is: auto, blank-lines, files, lines or titles."""
    sentences: str = "auto"
    """How documents are split into sentences: auto, rules, or lines (each line is one)."""
    encoding_errors: str = "strict"
    """What to do with bytes that are not UTF-8: strict stops, replace goes on."""
    tokenizer: str | None = None
    """Use this tokenizer (a folder, tokenizer.json or vocab.txt). Left out: one is learned."""
    vocab_size: int | None = None
    """Entries of the vocabulary to be learned. Left out: by the amount of text and its script."""
    lowercase: bool | None = None
    """Lower-case the text. Left out: no."""
    strip_accents: bool | None = None
    """Remove combining marks; in many scripts these are vowels or tones. Left out: no."""
    eval_fraction: float | None = None
    """Share of documents held out. Left out: about 500 KB of text, between 0.1 and 10 %."""
    num_processes: int | None = None
    """Processes that tokenise. Left out: as many as there are cores. Never changes a byte."""

    def __post_init__(self) -> None:
        """Check each field and the fields against each other.

        Raises:
            InputError: naming the flag, what it must be and what it was.
        """
        check_choice("--documents", self.documents, DOCUMENT_RULES)
        check_choice("--sentences", self.sentences, SENTENCE_RULES)
        check_choice("--encoding-errors", self.encoding_errors, ENCODING_ERRORS)
        check_range("--vocab-size", self.vocab_size, at_least=16)
        check_range("--eval-fraction", self.eval_fraction, above=0, below=1)
        check_range("--num-processes", self.num_processes, at_least=1)
        if self.tokenizer is not None:
            for name in ("vocab_size", "lowercase", "strip_accents"):
                if getattr(self, name) is not None:
                    raise InputError(
                        f"--{name.replace('_', '-')} cannot be combined with --tokenizer: the "
                        f"tokenizer {self.tokenizer} decides it; leave one of them out"
                    )


@dataclass(frozen=True, kw_only=True)
class PrepareConfig(CorpusSettings):
    """Prepare a corpus: learn a vocabulary and tokenise, once, for any number of runs."""

    output_dir: str
    """Where the prepared corpus is written; `pretrain --data` takes it."""


def run_prepare(config: PrepareConfig) -> None:
    """Prepare a corpus, or verify the one that is there, and print what it holds.

    Raises:
        InputError: as `prepare`.
    """
    folder = Path(config.output_dir)
    store = prepare(config, folder, verify=True)
    for line in describe_store(store):
        print(line)
    print(f"pretrain on it with: bert-scratch pretrain --data {folder} --output-dir DIR")


def prepare(settings: CorpusSettings, folder: str | Path, *, verify: bool = False) -> TokenStore:
    """Prepare a corpus in a folder, or use the one that is there already.

    What is left out of the settings is chosen from the text by documented rules, printed with
    its reason, and recorded in the manifest. The tokenizer is saved in the folder `tokenizer`
    inside. When it is stopped, the same call goes on with the shards that are finished.

    Args:
        settings: what text, and how; of a derived class only the fields of CorpusSettings count.
        folder: made if absent.
        verify: read every file of a corpus that is there already and check its SHA-256.

    Raises:
        InputError: if text or tokenizer cannot be used, there are too few documents to hold two
            out, or the folder cannot be written to or holds a corpus prepared from other text or
            settings.
    """
    folder = Path(folder)
    text = _find_text(settings)
    if (folder / MANIFEST).exists():
        return _reuse(settings, text, folder, verify=verify)
    for source in text.sources:
        print(f"corpus     {source.evidence}")
    make_output_folder(folder)
    plan = _plan(settings, text, folder)
    rules = replace(text.rules, eval_fraction=plan["resolved"]["eval_fraction"])
    records = _tokenise(folder, replace(text, rules=rules), settings.num_processes)
    _check_split(text, records)
    write_manifest(folder, records, vocab_size=plan["resolved"]["vocab_size"], facts=plan)
    (folder / _PLAN).unlink()
    remove_temporary(folder)
    return TokenStore(folder)


def check_same_corpus(folder: str | Path, settings: CorpusSettings) -> list[str]:
    """Return what differs between a prepared corpus and what the settings would give today.

    Args:
        folder: of the prepared corpus.
        settings: of today.

    Returns:
        One line per difference in settings, tokenizer or text; none where it can be used again.

    Raises:
        InputError: if the folder holds no prepared corpus, or today's text cannot be found.
    """
    return _differences(Path(folder), settings, _find_text(settings))


def describe_store(store: TokenStore) -> list[str]:
    """Return what a prepared corpus holds, a few lines to print."""
    tokenizer = load_tokenizer(store.folder / TOKENIZER_FOLDER)
    facts = corpus_facts(store, special_ids(tokenizer).unk)
    shards = [shard[split] for shard in store.manifest["shards"] for split in ("train", "eval")]
    single = sum(shard["one_sentence_documents"] for shard in shards)
    empty = sum(shard["empty_documents"] for shard in shards)
    replaced = sum(shard["replacement_characters"] for shard in store.manifest["shards"])
    lines = [
        f"train      {facts.train_documents:,} documents, {facts.train_sentences:,} sentences, "
        f"{facts.train_tokens:,} tokens",
        f"held out   {facts.eval_documents:,} documents, {facts.eval_sentences:,} sentences, "
        f"{facts.eval_tokens:,} tokens",
        f"of these   {single:,} documents of one sentence; {empty:,} more had no token",
        f"tokens     vocabulary {facts.vocab_size:,}, [UNK] {facts.unknown_share:.3%}, unigram "
        f"entropy {facts.unigram_entropy:.3f} nats",
    ]
    if replaced:
        lines.append(f"characters {replaced:,} are U+FFFD, which stands for undecodable bytes")
    return lines


def _find_text(settings: CorpusSettings) -> Text:
    paths = settings.corpus or (str(build_documentation_corpus(DOCUMENTATION_FOLDER)),)
    return find_text(
        paths,
        documents=settings.documents,
        sentences=settings.sentences,
        encoding_errors=settings.encoding_errors,
    )


def _reuse(settings: CorpusSettings, text: Text, folder: Path, *, verify: bool) -> TokenStore:
    differences = _differences(folder, settings, text)
    if differences:
        listing = "\n  ".join(differences)
        raise InputError(
            f"{folder} holds a corpus prepared otherwise:\n  {listing}\ngive the settings it was "
            f"prepared with, choose another output folder, or delete {folder}"
        )
    print(f"corpus     prepared already, used as it is: {folder}")
    return TokenStore(folder, verify=verify)


def _differences(folder: Path, settings: CorpusSettings, text: Text) -> list[str]:
    manifest = read_manifest(folder)
    prepared_at = (folder / MANIFEST).stat().st_mtime
    found = tokenizer_hash(load_tokenizer(folder / TOKENIZER_FOLDER))
    differences = []
    if found != manifest["tokenizer_sha256"]:
        differences.append(f"{folder / TOKENIZER_FOLDER}: was changed after the corpus was made")
    return [
        *differences,
        *corpus_plan.differing_settings(manifest, _asked(settings)),
        *corpus_plan.differing_sources(
            manifest["sources"], text.sources, text.rules.sentence_rules, prepared_at
        ),
    ]


def _asked(settings: CorpusSettings) -> dict[str, Any]:
    """Return the settings that decide a store's bytes, a tokenizer by its content."""
    names = set(CorpusSettings.__dataclass_fields__) - {"corpus", "num_processes", "tokenizer"}
    asked = {name: value for name, value in settings.to_dict().items() if name in names}
    given = None if settings.tokenizer is None else load_tokenizer(settings.tokenizer)
    return {**asked, "tokenizer": None if given is None else tokenizer_hash(given)}


def _plan(settings: CorpusSettings, text: Text, folder: Path) -> dict[str, Any]:
    """Return what the manifest will say, taken from a stopped run where that still holds."""
    world = {
        "asked": _asked(settings),
        "sources": corpus_plan.describe_sources(text.sources, text.rules.sentence_rules),
        "slices": corpus_plan.describe_slices(text.slices, text.sources),
    }
    path = folder / _PLAN
    stored = read_json_object(path) if path.exists() else {}
    if all(stored.get(name) == value for name, value in world.items()):
        tokenizer = load_tokenizer(folder / TOKENIZER_FOLDER)
        if tokenizer_hash(tokenizer) == stored["tokenizer_sha256"]:
            print(f"corpus     going on with what is finished in {folder}")
            remove_temporary(folder)
            return stored
    remove_unfinished(folder)
    eval_fraction = settings.eval_fraction
    if eval_fraction is None:
        eval_fraction = corpus_plan.choose_eval_fraction(text)
        print(f"chosen     --eval-fraction {eval_fraction:.4g}: of about {text.num_bytes:,} bytes")
    rules = replace(text.rules, eval_fraction=eval_fraction)
    tokenizer, report = _tokenizer(settings, replace(text, rules=rules))
    save_tokenizer(tokenizer, folder / TOKENIZER_FOLDER)
    plan = {
        **world,
        "resolved": {
            "vocab_size": vocab_size_of(tokenizer),
            "lowercase": bool(settings.lowercase),
            "strip_accents": bool(settings.strip_accents),
            "eval_fraction": eval_fraction,
        },
        "vocabulary": report,
        "tokenizer_sha256": tokenizer_hash(tokenizer),
    }
    durable.write_json(path, plan)
    return plan


def _tokenizer(settings: CorpusSettings, text: Text) -> tuple[Tokenizer, dict[str, Any] | None]:
    """Load the tokenizer that was asked for, or learn one from the train documents."""
    if settings.tokenizer is not None:
        return load_tokenizer(settings.tokenizer), None
    started = time.monotonic()
    try:
        learner = VocabularyLearner(
            _train_texts(text),
            lowercase=bool(settings.lowercase),
            strip_accents=bool(settings.strip_accents),
        )
    except InputError as error:
        share = f"--eval-fraction {text.rules.eval_fraction:.4g}"
        raise InputError(
            f"--corpus, without the documents that {share} holds out: {error}"
        ) from error
    vocab_size = settings.vocab_size
    if vocab_size is None:
        vocab_size, why = corpus_plan.choose_vocab_size(text.num_bytes, learner.alphabet_ids)
        print(f"chosen     --vocab-size {vocab_size}: {why}")
    tokenizer, report = learner.learn(vocab_size)
    print(f"vocabulary {report.describe()}, {time.monotonic() - started:.1f} s")
    return tokenizer, report.to_dict()


def _train_texts(text: Text) -> Iterator[str]:
    """Yield the sentences that are not held out; of a large corpus, from each slice's start."""
    share = min(1.0, MAX_TRAINING_BYTES / text.num_bytes)
    for part in text.slices:
        wanted = share * corpus_plan.text_bytes(part) if share < 1 else math.inf
        read = 0
        for document in read_sections(part, text.rules):
            if not document.is_held_out:
                yield from document.sentences
                read += sum(len(sentence.encode()) for sentence in document.sentences)
            if read >= wanted:
                break


def _tokenise(folder: Path, text: Text, num_processes: int | None) -> list[dict[str, Any]]:
    """Make every shard, with a progress bar on a terminal and plain lines elsewhere."""
    is_terminal = sys.stderr.isatty()
    num_processes = num_processes or _num_cores()
    records: dict[int, dict[str, Any]] = {}
    done, told = 0, 0
    with tqdm(
        total=text.num_bytes, unit="B", unit_scale=True, desc="tokenising", disable=not is_terminal
    ) as bar:
        for index, record in tokenise(folder, text.slices, text.rules, num_processes=num_processes):
            records[index] = record
            size = corpus_plan.text_bytes(text.slices[index])
            bar.update(size)
            done += size
            if not is_terminal and 10 * done // text.num_bytes > told:
                told = 10 * done // text.num_bytes
                print(f"tokenising {done / text.num_bytes:.0%} of {text.num_bytes / 1e6:,.1f} MB")
    return [records[index] for index in range(len(text.slices))]


def _num_cores() -> int:
    """Return the cores this process may use; not every system tells, then those there are."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _check_split(text: Text, records: Sequence[dict[str, Any]]) -> None:
    """Refuse a corpus of which two documents cannot be held out and two learned from."""
    train, held_out = (
        sum(record[split]["documents"] for record in records) for split in ("train", "eval")
    )
    if min(train, held_out) >= corpus_plan.MIN_DOCUMENTS:
        return
    total = train + held_out
    sentences = sum(r[split]["sentences"] for r in records for split in ("train", "eval"))
    if total < 2 * corpus_plan.MIN_DOCUMENTS:
        rules = ", ".join(sorted({source.documents for source in text.sources}))
        raise InputError(
            f"--corpus: found {total} documents with {sentences} sentences (documents by {rules}), "
            f"but two are held out and two are learned from: at least 4 are needed; give more "
            f"text, or say what a document is with --documents"
        )
    smallest = heapq.nsmallest(2, (h for record in records for h in record["smallest_hashes"]))
    enough = corpus_plan.share_above(smallest[-1])
    raise InputError(
        f"--eval-fraction: holds out {held_out} of {total} documents, but at least two must be "
        f"held out and two learned from; use --eval-fraction {enough:.4f}"
    )
