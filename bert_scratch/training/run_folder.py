"""The folder of a run: what was asked for, what came of it, how it ended, who is at work in it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Set
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Generic, TypeVar

from filelock import FileLock, Timeout

from bert_scratch import durable
from bert_scratch.config import InputError, Settings, make_output_folder, read_json_object

SettingsT = TypeVar("SettingsT", bound=Settings)


OnChange = Callable[[Path], object]
"""What wants to know, with the run's folder, that there is something new in it."""


def nobody(_: Path) -> None:
    """Be told and do nothing."""


class RunFolder(Generic[SettingsT]):
    """Paths and small files that every kind of run has.

    Args:
        path: --output-dir; made here.
        settings: the class of the run's settings.
        resolved_name: of the file with the settings as resolved.
        may_change: settings that change nothing about the result, so that a resumed run may be
            given others.
        on_change: called with the path when the status changes.

    Raises:
        InputError: if the folder cannot be made or written to, before any work is done.
    """

    def __init__(
        self,
        path: Path,
        *,
        settings: type[SettingsT],
        resolved_name: str,
        may_change: Set[str],
        on_change: OnChange = nobody,
    ) -> None:
        make_output_folder(path)
        self.path = path
        self.on_change = on_change
        self.checkpoints = path / "checkpoints"
        self.model = path / "model"
        self.metrics = path / "metrics.jsonl"
        self._settings = settings
        self._may_change = may_change
        self._resolved = path / resolved_name
        self._asked = path / "asked_config.json"
        self._status = path / "status.json"

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Keep other processes out of the folder inside the block, even when this one is killed.

        Raises:
            InputError: if another process is at work in it.
        """
        lock = FileLock(self.path / ".lock", timeout=0)
        try:
            lock.acquire()
        except Timeout as error:
            raise InputError(
                f"{self.path}: another process is running in this folder; wait for it or give "
                f"another --output-dir"
            ) from error
        try:
            yield
        finally:
            lock.release()

    def stored(self) -> SettingsT | None:
        """Return the resolved settings of the run that was started here, if one was."""
        if not self._resolved.exists():
            return None
        return self._settings.from_json_file(self._resolved)

    def store(self, asked: SettingsT, resolved: SettingsT) -> None:
        """Write both what was asked for and what came of it, durably."""
        durable.write_text(self._asked, asked.to_json())
        durable.write_text(self._resolved, resolved.to_json())

    def check_unchanged(self, asked: SettingsT) -> None:
        """Refuse settings that differ from the stored run's.

        A value counts as unchanged when it is what was asked for then, or what came of it.

        Raises:
            InputError: naming each setting with what it was and is.
        """
        before = self._settings.from_json_file(self._asked).to_dict()
        resolved = read_json_object(self._resolved)
        lines = []
        for name, value in asked.to_dict().items():
            same = value == before[name] or (value is not None and value == resolved[name])
            if name not in self._may_change and not same:
                flag = "--" + name.replace("_", "-")
                lines.append(f"{flag}: was {_shown(before[name])}, now {_shown(value)}")
        if lines:
            listing = "\n  ".join(lines)
            raise InputError(
                f"{self.path} holds a run with other settings:\n  {listing}\n"
                f"Go on with the settings it has, or start a new run in another --output-dir"
            )

    def write_status(self, state: str, *, code: int, step: int, message: str) -> None:
        """Write how the run stands: running, done, stopped, failed."""
        durable.write_json(
            self._status, {"state": state, "code": code, "step": step, "message": message}
        )
        self.on_change(self.path)

    def is_done(self) -> bool:
        """Tell whether the run has ended well and its result is there."""
        if not self._status.exists() or not self.model.is_dir():
            return False
        return read_json_object(self._status).get("state") == "done"


def _shown(value: Any) -> str:
    if value is None:
        return "left out"
    if isinstance(value, list):
        return " ".join(map(str, value)) or "left out"
    return str(value)
