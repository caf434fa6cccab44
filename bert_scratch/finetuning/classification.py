"""Classification of texts and pairs: one label each, or several that hold together.

Letters: R rows, C classes.
"""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from bert_scratch.config import InputError, did_you_mean
from bert_scratch.extras import import_extra
from bert_scratch.finetuning.labelled_rows import LabelledText
from bert_scratch.finetuning.rows import Row, RowBatch
from bert_scratch.finetuning.task_settings import TaskSettings
from bert_scratch.finetuning.texts import TextTask
from bert_scratch.model.losses import cross_entropy_sum
from bert_scratch.model.task_heads import MULTI_LABEL, SINGLE_LABEL

MAX_LABELS = 10_000
HOLDS = 0.5
"""A label that can stand beside others is given from this probability on."""


@dataclass(frozen=True)
class ClassAnswer:
    """What the model says about one text."""

    label: str | tuple[str, ...]
    """The likeliest label, or all that hold."""
    probabilities: tuple[float, ...]
    """Of each label, in the task's order; they add up to 1 unless labels hold together."""


class Classification(TextTask[ClassAnswer]):
    """One label out of several for each text; or any number of them, where some have lists."""

    def __init__(self, settings: TaskSettings, labels: Sequence[str] = ()) -> None:
        super().__init__(settings, labels)
        self._numbers = {label: number for number, label in enumerate(self.labels)}
        self._class_weights: list[float] | None = None

    @property
    def is_multi_label(self) -> bool:
        """Whether several labels can hold together."""
        return self.settings.multi_label

    def learn(self, examples: Sequence[LabelledText]) -> None:
        """Take the labels of the training examples, in order: numbers by value, names by letter."""
        super().learn(examples)
        multi_label = self.is_multi_label or any(isinstance(e.label, tuple) for e in examples)
        self.settings = self.settings.replace(multi_label=multi_label)
        counts = Counter(name for example in examples for name in _names(example))
        if len(self.settings.label_column) > 1:
            counts.update(dict.fromkeys(self.settings.label_column, 0))
        if len(counts) < (1 if multi_label else 2):
            found = ", ".join(counts) or "none"
            raise InputError(
                f"{examples[0].place}: the training file needs two labels at least; it has {found}"
            )
        if len(counts) > MAX_LABELS:
            raise InputError(
                f"{examples[0].place}: the training file has {len(counts):,} labels; is "
                f"--label-column right, or is this --task regression?"
            )
        self.labels = tuple(sorted(counts, key=_order(counts)))
        self._numbers = {label: number for number, label in enumerate(self.labels)}
        if self.settings.class_weights == "balanced":
            self._class_weights = self._balanced(counts, len(examples))

    @property
    def config_fields(self) -> dict[str, Any]:
        """The labels, and of which kind they are."""
        kind = MULTI_LABEL if self.is_multi_label else SINGLE_LABEL
        return {"id2label": dict(enumerate(self.labels)), "problem_type": kind}

    def target(self, example: LabelledText) -> int | list[float]:
        """Return the number of the label, or 1 for each that holds and 0 for the others."""
        numbers = []
        for name in _names(example):
            if name not in self._numbers:
                known = ", ".join(self.labels[:10]) + (", ..." if len(self.labels) > 10 else "")
                raise InputError(
                    f"{example.place}: label {name!r} is not one of the {len(self.labels)} of the "
                    f"training file ({known}){did_you_mean(name, self.labels)}"
                )
            numbers.append(self._numbers[name])
        if not self.is_multi_label:
            if not isinstance(example.label, str):
                raise InputError(
                    f"{example.place}: has a list of labels, texts of the training file have one "
                    f"label each"
                )
            return numbers[0]
        return [float(number in numbers) for number in range(len(self.labels))]

    def loss(self, logits: Tensor, batch: RowBatch) -> Tensor:
        """Return the summed cross-entropy; of labels that hold together the mean over them."""
        assert batch.labels is not None
        weight = None
        if self._class_weights is not None:
            weight = torch.tensor(self._class_weights).to(logits.device, non_blocking=True)
        if self.is_multi_label:
            losses = F.binary_cross_entropy_with_logits(
                logits, batch.labels, pos_weight=weight, reduction="sum"
            )
            return losses / len(self.labels)
        if weight is None:
            return cross_entropy_sum(logits, batch.labels)[0]
        return F.cross_entropy(logits, batch.labels, weight=weight, reduction="sum")

    def loss_weight(self, batch: RowBatch) -> float:
        """Return the number of rows, or the sum of their labels' weights."""
        if self._class_weights is None or self.is_multi_label:
            return super().loss_weight(batch)
        labels = [row.label for row in batch.rows if isinstance(row.label, int)]
        return sum(self._class_weights[label] for label in labels)

    def answers(
        self, examples: Sequence[LabelledText], rows: Sequence[Row], logits: Sequence[Tensor]
    ) -> list[ClassAnswer]:
        """Turn logits into labels; the windows of a long text are averaged."""
        scores = mean_over_rows(rows, logits, len(examples))
        shares = scores.sigmoid() if self.is_multi_label else scores.softmax(dim=1)
        return [self._answer(row) for row in shares.tolist()]

    @property
    def metric_names(self) -> tuple[str, ...]:
        """Accuracy first; `f1` is that of the second of two labels."""
        return self._measured()

    def _measured(self) -> tuple[str, ...]:
        if self.is_multi_label:
            return ("f1_micro", "f1_macro", "accuracy")
        binary = ("f1",) if len(self.labels) == 2 else ()
        rest = ("f1_macro", "f1_micro", "matthews_corrcoef")
        return ("accuracy", "balanced_accuracy", *binary, *rest)

    def metrics(
        self, examples: Sequence[LabelledText], answers: Sequence[ClassAnswer]
    ) -> dict[str, float]:
        """Compare labels; where some can hold together, accuracy is that of whole sets."""
        sklearn = import_extra("sklearn.metrics", "measuring a fine-tuned model", "sklearn")
        true = np.array([self.target(example) for example in examples])
        if self.is_multi_label:
            given = np.array([[float(n in a.label) for n in self.labels] for a in answers])
        else:
            given = np.array([self._numbers[str(answer.label)] for answer in answers])
        # scikit-learn takes a lone column for two classes, of which "not the label" is one.
        lone = [1] if self.is_multi_label and len(self.labels) == 1 else None
        values: dict[str, float] = {}
        for name in self._measured():
            base, _, average = name.partition("_")
            with warnings.catch_warnings():  # a label that is given and never right is no news
                warnings.simplefilter("ignore", UserWarning)
                if base == "f1":
                    score = sklearn.f1_score(
                        true, given, labels=lone, average=average or "binary", zero_division=0
                    )
                elif name == "matthews_corrcoef":
                    score = sklearn.matthews_corrcoef(true, given)
                else:
                    score = getattr(sklearn, f"{name}_score")(true, given)
            values[name] = float(score)
        return values

    def compared(self, example: LabelledText, answer: ClassAnswer) -> tuple[Any, Any]:
        """Return both labels, as the files name them."""
        return answer.label, example.label

    def record(self, example: LabelledText, answer: ClassAnswer) -> dict[str, Any]:
        """Return the label and the probability of each."""
        label = answer.label if isinstance(answer.label, str) else list(answer.label)
        shares = {
            name: round(share, 6)
            for name, share in zip(self.labels, answer.probabilities, strict=True)
        }
        pair = {} if example.text_pair is None else {"text_pair": example.text_pair}
        return {"label": label, "probabilities": shares, "text": example.text, **pair}

    def _answer(self, shares: list[float]) -> ClassAnswer:
        if self.is_multi_label:
            held = [name for name, p in zip(self.labels, shares, strict=True) if p >= HOLDS]
            return ClassAnswer(tuple(held), tuple(shares))
        return ClassAnswer(self.labels[shares.index(max(shares))], tuple(shares))

    def _balanced(self, counts: Counter[str], num_examples: int) -> list[float]:
        """Return what makes each label count alike, as scikit-learn's `balanced` does.

        Of labels that hold together it is how much a text that has one outweighs one that has not.
        """
        of_label = [max(1, counts[name]) for name in self.labels]
        if self.is_multi_label:
            return [max(1, num_examples - count) / count for count in of_label]
        return [num_examples / (len(self.labels) * count) for count in of_label]


def mean_over_rows(rows: Sequence[Row], logits: Sequence[Tensor], num_examples: int) -> Tensor:
    """Return [E, ...], the mean of the scores of each example's rows."""
    stacked = torch.stack(list(logits))
    examples = torch.tensor([row.example for row in rows])
    sums = stacked.new_zeros(num_examples, *stacked.shape[1:]).index_add_(0, examples, stacked)
    counts = torch.bincount(examples, minlength=num_examples)
    return sums / counts.reshape(-1, *[1] * (sums.dim() - 1))


def _names(example: LabelledText) -> tuple[str, ...]:
    """Return the labels an example has, one or several."""
    if example.label is None:
        return ()
    return (example.label,) if isinstance(example.label, str) else example.label


def _order(labels: Counter[str]) -> Any:
    """Return the key that sorts labels: by value where all are whole numbers."""
    numeric = all(name.removeprefix("-").isdecimal() for name in labels)
    return int if numeric else str
