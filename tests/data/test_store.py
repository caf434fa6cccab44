"""Pins the token store: what is written is read back, and any damage is named before it is used.

Run alone: pytest tests/data/test_store.py.
"""

from __future__ import annotations

import random
import resource
import shutil
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer

from bert_scratch import durable
from bert_scratch.config import InputError
from bert_scratch.data import shard as shard_module
from bert_scratch.data import store as store_module
from bert_scratch.data.encoding import encode_texts
from bert_scratch.data.shard import PAGE_BYTES, SPLITS, token_dtype, write_shard
from bert_scratch.data.store import TokenStore, write_manifest
from bert_scratch.data.wordpiece import SPECIAL_TOKENS, build_tokenizer
from bert_scratch.pretraining.corpus_facts import corpus_facts

MANY_TOKENS = [[np.arange(start, start + 50) % 1000] for start in range(0, 20_000, 50)]


def write_store(
    folder: Path,
    documents: list[list[np.ndarray]],
    vocab_size: int = 1000,
    word_starts: bool = False,
) -> None:
    """Write a store of one shard with the documents as its train part and none held out."""
    record = {}
    for split in SPLITS:
        with write_shard(folder, 0, split, vocab_size, with_word_starts=word_starts) as writer:
            for sentences in documents if split == "train" else []:
                flags = [sentence % 3 > 0 for sentence in sentences] if word_starts else []
                writer.add_document(sentences, flags)
        record[split] = writer.record
    write_manifest(folder, [record], vocab_size=vocab_size, facts={})


def read_everything(folder: Path) -> None:
    """Open a store and touch all of it, as training does."""
    store = TokenStore(folder)
    for split in SPLITS:
        for shard in store.shards(split):
            len(shard.documents), len(shard.sentences), shard.read(0, shard.num_tokens)
            if shard.has_word_starts:
                shard.read_word_starts(0, shard.num_tokens)


def flip_bit(path: Path, offset: int, bit: int = 0) -> None:
    content = bytearray(path.read_bytes())
    content[offset] ^= 1 << bit
    path.write_bytes(content)


@pytest.fixture
def copy(store_folder: Path, tmp_path: Path) -> Path:
    """A copy of the store to be damaged."""
    return shutil.copytree(store_folder, tmp_path / "copy")


def test_store_gives_back_every_sentence_in_order(
    store: TokenStore, documents: list[list[str]], tokenizer: Tokenizer
) -> None:
    found = []
    for index in range(2):
        for split in SPLITS:
            shard = store.shards(split)[index]
            starts = [0, *shard.sentences.tolist()]
            first = 0
            for last in shard.documents.tolist():
                spans = zip(starts[first:last], starts[first + 1 : last + 1], strict=True)
                found.append([shard.read(start, end).tolist() for start, end in spans])
                first = last
    expected = [[ids.tolist() for ids in encode_texts(tokenizer, d)] for d in documents]
    assert sorted(found) == sorted(expected)


def test_token_counts_are_those_of_the_train_part(store: TokenStore) -> None:
    tokens = np.concatenate([shard.tokens for shard in store.shards("train")])
    expected = np.bincount(tokens, minlength=store.vocab_size)
    assert store.token_counts.tolist() == expected.tolist()
    assert store.token_counts.dtype == np.int64


@pytest.mark.parametrize(("vocab_size", "dtype"), [(65_536, "uint16"), (65_537, "uint32")])
def test_tokens_take_two_bytes_while_every_id_fits(
    vocab_size: int, dtype: str, tmp_path: Path
) -> None:
    ids = np.array([0, vocab_size - 1])
    write_store(tmp_path, [[ids]], vocab_size)
    tokens = TokenStore(tmp_path).shards("train")[0].read(0, 2)
    assert tokens.dtype == token_dtype(vocab_size) == dtype
    assert tokens.tolist() == ids.tolist()


DOCUMENTS = st.lists(st.lists(st.lists(st.integers(0, 999), max_size=5), max_size=4), max_size=12)


