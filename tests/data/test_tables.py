"""Pins rows to documents: .parquet files, and data sets that Hugging Face's `datasets` loads.

Run alone: pytest tests/data/test_tables.py. Needs pyarrow and datasets; nothing is downloaded.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from bert_scratch.config import InputError
from bert_scratch.data.corpus import Source, read_documents, resolve_sources, slices_of

TEXTS = [f"Zeile {n}: äöü\n\n Ende. " * (1 + n % 3) for n in range(300)]
DOCUMENTS = [[line.strip() for line in text.split("\n") if line.strip()] for text in TEXTS]


def read_all(
    sources: list[Source], slice_bytes: int = 1 << 30, encoding_errors: str = "strict"
) -> list[list[str]]:
    return [
        document
        for part in slices_of(sources, slice_bytes)
        for document in read_documents(part, sources[part.source_index], encoding_errors)
    ]


def write_table(path: Path, columns: dict[str, Any], **options: Any) -> str:
    pq.write_table(pa.table(columns), path, **options)
    return str(path)


# --- parquet -------------------------------------------------------------------------------


@pytest.mark.parametrize("text_type", [pa.string(), pa.large_string()])
@pytest.mark.parametrize("slice_bytes", [50, 4096, 1 << 30])
@pytest.mark.parametrize("compression", ["none", "snappy", "zstd"])
def test_each_row_is_a_document_once(
    tmp_path: Path, text_type: Any, slice_bytes: int, compression: str
) -> None:
    columns = {"id": list(range(300)), "text": pa.array(TEXTS, text_type), "url": ["u"] * 300}
    path = write_table(tmp_path / "a.parquet", columns, row_group_size=70, compression=compression)
    (source,) = resolve_sources([path])
    assert (source.kind, source.documents) == ("parquet", "rows")
    assert read_all([source], slice_bytes) == DOCUMENTS


def test_only_column_of_strings_is_the_text(tmp_path: Path) -> None:
    path = write_table(tmp_path / "a.parquet", {"content": ["one", None, "", "two"], "n": [1] * 4})
    (source,) = resolve_sources([path])
    assert 'column "content"' in source.evidence
    assert read_all([source]) == [["one"], ["two"]]


@pytest.mark.parametrize("columns", [{"a": ["x"], "b": ["y"]}, {"n": [1]}, {"text": [1]}])
def test_table_without_a_text_column_names_its_columns(
    tmp_path: Path, columns: dict[str, Any]
) -> None:
    path = write_table(tmp_path / "a.parquet", columns)
    with pytest.raises(InputError, match=r"a\.parquet: needs a column \"text\"") as error:
        resolve_sources([path])
    assert all(f"{name} (" in str(error.value) for name in columns)


def test_dictionary_encoded_text_is_the_text(tmp_path: Path) -> None:
    encoded = pa.array(["one", None, "two", "one"]).dictionary_encode()
    path = write_table(tmp_path / "a.parquet", {"url": ["u"] * 4, "text": encoded})
    (source,) = resolve_sources([path])
    assert 'column "text"' in source.evidence
    assert read_all([source]) == [["one"], ["two"], ["one"]]


def test_column_text_that_holds_no_text_is_not_passed_over_for_another(tmp_path: Path) -> None:
    path = write_table(tmp_path / "a.parquet", {"text": [1, 2], "url": ["u", "v"]})
    with pytest.raises(InputError, match=r"its columns are text \(int64\), url \(string\)"):
        resolve_sources([path])


def test_table_without_rows_holds_no_text(tmp_path: Path) -> None:
    path = write_table(tmp_path / "a.parquet", {"text": pa.array([], pa.string())})
    with pytest.raises(InputError, match="holds no text"):
        resolve_sources([path])


def test_damaged_parquet_file_is_named(tmp_path: Path) -> None:
    path = Path(write_table(tmp_path / "a.parquet", {"text": TEXTS}, compression="snappy"))
    raw = bytearray(path.read_bytes())
    path.write_bytes(raw[:-100])
    with pytest.raises(InputError, match=r"a\.parquet: cannot be read as parquet"):
        resolve_sources([str(path)])
    raw[50:150] = bytes(100)
    path.write_bytes(raw)
    with pytest.raises(InputError, match=r"a\.parquet: cannot be read as parquet"):
        read_all(resolve_sources([str(path)]))


def test_text_that_is_not_utf8_is_named_by_row(tmp_path: Path) -> None:
    offsets = pa.py_buffer(bytes(pa.array([0, 4, 8, 11], pa.int32()).buffers()[1]))
    column = pa.StringArray.from_buffers(3, offsets, pa.py_buffer(b"goodca\xe9fa\0b"))
    sources = resolve_sources([write_table(tmp_path / "a.parquet", {"text": column})])
    with pytest.raises(InputError, match=r"a\.parquet, row 1, column \"text\": .*0xe9 at byte 2"):
        read_all(sources)
    documents = read_all(sources, encoding_errors="replace")
    assert documents == [["good"], ["ca\ufffdf"], ["a\ufffdb"]]


# --- data sets -----------------------------------------------------------------------------


@pytest.fixture
def offline(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Hugging Face's `datasets` without a network, its cache in a temporary folder."""
    datasets = pytest.importorskip("datasets")
    monkeypatch.setattr(datasets.config, "HF_DATASETS_OFFLINE", True)
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", True, raising=False)
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    datasets.disable_progress_bars()


