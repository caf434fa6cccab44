"""The tokenised corpus on disk: memory-mapped arrays, a manifest, checks against corruption.

A folder holds, for each shard and each of its two parts (train and eval), four little-endian
arrays: `tokens` (uint16, or uint32 for more than 65,536 token ids), `sentences` (uint32, each
one's end in tokens), `documents` (uint32, each one's end in sentences) and `pages` (the CRC-32
of each 4 KiB page of those three, in this order); further `token_counts` (int64 per id, train
only) and, written last, `manifest.json`. So a folder with a manifest is whole.
"""

from __future__ import annotations

import hashlib
import json
import re
import zlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt

from bert_scratch import durable
from bert_scratch.config import InputError, check_choice, read_json_object

FORMAT = "bert_scratch.corpus"
VERSION = 1
SPLITS = ("train", "eval")
PAGE_BYTES = 4096
MANIFEST = "manifest.json"
TOKEN_COUNTS = "token_counts"

_ARRAYS = ("tokens", "sentences", "documents")
_UINT32 = np.dtype("<u4")
_PLAIN_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]*")


def token_dtype(vocab_size: int) -> np.dtype[Any]:
    """Return the dtype tokens are stored in: uint16 while every id fits, then uint32."""
    return np.dtype("<u2") if vocab_size <= 65_536 else _UINT32


def file_name(shard: int, split: str, array: str) -> str:
    """Return the name of one array's file, such as 00003.train.tokens."""
    return f"{shard:05d}.{split}.{array}"


class ShardWriter:
    """Append documents to one part of a shard; `write_shard` makes one.

    Attributes:
        counts: documents, sentences and tokens written so far, those documents among them that
            have one sentence, and those that were left out because they have no token.
    """

    def __init__(self, files: Mapping[str, BinaryIO], dtype: np.dtype[Any]) -> None:
        self._files = files
        self._dtype = dtype
        names = ("documents", "sentences", "tokens", "one_sentence_documents", "empty_documents")
        self.counts = dict.fromkeys(names, 0)

    def add_document(self, sentences: Sequence[npt.NDArray[np.integer[Any]]]) -> None:
        """Append a document.

        Args:
            sentences: the token ids of each sentence, [n] integers; those without any token are
                left out, and so is a document without any sentence.
        """
        lengths = [len(sentence) for sentence in sentences if len(sentence)]
        if not lengths:
            self.counts["empty_documents"] += 1
            return
        ends = self.counts["tokens"] + np.cumsum(lengths)
        if ends[-1] >= 2**32:
            raise InputError("a single file holds over 4 billion tokens; cut it into smaller files")
        self.counts["documents"] += 1
        self.counts["one_sentence_documents"] += len(lengths) == 1
        self.counts["sentences"] += len(lengths)
        self.counts["tokens"] = int(ends[-1])
        self._files["tokens"].write(np.concatenate(sentences).astype(self._dtype).tobytes())
        self._files["sentences"].write(ends.astype(_UINT32).tobytes())
        self._files["documents"].write(np.array([self.counts["sentences"]], _UINT32).tobytes())


@contextmanager
def write_shard(folder: Path, shard: int, split: str, vocab_size: int) -> Iterator[ShardWriter]:
    """Yield a writer for one part of a shard; memory does not grow with the text.

    The files appear, whole, when the block ends; when it fails, none does.

    Args:
        folder: of the store.
        shard: index of the shard, >= 0.
        split: "train" or "eval".
        vocab_size: every token id is below it.
    """
    check_choice("split", split, SPLITS)
    with ExitStack() as stack:
        paths = {
            array: stack.enter_context(
                durable.durable_path(folder / file_name(shard, split, array))
            )
            for array in (*_ARRAYS, "pages")
        }
        with ExitStack() as opened:
            files = {array: opened.enter_context(paths[array].open("wb")) for array in _ARRAYS}
            yield ShardWriter(files, token_dtype(vocab_size))
        checks = [check for array in _ARRAYS for check in _page_checks(paths[array])]
        paths["pages"].write_bytes(np.array(checks, dtype=_UINT32).tobytes())


def shard_record(folder: Path, shard: int, split: str, counts: dict[str, int]) -> dict[str, Any]:
    """Return what the manifest says of one part: counts, and each file's size and SHA-256."""
    names = [file_name(shard, split, array) for array in (*_ARRAYS, "pages")]
    return {**counts, "files": {name: durable.file_digest(folder / name) for name in names}}


def _page_checks(path: Path) -> Iterator[int]:
    with path.open("rb") as file:
        while page := file.read(PAGE_BYTES):
            yield zlib.crc32(page)


