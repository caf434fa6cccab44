"""Write vectors to a file atomically, text by text, and read them back in chunks."""

from __future__ import annotations

import json
import zipfile
from array import array
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from itertools import chain, islice
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from bert_scratch import durable
from bert_scratch.config import InputError
from bert_scratch.extras import import_extra
from bert_scratch.inference.embed import Embedding
from bert_scratch.inference.pooling import Vectors

Write = Callable[[Embedding], None]
Read = Iterator[tuple[Vectors, list[str] | None]]

_ROWS_AT_ONCE = 4096
_OF_UNITS = "its vectors are of words or tokens; write them with --unit text"


def open_writer(path: Path) -> AbstractContextManager[Write]:
    """Return the writer for a file's extension: a context that gives write(embedding).

    The file appears when the context ends without an error.
    """
    return VECTOR_WRITERS[path.suffix](path)


@contextmanager
def _write_npy(path: Path) -> Iterator[Write]:
    """Write one array [N, D] of float32."""
    with durable.durable_path(path) as temporary, temporary.open("wb") as file:
        array = _GrowingArray(file)
        yield lambda found: array.append(found.vectors[None])
        array.finish()


@contextmanager
def _write_npz(path: Path) -> Iterator[Write]:
    """Write `vectors` and, for words or tokens, `starts` ([N + 1], per text) and `offsets`."""
    with durable.durable_path(path) as temporary:
        part = temporary.with_suffix(".vectors")
        # Two numbers per word in 16 bytes: the offsets of a long file must stay in memory.
        starts, offsets = array("q", [0]), array("q")
        is_of_texts = False
        try:
            with part.open("wb") as file:
                rows = _GrowingArray(file)

                def write(found: Embedding) -> None:
                    nonlocal is_of_texts
                    if found.offsets is None:
                        is_of_texts = True
                        rows.append(found.vectors[None])
                        return
                    rows.append(found.vectors)
                    starts.append(starts[-1] + len(found.vectors))
                    offsets.extend(chain.from_iterable(found.offsets))

                yield write
                rows.finish()
            with zipfile.ZipFile(temporary, "w", allowZip64=True) as archive:
                archive.write(part, "vectors.npy")
                pairs = np.asarray(offsets, np.int64).reshape(-1, 2)
                places = {"starts": np.asarray(starts, np.int64), "offsets": pairs}
                for name, values in ({} if is_of_texts else places).items():
                    with archive.open(f"{name}.npy", "w") as member:
                        np.lib.format.write_array(member, values)
        finally:
            part.unlink(missing_ok=True)


@contextmanager
def _write_jsonl(path: Path) -> Iterator[Write]:
    """Write one object per text: text and vector, or text and units with start, end and vector."""
    with (
        durable.durable_path(path) as temporary,
        temporary.open("w", encoding="utf-8") as file,
    ):
        yield lambda found: print(json.dumps(_record(found), ensure_ascii=False), file=file)


@contextmanager
def _write_parquet(path: Path) -> Iterator[Write]:
    """Write the same columns as the .jsonl form."""
    arrow = import_extra("pyarrow", "writing .parquet files", "parquet")
    parquet = import_extra("pyarrow.parquet", "writing .parquet files", "parquet")
    rows: list[dict[str, Any]] = []
    with durable.durable_path(path) as temporary:
        writer: Any = None

        def flush() -> None:
            writer.write_table(arrow.Table.from_pylist(rows, schema=writer.schema))
            rows.clear()

        def write(found: Embedding) -> None:
            nonlocal writer
            writer = writer or parquet.ParquetWriter(temporary, _arrow_schema(arrow, found))
            rows.append(_record(found))
            if len(rows) == _ROWS_AT_ONCE:
                flush()

        try:
            yield write
            if rows:
                flush()
        finally:
            if writer is not None:
                writer.close()


VECTOR_WRITERS: dict[str, Callable[[Path], AbstractContextManager[Write]]] = {
    ".npy": _write_npy,
    ".npz": _write_npz,
    ".jsonl": _write_jsonl,
    ".parquet": _write_parquet,
}


def _record(found: Embedding) -> dict[str, Any]:
    if found.offsets is None:
        return {"text": found.text, "vector": found.vectors.tolist()}
    units = [
        {"text": found.text[start:end], "start": start, "end": end, "vector": vector.tolist()}
        for (start, end), vector in zip(found.offsets, found.vectors, strict=True)
    ]
    return {"text": found.text, "units": units}


def _arrow_schema(arrow: Any, found: Embedding) -> Any:
    """Return the types of `_record`; told by the arrays, as a text may have no words to tell by."""
    is_of_text = found.offsets is None
    vector = arrow.float64()
    for _ in range(found.vectors.ndim - (0 if is_of_text else 1)):
        vector = arrow.list_(vector)
    if is_of_text:
        return arrow.schema({"text": arrow.string(), "vector": vector})
    unit = {"text": arrow.string(), "start": arrow.int64(), "end": arrow.int64(), "vector": vector}
    units = arrow.list_(arrow.struct(list(unit.items())))
    return arrow.schema({"text": arrow.string(), "units": units})


