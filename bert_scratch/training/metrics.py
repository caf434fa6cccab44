"""What a run reports while training: `metrics.jsonl`, and lines or a bar on the terminal."""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Collection
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tqdm import tqdm

from bert_scratch.durable import write_text
from bert_scratch.training.writers import Writers


@dataclass
class LogWindow:
    """Sums since the last log line; saved in checkpoints, so resuming skips nothing."""

    sums: list[float] = field(default_factory=list)
    """Sums in the order of the objective's `sum_names`; empty before the first step."""
    steps: int = 0
    tokens: int = 0
    positions: int = 0
    """Positions the model computed: tokens and padding."""
    step_s: float = 0.0
    """Time of the steps, including waiting for data but not evaluation and saving."""
    data_wait_s: float = 0.0

    def add(self, sums: list[float]) -> None:
        """Add one step's sums."""
        before = self.sums or [0.0] * len(sums)
        self.sums = [total + value for total, value in zip(before, sums, strict=True)]
        self.steps += 1

    @property
    def padding_fraction(self) -> float:
        """Share of the computed positions that held padding."""
        # an older checkpoint's window did not count positions
        return max(0, self.positions - self.tokens) / max(1, self.positions)


class MetricsLog:
    """An append-only file of JSON lines, flushed line by line; absent values are omitted."""

    def __init__(
        self, path: Path | None, *, keep_through_step: int, writers: Writers | None = None
    ) -> None:
        """Open the log, cutting lines past the step a resumed run starts from.

        Args:
            path: the `metrics.jsonl` of the run; None on the ranks that write nothing.
            keep_through_step: lines of later steps, and a truncated last line, are removed.
            writers: receive each line too.
        """
        self.path, self.writers = path, writers
        if path is None:
            return
        kept = []
        # A kill may also have cut a character in half.
        text = path.read_text(encoding="utf-8", errors="replace") if path.exists() else ""
        for line in text.split("\n"):
            try:
                if json.loads(line)["step"] <= keep_through_step:
                    kept.append(line + "\n")
            except (ValueError, KeyError, TypeError):
                continue
        write_text(path, "".join(kept))

    def evaluations(self) -> list[dict[str, float]]:
        """Return the evaluation lines, oldest first."""
        text = "" if self.path is None else self.path.read_text(encoding="utf-8")
        lines = map(json.loads, filter(None, text.split("\n")))
        return [line for line in lines if line["split"] == "eval"]

    def append(self, *, step: int, split: str, **values: float | int | None) -> None:
        """Add one line; values that are None or not finite are left out."""
        line: dict[str, Any] = {"step": step, "split": split}
        for name, value in values.items():
            if value is not None and math.isfinite(value):
                line[name] = value if isinstance(value, int) else float(f"{value:.7g}")
        self.append_line(line)
        if self.writers is not None:
            self.writers.write(line)

    def append_line(self, line: dict[str, Any]) -> None:
        """Add one line of JSON values, which includes its step."""
        if self.path is None:
            return
        with self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(line, ensure_ascii=False) + "\n")

    def close(self) -> None:
        """Close the writers; the file is closed after each line."""
        if self.writers is not None:
            self.writers.close()


class Display:
    """A tqdm bar on a terminal, plain lines otherwise; both show the same figures.

    Args:
        first_step: updates made before.
        has_bar: False on ranks that show nothing.
    """

    def __init__(self, *, first_step: int, has_bar: bool = True) -> None:
        self.bar: tqdm | None = None
        if has_bar and sys.stderr.isatty():
            self.bar = tqdm(initial=first_step, unit="step", dynamic_ncols=True)

    def advance(self, step: int, num_train_steps: int | None) -> None:
        """Move the bar to the number of updates made."""
        if self.bar is not None:
            self.bar.total = num_train_steps
            self.bar.update(step - self.bar.n)

    def line(self, text: str) -> None:
        """Print one line above the bar, or plainly."""
        if self.bar is not None:
            self.bar.write(text)
        else:
            print(text, flush=True)

    def close(self) -> None:
        """Finish the bar."""
        if self.bar is not None:
            self.bar.close()


def describe(step: int, num_train_steps: int | None, values: dict[str, float]) -> str:
    """Return one human-readable line of the training log.

    Args:
        step: updates made.
        num_train_steps: of the whole run, if known.
        values: as in the log; the total loss is left out if it is split into parts.
    """
    width = len(str(num_train_steps or 99999))
    of = f"/{num_train_steps}" if num_train_steps else ""
    parts = [f"step {step:>{width}}{of}"]
    names = [name for name in values if name not in _NOT_DESCRIBED and "/" not in name]
    if "loss" in names and is_split(names):
        names.remove("loss")
    for name in names:
        part = name.removesuffix("_accuracy")  # shown after the loss of the same part
        short = "acc" if f"{part}_loss" in names else name.removesuffix("_loss")
        parts.append(f"{short} {values[name]:.3f}")
    if "learning_rate" in values:
        parts.append(f"lr {values['learning_rate']:.2e}")
    if "tokens_per_s" in values:
        parts.append(f"{values['tokens_per_s']:,.0f} tokens/s")
    if "eta_s" in values:
        parts.append(f"{duration(values['eta_s'])} left")
    return "  ".join(parts)


def is_split(names: Collection[str]) -> bool:
    """Tell whether losses are parts of the total loss, and not only stand beside it.

    Parts have accuracies; the masked-token loss beside that of a task has none.

    Args:
        names: of the values in the log.
    """
    return any(
        f"{name.removesuffix('_loss')}_accuracy" in names for name in names if "_loss" in name
    )


_NOT_DESCRIBED = frozenset(
    {
        "learning_rate",
        "grad_norm",
        "tokens_per_s",
        "data_wait_fraction",
        "padding_fraction",
        "eta_s",
    }
)


def duration(seconds: float) -> str:
    """Format seconds as 45 s, 3 min 20 s or 2 h 05 min."""
    whole = max(0, round(seconds))
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"
