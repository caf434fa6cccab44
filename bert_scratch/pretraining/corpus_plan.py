"""The inputs of a prepared corpus: its text, what was chosen for the user, and what changed."""

from __future__ import annotations

import functools
import itertools
import math
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from bert_scratch import durable
from bert_scratch.config import InputError, counted, flag_of
from bert_scratch.data.corpus import (
    SLICE_BYTES,
    Slice,
    Source,
    read_documents,
    resolve_sources,
    slices_of,
)
from bert_scratch.data.documentation import build_documentation_corpus
from bert_scratch.data.sentences import choose_rule
from bert_scratch.data.unpack import is_compressed
from bert_scratch.pretraining.corpus_settings import CorpusSettings
from bert_scratch.pretraining.reading import NUM_HASHES, ReadingRules, read_hashes

COMPRESSION_RATIO = 3
"""Compression ratio of text with gzip, for estimates."""

# Text below so many bytes -> entries: a token should occur often enough to be learned.
_VOCAB_SIZES = ((300_000, 2_048), (3_000_000, 4_096), (30_000_000, 8_192), (300_000_000, 16_384))
_LARGEST_VOCAB_SIZE = 30_522
_WANTED_EVAL_BYTES = 500_000
_EVAL_FRACTIONS = (0.001, 0.1)
MIN_DOCUMENTS = 2
"""Minimum for each of the two parts, train and held out."""

_MIN_SHARD_BYTES = 1 << 20
_WANTED_SHARDS = 64
"""Enough for the processes of most machines; each costs eight files, a record while preparing, and
as many waits for the disk."""

# Below this size it takes only a second to see which documents a share would hold out.
_SMALL_CORPUS_BYTES = 8_000_000
_SAMPLED_SLICES = 8
_SAMPLED_DOCUMENTS = 16
_SAMPLED_PARAGRAPHS = 200
DOCUMENTATION_FOLDER = Path("data")
"""Where the built-in corpus is written, relative to the working directory."""


@dataclass(frozen=True, kw_only=True)
class Text:
    """The text of a corpus: where it is and how it is read."""

    sources: Sequence[Source]
    slices: list[Slice]
    rules: ReadingRules

    @property
    def num_bytes(self) -> int:
        """Estimated bytes of text."""
        return sum(map(text_bytes, self.slices))

    @functools.cached_property
    def shards(self) -> list[list[Slice]]:
        """The slices that make each shard of the store."""
        return shards_of(self.slices)


def find_text(settings: CorpusSettings) -> Text:
    """Find a corpus's files and decide what documents and sentences are; nothing is held out yet.

    Without --corpus it is the built-in one, written first if it does not exist yet.

    Raises:
        InputError: as `resolve_sources` and `read_documents`.
    """
    paths = settings.corpus or (str(build_documentation_corpus(DOCUMENTATION_FOLDER)),)
    encoding_errors = settings.encoding_errors
    sources = resolve_sources(paths, settings.documents)
    slices = slices_of(sources)
    sentence_rules = []
    for index, source in enumerate(sources):
        own = [part for part in slices if part.source_index == index]
        _refuse_empty(own, source, encoding_errors)
        rule = settings.sentences
        if rule == "auto":
            rule, evidence = choose_rule(_sample(own, source, encoding_errors))
            sources[index] = replace(source, evidence=f"{source.evidence}; {evidence}")
        sentence_rules.append(rule)
    rules = ReadingRules(
        sources=sources,
        sentence_rules=sentence_rules,
        encoding_errors=encoding_errors,
        eval_fraction=0.0,
    )
    return Text(sources=sources, slices=slices, rules=rules)


def _refuse_empty(slices: Sequence[Slice], source: Source, encoding_errors: str) -> None:
    """Refuse a source whose documents are all empty; usually the first one is not."""
    for part in slices:
        for _ in read_documents(part, source, encoding_errors):
            return
    raise InputError(
        f"--corpus {source.path}: holds no text: every document in its {source.kind} is empty"
    )