class _GrowingArray:
    """An .npy file whose number of rows is known only at the end; numpy's header leaves room."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._shape: tuple[int, ...] = ()

    def append(self, rows: Vectors) -> None:
        """Write [n, ...]; the shape after n must be that of the first call."""
        if not self._shape:
            self._shape = (0, *rows.shape[1:])
            self._write_header()
        self._shape = (self._shape[0] + len(rows), *self._shape[1:])
        self._file.write(np.ascontiguousarray(rows, "<f4").tobytes())

    def finish(self) -> None:
        """Write the number of rows into the header."""
        end = self._file.tell()
        self._file.seek(0)
        self._write_header()
        self._file.seek(end)

    def _write_header(self) -> None:
        header = {"descr": "<f4", "fortran_order": False, "shape": self._shape or (0,)}
        np.lib.format.write_array_header_1_0(self._file, header)


def read_vectors(path: str) -> Read:
    """Yield the vectors of texts that `embed` wrote, a few thousand rows at a time.

    Args:
        path: an .npy, .npz, .jsonl or .parquet file.

    Yields:
        [n, D] float32, and the n texts if the file has them (.jsonl and .parquet).

    Raises:
        InputError: naming the file, if it cannot be read or holds anything else.
    """
    if not Path(path).is_file():
        reason = "is a folder" if Path(path).is_dir() else "does not exist"
        raise InputError(f"--input {path}: {reason}; give a file of vectors that embed wrote")
    if Path(path).suffix not in _READERS:
        raise InputError(
            f"--input {path}: is no file of vectors by its name; give one that embed wrote, which "
            f"ends in one of {', '.join(_READERS)}"
        )
    size = None
    try:
        for vectors, texts in _READERS[Path(path).suffix](Path(path)):
            if vectors.ndim != 2 or size not in (None, vectors.shape[1]):
                raise ValueError("its vectors are not one row per text, all of the same length")
            size = vectors.shape[1]
            yield np.asarray(vectors, np.float32), texts
    except (OSError, ValueError, KeyError, TypeError, zipfile.BadZipFile) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(
            f"--input {path}: is not a file of text vectors that embed wrote: {error}"
        ) from error


def _read_npy(path: Path) -> Read:
    array = np.load(path, mmap_mode="r")
    for start in range(0, len(array), _ROWS_AT_ONCE):
        yield array[start : start + _ROWS_AT_ONCE], None


def _read_npz(path: Path) -> Read:
    """Stream rows out of the archive, which need not fit in memory."""
    with zipfile.ZipFile(path) as archive:
        if "offsets.npy" in archive.namelist():
            raise ValueError(_OF_UNITS)
        with archive.open("vectors.npy") as file:
            np.lib.format.read_magic(file)
            shape, is_by_column, dtype = np.lib.format.read_array_header_1_0(file)
            if len(shape) != 2:
                raise ValueError(f"its vectors have {len(shape)} dimensions")
            if is_by_column:
                raise ValueError(
                    "its vectors are stored column by column (Fortran order); save "
                    "numpy.ascontiguousarray(vectors)"
                )
            while raw := file.read(_ROWS_AT_ONCE * shape[1] * dtype.itemsize):
                yield np.frombuffer(raw, dtype).reshape(-1, shape[1]), None


def _read_jsonl(path: Path) -> Read:
    with path.open(encoding="utf-8") as file:
        while lines := list(islice(file, _ROWS_AT_ONCE)):
            records = [json.loads(line) for line in lines]
            yield _arrays(records)


def _read_parquet(path: Path) -> Read:
    parquet = import_extra("pyarrow.parquet", "reading .parquet files", "parquet")
    with parquet.ParquetFile(path) as table:
        for batch in table.iter_batches(_ROWS_AT_ONCE):
            yield _arrays(batch.to_pylist())


_READERS: dict[str, Callable[[Path], Read]] = {
    ".npy": _read_npy,
    ".npz": _read_npz,
    ".jsonl": _read_jsonl,
    ".parquet": _read_parquet,
}


def _arrays(records: list[dict[str, Any]]) -> tuple[Vectors, list[str]]:
    if not all(isinstance(record, dict) for record in records):
        raise ValueError("not every line is a JSON object")
    if "units" in records[0]:
        raise ValueError(_OF_UNITS)
    for name in ("text", "vector"):
        if not all(name in record for record in records):
            raise ValueError(f'not every row has a "{name}"')
    vectors = np.array([record["vector"] for record in records], np.float32)
    return vectors, [record["text"] for record in records]
