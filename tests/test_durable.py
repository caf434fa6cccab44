"""Pins that files and folders are whole or absent, and that nothing else is touched.
POSIX (links, pipes): `pytest tests/test_durable.py`."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from bert_scratch import durable


class Broken(Exception):
    pass


def contents(folder: Path) -> dict[str, str]:
    return {path.name: path.read_text() for path in folder.iterdir() if path.is_file()}


def test_a_failed_write_leaves_what_stood_there_and_nothing_else(tmp_path: Path) -> None:
    file = tmp_path / "a.txt"
    file.write_text("before")
    with pytest.raises(Broken), durable.durable_path(file) as temporary:
        temporary.write_text("half")
        raise Broken
    assert contents(tmp_path) == {"a.txt": "before"}


def test_a_full_disk_names_what_did_not_fit_on_it(tmp_path: Path) -> None:
    file = tmp_path / "a.txt"
    with pytest.raises(OSError, match=f"No space left on device: '{file}'"):
        with durable.durable_path(file):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    with pytest.raises(OSError, match=r"^\[Errno 5\] [^:]*$"), durable.durable_path(file):
        raise OSError(errno.EIO, os.strerror(errno.EIO))  # of some other file, perhaps


def test_a_link_stays_one_and_what_it_leads_to_is_written(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    target, link = tmp_path / "elsewhere" / "a.txt", tmp_path / "link.txt"
    target.write_text("before")
    link.symlink_to(target)
    durable.write_text(link, "after")
    assert link.is_symlink() and target.read_text() == "after"
    assert contents(tmp_path / "elsewhere") == {"a.txt": "after"}


def test_a_pipe_takes_the_bytes_and_stays_a_pipe(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    reader = subprocess.Popen(["cat", str(pipe)], stdout=subprocess.PIPE, text=True)
    durable.write_text(pipe, "text")
    assert reader.communicate(timeout=60)[0] == "text"
    assert pipe.is_fifo() and list(tmp_path.iterdir()) == [pipe]


def test_a_failed_folder_leaves_the_former_one(tmp_path: Path) -> None:
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "a.txt").write_text("before")
    with pytest.raises(Broken), durable.durable_folder(folder) as temporary:
        (temporary / "a.txt").write_text("half")
        raise Broken
    assert contents(folder) == {"a.txt": "before"}
    assert list(tmp_path.iterdir()) == [folder]


def test_a_folder_whose_new_name_is_refused_is_put_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "a.txt").write_text("before")
    rename = Path.rename

    def refuse(path: Path, target: Path) -> Path:
        if path.name == "model.tmp":
            raise OSError("no space left")
        return rename(path, target)

    monkeypatch.setattr(Path, "rename", refuse)
    with pytest.raises(OSError, match="no space"), durable.durable_folder(folder) as temporary:
        (temporary / "a.txt").write_text("after")
    assert contents(folder) == {"a.txt": "before"}


def test_a_folder_that_a_kill_left_between_its_renames_is_not_lost(tmp_path: Path) -> None:
    folder, former, new = (tmp_path / f"model{end}" for end in ("", ".former.tmp", ".tmp"))
    for name, text in ((former, "before"), (new, "after")):
        name.mkdir()
        (name / "a.txt").write_text(text)
    with pytest.raises(Broken), durable.durable_folder(folder):
        raise Broken
    assert contents(folder) == {"a.txt": "before"}
    assert list(tmp_path.iterdir()) == [folder]


def test_only_files_named_as_ours_are_leftovers(tmp_path: Path) -> None:
    for name in ("thesis.tmp", "status.json.1234.tmp", "1234.txt"):
        (tmp_path / name).write_text("x")
    (tmp_path / "kept.99.tmp").mkdir()
    durable.remove_leftovers(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "1234.txt", "kept.99.tmp", "thesis.tmp",
    ]  # fmt: skip


def test_a_killed_write_leaves_the_former_file_whole(tmp_path: Path) -> None:
    file = tmp_path / "a.txt"
    file.write_text("before")
    code = (
        "import os, sys\n"
        "from pathlib import Path\n"
        "from bert_scratch import durable\n"
        "with durable.durable_path(Path(sys.argv[1])) as temporary:\n"
        "    temporary.write_text('half')\n"
        "    os.kill(os.getpid(), 9)\n"
    )
    subprocess.run([sys.executable, "-c", code, str(file)], check=False, timeout=60)
    assert file.read_text() == "before" and len(list(tmp_path.iterdir())) == 2
    durable.remove_leftovers(tmp_path)
    assert list(tmp_path.iterdir()) == [file]


def test_a_file_is_the_same_by_its_bytes_where_its_time_says_nothing(tmp_path: Path) -> None:
    file = tmp_path / "a.txt"
    file.write_text("one")
    stated = durable.file_digest(file)
    assert durable.is_same(file, stated, since=0.0)
    file.write_text("two")
    assert not durable.is_same(file, stated, since=0.0)
    assert durable.is_same(file, stated, since=file.stat().st_ctime + 1)  # nobody touched it since
    file.write_text("three")
    assert not durable.is_same(file, stated, since=file.stat().st_ctime + 1)


class Order:
    """What is asked of the system, in order: fsync or rename, and of what."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.calls: list[tuple[str, str]] = []
        real_fsync = os.fsync

        def fsync(descriptor: int) -> None:
            self.calls.append(("fsync", Path(os.readlink(f"/proc/self/fd/{descriptor}")).name))
            real_fsync(descriptor)

        monkeypatch.setattr(os, "fsync", fsync)
        for name in ("rename", "replace"):
            monkeypatch.setattr(os, name, self._noting(getattr(os, name)))

    def _noting(self, real: Callable[..., None]) -> Callable[..., None]:
        def moved(source: Path, target: Path, **options: object) -> None:
            self.calls.append(("rename", Path(source).name))
            real(source, target, **options)

        return moved


def test_a_file_is_on_the_disk_before_its_name_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    order = Order(monkeypatch)
    durable.write_text(tmp_path / "a.txt", "a")
    temporary = f"a.txt.{os.getpid()}.tmp"
    assert order.calls == [("fsync", temporary), ("rename", temporary), ("fsync", tmp_path.name)]


def test_a_folder_is_on_the_disk_before_its_name_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    order = Order(monkeypatch)
    for text in "ab":
        with durable.durable_folder(tmp_path / "f") as folder:
            (folder / "a.txt").write_text(text)
    written = [("fsync", "a.txt"), ("fsync", "f.tmp")]
    named = [("rename", "f.tmp"), ("fsync", tmp_path.name)]
    assert order.calls == [*written, *named, *written, ("rename", "f"), *named]
    assert [path.name for path in tmp_path.iterdir()] == ["f"]


def test_a_file_that_came_back_with_an_old_time_is_read_again(tmp_path: Path) -> None:
    path = tmp_path / "text"
    path.write_text("one")
    stated = durable.file_digest(path)
    since = path.stat().st_ctime + 1e-3
    time.sleep(0.05)
    path.write_text("two")
    os.utime(path, (0, 0))  # as cp -p and rsync -t leave it
    assert not durable.is_same(path, stated, since=since)
