"""Send the curves of a run to TensorBoard, Weights & Biases or trackio during training.

All use the same names: `train/loss`, `eval/mlm_loss`, `train/grad_norm/embeddings`. A resumed run
continues its curves.
"""

from __future__ import annotations

import importlib
import sys
import uuid
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, Protocol

from bert_scratch import durable
from bert_scratch.config import InputError
from bert_scratch.extras import import_extra

PROJECT = "bert-scratch"
_ID_FILE = "tracking_id.txt"


class Writer(Protocol):
    """An outside destination for curves."""

    def write(self, step: int, values: dict[str, float]) -> None:
        """Add one point to each named curve."""

    def close(self) -> None:
        """Send what is still pending."""


class TensorBoardWriter:
    """Event files in the run's folder: `tensorboard --logdir FOLDER` shows them."""

    def __init__(self, folder: Path, settings: Mapping[str, Any], *, first_step: int) -> None:
        from torch.utils.tensorboard import SummaryWriter

        # Hides what an earlier process wrote after the step this one starts from.
        self._events = SummaryWriter(str(folder / "tensorboard"), purge_step=first_step + 1)

    def write(self, step: int, values: dict[str, float]) -> None:
        """Add one point to each curve."""
        for name, value in values.items():
            self._events.add_scalar(name, value, step)
        self._events.flush()

    def close(self) -> None:
        """Close the file."""
        self._events.close()


class WandbWriter:
    """A run of the project bert-scratch at Weights & Biases, or on this disk if offline."""

    def __init__(self, folder: Path, settings: Mapping[str, Any], *, first_step: int) -> None:
        wandb = _import_tracker("wandb")
        self._run = wandb.init(
            project=PROJECT,
            name=folder.resolve().name,
            id=_tracking_id(folder),
            resume="allow",
            dir=str(folder),
            config=dict(settings),
        )
        # Use our own steps: W&B's only grow, but a resumed run repeats those since its checkpoint.
        self._run.define_metric("step")
        self._run.define_metric("*", step_metric="step")

    def write(self, step: int, values: dict[str, float]) -> None:
        """Add one point to each curve."""
        self._run.log({**values, "step": step})

    def close(self) -> None:
        """Wait until everything is sent."""
        self._run.finish()


class TrackioWriter:
    """A run of the project bert-scratch in trackio, which keeps it on this machine."""

    def __init__(self, folder: Path, settings: Mapping[str, Any], *, first_step: int) -> None:
        self._trackio = _import_tracker("trackio")
        # trackio identifies a run by its name, so no two runs may share one.
        name = f"{folder.resolve().name}-{_tracking_id(folder)[:8]}"
        self._trackio.init(project=PROJECT, name=name, config=dict(settings), resume="allow")

    def write(self, step: int, values: dict[str, float]) -> None:
        """Add one point to each curve."""
        self._trackio.log(values, step=step)

    def close(self) -> None:
        """Wait until everything is stored."""
        self._trackio.finish()


WRITERS: dict[str, Callable[..., Writer]] = {
    "tensorboard": TensorBoardWriter,
    "wandb": WandbWriter,
    "trackio": TrackioWriter,
}


def check_writers_installed(names: Iterable[str]) -> None:
    """Refuse, before any work, writers whose package is missing.

    Raises:
        InputError: saying how to install it.
    """
    for name in names:
        if name == "tensorboard":
            import_extra("tensorboard", "--report-to tensorboard", "tensorboard")
        else:
            _import_tracker(name)


class Writers:
    """Several writers at once; one that fails is reported and dropped, and the run continues."""

    def __init__(
        self, names: Iterable[str], folder: Path, settings: Mapping[str, Any], *, first_step: int
    ) -> None:
        """Open the writers.

        Args:
            names: of `WRITERS`.
            folder: of the run.
            settings: the resolved settings, shown beside the curves.
            first_step: updates made before; a resumed run continues from there.
        """
        self._open: dict[str, Writer] = {}
        for name in dict.fromkeys(names):
            make = WRITERS[name]
            try:
                self._open[name] = make(folder, settings, first_step=first_step)
            except Exception as error:
                _warn(name, error)

    def write(self, line: Mapping[str, Any]) -> None:
        """Send one line of metrics.jsonl, prefixing names with its split."""
        values = {
            f"{line['split']}/{name}": value
            for name, value in line.items()
            if name not in ("step", "split")
        }
        self._each(lambda writer: writer.write(line["step"], values))

    def close(self) -> None:
        """Close all."""
        self._each(lambda writer: writer.close())
        self._open.clear()

    def _each(self, do: Callable[[Writer], None]) -> None:
        for name, writer in list(self._open.items()):
            try:
                do(writer)
            except Exception as error:
                del self._open[name]
                _warn(name, error)


def _warn(name: str, error: Exception) -> None:
    reason = str(error) or type(error).__name__
    print(f"warning    {name} gets no more curves; the run continues: {reason}", file=sys.stderr)


def _import_tracker(name: str) -> Any:
    """Import a package that none of our extras installs.

    Raises:
        InputError: with the command that installs it.
    """
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        raise InputError(f"--report-to {name} needs {name}: pip install {name}") from error


def _tracking_id(folder: Path) -> str:
    """Return the id under which trackers know the run in a folder, created on first use."""
    path = folder / _ID_FILE
    if not path.exists():
        durable.write_text(path, uuid.uuid4().hex + "\n")
    return path.read_text(encoding="utf-8").strip()
