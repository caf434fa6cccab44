"""The folder of a pretraining run, with what it has beyond any run's folder."""

from __future__ import annotations

from pathlib import Path

from bert_scratch.config import read_json_object
from bert_scratch.pretraining.pretrain_config import PretrainConfig
from bert_scratch.training.checkpoint import find_checkpoint
from bert_scratch.training.run_folder import OnChange, RunFolder, nobody


class PretrainRunFolder(RunFolder[PretrainConfig]):
    """Paths and small files of one run; see docs/architecture.md for the whole layout."""

    def __init__(self, path: Path, on_change: OnChange = nobody) -> None:
        """Name the files and folders; nothing is created yet."""
        super().__init__(
            path,
            settings=PretrainConfig,
            resolved_name="pretrain_config.json",
            on_change=on_change,
        )
        self.corpus = path / "corpus"
        self.tokenizer = path / "tokenizer"
        self.best = path / "best"
        self.rehearsal = path / "rehearsal"
        self.fill_ins = path / "fill_ins.jsonl"
        self.profile = path / "profile.json.gz"
        self.word_vectors = path / "word_vectors.json"
        self.corpus_facts = path / "corpus.json"

    def write_end(self, state: str, *, code: int, message: str) -> None:
        """Write how the run ended, keeping the step of the previous status."""
        step = read_json_object(self._status)["step"] if self._status.exists() else 0
        self.write_status(state, code=code, step=step, message=message)

    def status(self) -> tuple[str, int, str]:
        """Return the last written state, exit code and message; the state is "new" if none."""
        if not self._status.exists():
            return "new", 0, ""
        status = read_json_object(self._status)
        return status["state"], status["code"], status["message"]

    def is_done(self, num_train_steps: int | None) -> bool:
        """Tell whether a run of this many steps has ended well and its result exists."""
        return self.ended_well() and read_json_object(self._status).get("step") == num_train_steps

    def newest_model(self) -> Path | None:
        """Return the result, else the newest valid checkpoint, else the best model so far."""
        if self.model.is_dir():
            return self.model
        checkpoint, _ = find_checkpoint(self.checkpoints)
        return checkpoint or (self.best if self.best.is_dir() else None)
