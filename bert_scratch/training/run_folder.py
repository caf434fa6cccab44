"""The folder of a run: what was asked for, what came of it, how it ended, who is at work in it."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Set
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Generic, TypeVar

from filelock import FileLock, Timeout

from bert_scratch import durable
from bert_scratch.config import InputError, Settings, flag_of, make_output_folder, read_json_object

SettingsT = TypeVar("SettingsT", bound=Settings)


OnChange = Callable[[Path], object]
"""What wants to know, with the run's folder, that there is something new in it."""


def nobody(_: Path) -> None:
    """Be told and do nothing."""


class RunFolder(Generic[SettingsT]):
    """Paths and small files that every kind of run has."""

    def __init__(
        self,
        path: Path,
        *,
        settings: type[SettingsT],
        resolved_name: str,
        on_change: OnChange = nobody,
    ) -> None:
        """Name what lies where; nothing is made yet.

        Args:
            path: --output-dir.
            settings: the class of the run's settings.
            resolved_name: of the file with the settings as resolved.
            on_change: called with the path when the status changes.
        """
        self.path = path
        self.on_change = on_change
        self.checkpoints = path / "checkpoints"
        self.model = path / "model"
        self.metrics = path / "metrics.jsonl"
        self.asked = path / "asked_config.json"
        self._settings = settings
        self._resolved = path / resolved_name
        self._status = path / "status.json"

    def create(self) -> None:
        """Make the folder.

        Raises:
            InputError: if it cannot be made or written to, before any work is done.
        """
        make_output_folder(self.path)

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Keep other processes out of the folder inside the block, even when this one is killed.

        Half-written files of one that was killed before are removed.

        Raises:
            InputError: if another process is at work in it.
        """
        with alone_in(self.path):
            durable.remove_leftovers(self.path)
            yield

    def stored(self) -> SettingsT | None:
        """Return the resolved settings of the run that was started here, if one was."""
        if not self._resolved.exists():
            return None
        return self._settings.from_json_file(self._resolved)

    def store(self, asked: SettingsT, resolved: SettingsT) -> None:
        """Write both what was asked for and what came of it, durably."""
        durable.write_text(self.asked, asked.to_json())
        self.store_resolved(resolved)

    def store_resolved(self, resolved: SettingsT) -> None:
        """Write the resolved settings again: a time-limited run has fixed its length."""
        durable.write_text(self._resolved, resolved.to_json())

    def changes(self, asked: SettingsT, *, may_change: Set[str]) -> list[str]:
        """Return one line for each setting that differs from the stored run's and may not.

        A value counts as unchanged when it is what was asked for then, or what came of it; a path
        however it is spelled.

        Args:
            asked: the settings of this start.
            may_change: names of settings that a resumed run may change.
        """
        before = self._settings.from_json_file(self.asked).to_dict()
        resolved = self._settings.from_json_file(self._resolved).to_dict()
        lines = []
        for name, value in asked.to_dict().items():
            known = [before[name], *([] if value is None else [resolved[name]])]
            if name not in may_change and _unspelled(value) not in map(_unspelled, known):
                lines.append(f"{flag_of(name)}: was {_shown(before[name])}, now {_shown(value)}")
        return lines

    def write_status(self, state: str, *, code: int, step: int, message: str) -> None:
        """Write how the run stands: running, done, stopped, interrupted, lost or failed."""
        durable.write_json(
            self._status, {"state": state, "code": code, "step": step, "message": message}
        )
        self.on_change(self.path)

    def ended_well(self) -> bool:
        """Tell whether the run has ended well and its result is there."""
        if not self._status.exists() or not self.model.is_dir():
            return False
        return read_json_object(self._status).get("state") == "done"


@contextmanager
def alone_in(folder: Path) -> Iterator[None]:
    """Keep other processes out of a folder inside the block, even when this one is killed.

    Raises:
        InputError: if another process is at work in it.
    """
    lock = FileLock(folder / ".lock", timeout=0)
    try:
        lock.acquire()
    except Timeout as error:
        raise InputError(
            f"{folder}: another process is running in this folder; wait for it or give another "
            f"--output-dir"
        ) from error
    try:
        yield
    finally:
        lock.release()


def _unspelled(value: Any) -> Any:
    """Return a value with each path that is there in full: my_texts/ is ./my_texts."""
    if isinstance(value, list):
        return [_unspelled(item) for item in value]
    return os.path.abspath(value) if isinstance(value, str) and os.path.exists(value) else value


def _shown(value: Any) -> str:
    if value is None:
        return "left out"
    if isinstance(value, list):
        return " ".join(map(str, value)) or "left out"
    return str(value)
