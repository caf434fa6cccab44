"""One part (train or eval) of a shard on disk: arrays written once, memory-mapped and checked.

The arrays are little-endian: `tokens` (uint16, or uint32 for more than 65,536 token ids),
`sentences` (uint32, each one's end in tokens), `documents` (uint32, each one's end in sentences)
and, if a segmenter was given, `word_starts` (one bit per token, lowest bit first: a word starts
here). `pages` holds the CRC-32 of each 4 KiB page of those, in this order.
"""

from __future__ import annotations

import functools
import hashlib
import zlib
from array import array
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt

from bert_scratch import durable
from bert_scratch.config import InputError, check_choice

SPLITS = ("train", "eval")
PAGE_BYTES = 4096

_ARRAYS = ("tokens", "sentences", "documents")
_WORD_STARTS = "word_starts"
_UINT32 = np.dtype("<u4")
_BLOCK_BYTES = 64 * PAGE_BYTES
_PENDING_TOKENS = 1 << 17


def token_dtype(vocab_size: int) -> np.dtype[Any]:
    """Return the dtype tokens are stored in: uint16 if every id fits, else uint32."""
    return np.dtype("<u2") if vocab_size <= 65_536 else _UINT32


def file_name(shard: int, split: str, array: str) -> str:
    """Return the name of one array's file, such as 00003.train.tokens."""
    return f"{shard:05d}.{split}.{array}"


class ShardWriter:
    """Append documents to one part of a shard; made by `write_shard`.

    Attributes:
        record: what the manifest says about the part, complete when the block has ended: numbers
            of documents, sentences and tokens, of one-sentence documents, and of documents left
            out because they have no token; size and SHA-256 of each file.
    """

    def __init__(self, files: Mapping[str, _PagedFile], dtype: np.dtype[Any]) -> None:
        self._files = files
        self._dtype = dtype
        names = ("documents", "sentences", "tokens", "one_sentence_documents", "empty_documents")
        self.record: dict[str, Any] = dict.fromkeys(names, 0)
        self._sentences: list[npt.NDArray[Any]] = []
        self._num_sentences: list[int] = []
        self._num_tokens = 0
        self._bits: list[npt.NDArray[np.bool_]] = []

    def add_document(
        self,
        sentences: Sequence[npt.NDArray[np.integer[Any]]],
        word_starts: Sequence[npt.NDArray[np.bool_]] = (),
    ) -> None:
        """Append a document.

        Args:
            sentences: the token ids of each sentence, [n] integers; sentences without tokens are
                left out, and so are documents without sentences.
            word_starts: for each sentence, [n] bool; only if the shard is to have them.
        """
        self._sentences.extend(sentences)
        self._num_sentences.append(len(sentences))
        self._bits.extend(word_starts)
        self._num_tokens += sum(map(len, sentences))
        if self._num_tokens >= _PENDING_TOKENS:
            self._flush()

    def _flush(self) -> None:
        """Write the pending documents, many at once, since most are short."""
        lengths = np.fromiter(map(len, self._sentences), np.int64, len(self._sentences))
        document_ends = np.cumsum(np.array(self._num_sentences, dtype=np.int64))
        filled = np.concatenate([[0], np.cumsum(lengths > 0)])[document_ends]
        sizes = np.diff(filled, prepend=0)
        first_token, first_sentence = self.record["tokens"], self.record["sentences"]
        sentence_ends = first_token + np.cumsum(lengths[lengths > 0])
        if self._num_tokens:
            if sentence_ends[-1] >= 2**32:
                raise InputError(
                    "a single file holds over 4 billion tokens; cut it into smaller files"
                )
            tokens = np.concatenate(self._sentences).astype(self._dtype)
            self._files["tokens"].write(tokens.tobytes())
            self._files["sentences"].write(sentence_ends.astype(_UINT32).tobytes())
            ends = first_sentence + filled[sizes > 0]
            self._files["documents"].write(ends.astype(_UINT32).tobytes())
        if _WORD_STARTS in self._files:
            self._write_bits(last=False)
        self.record["tokens"] += self._num_tokens
        self.record["sentences"] += len(sentence_ends)
        self.record["documents"] += int((sizes > 0).sum())
        self.record["one_sentence_documents"] += int((sizes == 1).sum())
        self.record["empty_documents"] += int((sizes == 0).sum())
        self._sentences, self._num_sentences, self._num_tokens = [], [], 0

    def _write_bits(self, *, last: bool) -> None:
        """Write whole bytes; the bits of an incomplete one wait for those that follow."""
        bits = np.concatenate([np.empty(0, dtype=np.bool_), *self._bits])
        whole = len(bits) if last else len(bits) // 8 * 8
        self._files[_WORD_STARTS].write(np.packbits(bits[:whole], bitorder="little").tobytes())
        self._bits = [bits[whole:]]

    def _finish(self) -> list[int]:
        """Write what is pending and return the CRC-32 of every page."""
        self._flush()
        if _WORD_STARTS in self._files:
            self._write_bits(last=True)
        return [check for file in self._files.values() for check in file.finish()]


