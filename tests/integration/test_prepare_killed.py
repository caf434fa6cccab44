"""Pins that preparing, killed without warning wherever it is, ends with the same bytes when its
command is given again, and that finished shards are not touched.
Starts real processes: `pytest -m slow tests/integration/test_prepare_killed.py`."""

from __future__ import annotations

import random
import re
import subprocess
import sys
import time
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

# So that these small files make thirty shards.
EACH_FILE_IS_A_SHARD = """
import sys
from bert_scratch.cli import main
from bert_scratch.pretraining import corpus_plan
corpus_plan._MIN_SHARD_BYTES = 1
sys.exit(main(sys.argv[1:]))
"""
WORDS = "river stone cloud meadow winter lantern harbour copper silver orchard".split()


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Thirty files of 60 documents."""
    draw, folder = random.Random(4), tmp_path_factory.mktemp("text")
    for number in range(30):
        lines = []
        for _ in range(60):
            for _ in range(draw.randint(2, 8)):
                lines.append(f"{' '.join(draw.choices(WORDS, k=8))} {draw.randint(0, 999)}.")
            lines.append("")
        (folder / f"{number:02d}.txt").write_text("\n".join(lines))
    return folder


def command(corpus: Path, folder: Path, num_processes: int) -> list[str]:
    flags = ["--documents", "blank-lines", "--sentences", "lines", "--vocab-size", "500"]
    arguments = ["--corpus", str(corpus), "--output-dir", str(folder), *flags]
    workers = ["--num-processes", str(num_processes)]
    return [sys.executable, "-c", EACH_FILE_IS_A_SHARD, "prepare", *arguments, *workers]


def contents(folder: Path) -> dict[str, bytes]:
    files = (path for path in folder.rglob("*") if path.is_file())
    return {file.relative_to(folder).as_posix(): file.read_bytes() for file in files}


def finished(folder: Path) -> dict[str, tuple[int, int]]:
    """Return inode and time of each file of the shards that have their record."""
    return {
        path.name: (path.stat().st_ino, path.stat().st_mtime_ns)
        for record in folder.glob("?????.json")
        for path in folder.glob(f"{record.stem}.*")
        if re.fullmatch(r"\d+\.(train|eval)\.\w+", path.name)
    }


@pytest.mark.parametrize("num_processes", [1, 2])
def test_killed_preparation_goes_on_without_touching_what_is_finished(
    num_processes: int, corpus: Path, tmp_path: Path
) -> None:
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    subprocess.run(command(corpus, whole, 1), check=True, capture_output=True)
    moments = ["plan.json", "00000.json", "00007.json", "00019.json", "00028.json"]
    kept: dict[str, tuple[int, int]] = {}
    planned_at = 0
    for moment in moments:
        process = subprocess.Popen(
            command(corpus, killed, num_processes),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
        )
        deadline = time.monotonic() + 60
        while not (killed / moment).exists() and process.poll() is None:
            assert time.monotonic() < deadline
            time.sleep(0.001)
        process.kill()
        process.communicate()
        assert not (killed / "manifest.json").exists()
        now = finished(killed)
        assert kept.items() <= now.items()
        kept = now
        planned_at = planned_at or (killed / "plan.json").stat().st_mtime_ns
        assert (killed / "plan.json").stat().st_mtime_ns == planned_at
    assert len(kept) >= 8
    ended = subprocess.run(command(corpus, killed, num_processes), capture_output=True, text=True)
    assert ended.returncode == 0, ended.stderr
    assert "resuming the preparation" in ended.stdout
    assert "vocabulary joining" not in ended.stdout
    names = kept.keys()
    assert {n: (s.st_ino, s.st_mtime_ns) for n in names for s in [(killed / n).stat()]} == kept
    assert contents(killed) == contents(whole)