@settings(max_examples=20, deadline=None)
@given(documents=DOCUMENTS, pending=st.sampled_from([1, 7, 1 << 17]))
def test_any_documents_are_stored_as_written(
    documents: list[list[list[int]]], pending: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("any")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(shard_module, "_PENDING_TOKENS", pending)
        write_store(folder, [[np.array(s, dtype=np.int32) for s in d] for d in documents])
    filled = [[s for s in d if s] for d in documents if any(d)]
    sentences = [s for d in filled for s in d]
    store = TokenStore(folder, verify=True)
    shard, record = store.shards("train")[0], store.manifest["shards"][0]["train"]
    assert shard.read(0, shard.num_tokens).tolist() == [t for s in sentences for t in s]
    assert shard.sentences.tolist() == np.cumsum([len(s) for s in sentences], dtype=int).tolist()
    assert shard.documents.tolist() == np.cumsum([len(d) for d in filled], dtype=int).tolist()
    assert shard.num_documents == len(filled)
    assert shard.num_one_sentence_documents == sum(len(d) == 1 for d in filled)
    assert record["empty_documents"] == len(documents) - len(filled)


@pytest.mark.parametrize("pending", [1, 1 << 17])
def test_word_starts_are_read_back_at_any_place(
    pending: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shard_module, "_PENDING_TOKENS", pending)
    draw = np.random.default_rng(3)
    flags = [draw.random(size) < 0.6 for size in draw.integers(0, 30, 3000)]
    records = {}
    for split in SPLITS:
        with write_shard(tmp_path, 0, split, 1000, with_word_starts=True) as writer:
            for first in range(0, 3000 if split == "train" else 0, 3):
                part = flags[first : first + 3]
                writer.add_document([np.arange(len(f)) for f in part], part)
        records[split] = writer.record
    write_manifest(tmp_path, [records], vocab_size=1000, facts={})
    store = TokenStore(tmp_path, verify=True)
    shard = store.shards("train")[0]
    assert store.has_word_starts
    whole = np.concatenate(flags)
    assert shard.num_tokens == len(whole)
    for _ in range(200):
        start, end = sorted(draw.integers(0, len(whole) + 1, 2).tolist())
        found = shard.read_word_starts(start, end)
        assert found.dtype == np.bool_ and np.array_equal(found, whole[start:end])
    flip_bit(tmp_path / "00000.train.word_starts", PAGE_BYTES + 7)
    shard = TokenStore(tmp_path).shards("train")[0]
    shard.read_word_starts(0, 8 * PAGE_BYTES)
    with pytest.raises(InputError, match=r"00000\.train\.word_starts.*offsets 4096 and"):
        shard.read_word_starts(8 * PAGE_BYTES - 1, 8 * PAGE_BYTES + 1)


def test_page_checks_and_hashes_taken_on_the_way_are_those_of_the_files(tmp_path: Path) -> None:
    write_store(tmp_path, 30 * MANY_TOKENS)
    record = TokenStore(tmp_path, verify=True).manifest["shards"][0]["train"]
    assert len(record["files"]) == 4
    for name, stated in record["files"].items():
        assert durable.file_digest(tmp_path / name) == stated


def test_empty_parts_are_read_as_empty(tmp_path: Path) -> None:
    write_store(tmp_path, [])
    store = TokenStore(tmp_path, verify=True)
    for split in SPLITS:
        (shard,) = store.shards(split)
        assert len(shard.tokens) == len(shard.sentences) == len(shard.documents) == 0
    assert not store.token_counts.any()


def test_sentences_and_documents_without_tokens_are_counted_not_stored(tmp_path: Path) -> None:
    empty = np.array([], dtype=np.int32)
    write_store(tmp_path, [[empty, np.array([7]), empty], [empty], [np.array([8]), np.array([9])]])
    store = TokenStore(tmp_path)
    record = store.manifest["shards"][0]["train"]
    shard = store.shards("train")[0]
    assert shard.sentences.tolist() == [1, 2, 3] and shard.documents.tolist() == [1, 3]
    assert (record["documents"], record["empty_documents"]) == (2, 1)
    assert record["one_sentence_documents"] == 1


def test_same_documents_give_the_same_bytes(tmp_path: Path) -> None:
    folders = [tmp_path / name for name in "ab"]
    for folder in folders:
        folder.mkdir()
        write_store(folder, MANY_TOKENS)
    one, other = ({f.name: f.read_bytes() for f in folder.iterdir()} for folder in folders)
    assert one == other


def test_failed_writing_leaves_no_file(tmp_path: Path) -> None:
    def write() -> None:
        with write_shard(tmp_path, 0, "train", 10) as writer:
            writer.add_document([np.array([1])])
            raise RuntimeError("interrupted")

    with pytest.raises(RuntimeError):
        write()
    assert not list(tmp_path.iterdir())


def test_folder_without_manifest_is_refused_with_the_command(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"holds no prepared corpus.*bert-scratch prepare"):
        TokenStore(tmp_path)


def test_folder_of_a_run_is_told_where_its_corpus_is(copy: Path, tmp_path: Path) -> None:
    shutil.copytree(copy, tmp_path / "run" / "corpus")
    with pytest.raises(InputError, match=r"run: holds no .*; did you mean \S+run/corpus\?$"):
        TokenStore(tmp_path / "run")


@pytest.mark.parametrize("word_starts", [False, True])
def test_each_of_100_flipped_bits_is_found_and_its_place_named(
    word_starts: bool, copy: Path, tmp_path: Path
) -> None:
    if word_starts:
        copy = tmp_path / "segmented"
        copy.mkdir()
        write_store(copy, 5 * MANY_TOKENS, word_starts=True)
    files = [path for path in sorted(copy.iterdir()) if path.is_file() and path.stat().st_size]
    draw = random.Random(0)
    for trial in range(100):
        path = files[trial % len(files)]
        offset = draw.randrange(path.stat().st_size)
        whole = path.read_bytes()
        flip_bit(path, offset, draw.randrange(8))
        with pytest.raises(InputError) as raised:
            read_everything(copy)
        message = str(raised.value)
        assert path.name in message
        if path.name != "manifest.json":
            start, end = (int(word) for word in message.split(";")[0].split()[-3::2])
            assert start <= offset < end
        path.write_bytes(whole)
    read_everything(copy)


def test_page_is_checked_when_it_is_first_touched(tmp_path: Path) -> None:
    write_store(tmp_path, MANY_TOKENS)
    flip_bit(tmp_path / "00000.train.tokens", 2 * PAGE_BYTES + 5)
    shard = TokenStore(tmp_path).shards("train")[0]
    assert shard.read(0, PAGE_BYTES).tolist() == [i % 1000 for i in range(PAGE_BYTES)]
    with pytest.raises(InputError, match=r"00000\.train\.tokens.*offsets 8192 and 12288"):
        shard.read(PAGE_BYTES, PAGE_BYTES + 1)


@pytest.mark.parametrize("array", ["pages", "sentences", "documents"])
def test_opening_and_counting_reads_no_shard(array: str, tmp_path: Path) -> None:
    write_store(tmp_path, MANY_TOKENS)
    flip_bit(tmp_path / f"00000.train.{array}", 1)
    store = TokenStore(tmp_path)
    shard = store.shards("train")[0]
    tokenizer = build_tokenizer(
        {token: number for number, token in enumerate(SPECIAL_TOKENS)},
        lowercase=False,
        strip_accents=False,
        nfc=True,
    )
    facts = corpus_facts(store, tokenizer)
    assert facts.train_tokens == int(store.token_counts.sum())
    assert facts.train_sentences == sum(part.num_sentences for part in store.shards("train"))
    with pytest.raises(InputError, match=rf"00000\.train\.{array}: is damaged"):
        _ = getattr(shard, "documents" if array == "documents" else "sentences")


def test_verify_reads_every_page(tmp_path: Path) -> None:
    write_store(tmp_path, MANY_TOKENS)
    flip_bit(tmp_path / "00000.train.tokens", 2 * PAGE_BYTES + 5)
    TokenStore(tmp_path)
    with pytest.raises(InputError, match=r"00000\.train\.tokens.*offsets 8192 and 12288"):
        TokenStore(tmp_path, verify=True)


@pytest.mark.parametrize(
    "name", ["00000.train.tokens", "00001.eval.sentences", "00000.train.pages", "token_counts"]
)
def test_cut_longer_and_missing_files_are_named(name: str, copy: Path) -> None:
    path = copy / name
    whole = path.read_bytes()
    for content in (whole[:-1], b"", whole + b"\0"):
        path.write_bytes(content)
        with pytest.raises(InputError, match=f"{name}: has {len(content)} bytes"):
            TokenStore(copy)
    path.unlink()
    with pytest.raises(InputError, match=f"{name}: is missing"):
        TokenStore(copy)


@pytest.mark.parametrize("name", ["../outside", "/etc/passwd", "a/b", "..", "", ".hidden"])
def test_names_that_leave_the_folder_are_refused(name: str, copy: Path) -> None:
    shards = TokenStore(copy).manifest["shards"]
    shards[0]["train"]["files"][name] = {"bytes": 0, "sha256": ""}
    write_manifest(copy, shards, vocab_size=300, facts={})
    with pytest.raises(InputError, match="not a plain file name"):
        TokenStore(copy)


@pytest.mark.parametrize("version", [1, 99])
def test_other_version_is_refused(
    version: int, copy: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shards = TokenStore(copy).manifest["shards"]
    with monkeypatch.context() as patch:
        patch.setattr(store_module, "VERSION", version)
        write_manifest(copy, shards, vocab_size=300, facts={})
    with pytest.raises(InputError, match=f"format version {version}"):
        TokenStore(copy)


def test_store_of_the_version_before_is_read_in_todays_form(
    copy: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shards = TokenStore(copy).manifest["shards"]
    slices = [{"source": 0, "file": f"{i}.txt", "start": 0, "end": 9} for i in range(len(shards))]
    before = [{**shard, "replacement_characters": i} for i, shard in enumerate(shards)]
    with monkeypatch.context() as patch:
        patch.setattr(store_module, "VERSION", 2)
        write_manifest(copy, before, vocab_size=300, facts={"slices": slices})
    manifest = TokenStore(copy, verify=True).manifest
    assert manifest["version"] == 3
    assert manifest["slices"][1] == {"source": 0, "files": [["1.txt", 0, 9]]}
    assert [s["replacement_characters"] for s in manifest["shards"]] == [[0], [1]]


def test_store_of_many_shards_may_keep_all_its_files_open(copy: Path) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (512, hard))
    try:
        store = TokenStore(copy)
        files = sum(len(s[split]["files"]) for s in store.manifest["shards"] for split in SPLITS)
        assert resource.getrlimit(resource.RLIMIT_NOFILE)[0] == min(hard, 1024 + files + 1)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@pytest.mark.parametrize("content", ["{}", "[]", '{"format": "bert_scratch.corpus"', "\0"])
def test_other_files_under_the_manifests_name_are_refused(content: str, copy: Path) -> None:
    (copy / "manifest.json").write_text(content)
    with pytest.raises(InputError, match=r"manifest\.json"):
        TokenStore(copy)
