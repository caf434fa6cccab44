"""Read texts from the rows of .parquet files and a data set's Arrow files, a few at a time.

The text is the column "text", or the only column of strings. pyarrow reads both formats.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from bert_scratch.config import InputError
from bert_scratch.data.documents import checked_text
from bert_scratch.extras import import_extra

# A row group may hold a gigabyte; only this many of its rows are in memory at a time.
_BATCH_ROWS = 64
_BUFFER_BYTES = 1 << 20


def text_column(file: Path, kind: str) -> str:
    """Return the name of the column that holds the text.

    Args:
        file: the table.
        kind: parquet or arrow.

    Raises:
        InputError: naming the file, if it is not such a table or has no such column.
    """
    with _open_table(file, kind) as (table, _):
        schema = table.schema_arrow if kind == "parquet" else table.schema
        types = import_extra("pyarrow.types", f"reading .{kind} files", "parquet")
        strings = [field.name for field in schema if _is_text(types, field.type)]
    if "text" in strings:
        return "text"
    if len(strings) != 1 or "text" in schema.names:
        found = ", ".join(f"{field.name} ({field.type})" for field in schema) or "none"
        raise InputError(
            f'{file}: needs a column "text" of strings, or a single column of strings; '
            f"its columns are {found}"
        )
    return str(strings[0])


def read_rows(
    file: Path, kind: str, start: int, border: int, encoding_errors: str
) -> Iterator[str]:
    """Read the texts of the row groups (parquet) or record batches (arrow) that begin in a slice.

    Args:
        file: the table.
        kind: parquet or arrow.
        start: >= 0, byte offset.
        border: byte offset that the slice's groups begin before.
        encoding_errors: strict, or replace by U+FFFD.

    Yields:
        Each row's text; rows without one are left out.

    Raises:
        InputError: naming file and row, if the table is broken or the text is not UTF-8.
    """
    column = text_column(file, kind)
    pyarrow = import_extra("pyarrow", f"reading .{kind} files", "parquet")
    groups = _row_groups if kind == "parquet" else _record_batches
    with _open_table(file, kind) as (table, position):
        for first_row, values in groups(table, position, column, start, border):
            if isinstance(values, pyarrow.DictionaryArray):
                values = values.dictionary_decode()
            # Cast to bytes: pyarrow's own error on invalid UTF-8 would not say where it is.
            for row, raw in enumerate(values.cast(_bytes_type(pyarrow, values.type)), first_row):
                if raw.is_valid:
                    try:
                        yield _decode(raw.as_py(), encoding_errors)
                    except InputError as error:
                        raise InputError(
                            f'{file}, row {row}, column "{column}": {error}'
                        ) from error


def num_rows(file: Path) -> int:
    """Return the number of rows of a .parquet file."""
    with _open_table(file, "parquet") as (table, _):
        return int(table.metadata.num_rows)


@contextmanager
def _open_table(file: Path, kind: str) -> Iterator[tuple[Any, Any]]:
    """Open a table and yield (table, the file under it)."""
    pyarrow = import_extra("pyarrow", f"reading .{kind} files", "parquet")
    try:
        if kind == "parquet":
            parquet = import_extra("pyarrow.parquet", "reading .parquet files", "parquet")
            # Pages are read as rows are requested, never a whole column of a row group.
            with parquet.ParquetFile(file, buffer_size=_BUFFER_BYTES, pre_buffer=False) as table:
                yield table, file
        else:
            with pyarrow.memory_map(str(file)) as mapped, pyarrow.ipc.open_stream(mapped) as table:
                yield table, mapped
    except (pyarrow.ArrowException, OSError) as error:
        reason = str(error).splitlines()[0]
        raise InputError(
            f"{file}: cannot be read as {kind}: {reason}; fetch or write it again"
        ) from error


def _row_groups(
    table: Any, file: Path, column: str, start: int, border: int
) -> Iterator[tuple[int, Any]]:
    """Yield (first row, values) of the row groups that begin in [start, border)."""
    first_row = 0
    for index in range(table.num_row_groups):
        group = table.metadata.row_group(index)
        chunk = group.column(0)
        offset = chunk.dictionary_page_offset if chunk.has_dictionary_page else None
        if start <= (chunk.data_page_offset if offset is None else offset) < border:
            row = first_row
            for batch in table.iter_batches(_BATCH_ROWS, row_groups=[index], columns=[column]):
                yield row, batch.column(0)
                row += batch.num_rows
        first_row += group.num_rows


def _record_batches(
    table: Any, mapped: Any, column: str, start: int, border: int
) -> Iterator[tuple[int, Any]]:
    """Yield (first row, values) of the batches that begin in [start, border)."""
    first_row = 0
    while (offset := mapped.tell()) < border:
        try:
            batch = table.read_next_batch()
        except StopIteration:
            return
        # A batch that is skipped is never read from disk: the file is memory-mapped.
        if offset >= start or first_row == start == 0:
            yield first_row, batch.column(column)
        first_row += batch.num_rows


def _is_text(types: Any, column_type: Any) -> bool:
    """Tell whether a column holds strings, plain or dictionary-encoded (pandas' categories)."""
    if types.is_dictionary(column_type):
        column_type = column_type.value_type
    is_text = (types.is_string, types.is_large_string, types.is_string_view)
    return any(test(column_type) for test in is_text)


def _bytes_type(pyarrow: Any, string_type: Any) -> Any:
    return pyarrow.large_binary() if string_type == pyarrow.large_string() else pyarrow.binary()


def _decode(raw: bytes, encoding_errors: str) -> str:
    try:
        text = raw.decode()
    except UnicodeDecodeError as error:
        if encoding_errors == "strict":
            raise InputError(
                f"has byte 0x{raw[error.start]:02x} at byte {error.start} of the text, which is "
                "not UTF-8; repair the text or use --encoding-errors replace"
            ) from error
        text = raw.decode("utf-8", "replace")
    return checked_text(text, encoding_errors)