@pytest.fixture(params=["jsonl", "parquet"])
def data_set(request: pytest.FixtureRequest, tmp_path: Path, offline: None) -> Path:
    """A folder of data files as people keep them: train and test."""
    folder = tmp_path / "mine"
    folder.mkdir()
    for split, texts in {"train": TEXTS, "test": ["A test ."]}.items():
        if request.param == "jsonl":
            rows = [json.dumps({"id": n, "text": text}) for n, text in enumerate(texts)]
            (folder / f"{split}.jsonl").write_text("\n".join(rows))
        else:
            write_table(folder / f"{split}.parquet", {"id": range(len(texts)), "text": texts})
    return folder


def test_data_set_is_read_by_name(data_set: Path) -> None:
    (source,) = resolve_sources([f"hf:{data_set}"])
    assert (source.kind, source.documents) == ("arrow", "rows")
    assert all(file.is_relative_to(data_set.parent / "cache") for file in source.files)
    assert read_all([source]) == DOCUMENTS
    assert read_all([source], 500) == DOCUMENTS
    assert read_all(resolve_sources([f"hf:{data_set}::test"])) == [["A test ."]]
    assert read_all(resolve_sources([f"hf:{data_set}:default:test"])) == [["A test ."]]


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("hf:{}::nothing", "nothing: cannot be loaded: .*nothing"),
        ("hf:{}:other", "other: cannot be loaded: .*other"),
        ("hf:{}/none", "none: there is no folder .*/none"),
        ("hf:./none", r"hf:\./none: there is no folder \./none"),
        ("hf:nobody/has-this-set", "has-this-set: cannot be loaded"),
        ("hf:{}::train[:5]", "must read"),
        ("hf:{}::train[5%]", "must be a whole one"),
        ("hf:", "must read"),
    ],
)
def test_data_set_that_cannot_be_had_is_named(
    tmp_path: Path, offline: None, name: str, message: str
) -> None:
    (tmp_path / "set").mkdir()
    (tmp_path / "set" / "train.jsonl").write_text('{"text": "one"}\n')
    with pytest.raises(InputError, match=message) as error:
        resolve_sources([name.format(tmp_path / "set")])
    assert "\n" not in str(error.value)


def test_scripts_of_a_data_set_are_not_run(tmp_path: Path, offline: None) -> None:
    folder = tmp_path / "evil"
    folder.mkdir()
    (folder / "evil.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')\n")
    with pytest.raises(InputError, match="cannot be loaded"):
        resolve_sources([f"hf:{folder}"])
    assert not (tmp_path / "ran").exists()


def test_record_batches_belong_to_the_slice_they_begin_in(tmp_path: Path) -> None:
    path = tmp_path / "a.arrow"
    table = pa.table({"text": TEXTS})
    with pa.OSFile(str(path), "wb") as file, pa.ipc.new_stream(file, table.schema) as writer:
        for batch in table.to_batches(max_chunksize=40):
            writer.write_batch(batch)
    sources = [Source("a", (path,), "arrow", "rows", False, "")]
    for slice_bytes in (20, 3000):
        assert read_all(sources, slice_bytes) == DOCUMENTS
