"""Task settings that outlive training: the task's name, and how files become rows of model input.

A model folder keeps them in `task.json`, so that `predict` reads and cuts as training did. Each
group of flags is a class of its own; `TaskSettings` has them all.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass

from bert_scratch.config import InputError, Settings, check_choice, check_range, flag_of

TASK_FILE = "task.json"
"""The file in a model folder that holds these settings."""
ROW_LENGTH = 128
"""Tokens of a row by default."""
LONG_TEXT = ("truncate", "head-tail", "window")
CLASS_WEIGHTS = ("none", "balanced")
_TEXTS = ("classification", "regression")
_TABLES = (*_TEXTS, "token-classification", "sentence-embedding")
_READ_BY = {
    "text_column": _TABLES,
    "text_pair_column": (*_TEXTS, "sentence-embedding"),
    "label_column": _TABLES,
    "multi_label": ("classification",),
    "doc_stride": ("token-classification", "question-answering"),
    "n_best_size": ("question-answering",),
    "max_answer_length": ("question-answering",),
    "null_score_threshold": ("question-answering",),
    "negative_column": ("sentence-embedding",),
    "long_text": (*_TEXTS, "sentence-embedding"),
    "class_weights": ("classification",),
}
_TASKS = (*_TABLES, "question-answering", "multiple-choice")
CHOOSING_ANSWERS = ("n_best_size", "max_answer_length", "null_score_threshold")
"""Settings that choose among answers once their scores are known."""


@dataclass(frozen=True, kw_only=True)
class TableSettings(Settings):
    """The roles of a table's columns; when left out, they are found by their names."""

    text_column: str | None = None
    """The column of the text, or of a pair's first text; its number from 1 without a header."""
    text_pair_column: str | None = None
    """The column of a pair's second text."""
    label_column: tuple[str, ...] = ()
    """The column of the label. Several, of 0 and 1 each, are labels that can hold together."""
    multi_label: bool = False
    """Several labels can hold together, with commas between them. Lists in JSON always can."""


def no_columns(place: str, flags: Sequence[str]) -> InputError:
    """Return the error that flags of columns have no effect on a file without any.

    Args:
        place: the file, and what it holds instead.
        flags: as the user gave them, at least one.
    """
    have, them = ("have", "them") if len(flags) > 1 else ("has", "it")
    return InputError(f"{place}, so {' and '.join(flags)} {have} no effect; leave {them} out")


@dataclass(frozen=True, kw_only=True)
class WindowSettings(Settings):
    """How words and answers are found in texts longer than a row."""

    doc_stride: int | None = None
    """Tokens from the start of one window of a long text to the next. Left out: half a window."""
    n_best_size: int = 20
    """Answers to a question that are ranked, over all its windows."""
    max_answer_length: int | None = None
    """Tokens of the longest answer to a question. Left out: 30, or what training answers need."""
    null_score_threshold: float | None = None
    """A question has no answer where [CLS] scores better than the best answer by more than this.
    Left out: 0 if the training file has such questions, else each is answered."""


@dataclass(frozen=True, kw_only=True)
class TaskSettings(TableSettings, WindowSettings):
    """The task, and how its examples are read."""

    task: str
    """classification, regression, token-classification, question-answering, multiple-choice, sentence-embedding, or the FILE.py:CLASS of your own head."""  # noqa: E501
    negative_column: str | None = None
    """For sentence-embedding: the column of a text that does not mean what the pair means."""
    max_seq_length: int | None = None
    """Tokens per row, [CLS] and [SEP] included. Left out: 128, or all that the model can take."""
    long_text: str = "truncate"
    """For texts longer than a row: truncate, head-tail, or window (rows that are averaged)."""
    class_weights: str = "none"
    """balanced makes rare labels count as much as frequent ones; none."""

    @property
    def row_length(self) -> int:
        """Most tokens of a row: 128 unless user or model says otherwise."""
        return self.max_seq_length or ROW_LENGTH

    def __post_init__(self) -> None:
        """Check what does not depend on files.

        Raises:
            InputError: naming the flag.
        """
        check_choice("--long-text", self.long_text, LONG_TEXT)
        check_choice("--class-weights", self.class_weights, CLASS_WEIGHTS)
        check_range("--max-seq-length", self.max_seq_length, at_least=8)
        for name in ("doc_stride", "n_best_size", "max_answer_length"):
            check_range(flag_of(name), getattr(self, name), at_least=1)

    def check_effects(self) -> None:
        """Refuse settings that differ from their defaults but are not read by the task.

        A user-defined head may read any setting, so nothing is refused. Settings stored in a model
        folder are not checked, since older runs may have stored flags without effect.

        Raises:
            InputError: naming the flag.
        """
        for name in _READ_BY:
            if not reads(self.task, name) and getattr(self, name) != getattr(TaskSettings, name):
                raise InputError(
                    f"{flag_of(name)} has no effect with --task {self.task}; leave it out"
                )

    def for_prediction(self) -> TrainedSettings:
        """Return only these settings, without the others of a command that has more."""
        names = [field.name for field in dataclasses.fields(TrainedSettings)]
        return TrainedSettings(
            **{name: getattr(self, name) for name in names if hasattr(self, name)}
        )


@dataclass(frozen=True, kw_only=True)
class TrainedSettings(TaskSettings):
    """What a model folder stores: the settings, and facts about the training examples."""

    has_pairs: bool | None = None
    """Whether each text had a second one; None if not recorded, or not a task of such texts."""


def had_pairs(settings: TaskSettings) -> bool | None:
    """Tell whether each training text had a second one; None if that is not recorded."""
    return settings.has_pairs if isinstance(settings, TrainedSettings) else None


def reads(task: str, name: str) -> bool:
    """Tell whether a task reads a setting; True for a user-defined head, as it may read any.

    Args:
        task: the task's name.
        name: a field of `TaskSettings`.
    """
    return task not in _TASKS or task in _READ_BY.get(name, _TASKS)


def answered_with(task: str) -> list[str]:
    """Return the settings, row length apart, that decide what a trained model computes.

    A text's label is not read then; among columns of words, that of the tags tells them from text.
    """
    unread = {"class_weights", "negative_column", *CHOOSING_ANSWERS}
    if task != "token-classification":
        unread.add("label_column")
    return [name for name in _READ_BY if name not in unread and reads(task, name)]
