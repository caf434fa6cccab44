"""Pins preparing: the same bytes however it runs, held-out text apart, reuse, and going on.

Run alone: pytest tests/pretraining/test_prepare.py (workers of a killed parent: -m slow).
"""

from __future__ import annotations

import gzip
import json
import multiprocessing
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bert_scratch import durable
from bert_scratch.config import InputError
from bert_scratch.data.corpus import Slice
from bert_scratch.data.store import TokenStore, read_manifest
from bert_scratch.data.wordpiece import load_tokenizer, tokenizer_hash
from bert_scratch.pretraining import corpus_plan, disk_space, learn_vocabulary, store_plan
from bert_scratch.pretraining import prepare as prepare_module
from bert_scratch.pretraining import tokenise as tokenise_module
from bert_scratch.pretraining.corpus_facts import _warn_of_unknown, corpus_facts, describe_store
from bert_scratch.pretraining.corpus_settings import CorpusSettings
from bert_scratch.pretraining.prepare import (
    PrepareConfig,
    check_same_corpus,
    prepare,
    run_prepare,
)
from bert_scratch.pretraining.tokenise import tokenise
from bert_scratch.training.run_folder import alone_in

WORDS = "river stone cloud meadow winter lantern harbour copper silver orchard".split()


def write_corpus(folder: Path, num_files: int = 4, num_documents: int = 20) -> Path:
    """Write files of documents; each document has a made-up name that stands in all its lines."""
    draw = random.Random(5)
    folder.mkdir(parents=True)
    for file in range(num_files):
        documents = []
        for number in range(num_documents):
            name = "q" + "".join(draw.choices("bdfgklmnprstvz", k=5))
            documents.append(
                "\n".join(
                    f"The {name} near the {' '.join(draw.choices(WORDS, k=6))} is {number}."
                    for _ in range(draw.randint(3, 8))
                )
            )
        (folder / f"{file}.txt").write_text("\n\n".join(documents) + "\n", encoding="utf-8")
    return folder


@pytest.fixture(scope="module", autouse=True)
def each_file_is_a_shard() -> Iterator[None]:
    """Make a shard of each file, however small, so that these small corpora have several."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(corpus_plan, "_MIN_SHARD_BYTES", 1)
        yield


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four files of 20 documents; not to be changed."""
    return write_corpus(tmp_path_factory.mktemp("text") / "corpus")


def settings_for(corpus: Path, **changes: object) -> CorpusSettings:
    fixed = {"documents": "blank-lines", "sentences": "lines", "num_processes": 1}
    return CorpusSettings(**{"corpus": (str(corpus),), **fixed, **changes})


