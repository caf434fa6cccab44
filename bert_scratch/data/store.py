"""The tokenised corpus on disk: a folder of shards and the manifest that describes them.

A folder holds, for each shard and each of its two parts (train and eval), the arrays of
`shard.py`; also `token_counts` (int64 per id, train only) and, written last, `manifest.json`.
So a folder with a manifest is complete.
"""

from __future__ import annotations

import hashlib
import json
import re
import resource
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from bert_scratch import durable
from bert_scratch.config import InputError, check_choice, read_json_object
from bert_scratch.data.shard import SPLITS, Shard, damaged, file_name, read_whole, token_dtype

FORMAT = "bert_scratch.corpus"
VERSION = 3
_ONE_SLICE_EACH = 2
"""The version before, in which each slice was a shard."""
MANIFEST = "manifest.json"
TOKEN_COUNTS = "token_counts"

_COUNTED_AT_ONCE = 1 << 20
_OTHER_OPEN_FILES = 1024
_PLAIN_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]*")


def write_manifest(
    folder: Path, shards: Sequence[dict[str, Any]], *, vocab_size: int, facts: dict[str, Any]
) -> None:
    """Count the train tokens and write the manifest, which makes the folder a store.

    Args:
        folder: holds the files of every shard.
        shards: one {"train": record, "eval": record} per shard, in order.
        vocab_size: every token id is below it.
        facts: whatever else the manifest should say; its keys must not clash with the format's.
    """
    with durable.durable_path(folder / TOKEN_COUNTS) as temporary:
        temporary.write_bytes(_count_tokens(folder, len(shards), vocab_size).tobytes())
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


def _count_tokens(folder: Path, num_shards: int, vocab_size: int) -> npt.NDArray[np.int64]:
    """Count each id in the train parts, [V] int64, block by block."""
    counts = np.zeros(vocab_size, dtype="<i8")
    for index in range(num_shards):
        with (folder / file_name(index, "train", "tokens")).open("rb") as file:
            while len(tokens := np.fromfile(file, token_dtype(vocab_size), _COUNTED_AT_ONCE)):
                counts += np.bincount(tokens, minlength=vocab_size)
    return counts


def read_manifest(folder: Path) -> dict[str, Any]:
    """Read a store's manifest and check its integrity.

    Raises:
        InputError: if there is none, it was changed, or it has another format or version.
    """
    path = folder / MANIFEST
    if not path.is_file():
        inner = folder / "corpus"  # of a run
        mend = f"make one with bert-scratch prepare --corpus PATH --output-dir {folder}"
        if (inner / MANIFEST).is_file():
            mend = f"did you mean {inner}?"
        raise InputError(f"{folder}: holds no prepared corpus ({MANIFEST} is missing); {mend}")
    manifest = read_json_object(path)
    if manifest.get("format") != FORMAT:
        raise InputError(
            f"{path}: is not the manifest of a prepared corpus; delete the folder and prepare again"
        )
    if manifest.get("version") not in (_ONE_SLICE_EACH, VERSION):
        raise InputError(
            f"{path}: has format version {manifest.get('version')!r}, this program reads "
            f"{_ONE_SLICE_EACH} and {VERSION}; delete the folder and prepare again"
        )
    stated = manifest.pop("sha256", None)
    if stated != _own_digest(manifest):
        raise InputError(
            f"{path}: was changed or damaged (SHA-256 differs); delete the folder and prepare again"
        )
    for name in _all_files(manifest):
        if not _PLAIN_NAME.fullmatch(name):
            raise InputError(f"{path}: names the file {name!r}, which is not a plain file name")
    return manifest if manifest["version"] == VERSION else _of_today(manifest)


def _of_today(manifest: dict[str, Any]) -> dict[str, Any]:
    """Return a manifest of the version before in today's form."""
    slices = [
        {"source": part["source"], "files": [[part["file"], part["start"], part["end"]]]}
        for part in manifest["slices"]
    ]
    shards = [
        {**shard, "replacement_characters": [shard["replacement_characters"]]}
        for shard in manifest["shards"]
    ]
    return {**manifest, "version": VERSION, "slices": slices, "shards": shards}


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

    Opening checks the manifest, every file's size and the token counts; page tables and pages of
    the arrays are checked on first use.

    Attributes:
        folder: where the store is; the tokenizer is in its subfolder `tokenizer`.
        manifest: the contents of `manifest.json`.
        vocab_size: V; every token id is below it.
        token_counts: [V] int64, how often each id occurs in the train part.
        has_word_starts: whether the shards store word starts.
    """

    def __init__(self, folder: str | Path, verify: bool = False) -> None:
        """Open the store in a folder.

        Args:
            folder: holds manifest.json.
            verify: check the SHA-256 of every file first, which reads all of them.

        Raises:
            InputError: naming the file, and the offset where it is missing, cut or damaged.
        """
        self.folder = Path(folder)
        self.manifest = read_manifest(self.folder)
        self.vocab_size: int = self.manifest["vocab_size"]
        files = _all_files(self.manifest)
        for name, stated in files.items():
            _check_size(self.folder / name, stated["bytes"])
        self.token_counts = np.frombuffer(
            read_whole(self.folder / TOKEN_COUNTS, files[TOKEN_COUNTS]["sha256"]), dtype="<i8"
        )
        self._shards = {
            split: [
                Shard(self.folder, index, split, self.vocab_size, shard[split])
                for index, shard in enumerate(self.manifest["shards"])
            ]
            for split in SPLITS
        }
        self.has_word_starts = all(
            shard.has_word_starts for shards in self._shards.values() for shard in shards
        )
        _allow_open_files(len(files))
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
                raise damaged(self.folder / name, 0, stated["bytes"])


def _allow_open_files(number: int) -> None:
    """Let this process have so many files open beside 1,024 others, if the system permits.

    A mapped array keeps its file open, and the usual limit of 1,024 is that of a corpus of 10 GB.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = number + _OTHER_OPEN_FILES
    if hard != resource.RLIM_INFINITY:
        wanted = min(wanted, hard)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        with suppress(OSError, ValueError):  # macOS has a lower limit than the one it states
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def _check_size(path: Path, size: int) -> None:
    try:
        found = path.stat().st_size
    except OSError as error:
        raise InputError(f"{path}: is missing; delete the folder and prepare again") from error
    if found != size:
        raise InputError(
            f"{path}: has {found} bytes where the manifest says {size}: it ends at byte offset "
            f"{min(found, size)} or was added to; delete the folder and prepare again"
        )
