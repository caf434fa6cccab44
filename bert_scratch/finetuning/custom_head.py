"""A user-defined head, `--task my_head.py:MyHead`, trained, checkpointed and exported like others.

The class is an `nn.Module` built from the model's `BertConfig`. It needs `forward(hidden_states
[B, S, D], batch) -> logits`, of the sizes that the task's own head returns; of multiple choice it
is given [B, C, S, D], as `batch.attention_mask` is [B, C, S]. It may have

- `task`, the task whose files, labels and answers it has; "classification" by default, and not
  "sentence-embedding", whose result is an encoder without a head;
- `loss(logits, batch) -> tensor []`, the mean over a batch; by default the task's loss;
- `metric(predictions, labels) -> float`, larger is better, of lists as they stand in the files (for
  entities a list of tags each, for questions the answer and all right answers); by default there
  are only the task's metrics.

An error that any of these raises, but a lack of memory, is an `InputError` that names the file, the
line and the error.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from bert_scratch.config import InputError
from bert_scratch.finetuning.rows import RowBatch
from bert_scratch.finetuning.task import Task
from bert_scratch.model.encoder import BertModel
from bert_scratch.model.heads import ModelWithHeads
from bert_scratch.model.pretrained_model import PretrainedModel
from bert_scratch.training.memory import is_lack_of_memory
from bert_scratch.user_code import describe_error, file_of, load_from_file

METRIC = "metric"
"""The name of the value of the head's own metric."""


def is_custom(name: str) -> bool:
    """Tell whether a --task names a class in a file."""
    return ".py:" in name


def load_head(name: str) -> type[nn.Module]:
    """Import the class that `FILE.py:CLASS` names.

    Raises:
        InputError: if there is no such file or class, or the class is not a head.
    """
    head = load_from_file(name, flag="--task")
    if not (isinstance(head, type) and issubclass(head, nn.Module)):
        raise InputError(f"--task {name}: must be a class derived from nn.Module")
    if getattr(head, "task", None) == "sentence-embedding":
        raise InputError(
            f"--task {name}: its task is sentence-embedding, whose result is an encoder without a "
            f"head; give --task sentence-embedding, or the class another task"
        )
    return head


@contextmanager
def _named_errors(head: type[nn.Module], what: str) -> Iterator[None]:
    """Turn an error of the user's code into one that names the line that failed."""
    try:
        yield
    except torch.AcceleratorError:  # raised late, so that line may not be the guilty one
        raise
    except Exception as error:  # whatever the user's code raises
        if is_lack_of_memory(error):
            raise
        raise InputError(
            f"--task: {head.__name__} cannot {what}: {describe_error(error, file_of(head))}; "
            f"correct it"
        ) from error


def _checked(
    value: Any, head: type[nn.Module], method: str, expected: str, fits: Callable[[Tensor], bool]
) -> Tensor:
    """Return what a method of the user returned, if it is a tensor that fits.

    Raises:
        InputError: naming the file and the method, what is expected and what it returned.
    """
    if isinstance(value, Tensor) and fits(value):
        return value
    what = f"a {type(value).__name__}"
    if isinstance(value, Tensor):
        what = f"one of shape {list(value.shape)}"
    raise InputError(
        f"--task {file_of(head)}: {head.__name__}.{method} must return {expected}; it returned "
        f"{what}"
    )


def _checked_logits(value: Any, head: type[nn.Module], sizes: Mapping[str, int | None]) -> Tensor:
    """Return what a user's forward returned, if it has the sizes that `Task.logits_sizes` names."""
    asked = [name if size is None else f"{name}={size}" for name, size in sizes.items()]

    def fits(logits: Tensor) -> bool:
        pairs = zip(logits.shape, sizes.values(), strict=False)
        return logits.dim() == len(sizes) and all(size in (None, found) for found, size in pairs)

    expected = f"a tensor of logits of shape [{', '.join(asked)}]"
    return _checked(value, head, "forward", expected, fits)


def _is_one_number(value: Tensor) -> bool:
    return value.numel() == 1


def _model_with(head: type[nn.Module]) -> type[ModelWithHeads]:
    """Return a model class of the encoder and the user's head."""

    class BertWithHead(ModelWithHeads):
        """The encoder and the user's head, whose weights are named `classifier`."""

        def _add_heads(self, initializer: str) -> None:
            with _named_errors(head, "be made"):
                self.classifier = head(self.config)

    return BertWithHead


def _encoded(model: nn.Module, batch: RowBatch) -> Tensor:
    """Return the last hidden states, [B, S, D], or [B, C, S, D] of choices."""
    encoder = model.get_submodule("bert")
    assert isinstance(encoder, BertModel)
    inputs = (batch.input_ids, batch.token_type_ids, batch.attention_mask)
    encoded = encoder(*(values.flatten(0, -2) for values in inputs))
    hidden_states: Tensor = encoded.last_hidden_state
    return hidden_states.view(*batch.input_ids.shape, -1)


def with_head(base: type[Task[Any, Any]], head: type[nn.Module]) -> type[Task[Any, Any]]:
    """Return a task that reads and answers like another, but has a user-defined head.

    Args:
        base: the task whose files, labels and answers it has.
        head: the user's class.
    """

    class TaskWithHead(base):  # type: ignore[misc, valid-type]
        """The task with the user's forward pass, and the user's loss and metric, if any."""

        model_class = _model_with(head)
        may_cut_batches = False  # its loss may compare rows

        def __init__(self, *arguments: Any) -> None:
            super().__init__(*arguments)
            self._head: nn.Module | None = None

        def load_model(self, *arguments: Any, **keywords: Any) -> PretrainedModel:
            model: ModelWithHeads = super().load_model(*arguments, **keywords)
            self._head = model.get_submodule("classifier")
            return model

        def logits(self, model: nn.Module, batch: RowBatch) -> Tensor:
            hidden_states = _encoded(model, batch)
            classifier = model.get_submodule("classifier")
            with _named_errors(head, "compute its logits"):
                logits = classifier(hidden_states, batch)
            return _checked_logits(logits, head, self.logits_sizes(batch))

        def loss(self, logits: Tensor, batch: RowBatch) -> Tensor:
            if not hasattr(head, "loss"):
                total: Tensor = super().loss(logits, batch)
                return total
            assert self._head is not None
            with _named_errors(head, "compute its loss"):
                mean = self._head.loss(logits, batch)  # type: ignore[operator]
            mean = _checked(mean, head, "loss", "a tensor of one number", _is_one_number)
            total = mean * self.loss_weight(batch)
            return total

        @property
        def metric_names(self) -> tuple[str, ...]:
            own = (METRIC,) if hasattr(head, METRIC) else ()
            return (*own, *super().metric_names)

        def metrics(self, examples: Sequence[Any], answers: Sequence[Any]) -> dict[str, float]:
            values: dict[str, float] = super().metrics(examples, answers)
            if not hasattr(head, METRIC):
                return values
            assert self._head is not None
            pairs = [self.compared(*pair) for pair in zip(examples, answers, strict=True)]
            given, true = ([pair[side] for pair in pairs] for side in (0, 1))
            with _named_errors(head, "compute its metric"):
                own = float(self._head.metric(given, true))  # type: ignore[operator]
            return {METRIC: own, **values}

    return TaskWithHead
