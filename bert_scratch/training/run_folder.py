"""The folder of a run: its requested and resolved settings, its status, and its lock."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Set
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Generic, TypeVar

from filelock import FileLock, Timeout

from bert_scratch import durable
from bert_scratch.config import InputError, Settings, flag_of, read_json_object
from bert_scratch.output_places import make_output_folder

SettingsT = TypeVar("SettingsT", bound=Settings)


OnChange = Callable[[Path], object]
"""Called with the run's folder when there is something new in it."""


def nobody(_: Path) -> None:
    """Ignore the change."""


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
        """Name the files and folders; nothing is created yet.

        Args:
            path: --output-dir.
            settings: the class of the run's settings.
            resolved_name: name of the file with the resolved settings.
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
        """Create the folder.

        Raises:
            InputError: if it cannot be created or written to, before any work is done.
        """
        make_output_folder(self.path)

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Lock the folder inside the block; the lock ends with the process, even if killed.

        Half-written files of an earlier, killed process are removed.

        Raises:
            InputError: if another process is at work in it.
        """
        with alone_in(self.path):
            durable.remove_leftovers(self.path)
            yield

    def stored(self) -> SettingsT | None:
        """Return the resolved settings of the run started here, if any."""
        if not self._resolved.exists():
            return None
        return self._settings.from_json_file(self._resolved)

    def store(self, asked: SettingsT, resolved: SettingsT) -> None:
        """Write both the requested and the resolved settings, durably."""
        durable.write_text(self.asked, asked.to_json())
        self.store_resolved(resolved)

    def store_resolved(self, resolved: SettingsT) -> None:
        """Write the resolved settings again, once a time-limited run has fixed its length."""
        durable.write_text(self._resolved, resolved.to_json())

    def changes(self, asked: SettingsT, *, may_change: Set[str]) -> list[str]:
        """Return one line for each setting that differs from the stored run but may not.

        A value counts as unchanged if it equals the requested or the resolved one; a path may be
        spelled differently.

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
        """Write the run's status: running, done, stopped, interrupted, lost or failed."""
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
    """Lock a folder inside the block; the lock ends with the process, even if killed.

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
    """Return a value with existing paths made absolute, so my_texts/ equals ./my_texts."""
    if isinstance(value, list):
        return [_unspelled(item) for item in value]
    return os.path.abspath(value) if isinstance(value, str) and os.path.exists(value) else value


def _shown(value: Any) -> str:
    if value is None:
        return "left out"
    if isinstance(value, list):
        return " ".join(map(str, value)) or "left out"
    return str(value)
