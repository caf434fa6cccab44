"""Stands in for `uv` while the commands of the documentation are run: `uv run COMMAND ...`.

The command runs in the Python at hand, as it is written, with flags behind it that only make it
shorter. It is called by bash through a file named uv that comes first in the PATH.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

REPOSITORY = Path(__file__).parents[2]
PROGRAMS = {
    "pretrain.py": [str(REPOSITORY / "pretrain.py")],
    "bert-scratch": ["-m", "bert_scratch"],
    "torchrun": ["-m", "torch.distributed.run"],
    "mkdocs": ["-m", "mkdocs"],
    "python": [],
}

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
    "pretrain": VOCABULARY | SHAPE | STEPS | {"--max-seq-length": "32"},
    "finetune": STEPS | {"--max-seq-length": "32"},
    "score": {"--num-lines": "30"},
    "mlm-report": {"--num-lines": "30"},
    "explain": {"--attribution-steps": "2"},
}


def command_of(words: list[str]) -> str | None:
    """Return which of our commands the words behind `uv run` call."""
    if words[0] == "pretrain.py":
        return "pretrain"
    if words[0] == "bert-scratch":
        return words[1]
    if words[0] == "torchrun":
        return words[words.index("bert_scratch") + 1]
    return None


def flags_behind(command: str | None, words: list[str]) -> list[str]:
    """Return the flags that make a command shorter and go with those it has."""
    flags = dict(SHORTER.get(command or "", {}))
    if "--data" in words or "--tokenizer" in words or "--init-checkpoint" in words:
        flags.pop("--vocab-size", None)
    if "--data" in words:
        flags.pop("--num-processes", None)
    if "--init-checkpoint" in words:
        flags = {name: value for name, value in flags.items() if name not in SHAPE}
    if "--extend" in words:
        flags["--num-train-steps"] = "6"
    return [part for pair in flags.items() for part in pair]


def main() -> int:
    run, *words = sys.argv[1:]
    assert run == "run", f"only `uv run` is known here, got uv {run}"
    if words[:2] == ["--group", "docs"]:
        words = [
            *words[2:],
            "--config-file",
            str(REPOSITORY / "mkdocs.yml"),
            "--site-dir",
            str(Path("site").absolute()),
        ]
    program, *arguments = words
    if program == "python":
        arguments[0] = str(REPOSITORY / arguments[0])
    command = [sys.executable, *PROGRAMS[program], *arguments]
    return subprocess.call([*command, *flags_behind(command_of(words), words)])


if __name__ == "__main__":
    sys.exit(main())