class _PagedFile:
    """A file being written; the CRC-32 of each page and its SHA-256 are computed on the way."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._digest = hashlib.sha256()
        self._checks = array("I")
        self._waiting = bytearray()
        self._num_bytes = 0

    def write(self, content: bytes) -> None:
        self._waiting += content
        if len(self._waiting) >= _BLOCK_BYTES:
            self._put(len(self._waiting) // PAGE_BYTES * PAGE_BYTES)

    def finish(self) -> array[int]:
        """Write what is pending and return the CRC-32 of every page."""
        self._put(len(self._waiting))
        return self._checks

    def facts(self) -> dict[str, Any]:
        return {"bytes": self._num_bytes, "sha256": self._digest.hexdigest()}

    def _put(self, size: int) -> None:
        block = bytes(self._waiting[:size])
        del self._waiting[:size]
        self._file.write(block)
        self._digest.update(block)
        self._num_bytes += size
        pages = memoryview(block)
        self._checks.extend(
            zlib.crc32(pages[start : start + PAGE_BYTES]) for start in range(0, size, PAGE_BYTES)
        )


@contextmanager
def write_shard(
    folder: Path, shard: int, split: str, vocab_size: int, *, with_word_starts: bool = False
) -> Iterator[ShardWriter]:
    """Yield a writer for one part of a shard; memory does not grow with the text.

    The files appear, each whole, when the block ends; if it fails, none does. A shard counts only
    once its record exists, so files left by a kill between renames are written again.

    Args:
        folder: of the store.
        shard: index of the shard, >= 0.
        split: "train" or "eval".
        vocab_size: every token id is below it.
        with_word_starts: whether each document comes with its word starts.
    """
    check_choice("split", split, SPLITS)
    names = (*_ARRAYS, _WORD_STARTS) if with_word_starts else _ARRAYS
    with ExitStack() as stack:
        places = {name: folder / file_name(shard, split, name) for name in (*names, "pages")}
        paths = {n: stack.enter_context(durable.durable_path(p)) for n, p in places.items()}
        with ExitStack() as opened:
            files = {
                name: _PagedFile(opened.enter_context(path.open("wb")))
                for name, path in paths.items()
            }
            pages = files.pop("pages")
            writer = ShardWriter(files, token_dtype(vocab_size))
            yield writer
            pages.write(np.array(writer._finish(), dtype=_UINT32).tobytes())
            pages.finish()
        writer.record["files"] = {
            places[name].name: file.facts() for name, file in (*files.items(), ("pages", pages))
        }


class Shard:
    """One part (train or eval) of one shard; opened when it is first read.

    Attributes:
        num_tokens: T.
        num_sentences: Ns.
        num_documents: Nd.
        num_one_sentence_documents: documents that have one sentence.
        has_word_starts: whether word starts are stored.
    """

    def __init__(
        self, folder: Path, index: int, split: str, vocab_size: int, record: dict[str, Any]
    ) -> None:
        """Take what the manifest says about the part; no file is touched."""
        self._folder = folder
        self._stated: dict[str, Any] = record["files"]
        self._file_names = {
            name: file_name(index, split, name) for name in (*_ARRAYS, _WORD_STARTS, "pages")
        }
        self._dtype = token_dtype(vocab_size)
        self.has_word_starts = self._file_names[_WORD_STARTS] in self._stated
        self.num_tokens: int = record["tokens"]
        self.num_sentences: int = record["sentences"]
        self.num_documents: int = record["documents"]
        self.num_one_sentence_documents: int = record["one_sentence_documents"]

    @functools.cached_property
    def _files(self) -> dict[str, _CheckedFile]:
        """The arrays' files, mapped; the page table is read and checked."""
        pages = self._file_names["pages"]
        content = read_whole(self._folder / pages, self._stated[pages]["sha256"])
        names = (*_ARRAYS, _WORD_STARTS) if self.has_word_starts else _ARRAYS
        files = {name: self._file_names[name] for name in names}
        num_pages = [-(-self._stated[file]["bytes"] // PAGE_BYTES) for file in files.values()]
        parts = np.split(np.frombuffer(content, dtype=_UINT32), np.cumsum(num_pages)[:-1])
        return {
            name: _CheckedFile(self._folder / file, part)
            for (name, file), part in zip(files.items(), parts, strict=True)
        }

    @functools.cached_property
    def tokens(self) -> npt.NDArray[np.integer[Any]]:
        """[T] uint16 or uint32, memory-mapped; `read` checks what it returns."""
        return self._files["tokens"].bytes.view(self._dtype)

    def read(self, start: int, end: int) -> npt.NDArray[np.integer[Any]]:
        """Return the tokens [start, end), a view of the file; each page is checked once.

        Raises:
            InputError: naming the file and the byte offset of a damaged page.
        """
        size = self._dtype.itemsize
        self._files["tokens"].check(start * size, end * size)
        return self.tokens[start:end]

    def read_word_starts(self, start: int, end: int) -> npt.NDArray[np.bool_]:
        """Return for each of the tokens [start, end) whether a word starts there, [n] bool.

        Requires `has_word_starts`.

        Raises:
            InputError: naming the file and the byte offset of a damaged page.
        """
        file = self._files[_WORD_STARTS]
        first, last = start // 8, -(-end // 8)
        file.check(first, last)
        bits = np.unpackbits(file.bytes[first:last], bitorder="little")
        return bits[start - 8 * first : end - 8 * first].view(np.bool_)

    @property
    def sentences(self) -> npt.NDArray[np.uint32]:
        """[Ns] uint32, the end of each sentence in tokens; checked whole on first use."""
        return self._index("sentences")

    @property
    def documents(self) -> npt.NDArray[np.uint32]:
        """[Nd] uint32, the end of each document in sentences; checked whole on first use."""
        return self._index("documents")

    def check_all(self) -> None:
        """Check every page of every array."""
        for file in self._files.values():
            file.check(0, len(file.bytes))

    def _index(self, name: str) -> npt.NDArray[np.uint32]:
        file = self._files[name]
        file.check(0, len(file.bytes))
        return file.bytes.view(_UINT32)


class _CheckedFile:
    """A memory-mapped file whose pages are checked against their CRC-32 on first use."""

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
                raise damaged(self._path, offset, offset + len(content))
            self._unchecked[page] = 0
            page = self._unchecked.find(1, page, last)


def read_whole(path: Path, sha256: str) -> bytes:
    """Read a small file and check it.

    Raises:
        InputError: if its SHA-256 differs.
    """
    content = path.read_bytes()
    if hashlib.sha256(content).hexdigest() != sha256:
        raise damaged(path, 0, len(content))
    return content


def damaged(path: Path, start: int, end: int) -> InputError:
    """Return the error for bytes [start, end) of a file that are not what was written."""
    return InputError(
        f"{path}: is damaged between byte offsets {start} and {end}; delete the folder and "
        f"prepare again"
    )
