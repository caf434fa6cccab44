"""The folder of a run: what lies where, what was asked for, and how the run ended."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from bert_scratch import durable
from bert_scratch.config import InputError, make_output_folder, read_json_object
from bert_scratch.pretraining.pretrain_config import HORIZON, MAY_CHANGE_ON_RESUME, PretrainConfig
from bert_scratch.training.checkpoint import checkpoint_folders
from bert_scratch.training.run_folder import OnChange, nobody


class RunFolder:
    """Paths and small files of one run; see docs/architecture.md for the whole layout."""

    def __init__(self, path: Path, on_change: OnChange = nobody) -> None:
        self.path = path
        self.on_change = on_change
        self.corpus = path / "corpus"
        self.tokenizer = path / "tokenizer"
        self.checkpoints = path / "checkpoints"
        self.model = path / "model"
        self.best = path / "best"
        self.rehearsal = path / "rehearsal"
        self.metrics = path / "metrics.jsonl"
        self.fill_ins = path / "fill_ins.jsonl"
        self.profile = path / "profile.json.gz"
        self.corpus_facts = path / "corpus.json"
        self._resolved = path / "pretrain_config.json"
        self.asked = path / "asked_config.json"
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

    def stored(self) -> PretrainConfig | None:
        """Return the resolved settings of the run that was started here, if one was."""
        if not self._resolved.exists():
            return None
        return PretrainConfig.from_json_file(self._resolved)

    def store(self, asked: PretrainConfig, resolved: PretrainConfig) -> None:
        """Write both what was asked for and what came of it, durably."""
        durable.write_text(self.asked, asked.to_json())
        self.store_resolved(resolved)

    def store_resolved(self, resolved: PretrainConfig) -> None:
        """Write the resolved settings again: a time-limited run has fixed its length."""
        durable.write_text(self._resolved, resolved.to_json())

    def changes(self, asked: PretrainConfig) -> list[str]:
        """Return one line for each setting that differs from the stored run's and may not.

        A value counts as unchanged when it is what was asked for then, or what came of it.
        """
        before = PretrainConfig.from_json_file(self.asked).to_dict()
        resolved = PretrainConfig.from_json_file(self._resolved).to_dict()
        may_change = MAY_CHANGE_ON_RESUME | (HORIZON if asked.extend else set())
        lines = []
        for name, value in asked.to_dict().items():
            same = value == before[name] or (value is not None and value == resolved[name])
            if name not in may_change and not same:
                flag = "--" + name.replace("_", "-")
                lines.append(f"{flag}: was {_shown(before[name])}, now {_shown(value)}")
        return lines

    def write_status(self, state: str, *, code: int, step: int, message: str) -> None:
        """Write how the run stands: running, done, stopped, failed."""
        durable.write_json(
            self._status, {"state": state, "code": code, "step": step, "message": message}
        )
        self.on_change(self.path)

    def write_end(self, state: str, *, code: int, message: str) -> None:
        """Write how the run ended, at the step of the status before."""
        step = read_json_object(self._status)["step"] if self._status.exists() else 0
        self.write_status(state, code=code, step=step, message=message)

    def status(self) -> tuple[str, int, str]:
        """Return state, exit code and message as last written; "new" for a run without any."""
        if not self._status.exists():
            return "new", 0, ""
        status = read_json_object(self._status)
        return status["state"], status["code"], status["message"]

    def is_done(self, num_train_steps: int | None) -> bool:
        """Tell whether a run of so many steps has ended well and its result is there."""
        if not self._status.exists() or not self.model.is_dir():
            return False
        status = read_json_object(self._status)
        return status.get("state") == "done" and status.get("step") == num_train_steps

    def newest_model(self) -> Path:
        """Return the result, or the newest checkpoint of a run that has none yet."""
        checkpoints = checkpoint_folders(self.checkpoints)
        return self.model if self.model.is_dir() or not checkpoints else checkpoints[-1]


def _shown(value: Any) -> str:
    if value is None:
        return "left out"
    if isinstance(value, list):
        return " ".join(map(str, value)) or "left out"
    return str(value)
