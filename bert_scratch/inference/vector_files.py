"""Vectors to a file, one text at a time, whole or absent."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from bert_scratch import durable
from bert_scratch.data.extras import import_extra
from bert_scratch.inference.embed import Embedding, Offsets
from bert_scratch.inference.pooling import Vectors

Write = Callable[[Embedding], None]

_PARQUET_ROWS = 4096


def open_writer(path: Path) -> AbstractContextManager[Write]:
    """Return the writer for a file's extension: a context that gives write(embedding).

    The file appears when the context ends without an error.
    """
    return VECTOR_WRITERS[path.suffix](path)


@contextmanager
def _write_npy(path: Path) -> Iterator[Write]:
    """One array [N, D] of float32."""
    with durable.durable_path(path) as temporary, temporary.open("wb") as file:
        array = _GrowingArray(file)
        yield lambda found: array.append(found.vectors[None])
        array.finish()


@contextmanager
def _write_npz(path: Path) -> Iterator[Write]:
    """`vectors`, with `starts` ([N + 1], where each text's begin) and `offsets` unless of texts."""
    with durable.durable_path(path) as temporary:
        part = temporary.with_suffix(".vectors")
        starts: list[int] = [0]
        offsets: Offsets | None = None
        try:
            with part.open("wb") as file:
                array = _GrowingArray(file)

                def write(found: Embedding) -> None:
                    nonlocal offsets
                    if found.offsets is None:
                        array.append(found.vectors[None])
                        return
                    array.append(found.vectors)
                    starts.append(starts[-1] + len(found.vectors))
                    offsets = [] if offsets is None else offsets
                    offsets += found.offsets

                yield write
                array.finish()
            with zipfile.ZipFile(temporary, "w", allowZip64=True) as archive:
                archive.write(part, "vectors.npy")
                places: dict[str, Any] = {}
                if offsets is not None:
                    pairs = np.array(offsets, np.int64).reshape(-1, 2)
                    places = {"starts": np.array(starts, np.int64), "offsets": pairs}
                for name, values in places.items():
                    with archive.open(f"{name}.npy", "w") as member:
                        np.lib.format.write_array(member, values)
        finally:
            part.unlink(missing_ok=True)


@contextmanager
def _write_jsonl(path: Path) -> Iterator[Write]:
    """An object a text: text and vector, or text and units, each with start, end and vector."""
    with (
        durable.durable_path(path) as temporary,
        temporary.open("w", encoding="utf-8") as file,
    ):
        yield lambda found: print(json.dumps(_record(found), ensure_ascii=False), file=file)


@contextmanager
def _write_parquet(path: Path) -> Iterator[Write]:
    """The columns of the .jsonl form."""
    arrow = import_extra("pyarrow", "writing .parquet files", "parquet")
    parquet = import_extra("pyarrow.parquet", "writing .parquet files", "parquet")
    rows: list[dict[str, Any]] = []
    with durable.durable_path(path) as temporary:
        writer: Any = None

        def flush() -> None:
            nonlocal writer
            table = arrow.Table.from_pylist(rows, schema=None if writer is None else writer.schema)
            writer = writer or parquet.ParquetWriter(temporary, table.schema)
            writer.write_table(table)
            rows.clear()

        def write(found: Embedding) -> None:
            rows.append(_record(found))
            if len(rows) == _PARQUET_ROWS:
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


class _GrowingArray:
    """An .npy file whose number of rows is known at the end: numpy leaves room in the header."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._shape: tuple[int, ...] = ()

    def append(self, rows: Vectors) -> None:
        """Write [n, ...]; the shape behind n is that of the first call."""
        if not self._shape:
            self._shape = (0, *rows.shape[1:])
            self._write_header()
        self._shape = (self._shape[0] + len(rows), *self._shape[1:])
        self._file.write(np.ascontiguousarray(rows, "<f4").tobytes())

    def finish(self) -> None:
        """Put the number of rows into the header."""
        end = self._file.tell()
        self._file.seek(0)
        self._write_header()
        self._file.seek(end)

    def _write_header(self) -> None:
        header = {"descr": "<f4", "fortran_order": False, "shape": self._shape or (0,)}
        np.lib.format.write_array_header_1_0(self._file, header)