def write_manifest(
    folder: Path, shards: Sequence[dict[str, Any]], *, vocab_size: int, facts: dict[str, Any]
) -> None:
    """Count the train tokens and write the manifest, which makes the folder a store.

    Args:
        folder: holds the files of every shard.
        shards: one {"train": record, "eval": record} per shard, in order.
        vocab_size: every token id is below it.
        facts: whatever else the manifest is to say; its keys must not be the format's own.
    """
    counts = np.zeros(vocab_size, dtype="<i8")
    for index, shard in enumerate(shards):
        if shard["train"]["tokens"]:
            path = folder / file_name(index, "train", "tokens")
            tokens = np.memmap(path, dtype=token_dtype(vocab_size), mode="r")
            counts += np.bincount(tokens, minlength=vocab_size)
    with durable.durable_path(folder / TOKEN_COUNTS) as temporary:
        temporary.write_bytes(counts.tobytes())
    own = {
        "format": FORMAT,
        "version": VERSION,
        "vocab_size": vocab_size,
        "shards": list(shards),
        "files": {TOKEN_COUNTS: durable.file_digest(folder / TOKEN_COUNTS)},
    }
    assert not own.keys() & facts.keys()
    manifest = {**own, **facts}
    durable.write_json(folder / MANIFEST, {**manifest, "sha256": _own_digest(manifest)})


def read_manifest(folder: Path) -> dict[str, Any]:
    """Read a store's manifest and check it against itself.

    Raises:
        InputError: if there is none, it was changed, or it is of another format or version.
    """
    path = folder / MANIFEST
    if not path.is_file():
        raise InputError(
            f"{folder}: holds no prepared corpus ({MANIFEST} is missing); make one with "
            f"bert-scratch prepare --corpus PATH --output-dir {folder}"
        )
    manifest = read_json_object(path)
    if manifest.get("format") != FORMAT:
        raise InputError(f"{path}: is not the manifest of a prepared corpus; prepare it again")
    if manifest.get("version") != VERSION:
        raise InputError(
            f"{path}: has format version {manifest.get('version')!r}, this program reads "
            f"{VERSION}; prepare the corpus again"
        )
    stated = manifest.pop("sha256", None)
    if stated != _own_digest(manifest):
        raise InputError(f"{path}: was changed or damaged (SHA-256 differs); prepare it again")
    for name in _all_files(manifest):
        if not _PLAIN_NAME.fullmatch(name):
            raise InputError(f"{path}: names the file {name!r}, which is not a plain file name")
    return manifest


