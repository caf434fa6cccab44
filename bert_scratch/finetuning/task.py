"""The contract of a task: a reader, a head and a metric. A new task is one file and a line here.

`finetune` calls a task in this order: `read` the training file, `learn` its labels, `encode` the
examples to rows, make the model with `load_model`, train on `loss`; then, at each evaluation,
`answers` from the logits of all rows, and `metrics`. `predict` starts with the labels of a result
folder and ends with `record`.

Letters: E examples, R rows.
"""

from __future__ import annotations

import importlib
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Generic, TypeVar

from tokenizers import Tokenizer
from torch import Tensor, nn

from bert_scratch.config import check_choice
from bert_scratch.finetuning.adapters import is_adapted, load_adapted
from bert_scratch.finetuning.rows import Row, RowBatch
from bert_scratch.finetuning.task_settings import TaskSettings
from bert_scratch.model.pretrained_model import PretrainedModel

if TYPE_CHECKING:
    from bert_scratch.finetuning.finetune_config import FinetuneConfig

TASKS = {
    "classification": "classification:Classification",
    "regression": "regression:Regression",
    "token-classification": "token_classification:TokenClassification",
    "question-answering": "question_answering:QuestionAnswering",
    "multiple-choice": "multiple_choice:MultipleChoice",
    "sentence-embedding": "sentence_embedding:SentenceEmbedding",
}
"""The name of each task, and its class as module:name in this package."""


@dataclass(frozen=True, kw_only=True)
class Example:
    """What a task's examples have in common."""

    place: str
    """Where the example stands, `file:line`, for errors and reports."""


ExampleT = TypeVar("ExampleT", bound=Example)
AnswerT = TypeVar("AnswerT")


