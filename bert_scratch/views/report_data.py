"""A run as read from its folder for a report, and the figures worth showing first."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bert_scratch.config import InputError, read_json_object
from bert_scratch.finetuning.mistakes import MISTAKES
from bert_scratch.training.checkpoint import STATE, checkpoint_folders
from bert_scratch.training.metrics import duration, is_split

METRICS = "metrics.jsonl"
PRETRAINING = "Pretraining"
_SETTINGS = {
    "pretrain_config.json": PRETRAINING,
    "finetune_config.json": "Fine-tuning",
}

Line = dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class RunRecord:
    """The contents of a run's files, whether it is running, done or stopped."""

    name: str
    """The folder's name, or its path if several runs with equal names are shown."""
    path: Path
    kind: str
    """Pretraining or Fine-tuning."""
    state: str
    """running, done, stopped, interrupted, lost or failed."""
    message: str
    """What the run said when it ended."""
    settings: dict[str, Any]
    facts: dict[str, Any]
    """Facts of the corpus; empty for fine-tuning."""
    train: list[Line]
    """The train lines of metrics.jsonl, oldest first."""
    held_out: list[Line]
    """The eval lines, all over the same examples."""
    final: Line | None
    """The eval line over all held-out examples, which ends a pretraining run."""
    fill_ins: list[Line]
    mistakes: dict[str, Any]
    """Mistakes of a finished classifier; empty for other runs."""
    checkpoints: list[tuple[int, int]]
    """(step, bytes) of each existing checkpoint."""
    versions: dict[str, str]

    @property
    def step(self) -> int:
        """Updates made, according to the log."""
        return max((int(line["step"]) for line in (*self.train, *self.held_out)), default=0)

    @property
    def last_evaluation(self) -> Line:
        """The final evaluation, else the newest one; empty before the first."""
        return self.final or (self.held_out[-1] if self.held_out else {})

    def curve(self, split: str, name: str) -> list[tuple[int, float]]:
        """Return (step, value) of each line that has the value."""
        lines = self.train if split == "train" else self.held_out
        return [(int(line["step"]), float(line[name])) for line in lines if name in line]


def read_runs(paths: Sequence[Path]) -> list[RunRecord]:
    """Read the folders of runs.

    Raises:
        InputError: if one holds no run, or a file of it cannot be read.
    """
    names = [path.resolve().name for path in paths]
    if len(set(names)) < len(names):
        names = [str(path) for path in paths]
    return [read_run(path, name) for path, name in zip(paths, names, strict=True)]


def read_run(path: Path, name: str) -> RunRecord:
    """Read the folder of one run.

    Args:
        path: of the folder.
        name: the name to show.

    Raises:
        InputError: if it holds no run, or a file of it cannot be read.
    """
    config = next((path / file for file in _SETTINGS if (path / file).is_file()), None)
    if config is None or not (path / METRICS).is_file():
        raise _no_run(path)
    lines = read_lines(path / METRICS)
    held_out = [line for line in lines if line.get("split") == "eval"]
    checkpoints = checkpoint_folders(path / "checkpoints")
    status = _object(path / "status.json")
    return RunRecord(
        name=name,
        path=path,
        kind=_SETTINGS[config.name],
        state=str(status.get("state", "running")),
        message=str(status.get("message", "")),
        settings=read_json_object(config),
        facts=_object(path / "corpus.json"),
        train=[line for line in lines if line.get("split") == "train"],
        held_out=[line for line in held_out if "unigram_loss" not in line],
        final=_of_the_end(held_out),
        fill_ins=read_lines(path / "fill_ins.jsonl"),
        mistakes=_object(path / MISTAKES),
        checkpoints=[(_step(folder), _size(folder)) for folder in checkpoints],
        versions=_versions(path, checkpoints),
    )


def _of_the_end(held_out: list[Line]) -> Line | None:
    """Return the evaluation of all held-out examples at a run's end, unless it has continued."""
    is_end = bool(held_out) and "unigram_loss" in held_out[-1]
    return held_out[-1] if is_end else None