def _own_digest(manifest: dict[str, Any]) -> str:
    text = json.dumps(manifest, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


def _all_files(manifest: dict[str, Any]) -> dict[str, dict[str, Any]]:
    files = dict(manifest["files"])
    for shard in manifest["shards"]:
        for split in SPLITS:
            files.update(shard[split]["files"])
    return files


class TokenStore:
    """A prepared corpus, opened for reading.

    Opening checks the manifest, every file's size, the token counts and the page tables; pages
    of the arrays are checked when they are first touched.

    Attributes:
        folder: where it lies; the tokenizer is in its folder `tokenizer`.
        manifest: what `manifest.json` holds.
        vocab_size: V; every token id is below it.
        token_counts: [V] int64, how often each id stands in the train part.
    """

    def __init__(self, folder: str | Path, verify: bool = False) -> None:
        """Open the store in a folder.

        Args:
            folder: holds manifest.json.
            verify: check the SHA-256 of every file first, which reads all of them.

        Raises:
            InputError: naming the file and the offset of what is missing, cut or damaged.
        """
        self.folder = Path(folder)
        self.manifest = read_manifest(self.folder)
        self.vocab_size: int = self.manifest["vocab_size"]
        files = _all_files(self.manifest)
        for name, stated in files.items():
            _check_size(self.folder / name, stated["bytes"])
        self.token_counts = np.frombuffer(
            _read_whole(self.folder / TOKEN_COUNTS, files[TOKEN_COUNTS]["sha256"]), dtype="<i8"
        )
        self._shards = {
            split: [
                Shard(self.folder, index, split, self.vocab_size, shard[split])
                for index, shard in enumerate(self.manifest["shards"])
            ]
            for split in SPLITS
        }
        if verify:
            self._verify(files)

    def shards(self, split: str) -> list[Shard]:
        """Return the shards of a split, "train" or "eval", in order; some may be empty."""
        check_choice("split", split, SPLITS)
        return self._shards[split]

    def _verify(self, files: dict[str, dict[str, Any]]) -> None:
        for split in SPLITS:
            for shard in self._shards[split]:
                shard.check_all()
        for name, stated in files.items():
            if durable.file_digest(self.folder / name)["sha256"] != stated["sha256"]:
                raise _damaged(self.folder / name, 0, stated["bytes"])


class Shard:
    """One part (train or eval) of one shard.

    Attributes:
        tokens: [T] uint16 or uint32, memory-mapped; `read` checks what it returns.
        num_tokens: T.
        num_documents: Nd.
        num_one_sentence_documents: those among them that have one sentence.
    """

    def __init__(
        self, folder: Path, index: int, split: str, vocab_size: int, record: dict[str, Any]
    ) -> None:
        """Map the files; the page table is read and checked at once."""
        paths = {array: folder / file_name(index, split, array) for array in (*_ARRAYS, "pages")}
        digest = record["files"][paths["pages"].name]["sha256"]
        checks = np.frombuffer(_read_whole(paths["pages"], digest), dtype=_UINT32)
        sizes = [record["files"][paths[array].name]["bytes"] for array in _ARRAYS]
        num_pages = [-(-size // PAGE_BYTES) for size in sizes]
        parts = np.split(checks, np.cumsum(num_pages)[:-1])
        self._files = {
            array: _CheckedFile(paths[array], part)
            for array, part in zip(_ARRAYS, parts, strict=True)
        }
        self.tokens = self._files["tokens"].bytes.view(token_dtype(vocab_size))
        self.num_tokens = len(self.tokens)
        self.num_documents: int = record["documents"]
        self.num_one_sentence_documents: int = record["one_sentence_documents"]
        self._token_bytes = self.tokens.itemsize

    def read(self, start: int, end: int) -> npt.NDArray[np.integer[Any]]:
        """Return the tokens [start, end), a view of the file; each page is checked once.

        Raises:
            InputError: naming the file and the byte offset of a damaged page.
        """
        self._files["tokens"].check(start * self._token_bytes, end * self._token_bytes)
        return self.tokens[start:end]

    @property
    def sentences(self) -> npt.NDArray[np.uint32]:
        """[Ns] uint32, the end of each sentence in tokens; checked whole at first touch."""
        return self._index("sentences")

    @property
    def documents(self) -> npt.NDArray[np.uint32]:
        """[Nd] uint32, the end of each document in sentences; checked whole at first touch."""
        return self._index("documents")

    def check_all(self) -> None:
        """Check every page of the three arrays."""
        for file in self._files.values():
            file.check(0, len(file.bytes))

    def _index(self, array: str) -> npt.NDArray[np.uint32]:
        file = self._files[array]
        file.check(0, len(file.bytes))
        return file.bytes.view(_UINT32)


class _CheckedFile:
    """A memory-mapped file whose pages are compared with their CRC-32 at first touch."""

    def __init__(self, path: Path, checks: npt.NDArray[np.uint32]) -> None:
        self._path = path
        self._checks = checks
        self._unchecked = bytearray(b"\1" * len(checks))
        # An empty file cannot be mapped.
        self.bytes: npt.NDArray[np.uint8] = (
            np.memmap(path, dtype=np.uint8, mode="r").view(np.ndarray)
            if len(checks)
            else np.empty(0, dtype=np.uint8)
        )

    def check(self, start: int, end: int) -> None:
        first, last = start // PAGE_BYTES, -(-end // PAGE_BYTES)
        page = self._unchecked.find(1, first, last)
        while page >= 0:
            offset = page * PAGE_BYTES
            content = self.bytes[offset : offset + PAGE_BYTES]
            if zlib.crc32(content.data) != self._checks[page]:
                raise _damaged(self._path, offset, offset + len(content))
            self._unchecked[page] = 0
            page = self._unchecked.find(1, page, last)


def _read_whole(path: Path, sha256: str) -> bytes:
    content = path.read_bytes()
    if hashlib.sha256(content).hexdigest() != sha256:
        raise _damaged(path, 0, len(content))
    return content


def _check_size(path: Path, size: int) -> None:
    try:
        found = path.stat().st_size
    except OSError as error:
        raise InputError(f"{path}: is missing; prepare the corpus again") from error
    if found != size:
        raise InputError(
            f"{path}: has {found} bytes where the manifest says {size}: it ends at byte offset "
            f"{min(found, size)} or was added to; prepare the corpus again"
        )


def _damaged(path: Path, start: int, end: int) -> InputError:
    return InputError(
        f"{path}: is damaged between byte offsets {start} and {end}; prepare the corpus again"
    )