def _sample(slices: Sequence[Slice], source: Source, encoding_errors: str) -> list[list[str]]:
    """Return the beginnings of a few documents from all over a source."""
    count = min(len(slices), _SAMPLED_SLICES)
    documents = []
    for part in (slices[index * len(slices) // count] for index in range(count)):
        found = read_documents(part, source, encoding_errors)
        documents += [
            paragraphs[:_SAMPLED_PARAGRAPHS]
            for paragraphs in itertools.islice(found, _SAMPLED_DOCUMENTS)
        ]
    return documents


def text_bytes(part: Slice) -> int:
    """Estimate the bytes of text in a slice."""
    return (part.end - part.start) * (COMPRESSION_RATIO if is_compressed(part.file) else 1)


def shards_of(slices: Sequence[Slice]) -> list[list[Slice]]:
    """Group slices into shards: a large one is a shard, consecutive small ones are one together.

    Slices share a shard if they belong to one source and hold at most a 64th of all text, but no
    less than 1 MiB and no more than the slice of a large file. So a folder of any number of small
    files has few shards, and what a shard holds does not depend on the number of processes.
    """
    total = sum(map(text_bytes, slices))
    limit = min(SLICE_BYTES, max(_MIN_SHARD_BYTES, total // _WANTED_SHARDS))
    shards: list[list[Slice]] = []
    size = 0
    for part in slices:
        size += text_bytes(part)
        if not shards or shards[-1][0].source_index != part.source_index or size > limit:
            shards.append([])
            size = text_bytes(part)
        shards[-1].append(part)
    return shards


def components(text: Text) -> list[list[Slice]]:
    """Return the slices of each component of a mixture, that is of each given path."""
    slices: dict[str, list[Slice]] = {source.path: [] for source in text.sources}
    for part in text.slices:
        slices[text.sources[part.source_index].path].append(part)
    return list(slices.values())


def choose_vocab_size(corpus_bytes: int, alphabet_ids: int) -> tuple[int, str]:
    """Choose a vocabulary size for a corpus.

    Args:
        corpus_bytes: bytes of its text.
        alphabet_ids: number of ids its characters take, ## forms included.

    Returns:
        (size, reason). By size of text: 2,048 below 0.3 MB, 4,096 below 3 MB, 8,192 below
        30 MB, 16,384 below 300 MB, 30,522 (as in the paper) from there. If the characters leave
        less than a quarter of that for longer pieces, as in Chinese, that much is added.
    """
    by_size = next((v for limit, v in _VOCAB_SIZES if corpus_bytes < limit), _LARGEST_VOCAB_SIZE)
    pieces = by_size // 4
    if alphabet_ids + pieces <= by_size:
        return by_size, f"for about {corpus_bytes / 1e6:,.1f} MB of text"
    needed = math.ceil((alphabet_ids + pieces) / 64) * 64
    return needed, f"the text's characters take {alphabet_ids:,}, and {pieces:,} longer pieces"


def choose_eval_fraction(text: Text) -> float:
    """Return the share of documents to hold out: about 500 KB of text, 0.1 to 10 % of it.

    In a small corpus the share is raised until it holds out two documents.
    """
    lowest, highest = _EVAL_FRACTIONS
    fraction = min(highest, max(lowest, _WANTED_EVAL_BYTES / max(1, text.num_bytes)))
    if text.num_bytes < _SMALL_CORPUS_BYTES:
        found = (number for part in text.slices for number in read_hashes(part, text.rules))
        hashes = sorted(number / NUM_HASHES for number in found)
        if len(hashes) >= 2 * MIN_DOCUMENTS:
            fraction = max(fraction, share_above(hashes[MIN_DOCUMENTS - 1]))
    return fraction


def check_enough_documents(text: Text) -> None:
    """Refuse a corpus that has too few documents for two parts; reads up to the fourth.

    Raises:
        InputError: with their number.
    """
    hashes = (found for part in text.slices for found in read_hashes(part, text.rules))
    number = sum(1 for _ in itertools.islice(hashes, 2 * MIN_DOCUMENTS))
    if number < 2 * MIN_DOCUMENTS:
        raise too_few_documents(text, counted(number, "document"))


def too_few_documents(text: Text, found: str) -> InputError:
    """Return the error for a corpus that cannot be split in two; `found` says what it has."""
    rules = ", ".join(sorted({source.documents for source in text.sources}))
    return InputError(
        f"--corpus: found {found} (documents by {rules}), but two are held out and two are learned "
        f"from: at least {2 * MIN_DOCUMENTS} are needed; give more text, or say what a document is "
        f"with --documents"
    )


def check_not_copies(text: Text) -> None:
    """Refuse a corpus of equal documents; reads up to the first that differs.

    Raises:
        InputError: if all have the same hash, so that they are held out together or not at all.
    """
    number = 0
    first = None
    for part in text.slices:
        for found in read_hashes(part, text.rules):
            first = found if first is None else first
            number += 1
            if found != first:
                return
    if number >= 2 * MIN_DOCUMENTS:
        raise InputError(
            f"--corpus: its {number:,} documents are copies of one another, which are held out "
            f"together or not at all; give other text, or say what a document is with --documents"
        )


def share_above(hash_share: float) -> float:
    """Round a document's hash, as a share of all hashes, up to a short number."""
    return math.floor(hash_share * 10_000 + 1) / 10_000


def describe_shards(text: Text) -> list[dict[str, Any]]:
    """Return which slices of which source make each shard: the manifest's `slices`."""
    names = [dict(zip(source.files, _names(source), strict=True)) for source in text.sources]
    return [
        {
            "source": parts[0].source_index,
            "files": [[names[p.source_index][p.file], p.start, p.end] for p in parts],
        }
        for parts in text.shards
    ]


def describe_sources(
    sources: Sequence[Source], sentence_rules: Sequence[str]
) -> list[dict[str, Any]]:
    """Return the sources in the manifest's form, with size and SHA-256 of each file."""
    return [
        {
            "path": source.path,
            **_reading(source, sentence_rule),
            "files": {
                name: durable.file_digest(file)
                for name, file in zip(_names(source), source.files, strict=True)
            },
        }
        for source, sentence_rule in zip(sources, sentence_rules, strict=True)
    ]


def differing_settings(manifest: Mapping[str, Any], asked: Mapping[str, Any]) -> Iterator[str]:
    """Yield a line for each setting that differs from what the store was prepared with.

    Giving explicitly the value that was chosen then is not a difference.
    """
    for name, now in asked.items():
        then, resolved = manifest["asked"].get(name), manifest["resolved"].get(name)
        if now != then and (now is None or now != resolved):
            yield f"{flag_of(name)}: was {_shown(then, resolved)}, now {_shown(now, None)}"


def differing_sources(
    stored: Sequence[Mapping[str, Any]],
    sources: Sequence[Source],
    sentence_rules: Sequence[str],
    since: float,
    places: Sequence[str | None],
) -> Iterator[str]:
    """Yield a line for each difference between the text of a store and today's text.

    Args:
        stored: what `describe_sources` gave then.
        sources: today's.
        sentence_rules: one for each source.
        since: when the stored text was read, in seconds since the epoch; an older file of the
            same size is taken to be the same, any other is read, and so are all at another place.
        places: what `places_of` gave then, None where it is not known.
    """
    if len(stored) != len(sources):
        yield f"--corpus: was {len(stored)} sources, now {len(sources)}"
        return
    each = zip(stored, sources, sentence_rules, places, places_of(sources), strict=True)
    for then, source, sentence_rule, place, place_now in each:
        if not then["files"].keys() & set(_names(source)):
            yield f"--corpus: was {then['path']}, now {source.path}"
            continue
        for name, now in _reading(source, sentence_rule).items():
            if then[name] != now:
                yield f"{source.path}: {name} was {then[name]}, now {now}"
        files = dict(zip(_names(source), source.files, strict=True))
        for name in then["files"].keys() - files.keys():
            yield f"{source.path}: {name} is gone"
        for name in files.keys() - then["files"].keys():
            yield f"{source.path}: {name} is new"
        # Another folder may hold older files of the same names and sizes, such as a copy in lower
        # case.
        unread = since if place == place_now else -math.inf
        for name in files.keys() & then["files"].keys():
            if not durable.is_same(files[name], then["files"][name], since=unread):
                yield f"{source.path}: {name} has changed"


def _reading(source: Source, sentence_rule: str) -> dict[str, Any]:
    return {
        "kind": source.kind,
        "documents": source.documents,
        "wrapped": source.wrapped,
        "sentences": sentence_rule,
    }


def places_of(sources: Sequence[Source]) -> list[str]:
    """Return the absolute path of the common folder of each source's files."""
    return [os.path.abspath(_common_folder(source)) for source in sources]


def _names(source: Source) -> list[str]:
    """Return each file's name relative to their common folder."""
    parent = _common_folder(source)
    return [file.relative_to(parent).as_posix() for file in source.files]


def _common_folder(source: Source) -> str:
    return os.path.commonpath([file.parent for file in source.files])


def _shown(value: Any, resolved: Any) -> str:
    if value is None:
        return "left out" if resolved is None else f"left out ({resolved} was chosen)"
    return str(value)
