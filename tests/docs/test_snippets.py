"""Pins that what README and docs say can be typed in: every command and every Python snippet runs.

The blocks of a page are run in order, in a folder with sample texts; the flags that shorten a
command are in `uv_for_tests.py`. A block that cannot run here says why in its first line
(```bash data-not-run="needs 8 GPUs"). Run alone: `pytest -m slow tests/docs/test_snippets.py`.
"""

from __future__ import annotations

import gzip
import importlib.util
import os
import re
import shlex
import shutil
import stat
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch

from bert_scratch import cli
from bert_scratch.config import BertConfig
from bert_scratch.data.vocabulary import train_tokenizer
from bert_scratch.data.wordpiece import TokenizerFolder
from bert_scratch.model.heads import BertForPreTraining
from bert_scratch.model.huggingface import to_hf

REPOSITORY = Path(__file__).parents[2]
SHIM = Path(__file__).with_name("uv_for_tests.py")
PAGES = [REPOSITORY / "README.md", *sorted((REPOSITORY / "docs").rglob("*.md"))]
LANGUAGES = ("bash", "python")
FENCE = re.compile(r"^```(\S+)([^\n]*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
LABELS = ("water", "town")

spec = importlib.util.spec_from_file_location("uv_for_tests", SHIM)
assert spec is not None and spec.loader is not None
uv_for_tests = importlib.util.module_from_spec(spec)
spec.loader.exec_module(uv_for_tests)


@dataclass(frozen=True)
class Block:
    """A fenced block of commands or Python."""

    page: Path
    language: str
    code: str
    not_run: str | None
    """Why it cannot run here."""

    @property
    def snippets(self) -> list[str]:
        """Each command, or the Python as one."""
        if self.language == "python":
            return [self.code]
        lines = self.code.replace("\\\n", " ").splitlines()
        return [line for line in lines if line.strip() and not line.startswith("#")]


def blocks_of(page: Path) -> list[Block]:
    found = []
    for language, header, code in FENCE.findall(page.read_text(encoding="utf-8")):
        reason = re.search(r'data-not-run="([^"]+)"', header)
        if language in LANGUAGES:
            found.append(Block(page, language, code, reason[1] if reason else None))
    return found


BLOCKS = [block for page in PAGES for block in blocks_of(page)]
PAGES_TO_RUN = [page for page in PAGES if any(b.not_run is None for b in blocks_of(page))]


def name_of(page: Path) -> str:
    return page.relative_to(REPOSITORY).as_posix()


def test_nearly_every_snippet_is_run(capsys: pytest.CaptureFixture[str]) -> None:
    total = sum(len(block.snippets) for block in BLOCKS)
    left_out = [block for block in BLOCKS if block.not_run is not None]
    num_left_out = sum(len(block.snippets) for block in left_out)
    with capsys.disabled():
        print(f"\nsnippets of README and docs run: {total - num_left_out} of {total}")
        for block in left_out:
            print(f"  not {name_of(block.page)}: {len(block.snippets)}, {block.not_run}")
    assert total > 60
    assert num_left_out / total < 0.1


def test_every_fence_names_a_known_language() -> None:
    known = {*LANGUAGES, "text", "json"}
    for page in PAGES:
        opened = re.findall(r"^```(.*)$", page.read_text(encoding="utf-8"), re.MULTILINE)[::2]
        names = {header.split(" ")[0] for header in opened}
        assert names <= known, f"{name_of(page)}: {sorted(names - known)}"


def test_every_command_parses() -> None:
    lines = [(b.page, s) for b in BLOCKS if b.language == "bash" for s in b.snippets]
    for page, line in lines:
        words = shlex.split(line, comments=True)
        assert words[:2] == ["uv", "run"], f"{name_of(page)}: {line}"
        name = uv_for_tests.command_of(words[2:])
        if name is None:
            continue
        settings = cli._load(cli.COMMANDS[name].settings)
        start = words.index(name if name in words else "pretrain.py") + 1
        assert cli.parse(settings, words[start:], prog=f"{name_of(page)}: {line}") is not None


@pytest.fixture(scope="session")
def samples(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with every file that the documentation speaks of, and a small model."""
    folder = tmp_path_factory.mktemp("samples")
    sources = REPOSITORY / "data" / "samples"
    shutil.copytree(sources / "folder", folder / "my_texts")
    articles = (sources / "blank-lines.txt").read_text().strip().split("\n\n")
    for number, article in enumerate(articles):
        (folder / "my_texts" / f"article-{number}.txt").write_text(article)
    (folder / "chinese").mkdir()
    shutil.copy(sources / "chinese.txt", folder / "chinese")
    (folder / "more").mkdir()
    shutil.copy(sources / "articles.jsonl", folder / "more")
    (folder / "a.txt.gz").write_bytes(gzip.compress((sources / "blank-lines.txt").read_bytes()))
    sentences = [s + "." for a in articles for s in a.replace("\n", " ").split(".") if s.strip()]
    (folder / "unseen.txt").write_text("\n".join(sentences))
    (folder / "texts.txt").write_text("\n".join(sentences[:12]))
    (folder / "new.txt").write_text("\n".join(sentences[:4]))
    rows = [f"{text}\t{LABELS[i % 2]}" for i, text in enumerate(sentences)]
    for name, part in (("train.tsv", rows), ("dev.tsv", rows[:8])):
        (folder / name).write_text("\n".join(["text\tlabel", *part]))
    save_models(folder, [*sentences, (sources / "chinese.txt").read_text()])
    return folder


def save_models(folder: Path, texts: list[str]) -> None:
    """Write model/, and the same as an old folder with a pickle."""
    torch.manual_seed(0)
    tokenizer = train_tokenizer(texts, 700)
    config = BertConfig(
        vocab_size=tokenizer.get_vocab_size(),
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=64,
    )
    model = BertForPreTraining(config)
    model.save_pretrained(folder / "model", TokenizerFolder(tokenizer))
    old = folder / "old_folder"
    old.mkdir()
    torch.save(to_hf(model.state_dict(), config), old / "pytorch_model.bin")
    for name in ("config.json", "vocab.txt"):
        shutil.copy(folder / "model" / name, old)


def put_models(page: Path, folder: Path) -> None:
    """Give a page the models that it uses and does not train."""
    text = page.read_text(encoding="utf-8")
    trained = set(re.findall(r"--output-dir (runs/[\w-]+)", text))
    if re.search(r"^uv run pretrain\.py\s*(#|$)", text, re.MULTILINE):
        trained.add("runs/python-documentation-tiny")
    for run in set(re.findall(r"(runs/[\w-]+)/model", text)) - trained:
        shutil.copytree(folder / "model", folder / run / "model")


@pytest.mark.slow
@pytest.mark.parametrize("page", PAGES_TO_RUN, ids=name_of)
def test_snippets_of_page_run(page: Path, samples: Path, tmp_path: Path) -> None:
    folder = tmp_path / "place"
    shutil.copytree(samples, folder)
    put_models(page, folder)
    shim = tmp_path / "bin" / "uv"
    shim.parent.mkdir()
    shim.write_text(f'#!/bin/sh\nexec "{sys.executable}" "{SHIM}" "$@"\n')
    shim.chmod(shim.stat().st_mode | stat.S_IXUSR)
    environment = os.environ | {
        "PATH": f"{shim.parent}{os.pathsep}{os.environ['PATH']}",
        "PYTHONPATH": str(REPOSITORY),
        "OMP_NUM_THREADS": "1",
        "HF_HUB_OFFLINE": "1",
    }
    for block in blocks_of(page):
        if block.not_run is not None:
            continue
        for snippet in block.snippets:
            command = ["bash", "-c"] if block.language == "bash" else [sys.executable, "-c"]
            done = subprocess.run(
                [*command, snippet], cwd=folder, env=environment, capture_output=True, text=True
            )
            said = f"{done.stdout[-2000:]}\n{done.stderr[-3000:]}"
            assert done.returncode == 0, f"{name_of(page)}: {snippet}\n{said}"
