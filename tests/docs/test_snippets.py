"""Pins that what README and docs say can be typed in: every command and every Python snippet runs.

The blocks of a page are run in order, in a folder with sample texts, with flags behind a command
that only make it shorter (`SHORTER`). Commands run in this process, through the same parser, which
saves the start of torch for each; those that are other programs run on their own. A block that
cannot run says why in its first line (```bash title="not run by a test: it runs this test").
Run alone: `pytest -m slow tests/docs/test_snippets.py`.
"""

from __future__ import annotations

import gzip
import os
import re
import runpy
import shlex
import shutil
import subprocess
import sys
import warnings
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch

from bert_scratch import cli
from bert_scratch.commands import COMMANDS
from bert_scratch.config import BertConfig
from bert_scratch.data.vocabulary import train_tokenizer
from bert_scratch.data.wordpiece import TokenizerFolder
from bert_scratch.model.heads import BertForPreTraining
from bert_scratch.model.huggingface import to_hf

REPOSITORY = Path(__file__).parents[2]
PAGES = [REPOSITORY / "README.md", *sorted((REPOSITORY / "docs").rglob("*.md"))]
LANGUAGES = ("bash", "python")
FENCE = re.compile(r"^```(\S+)([^\n]*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
NOT_RUN = re.compile(r'title="not run by a test: ([^"]+)"')
LABELS = ("water", "town")
HUB_IDS = ("google-bert/bert-base-uncased", "bert-base-uncased")
"""Names of a hub; a folder of that name is a model of ours."""

# What makes each command shorter; the last of two equal flags counts.
VOCABULARY = {"--vocab-size": "700", "--num-processes": "1"}
SHAPE = {
    "--hidden-size": "32",
    "--num-hidden-layers": "2",
    "--num-attention-heads": "2",
    "--intermediate-size": "64",
}
STEPS = {"--num-train-steps": "4", "--train-batch-size": "8", "--num-threads": "1"}
SHORTER: dict[str, dict[str, str]] = {
    "prepare": VOCABULARY,
    "corpus-report": VOCABULARY,
    "plan": VOCABULARY | {"--num-threads": "1"},
    "pretrain": VOCABULARY | SHAPE | STEPS | {"--max-seq-length": "32"},
    "finetune": STEPS | {"--max-seq-length": "32"},
    "score": {"--num-lines": "20"},
    "mlm-report": {"--num-lines": "20"},
    "explain": {"--attribution-steps": "2"},
}
TWO_PROCESSES = ["--nnodes", "1", "--nproc-per-node", "2"]
ENVIRONMENT = os.environ | {"PYTHONPATH": str(REPOSITORY)}


@dataclass(frozen=True)
class Command:
    """What stands behind `uv run` in a line."""

    words: list[str]

    @classmethod
    def of(cls, line: str) -> Command:
        uv, run, *words = shlex.split(line, comments=True)
        assert (uv, run) == ("uv", "run"), line
        return cls(words)

    @property
    def name(self) -> str | None:
        """Which of our commands it is; None for an example's script."""
        program, *rest = self.words
        known = {"pretrain.py": "pretrain", "bert-scratch": rest[0] if rest else None}
        if program == "torchrun":
            return rest[rest.index("bert_scratch") + 1]
        return known.get(program)

    @property
    def arguments(self) -> list[str]:
        """The flags of our command."""
        last = self.name if self.name in self.words else self.words[0]
        return self.words[self.words.index(str(last)) + 1 :]

    @property
    def shorter(self) -> list[str]:
        """Flags that make it shorter and go with those it has."""
        flags = dict(SHORTER.get(self.name or "", {}))
        if {"--data", "--tokenizer", "--init-checkpoint"} & set(self.words):
            flags.pop("--vocab-size", None)
        if "--data" in self.words:
            flags.pop("--num-processes", None)
        if "--init-checkpoint" in self.words:
            flags = {name: value for name, value in flags.items() if name not in SHAPE}
        if "--extend" in self.words:
            flags["--num-train-steps"] = "6"
        return [part for pair in flags.items() for part in pair]

    def run(self, folder: Path) -> int:
        """Run it in a folder, the current one, and return its exit code."""
        program, *rest = self.words
        if program in ("pretrain.py", "bert-scratch"):
            return cli.run_command(str(self.name), [*self.arguments, *self.shorter])
        if program == "python":
            script = [str(REPOSITORY / rest[0]), *rest[1:]]
        else:
            at = rest.index("-m")
            if "HOST:29400" in rest:
                rest[rest.index("HOST:29400")] = "127.0.0.1:0"
            launched = [*rest[:at], *TWO_PROCESSES, *rest[at:]]
            script = ["-m", "torch.distributed.run", *launched, *self.shorter]
        return subprocess.call([sys.executable, *script], cwd=folder, env=ENVIRONMENT)


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
        reason = NOT_RUN.search(header)
        if language in LANGUAGES:
            found.append(Block(page, language, code, reason[1] if reason else None))
    return found


BLOCKS = [block for page in PAGES for block in blocks_of(page)]
PAGES_TO_RUN = [page for page in PAGES if any(b.not_run is None for b in blocks_of(page))]


def name_of(page: Path) -> str:
    return page.relative_to(REPOSITORY).as_posix()


def test_every_snippet_is_run_but_those_that_other_tests_run() -> None:
    assert sum(len(block.snippets) for block in BLOCKS) > 100
    left_out = [snippet for block in BLOCKS if block.not_run for snippet in block.snippets]
    assert len(left_out) == 3
    for snippet in left_out:
        assert snippet.startswith(("uv run pytest", "uv run bert-scratch explore")), snippet


def test_every_fence_names_a_known_language() -> None:
    known = {*LANGUAGES, "text", "json"}
    for page in PAGES:
        opened = re.findall(r"^```(.*)$", page.read_text(encoding="utf-8"), re.MULTILINE)[::2]
        names = {header.split(" ")[0] for header in opened}
        assert names <= known, f"{name_of(page)}: {sorted(names - known)}"


def test_every_command_parses() -> None:
    for block in BLOCKS:
        for line in block.snippets if block.language == "bash" else []:
            command = Command.of(line)
            if command.name is None:
                continue
            settings = cli._load(COMMANDS[command.name].settings)
            where = f"{name_of(block.page)}: {line}"
            assert cli.parse(settings, command.arguments, prog=where) is not None


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
    (folder / "words.txt").write_text("aqueduct\nwatermill\n")
    rows = [f"{text}\t{LABELS[i % 2]}" for i, text in enumerate(sentences)]
    for name, part in (("train.tsv", rows * 2), ("dev.tsv", rows[:8])):
        (folder / name).write_text("\n".join(["text\tlabel", *part]))
    save_models(folder, [*sentences, (sources / "chinese.txt").read_text()])
    return folder


@pytest.fixture(scope="session")
def built_in_corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder data/: a small model, and where the text every Python brings along is cached."""
    folder = tmp_path_factory.mktemp("data")
    shutil.copytree(REPOSITORY / "data" / "checkpoint", folder / "checkpoint")
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
    for name in HUB_IDS:
        shutil.copytree(folder / "model", folder / name)


@pytest.mark.slow
@pytest.mark.parametrize("page", PAGES_TO_RUN, ids=name_of)
def test_snippets_of_page_run(
    page: Path,
    samples: Path,
    built_in_corpus: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    folder = tmp_path / "place"
    shutil.copytree(samples, folder)
    put_models(page, folder)
    (folder / "data").symlink_to(built_in_corpus)  # gathered once for all pages
    (folder / "examples").symlink_to(REPOSITORY / "examples")
    monkeypatch.chdir(folder)
    for block in blocks_of(page):
        if block.not_run is not None:
            continue
        for snippet in block.snippets:
            with warnings.catch_warnings():
                warnings.simplefilter("default")  # a reader's Python does not stop at warnings
                if block.language == "python":
                    (folder / "snippet.py").write_text(snippet, encoding="utf-8")
                    runpy.run_path("snippet.py")
                    continue
                code = Command.of(snippet).run(folder)
            said = capfd.readouterr()
            assert code == 0, f"{name_of(page)}: {snippet}\n{said.out[-2000:]}\n{said.err[-2000:]}"