def read_lines(path: Path) -> list[Line]:
    """Return the objects of a file of JSON lines; none if the file does not exist.

    A truncated last line is left out.

    Raises:
        InputError: if another line is not a JSON object with a step.
    """
    if not path.is_file():
        return []
    text = path.read_text(encoding="utf-8", errors="replace")
    texts = text.removesuffix("\n").split("\n") if text else []
    lines = []
    for number, text in enumerate(texts, start=1):
        try:
            line = json.loads(text)
            int(line["step"])
        except (ValueError, KeyError, TypeError) as error:
            if number == len(texts):
                break
            raise InputError(f"{path}:{number}: no JSON object with a step") from error
        lines.append(line)
    return lines


def _no_run(path: Path) -> InputError:
    if not path.is_dir():
        return InputError(f"--run {path}: there is no such folder")
    below = sorted(file.parent for file in path.glob(f"*/{METRICS}"))
    hint = f"; there are runs below it: --run {' '.join(map(str, below))}" if below else ""
    return InputError(
        f"--run {path}: holds no run of pretrain or finetune (no settings or no {METRICS}){hint}"
    )


def _object(path: Path) -> dict[str, Any]:
    return read_json_object(path) if path.is_file() else {}


def _step(checkpoint: Path) -> int:
    return int(checkpoint.name.rpartition("-")[2])


def _size(folder: Path) -> int:
    return sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())


def _versions(path: Path, checkpoints: Sequence[Path]) -> dict[str, str]:
    """Return the versions named in the results or the newest checkpoint."""
    places = [path / "results.json", *(folder / STATE for folder in reversed(checkpoints))]
    found = next((place for place in places if place.is_file()), None)
    versions = {} if found is None else read_json_object(found).get("versions", {})
    return {str(name): str(version) for name, version in versions.items()}


def figures(run: RunRecord) -> dict[str, str]:
    """Return the figures worth showing first, by name, as text."""
    trained = run.train[-1] if run.train else {}
    total = run.settings.get("num_train_steps")
    found = {"steps": f"{run.step:,}" + (f" of {total:,}" if total and total > run.step else "")}
    if "tokens" in trained:
        found["tokens"] = f"{trained['tokens'] / 1e6:,.2f} million"
    lines = (*run.train, *run.held_out)
    found["training time"] = duration(max((line.get("elapsed_s", 0) for line in lines), default=0))
    last = run.last_evaluation
    parts = {"loss"} if is_split(last) else set()
    for name, value in last.items():
        if name not in _NO_RESULTS | parts:
            found[f"held-out {measure(name)}"] = (
                f"{value:.1%}" if name.endswith("accuracy") else f"{value:.4g}"
            )
    for name in ("tokens_per_s", "mfu", "data_wait_fraction", "padding_fraction"):
        values = [line[name] for line in run.train if name in line]
        if values:
            mean = sum(values) / len(values)
            found[measure(name)] = f"{mean:,.0f}" if name == "tokens_per_s" else f"{mean:.1%}"
    return found


_NO_RESULTS = frozenset({"step", "split", "tokens", "elapsed_s", "unigram_loss", "uniform_loss"})
_MEASURES = {
    "mlm_loss": "masked-token loss",
    "nsp_loss": "pair loss",
    "mlm_accuracy": "masked-token accuracy",
    "nsp_accuracy": "pair accuracy",
    "matthews_corrcoef": "Matthews correlation",
    "learning_rate": "learning rate",
    "grad_norm": "gradient norm",
    "tokens_per_s": "tokens per second",
    "mfu": "share of peak speed (MFU)",
    "data_wait_fraction": "waiting for data",
    "padding_fraction": "padding",
}


def measure(name: str) -> str:
    """Return a metric's name in words."""
    return _MEASURES.get(name, name.replace("_", " "))