class Task(ABC, Generic[ExampleT, AnswerT]):
    """One task.

    Attributes:
        settings: how files are read, and the task's own flags.
        labels: the names of the classes in the order of their numbers; empty before `learn`, and
            for a task without classes.
    """

    model_class: ClassVar[type[PretrainedModel]]
    """The encoder with the task's head; its forward returns `logits`."""

    answers_with: ClassVar[str] = (
        "predict --model path/to/this/folder --input texts.tsv --output answers.jsonl"
    )
    """The command that answers with the model, as its card shows it."""

    may_cut_batches: ClassVar[bool] = True
    """Whether by default the rows of a batch may go through the model in several passes."""

    columns_asked: tuple[str, ...] = ()
    """Flags of the columns that `predict` was given, which must then exist; those known from
    training may be missing from lines of text."""

    @property
    def elsewhere(self) -> str:
        """The library that loads the model elsewhere, as its card shows it."""
        return f'`transformers.{self.model_class.__name__}.from_pretrained("path/to/this/folder")`'

    def __init__(self, settings: TaskSettings, labels: Sequence[str] = ()) -> None:
        self.settings = settings
        self.labels = tuple(labels)

    @abstractmethod
    def read(self, file: str, *, labels_needed: bool) -> list[ExampleT]:
        """Read the examples of a file.

        Args:
            file: a path, or - for standard input.
            labels_needed: whether an example without its label is an error; a file for prediction
                may have labels or not.

        Raises:
            InputError: naming file:line, what is wrong there, and what to do.
        """

    @abstractmethod
    def is_labelled(self, example: ExampleT) -> bool:
        """Tell whether an example came with its label."""

    def unlabelled(self, example: ExampleT) -> ExampleT:
        """Return an example without its label, which `predict` ignores.

        By default it is returned unchanged; its label must then be one of the task's.
        """
        return example

    def learn(self, examples: Sequence[ExampleT]) -> None:
        """Set the labels, and whatever else the training examples decide.

        Raises:
            InputError: if nothing can be learnt from them, for example if there is only one class.
        """

    def check_run(
        self,
        config: FinetuneConfig,
        held_out: Sequence[ExampleT],
        test: Sequence[ExampleT] | None,
    ) -> None:
        """Refuse settings the task cannot learn with, and examples it cannot be evaluated on.

        By default nothing is refused.

        Args:
            config: the run's settings.
            held_out: the examples of the evaluation file.
            test: the examples of the test file, if there is one.

        Raises:
            InputError: naming the flag, or the place of the example.
        """

    def exported(self, model: PretrainedModel) -> PretrainedModel:
        """Return the part of the model that is written to the result folder; by default all."""
        return model

    @property
    @abstractmethod
    def config_fields(self) -> dict[str, Any]:
        """`BertConfig` fields of the model, such as id2label and problem_type."""

    def load_model(
        self, folder_or_hub_id: str | Path, *, new_head: bool, **overrides: Any
    ) -> PretrainedModel:
        """Load the model, in evaluation mode on the CPU.

        Args:
            folder_or_hub_id: folder or hub id of any BERT.
            new_head: draw the weights that the folder lacks from torch's default generator.
            overrides: `BertConfig` fields in addition to those of the task.
        """
        fields = self.config_fields | overrides
        if is_adapted(folder_or_hub_id):
            return load_adapted(self.model_class, Path(folder_or_hub_id), **fields)
        return self.model_class.from_pretrained(folder_or_hub_id, new_head=new_head, **fields)

    @abstractmethod
    def encode(self, examples: Sequence[ExampleT], tokenizer: Tokenizer) -> list[Row]:
        """Turn examples into rows of at most `settings.row_length` tokens.

        Args:
            examples: E examples, labelled or not.
            tokenizer: the model's tokenizer.

        Returns:
            R >= E rows, in the order of the examples.

        Raises:
            InputError: naming the place of an example whose label is not one of the task's.
        """

    def logits(self, model: nn.Module, batch: RowBatch) -> Tensor:
        """Return [R, ...], the head's scores for a batch on the model's device."""
        output = model(batch.input_ids, batch.token_type_ids, batch.attention_mask)
        logits: Tensor = output.logits
        return logits

    @abstractmethod
    def logits_sizes(self, batch: RowBatch) -> dict[str, int | None]:
        """Return the sizes of the logits of a batch, by what each counts; None is any size."""

    @abstractmethod
    def loss(self, logits: Tensor, batch: RowBatch) -> Tensor:
        """Return [] float32, the loss summed over the labels of a batch.

        Args:
            logits: [R, ...] float32.
            batch: a batch with labels, on the same device.
        """

    def loss_weight(self, batch: RowBatch) -> float:
        """Return the divisor of a step's summed loss: its number of labels.

        It is counted in the rows, not in tensors, so nothing waits for a GPU.
        """
        return float(len(batch.rows))

    @abstractmethod
    def answers(
        self, examples: Sequence[ExampleT], rows: Sequence[Row], logits: Sequence[Tensor]
    ) -> list[AnswerT]:
        """Turn scores into answers.

        Args:
            examples: E examples.
            rows: the R rows that `encode` made from the examples.
            logits: logits of each row, float32 on the CPU. Token logits cover all positions of the
                batch the row was in: only the first ones, the row's own, are meaningful.

        Returns:
            One answer for each example.
        """

    @property
    @abstractmethod
    def metric_names(self) -> tuple[str, ...]:
        """The keys of `metrics`, named as in scikit-learn; the first one chooses the best model."""

    @abstractmethod
    def metrics(self, examples: Sequence[ExampleT], answers: Sequence[AnswerT]) -> dict[str, float]:
        """Compare answers with labels.

        Args:
            examples: at least one, all labelled.
            answers: one for each example.
        """

    @abstractmethod
    def compared(self, example: ExampleT, answer: AnswerT) -> tuple[Any, Any]:
        """Return the prediction and the label, as a user-defined metric gets them."""

    @abstractmethod
    def record(self, example: ExampleT, answer: AnswerT) -> dict[str, Any]:
        """Return one line of `predict` as plain JSON values, the answer first."""


LOWER_IS_BETTER = frozenset({"loss", "mean_squared_error"})
"""Metrics that are best when small."""


def load_task(settings: TaskSettings, labels: Sequence[str] = ()) -> Task[Any, Any]:
    """Create the task that the settings name.

    Args:
        settings: settings with the task's name.
        labels: the class names of a trained model; empty for a new one.

    Raises:
        InputError: if there is no such task, or its file has no such head.
    """
    from bert_scratch.finetuning.custom_head import is_custom, load_head, with_head

    if is_custom(settings.task):
        head = load_head(settings.task)
        return with_head(_task_class(getattr(head, "task", "classification")), head)(
            settings, labels
        )
    return _task_class(settings.task)(settings, labels)


def _task_class(name: str) -> type[Task[Any, Any]]:
    check_choice("--task", name, TASKS)
    module, _, class_name = TASKS[name].partition(":")
    task: type[Task[Any, Any]] = getattr(
        importlib.import_module(f"bert_scratch.finetuning.{module}"), class_name
    )
    return task