@pytest.fixture(scope="module")
def prepared(corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The corpus prepared in one go in this process; not to be changed."""
    folder = tmp_path_factory.mktemp("prepared")
    prepare(settings_for(corpus), folder)
    return folder


def contents(folder: Path) -> dict[str, bytes]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }


def stored_documents(store: TokenStore, split: str) -> Iterator[str]:
    """Decode each document of a split."""
    tokenizer = load_tokenizer(store.folder / "tokenizer")
    for shard in store.shards(split):
        starts, first = [0, *shard.sentences.tolist()], 0
        for last in shard.documents.tolist():
            yield tokenizer.decode(shard.read(starts[first], starts[last]).tolist())
            first = last


def run_python(script: str, *arguments: object, repository: Path) -> subprocess.CompletedProcess:
    return subprocess.run(
        [sys.executable, "-c", EACH_FILE_IS_A_SHARD + script, *map(str, arguments)],
        env={**os.environ, "PYTHONPATH": str(repository)},
        capture_output=True,
        text=True,
        timeout=60,
    )


EACH_FILE_IS_A_SHARD = """
from bert_scratch.pretraining import corpus_plan
corpus_plan._MIN_SHARD_BYTES = 1
"""
# No __main__ guard: workers must not run the caller's script again.
PREPARE = """
import sys
from bert_scratch.pretraining.corpus_settings import CorpusSettings
from bert_scratch.pretraining.prepare import prepare
prepare(
    CorpusSettings(
        corpus=(sys.argv[1],), documents="blank-lines", sentences="lines",
        num_processes=int(sys.argv[3]),
    ),
    sys.argv[2],
)
"""
# Ends the process in the middle of the third slice.
STOP = """
import os, sys
from bert_scratch.pretraining import tokenise
batches, calls = tokenise._batches, []
def batches_or_stop(documents):
    calls.append(documents)
    if len(calls) == 3:
        os.kill(os.getpid(), int(sys.argv[4]))
    return batches(documents)
tokenise._batches = batches_or_stop
"""
PREPARE_BY_COMMAND = """
from bert_scratch.cli import main
sys.exit(main([
    "prepare", "--corpus", sys.argv[1], "--output-dir", sys.argv[2],
    "--documents", "blank-lines", "--sentences", "lines", "--num-processes", sys.argv[3],
]))
"""


def stop_third_slice(corpus: Path, folder: Path, repository: Path) -> None:
    number = int(signal.SIGKILL)
    killed = run_python(STOP + PREPARE, corpus, folder, 1, number, repository=repository)
    assert killed.returncode == -number
    assert (folder / "00001.json").exists() and list(folder.glob("*.tmp"))
    assert not (folder / "manifest.json").exists()


def test_store_holds_every_document_once(corpus: Path, prepared: Path) -> None:
    store = TokenStore(prepared, verify=True)
    found = [d for split in ("train", "eval") for d in stored_documents(store, split)]
    text = [
        document.replace(".", " .")
        for file in sorted(corpus.iterdir())
        for document in file.read_text().strip().replace("\n\n", "|").replace("\n", " ").split("|")
    ]
    assert sorted(d.replace(".", " .").replace("  ", " ").strip() for d in found) == sorted(
        d.replace("  ", " ").strip() for d in text
    )


def test_held_out_text_is_apart_and_unknown_to_the_vocabulary(prepared: Path) -> None:
    store = TokenStore(prepared)
    names = {
        split: {re.findall(r"q\w+", d)[0] for d in stored_documents(store, split)}
        for split in ("train", "eval")
    }
    assert len(names["eval"]) >= 2 and not names["eval"] & names["train"]
    vocab = load_tokenizer(prepared / "tokenizer").get_vocab()
    assert names["train"] <= vocab.keys()
    assert not names["eval"] & vocab.keys()


def test_held_out_documents_do_not_depend_on_their_place(corpus: Path, tmp_path: Path) -> None:
    joined = tmp_path / "joined.txt"
    texts = [file.read_text() for file in sorted(corpus.iterdir(), reverse=True)]
    joined.write_text("\n".join(texts))
    stores = [
        prepare(settings_for(path, eval_fraction=0.1), tmp_path / name)
        for path, name in ((corpus, "a"), (joined, "b"))
    ]
    one, other = (sorted(stored_documents(store, "eval")) for store in stores)
    assert one == other


def test_two_processes_write_the_bytes_of_one_without_a_main_guard(
    corpus: Path, prepared: Path, tmp_path: Path, repository: Path
) -> None:
    done = run_python(PREPARE, corpus, tmp_path / "out", 2, repository=repository)
    assert done.returncode == 0, done.stderr
    assert contents(tmp_path / "out") == contents(prepared)


def test_prepared_corpus_is_used_again(
    corpus: Path, prepared: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = {path: path.stat().st_mtime_ns for path in prepared.iterdir()}
    store = prepare(settings_for(corpus, num_processes=2), prepared)
    assert "already prepared in" in capsys.readouterr().out
    assert store.folder == prepared
    assert {path: path.stat().st_mtime_ns for path in prepared.iterdir()} == before


def test_naming_what_was_chosen_is_no_difference(corpus: Path, prepared: Path) -> None:
    resolved = read_manifest(prepared)["resolved"]
    assert check_same_corpus(prepared, settings_for(corpus, **resolved)) == []


@pytest.mark.parametrize(
    ("change", "line"),
    [
        ({"vocab_size": 77}, r"--vocab-size: was left out \(\d+ was chosen\), now 77"),
        ({"lowercase": True}, r"--lowercase: was left out \(False was chosen\), now True"),
        ({"sentences": "rules"}, "--sentences: was lines, now rules"),
        ({"documents": "files"}, "--documents: was blank-lines, now files"),
    ],
)
def test_other_settings_are_refused_by_name(
    change: dict[str, object], line: str, corpus: Path, prepared: Path
) -> None:
    with pytest.raises(InputError, match=line):
        prepare(settings_for(corpus, **change), prepared)


def test_changed_new_and_missing_text_is_named(
    corpus: Path, prepared: Path, tmp_path: Path
) -> None:
    text = shutil.copytree(corpus, tmp_path / "corpus")
    assert check_same_corpus(prepared, settings_for(text)) == []
    content = (text / "1.txt").read_text()
    (text / "1.txt").write_text(content.replace("river", "RIVER", 1))
    (text / "2.txt").rename(text / "new.txt")
    assert sorted(check_same_corpus(prepared, settings_for(text))) == [
        f"{text}: 1.txt has changed",
        f"{text}: 2.txt is gone",
        f"{text}: new.txt is new",
    ]


def test_files_of_the_same_names_and_sizes_elsewhere_are_read(
    corpus: Path, prepared: Path, tmp_path: Path
) -> None:
    other = shutil.copytree(corpus, tmp_path / "lower")
    (other / "2.txt").write_text((corpus / "2.txt").read_text().lower())
    folder = shutil.copytree(prepared, tmp_path / "store")
    later = time.time() + 1000  # than the files were made
    os.utime(folder / "manifest.json", (later, later))
    found = check_same_corpus(folder, settings_for(other))
    assert found == [f"{other}: 2.txt has changed"]


def test_files_of_the_same_names_and_sizes_are_read_from_another_working_folder(
    corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, other = (shutil.copytree(corpus, tmp_path / name / "texts") for name in ("one", "other"))
    (other / "2.txt").write_text((corpus / "2.txt").read_text().lower())
    settings, folder = settings_for(Path("texts")), tmp_path / "store"
    monkeypatch.chdir(one.parent)
    prepare(settings, folder)
    later = time.time() + 1000  # than the files were made
    os.utime(folder / "manifest.json", (later, later))
    with monkeypatch.context() as patch:
        patch.setattr(durable, "file_digest", pytest.fail)  # where they were, none is read
        assert check_same_corpus(folder, settings) == []
    monkeypatch.chdir(other.parent)
    assert check_same_corpus(folder, settings) == ["texts: 2.txt has changed"]
    (folder / "text_places.json").unlink()  # as an older version leaves it
    assert check_same_corpus(folder, settings) == ["texts: 2.txt has changed"]


def test_changed_tokenizer_is_named(corpus: Path, prepared: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(prepared, tmp_path / "copy")
    path = folder / "tokenizer" / "tokenizer.json"
    path.write_text(path.read_text().replace('"lowercase": false', '"lowercase": true'))
    with pytest.raises(InputError, match="tokenizer: was changed after the corpus was made"):
        prepare(settings_for(corpus), folder)


def test_verifying_finds_a_damaged_shard(corpus: Path, prepared: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(prepared, tmp_path / "copy")
    content = bytearray((folder / "00001.train.tokens").read_bytes())
    content[3] ^= 8
    (folder / "00001.train.tokens").write_bytes(content)
    with pytest.raises(InputError, match=r"00001\.train\.tokens"):
        run_prepare(PrepareConfig(**settings_for(corpus).to_dict(), output_dir=str(folder)))


def test_killed_run_is_gone_on_with(
    corpus: Path, prepared: Path, tmp_path: Path, repository: Path
) -> None:
    folder = tmp_path / "out"
    stop_third_slice(corpus, folder, repository)
    kept = folder / "00001.train.tokens"
    written = kept.stat().st_mtime_ns
    prepare(settings_for(corpus), folder)
    assert contents(folder) == contents(prepared)
    assert kept.stat().st_mtime_ns == written


@pytest.mark.parametrize("num_processes", [1, 2])
def test_terminated_command_leaves_whole_files_and_exits_75(
    num_processes: int, corpus: Path, prepared: Path, tmp_path: Path, repository: Path
) -> None:
    folder = tmp_path / "out"
    script = STOP + PREPARE_BY_COMMAND
    if num_processes == 2:
        # The workers are not stopped by their own hand: the parent is, once two shards are done.
        script = (
            """
import os, sys
from bert_scratch.pretraining import tokenise
wait, stopped = tokenise.wait, []
def wait_and_stop(pending, *arguments, **options):
    finished, left = wait(pending, *arguments, **options)
    if len(left) <= 2 and not stopped:
        stopped.append(os.kill(os.getpid(), int(sys.argv[4])))
    return finished, left
tokenise.wait = wait_and_stop
"""
            + PREPARE_BY_COMMAND
        )
    stopped = run_python(
        script, corpus, folder, num_processes, int(signal.SIGTERM), repository=repository
    )
    assert stopped.returncode == 75, stopped.stderr
    assert stopped.stderr.count("\n") == 1 and "run the same command again" in stopped.stderr
    for name, content in contents(folder).items():
        if re.fullmatch(r"\d+\.(train|eval)\.\w+", name):
            assert content == contents(prepared)[name]
    prepare(settings_for(corpus), folder)
    assert contents(folder) == contents(prepared)


def test_damaged_shard_of_a_stopped_run_is_made_again(
    corpus: Path, prepared: Path, tmp_path: Path, repository: Path
) -> None:
    folder = tmp_path / "out"
    stop_third_slice(corpus, folder, repository)
    (folder / "00000.train.tokens").write_bytes(b"")
    (folder / "00001.json").write_text("[]")
    prepare(settings_for(corpus), folder)
    assert contents(folder) == contents(prepared)


def test_stopped_run_is_gone_on_with_without_reading_what_nobody_touched(
    corpus: Path, tmp_path: Path, repository: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "out"
    stop_third_slice(corpus, folder, repository)
    old = time.time() - 1000
    plan = json.loads((folder / "plan.json").read_text())
    (folder / "plan.json").write_text(json.dumps({**plan, "read_at": old + 10**6}))
    for record in folder.glob("0000*.json"):
        os.utime(record, (old + 10**6, old + 10**6))
    hashed = []
    digest = durable.file_digest
    monkeypatch.setattr(durable, "file_digest", lambda path: hashed.append(path) or digest(path))
    monkeypatch.setattr(store_plan, "learn_tokenizer", None)
    prepare(settings_for(corpus), folder)
    assert [path.name for path in hashed] == ["token_counts"]


def test_text_that_changes_while_it_is_read_is_refused(
    corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = shutil.copytree(corpus, tmp_path / "corpus")

    def tokenise_and_change(*arguments: object, **options: object) -> Iterator[object]:
        yield from tokenise(*arguments, **options)
        (text / "2.txt").write_text((text / "2.txt").read_text().replace("river", "RIVER"))

    monkeypatch.setattr(prepare_module, "tokenise", tokenise_and_change)
    with pytest.raises(InputError, match=r"changed while being read.*2\.txt has changed"):
        prepare(settings_for(text), tmp_path / "out")
    monkeypatch.undo()
    prepare(settings_for(text), tmp_path / "out")
    prepare(settings_for(text), tmp_path / "fresh")
    assert contents(tmp_path / "out") == contents(tmp_path / "fresh")


def write_sources(folder: Path) -> tuple[str, ...]:
    """Write three sources: plain text, objects a line, and both compressed."""
    plain = write_corpus(folder / "plain", num_files=2)
    (folder / "packed").mkdir()
    texts = [file.read_text() for file in sorted(write_corpus(folder / "more").iterdir())]
    lines = [json.dumps({"text": t}) + "\n" for text in texts for t in text.split("\n\n")]
    (folder / "objects.jsonl").write_text("".join(lines[:60]))
    for name, content in (("a.txt.gz", texts[3]), ("b.jsonl.gz", "".join(lines[60:]))):
        # the time in the header is not the text's
        (folder / "packed" / name).write_bytes(gzip.compress(content.encode()))
    return str(plain), str(folder / "objects.jsonl"), str(folder / "packed")


@pytest.mark.slow
def test_several_sources_give_the_same_bytes_for_any_number_of_processes(
    tmp_path: Path, repository: Path
) -> None:
    sources = write_sources(tmp_path / "text")
    found = []
    for num_processes in (1, 2, 3):
        folder = tmp_path / str(num_processes)
        arguments = ["--corpus", *sources, "--output-dir", str(folder), "--sentences", "lines"]
        arguments += ["--num-processes", str(num_processes), "--mixture", "3", "1", "1"]
        script = "import sys; from bert_scratch.cli import main; sys.exit(main(sys.argv[1:]))"
        done = run_python(script, "prepare", *arguments, repository=repository)
        assert done.returncode == 0, done.stderr
        found.append(contents(folder))
    assert len(read_manifest(tmp_path / "1")["shards"]) == 5
    assert found[0] == found[1] == found[2]


def test_manifest_holds_no_time_and_no_place(corpus: Path, prepared: Path, tmp_path: Path) -> None:
    """Only what the user typed, which a script gives relative to where it runs."""
    text = shutil.copytree(corpus, tmp_path / "elsewhere")
    prepare(settings_for(text), tmp_path / "out")
    first, second = (
        json.loads((f / "manifest.json").read_text()) for f in (prepared, tmp_path / "out")
    )
    assert first["sources"][0].pop("path") == str(corpus)
    assert second["sources"][0].pop("path") == str(text)
    assert {**first, "sha256": ""} == {**second, "sha256": ""}


def test_too_full_a_disk_is_told_before_tokenising(
    corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    free = SimpleNamespace(free=5000)
    monkeypatch.setattr(disk_space.shutil, "disk_usage", lambda folder: free)
    with pytest.raises(
        InputError, match=r"out: the corpus will take about .* but 0\.0 MB are free"
    ):
        prepare(settings_for(corpus), tmp_path / "out")
    assert not list((tmp_path / "out").glob("0*"))
    free.free = 10**9
    prepare(settings_for(corpus), tmp_path / "out")


@pytest.mark.parametrize("num_files", [1, 4])
def test_needed_space_is_estimated_within_a_quarter(
    num_files: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = write_corpus(tmp_path / "text", num_files, num_documents=200)
    store = prepare(settings_for(text), tmp_path / "out")
    taken = sum(path.stat().st_size for path in store.folder.glob("0*"))
    for free, fits in ((0.75 * taken, False), (1.25 * taken, True)):
        monkeypatch.setattr(
            disk_space.shutil, "disk_usage", lambda folder, free=free: SimpleNamespace(free=free)
        )
        other = tmp_path / str(fits)
        if fits:
            prepare(settings_for(text), other)
        else:
            with pytest.raises(InputError, match="make room"):
                prepare(settings_for(text), other)


def test_stopped_run_needs_space_only_for_what_is_left(
    corpus: Path, tmp_path: Path, repository: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "out"
    stop_third_slice(corpus, folder, repository)
    taken = sum(path.stat().st_size for path in folder.glob("0000[01].*"))
    monkeypatch.setattr(
        disk_space.shutil, "disk_usage", lambda folder: SimpleNamespace(free=1.3 * taken)
    )
    store = prepare(settings_for(corpus), folder)
    assert store.shards("train")[3].num_tokens > 0
    with pytest.raises(InputError, match="make room"):
        prepare(settings_for(corpus), tmp_path / "whole")


def write_two_languages(folder: Path) -> tuple[str, str]:
    """Write a large source of one alphabet and a small one of another."""
    draw = random.Random(8)
    folder.mkdir()
    paths = []
    for name, letters, number in (("large", "abcdefgh", 400), ("small", "рстуфхцч", 20)):
        words = ["".join(draw.choices(letters, k=6)) for _ in range(300)]
        text = "\n\n".join(
            "\n".join(" ".join(draw.choices(words, k=9)) for _ in range(4)) for _ in range(number)
        )
        (folder / f"{name}.txt").write_text(text + "\n")
        paths.append(str(folder / f"{name}.txt"))
    return paths[0], paths[1]


@pytest.mark.parametrize(
    ("mixture", "expected"), [((), 1 / 11), (("1", "1"), 1 / 2), (("share^0.5",), 0.240)]
)
def test_vocabulary_is_learned_from_text_in_the_mixtures_shares(
    mixture: tuple[str, ...], expected: float, tmp_path: Path
) -> None:
    sources = write_two_languages(tmp_path / "text")
    text = corpus_plan.find_text(
        CorpusSettings(corpus=tuple(map(str, sources)), documents="blank-lines", sentences="lines")
    )
    lines = list(learn_vocabulary.train_lines(text, mixture))
    total = sum(len(line.encode()) for line in lines)
    small = sum(len(line.encode()) for line in lines if not line.isascii())
    assert small / total == pytest.approx(expected, rel=0.1)
    assert total == pytest.approx(sum(Path(path).stat().st_size for path in sources), rel=0.05)


def test_mixture_is_kept_in_the_manifest_and_changes_the_vocabulary(tmp_path: Path) -> None:
    sources = write_two_languages(tmp_path / "text")
    even = CorpusSettings(corpus=sources, sentences="lines", vocab_size=200, num_processes=1)
    mixed = even.replace(mixture=("1", "9"))
    stores = [prepare(asked, tmp_path / str(i)) for i, asked in enumerate((even, mixed))]
    assert [store.manifest["mixture"] for store in stores] == [[], ["1", "9"]]
    cyrillic = [
        sum(not t.isascii() for t in load_tokenizer(store.folder / "tokenizer").get_vocab())
        for store in stores
    ]
    assert cyrillic[1] > 1.5 * cyrillic[0]
    assert any("--mixture" in line for line in check_same_corpus(tmp_path / "1", even))


@pytest.mark.parametrize("sentences", ["auto", "lines"])
def test_objects_without_any_text_are_refused_at_once(
    sentences: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text('{"text": ""}\n{"text": " "}\n' * 3)
    with pytest.raises(InputError, match=r"a\.jsonl: holds no text: every document"):
        prepare(CorpusSettings(corpus=(str(path),), sentences=sentences), tmp_path / "store")
    assert capsys.readouterr().out == ""


def test_one_document_is_named_in_the_singular(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_text("One thing is here.\n")
    settings = CorpusSettings(corpus=(str(path),), num_processes=1)
    with pytest.raises(InputError, match="found 1 document with 1 sentence "):
        prepare(settings, tmp_path / "store")


def test_output_folder_that_is_a_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_text("One thing is here.\n")
    with pytest.raises(
        InputError, match=r"--output-dir .*a\.txt: is a file; give a new or existing folder"
    ):
        prepare(CorpusSettings(corpus=(str(path),)), path)


@pytest.mark.parametrize("num_processes", [1, 2])
def test_progress_through_packed_files_is_told_before_they_are_done(
    num_processes: int,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    corpus = write_corpus(tmp_path / "corpus", num_files=2, num_documents=200)
    for path in list(corpus.iterdir()):
        (corpus / f"{path.name}.gz").write_bytes(gzip.compress(path.read_bytes()))
        path.unlink()
    monkeypatch.setattr("bert_scratch.pretraining.tokenise._BATCH_CHARACTERS", 1000)
    prepare(settings_for(corpus, num_processes=num_processes), tmp_path / "store")
    lines = [x for x in capsys.readouterr().out.splitlines() if x.startswith("tokenising")]
    shares = [int(line.split()[1].rstrip("%")) for line in lines]
    assert shares == sorted(shares) and shares[-1] == 100
    assert num_processes > 1 or len(shares) > 5  # two files would give 50 and 100


@pytest.mark.parametrize("name", ["blank-lines.txt", "chinese.txt", "articles.jsonl", "folder"])
def test_every_sample_can_be_prepared(name: str, repository: Path, tmp_path: Path) -> None:
    settings = CorpusSettings(corpus=(str(repository / "data/samples" / name),), num_processes=1)
    store = prepare(settings, tmp_path / "store")
    assert all(
        sum(len(shard.documents) for shard in store.shards(split)) >= 2
        for split in ("train", "eval")
    )


def test_prepare_prints_the_shares_of_a_mixture(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    sources = write_two_languages(tmp_path / "text")
    settings = {"corpus": sources, "sentences": "lines", "vocab_size": 200, "num_processes": 1}
    run_prepare(PrepareConfig(**settings, mixture=("1", "9"), output_dir=str(tmp_path / "store")))
    lines = [x.split() for x in capsys.readouterr().out.splitlines() if x.startswith("mixture")]
    assert [line[1:4] for line in lines] == [
        [f"{sources[0]}:", "10.0%", "of"],
        [f"{sources[1]}:", "90.0%", "of"],
    ]


def pairs_of_characters(text: str) -> list[str]:
    """Cut a text into words of two characters, as a segmenter that importers know by name."""
    return [text[start : start + 2] for start in range(0, len(text), 2)]


def test_word_starts_are_stored_as_the_segmenter_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    module = SimpleNamespace(cut=pairs_of_characters)
    monkeypatch.setitem(sys.modules, "pairs_segmenter", module)
    draw = random.Random(0)
    lines = ["".join(draw.choices("天地玄黄宇宙洪荒日月", k=12)) for _ in range(60)]
    file = tmp_path / "text.txt"
    file.write_text("\n\n".join("\n".join(lines[i : i + 3]) for i in range(0, 60, 3)))
    asked = settings_for(file, word_segmenter="pairs_segmenter:cut")
    store = prepare(asked, tmp_path / "out")
    assert store.has_word_starts and store.manifest["word_segmenter"] == "pairs_segmenter:cut"
    for split in ("train", "eval"):
        (shard,) = store.shards(split)
        assert shard.num_tokens % 12 == 0
        flags = shard.read_word_starts(0, shard.num_tokens)
        assert flags.tolist() == [True, False] * (shard.num_tokens // 2)
    assert not prepare(settings_for(file), tmp_path / "plain").has_word_starts


def test_stopped_run_with_other_settings_starts_over(
    corpus: Path, tmp_path: Path, repository: Path
) -> None:
    folder, fresh = tmp_path / "out", tmp_path / "fresh"
    stop_third_slice(corpus, folder, repository)
    settings = settings_for(corpus, vocab_size=120)
    prepare(settings, folder)
    prepare(settings, fresh)
    assert contents(folder) == contents(fresh)


def test_given_tokenizer_is_used(corpus: Path, prepared: Path, tmp_path: Path) -> None:
    tokenizer = load_tokenizer(prepared / "tokenizer")
    store = prepare(settings_for(corpus, tokenizer=str(prepared / "tokenizer")), tmp_path)
    assert tokenizer_hash(load_tokenizer(tmp_path / "tokenizer")) == tokenizer_hash(tokenizer)
    assert store.vocab_size == tokenizer.get_vocab_size()
    assert store.manifest["vocabulary"] is None


@pytest.mark.parametrize("name", ["vocab_size", "lowercase", "strip_accents"])
@pytest.mark.parametrize("file", ["", "tokenizer.json", "vocab.txt"])
def test_given_tokenizer_decides_about_its_vocabulary(
    name: str, file: str, corpus: Path, prepared: Path, tmp_path: Path
) -> None:
    given = {"tokenizer": str(prepared / "tokenizer" / file), name: 100}
    with pytest.raises(InputError, match=f"--{name.replace('_', '-')} cannot be combined"):
        prepare(settings_for(corpus, **given), tmp_path)


@pytest.mark.parametrize("in_folder", [False, True])
def test_bare_vocabulary_is_read_in_the_case_that_is_asked_for(
    in_folder: bool, corpus: Path, prepared: Path, tmp_path: Path
) -> None:
    (tmp_path / "bare").mkdir()
    file = shutil.copy(prepared / "tokenizer" / "vocab.txt", tmp_path / "bare" / "vocab.txt")
    given = str(file.parent if in_folder else file)
    for lowercase in (True, False):
        settings = settings_for(corpus, tokenizer=given, lowercase=lowercase, strip_accents=False)
        store = prepare(settings, tmp_path / f"{lowercase}")
        tokenizer = load_tokenizer(store.folder / "tokenizer")
        assert tokenizer.normalizer.normalize_str("The") == ("the" if lowercase else "The")
        assert check_same_corpus(store.folder, settings) == []
    with pytest.raises(InputError, match="--vocab-size cannot be combined"):
        settings_for(corpus, tokenizer=given, vocab_size=100)


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        ("documents", "blank"),
        ("sentences", "line"),
        ("encoding_errors", "ignore"),
        ("eval_fraction", 1.5),
        ("vocab_size", 0),
        ("num_processes", 0),
    ],
)
def test_wrong_settings_are_refused_by_their_flag(setting: str, value: object) -> None:
    with pytest.raises(InputError, match=f"--{setting.replace('_', '-')} must be"):
        CorpusSettings(**{setting: value})


@pytest.mark.parametrize("text", ["", "\n\n \n", "One line.", "One.\n\nTwo.\n\nThree.\n"])
def test_too_little_text_is_refused(text: str, tmp_path: Path) -> None:
    path = tmp_path / "tiny.txt"
    path.write_text(text)
    with pytest.raises(InputError, match=r"at least 4 are needed|holds no text"):
        prepare(settings_for(path), tmp_path / "out")


def test_a_single_document_that_is_held_out_is_told_to_be_too_few(tmp_path: Path) -> None:
    path = tmp_path / "short.txt"
    path.write_text("All of this is held out. Nothing is left.\n", encoding="utf-8")
    with pytest.raises(
        InputError, match=r"found 1 document \(documents by blank-lines\), .* at least 4"
    ):
        prepare(settings_for(path, eval_fraction=0.999_999), tmp_path / "store")


def test_one_long_document_is_held_out_in_sections(tmp_path: Path) -> None:
    draw = random.Random(0)
    lines = [f"{' '.join(draw.choices(WORDS, k=12))} {i}." for i in range(2500)]
    path = tmp_path / "novel.txt"
    path.write_text("\n".join(lines))
    store = prepare(settings_for(path, documents="files"), tmp_path / "out")
    train, held_out = (store.manifest["shards"][0][split] for split in ("train", "eval"))
    assert held_out["documents"] >= 2 and train["documents"] >= 2
    assert train["sentences"] + held_out["sentences"] == 2500


def test_too_small_a_held_out_share_is_refused_with_one_that_works(
    corpus: Path, tmp_path: Path
) -> None:
    with pytest.raises(InputError, match="holds out 0 of 80 documents") as raised:
        prepare(settings_for(corpus, eval_fraction=1e-6), tmp_path)
    fraction = float(str(raised.value).split()[-1])
    store = prepare(settings_for(corpus, eval_fraction=fraction), tmp_path)
    assert sum(len(shard.documents) for shard in store.shards("eval")) == 2


@pytest.mark.parametrize("eval_fraction", [None, 1e-6, 0.999])
def test_documents_that_are_copies_of_one_another_are_named_as_such(
    eval_fraction: float | None, tmp_path: Path
) -> None:
    path = tmp_path / "copies.txt"
    path.write_text("\n\n".join(["One sentence.\nAnother sentence."] * 20))
    settings = settings_for(path, eval_fraction=eval_fraction, vocab_size=40)
    with pytest.raises(InputError, match="20 documents are copies of one another"):
        prepare(settings, tmp_path / "out")


@pytest.mark.parametrize("num_documents", [4, 5, 7, 10, 15])
def test_left_out_share_holds_out_two_documents_of_a_few(
    num_documents: int, tmp_path: Path
) -> None:
    text = write_corpus(tmp_path / "text", num_files=1, num_documents=num_documents)
    store = prepare(settings_for(text), tmp_path / "out")
    assert 2 <= sum(len(shard.documents) for shard in store.shards("eval")) <= num_documents - 2


def test_manifest_tells_what_was_resolved(corpus: Path, prepared: Path) -> None:
    manifest = read_manifest(prepared)
    (source,) = manifest["sources"]
    assert source["documents"] == "blank-lines" and source["sentences"] == "lines"
    assert list(source["files"]) == ["0.txt", "1.txt", "2.txt", "3.txt"]
    assert source["files"]["0.txt"]["bytes"] == (corpus / "0.txt").stat().st_size
    files = [file for part in manifest["slices"] for file, _, _ in part["files"]]
    assert files == list(source["files"])
    assert 0 < manifest["resolved"]["eval_fraction"] <= 0.5
    assert manifest["resolved"]["vocab_size"] == manifest["vocabulary"]["vocab_size"]
    assert manifest["tokenizer_sha256"] == tokenizer_hash(load_tokenizer(prepared / "tokenizer"))


def test_small_files_share_a_shard_and_keep_their_order(
    corpus: Path, prepared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(corpus_plan, "_MIN_SHARD_BYTES", 1 << 20)
    store, apart = prepare(settings_for(corpus), tmp_path / "out"), TokenStore(prepared)
    for split in ("train", "eval"):
        assert len(store.shards(split)) == 1 and len(apart.shards(split)) == 4
        assert list(stored_documents(store, split)) == list(stored_documents(apart, split))
    (part,) = store.manifest["slices"]
    assert [file for file, start, _ in part["files"]] == ["0.txt", "1.txt", "2.txt", "3.txt"]


@given(st.lists(st.tuples(st.integers(0, 2), st.integers(1, 200 << 20)), max_size=60))
def test_shards_hold_all_slices_in_order_and_never_two_sources(
    sizes: list[tuple[int, int]],
) -> None:
    slices = [Slice(source, Path("a.txt"), 0, size) for source, size in sorted(sizes)]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(corpus_plan, "_MIN_SHARD_BYTES", 1 << 20)
        shards = corpus_plan.shards_of(slices)
    assert [part for shard in shards for part in shard] == slices
    limit = max(1 << 20, min(64 << 20, sum(part.end for part in slices) // 64))
    for shard in shards:
        assert len({part.source_index for part in shard}) == 1
        assert len(shard) == 1 or sum(part.end for part in shard) <= limit
    for shard, (following, *_) in pairwise(shards):
        is_same_source = shard[0].source_index == following.source_index
        assert not is_same_source or sum(p.end for p in [*shard, following]) > limit


def test_replaced_bytes_are_counted_in_each_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(corpus_plan, "_MIN_SHARD_BYTES", 1 << 20)
    text = write_corpus(tmp_path / "text", num_files=2)
    for name, count in (("0.txt", 3), ("1.txt", 2)):
        file = text / name
        file.write_bytes(file.read_bytes().replace(b"river", b"r\xe9ver", count))
    with pytest.raises(InputError, match=r"0\.txt.*byte offset"):
        prepare(settings_for(text), tmp_path / "strict")
    store = prepare(settings_for(text, encoding_errors="replace"), tmp_path / "replace")
    (line,) = (line for line in describe_store(store) if "U+FFFD" in line)
    assert "5 are U+FFFD" in line and line.endswith(": 0.txt 3, 1.txt 2")


def test_without_a_corpus_the_documentation_is_used(
    corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(corpus_plan, "build_documentation_corpus", lambda folder: corpus / "0.txt")
    store = prepare(settings_for(corpus).replace(corpus=()), tmp_path)
    assert store.manifest["sources"][0]["path"] == str(corpus / "0.txt")


def test_command_prints_what_the_store_holds(
    corpus: Path, prepared: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run_prepare(PrepareConfig(**settings_for(corpus).to_dict(), output_dir=str(prepared)))
    output = capsys.readouterr().out
    for expected in ("documents", "held out", "[UNK]", "entropy", "--data"):
        assert expected in output


@pytest.mark.parametrize(
    ("corpus_bytes", "expected"),
    [(10**5, 2048), (10**6, 4096), (10**7, 8192), (10**8, 16384), (10**9, 30522)],
)
def test_vocabulary_size_follows_the_amount_of_text(corpus_bytes: int, expected: int) -> None:
    assert corpus_plan.choose_vocab_size(corpus_bytes, 500)[0] == expected


def test_vocabulary_makes_room_for_a_large_alphabet() -> None:
    size, reason = corpus_plan.choose_vocab_size(20_000_000, 8700)
    assert size == 10_752 and size % 64 == 0
    assert "8,700" in reason


@pytest.mark.parametrize(
    ("num_bytes", "expected"), [(10**7, 0.05), (10**8, 0.005), (10**12, 0.001)]
)
def test_held_out_share_is_about_500_kb(num_bytes: int, expected: float) -> None:
    text = SimpleNamespace(num_bytes=num_bytes)
    assert corpus_plan.choose_eval_fraction(text) == expected


def test_tokenising_does_not_import_torch(repository: Path) -> None:
    script = "import sys, bert_scratch.pretraining.tokenise; sys.exit('torch' in sys.modules)"
    assert run_python(script, repository=repository).returncode == 0


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="looks processes up in /proc")
def test_workers_end_when_the_parent_is_killed(
    corpus: Path, tmp_path: Path, repository: Path
) -> None:
    script = """
import multiprocessing, os, signal
from bert_scratch.pretraining import tokenise
def print_and_die(*arguments, **options):
    print(*(child.pid for child in multiprocessing.active_children()), flush=True)
    os.kill(os.getpid(), signal.SIGKILL)
tokenise.wait = print_and_die
"""
    killed = run_python(script + PREPARE, corpus, tmp_path / "out", 2, repository=repository)
    workers = killed.stdout.split("\n")[-2].split()
    assert len(workers) == 2
    deadline = time.monotonic() + 20
    while any(map(_is_running, workers)) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not any(map(_is_running, workers))


def _is_running(pid: str) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False


def test_sentences_are_split_by_an_importable_function(
    corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "near_splitter.py").write_text(
        "def halves(text): return text.replace(' near ', '\\0near ').split('\\0')"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    stores = [
        prepare(settings_for(corpus, sentences=rule), tmp_path / str(number))
        for number, rule in enumerate(("lines", "near_splitter:halves"))
    ]
    one, two = (sum(len(s.sentences) for s in store.shards("train")) for store in stores)
    assert two == 2 * one
    assert stores[1].manifest["sources"][0]["sentences"] == "near_splitter:halves"


def test_a_plan_of_something_else_is_refused(corpus: Path, tmp_path: Path) -> None:
    (tmp_path / "plan.json").write_text('{"a": 1}')
    with pytest.raises(InputError, match="is not the plan of a prepared corpus; choose another"):
        prepare(settings_for(corpus), tmp_path)
    assert (tmp_path / "plan.json").read_text() == '{"a": 1}'


@pytest.mark.parametrize("flag", ["sentences", "word_segmenter"])
def test_a_module_that_fails_on_import_is_named_before_a_vocabulary_is_learned(
    flag: str, corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "broken_words.py").write_text('raise RuntimeError("boo")')
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(InputError, match="cannot be imported.*RuntimeError: boo"):
        prepare(settings_for(corpus, **{flag: "broken_words:split"}), tmp_path / "store")
    assert not (tmp_path / "store" / "tokenizer").exists()


def test_word_segmenter_of_no_known_form_is_refused_at_once() -> None:
    with pytest.raises(InputError, match="--word-segmenter must be jieba or module:function"):
        CorpusSettings(word_segmenter="nonsense")


def test_a_vocabulary_that_does_not_fit_the_text_is_warned_of(
    corpus: Path, prepared: Path, tmp_path: Path
) -> None:
    assert not any("warning" in line for line in describe_store(TokenStore(prepared)))
    other = tmp_path / "other.txt"
    other.write_text(
        "\n\n".join(f"维基百科{i}\n自由的百科全书" for i in range(60)), encoding="utf-8"
    )
    settings = settings_for(other, tokenizer=str(prepared / "tokenizer"))
    lines = describe_store(prepare(settings, tmp_path / "store"))
    assert any("warning" in line and "[UNK]" in line for line in lines)


@pytest.mark.parametrize(
    ("learned", "mend"),
    [
        ({"vocab_size": 90, "cut_share": 0.3}, "raise --vocab-size"),
        ({"vocab_size": 90, "cut_share": 0.0}, "give more text"),
        ({"vocab_size": 100, "cut_share": 0.0}, "raise --vocab-size"),
    ],
)
def test_warning_of_unknown_text_says_what_mends_it(
    learned: dict[str, float], mend: str, prepared: Path
) -> None:
    tokenizer = load_tokenizer(prepared / "tokenizer")
    facts = corpus_facts(TokenStore(prepared), tokenizer).replace(unknown_share=0.3)
    (line,) = _warn_of_unknown(facts, {"requested_vocab_size": 100, **learned})
    assert line.endswith(mend)


def test_another_corpus_in_the_folder_is_named_as_such(
    corpus: Path, prepared: Path, tmp_path: Path
) -> None:
    other = tmp_path / "other.txt"
    other.write_text("A text.\nOf its own.\n\n" * 9)
    with pytest.raises(InputError, match=f"--corpus: was .*, now {other}"):
        prepare(settings_for(other), prepared)


def test_files_of_somebody_else_are_left_alone(corpus: Path, tmp_path: Path) -> None:
    (tmp_path / "00001.json").write_text("mine")
    with pytest.raises(InputError, match=r"00001\.json: has a name that prepared corpora use"):
        prepare(settings_for(corpus), tmp_path)
    assert (tmp_path / "00001.json").read_text() == "mine"


def test_a_second_process_in_the_folder_is_refused(corpus: Path, tmp_path: Path) -> None:
    (tmp_path / "store").mkdir()
    with alone_in(tmp_path / "store"):
        with pytest.raises(InputError, match="another process is running in this folder"):
            prepare(settings_for(corpus), tmp_path / "store")
    assert [path.name for path in (tmp_path / "store").iterdir()] in ([], [".lock"])


def test_what_a_kill_left_behind_the_manifest_is_removed(
    corpus: Path, prepared: Path, tmp_path: Path
) -> None:
    folder = shutil.copytree(prepared, tmp_path / "store")
    names = ("plan.json", "00000.json", "manifest.json.7.tmp", "text_places.json.7.tmp")
    left = [folder / name for name in names]
    for file in left:
        file.write_text("{}")
    prepare(settings_for(corpus), folder)
    assert not any(file.exists() for file in left)
    assert (folder / "text_places.json").exists()


def test_a_corpus_is_gone_on_with_that_was_prepared_inside_its_own_text(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    corpus = write_corpus(tmp_path / "texts")
    prepare(settings_for(corpus), corpus / "prepared")
    prepare(settings_for(corpus), corpus / "prepared")
    assert "already prepared in" in capsys.readouterr().out


def test_a_corpus_is_not_prepared_in_the_folder_of_its_own_text(tmp_path: Path) -> None:
    corpus = write_corpus(tmp_path / "texts")
    before = sorted(corpus.iterdir())
    with pytest.raises(InputError, match=r"--output-dir .*texts: holds text of --corpus"):
        run_prepare(PrepareConfig(corpus=(str(corpus),), output_dir=str(corpus)))
    assert sorted(corpus.iterdir()) == before


def test_a_killed_process_is_told_in_one_line_and_the_rest_is_gone_on_with(
    corpus: Path, prepared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = settings_for(corpus).replace(num_processes=2)
    wait = tokenise_module.wait

    def kill_and_wait(*arguments: object, **options: object) -> object:
        for process in multiprocessing.active_children():
            process.kill()
        return wait(*arguments, **options)

    with monkeypatch.context() as patch, pytest.raises(OSError, match="tokenises was killed"):
        patch.setattr(tokenise_module, "wait", kill_and_wait)
        prepare(settings, tmp_path / "out")
    prepare(settings, tmp_path / "out")
    assert contents(tmp_path / "out") == contents(prepared)
