"""Classification of texts and pairs, with one label each or several (multi-label).

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

from bert_scratch.config import InputError, did_you_mean, first_few
from bert_scratch.extras import import_extra
from bert_scratch.finetuning.labelled_rows import LabelledText
from bert_scratch.finetuning.rows import Row, RowBatch
from bert_scratch.finetuning.task_settings import TaskSettings
from bert_scratch.finetuning.texts import TextTask
from bert_scratch.model.losses import cross_entropy_sum
from bert_scratch.model.task_heads import MULTI_LABEL, SINGLE_LABEL

MAX_LABELS = 10_000
HOLDS = 0.5
"""In a multi-label task, a label is predicted from this probability on."""


@dataclass(frozen=True)
class ClassAnswer:
    """What the model says about one text."""

    label: str | tuple[str, ...]
    """The likeliest label, or all that apply."""
    probabilities: tuple[float, ...]
    """Probability of each label, in the task's order; they sum to 1 unless it is multi-label."""


class Classification(TextTask[ClassAnswer]):
    """One label for each text, or any number of labels if some examples have lists."""

    def __init__(self, settings: TaskSettings, labels: Sequence[str] = ()) -> None:
        super().__init__(settings, labels)
        self._numbers = {label: number for number, label in enumerate(self.labels)}
        self._class_weights: list[float] | None = None

    @property
    def is_multi_label(self) -> bool:
        """Whether a text can have several labels."""
        return self.settings.multi_label

    def learn(self, examples: Sequence[LabelledText]) -> None:
        """Take the labels of the training examples, sorted: numbers by value, names by letter."""
        super().learn(examples)
        multi_label = self.is_multi_label or any(isinstance(e.label, tuple) for e in examples)
        self.settings = self.settings.replace(multi_label=multi_label)
        counts = Counter(name for example in examples for name in _names(example))
        if len(self.settings.label_column) > 1:
            counts.update(dict.fromkeys(self.settings.label_column, 0))
        if len(counts) < (1 if multi_label else 2):
            found = ", ".join(counts) or "none"
            raise InputError(
                f"{examples[0].place}: the training file needs at least two labels; it has {found}"
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
        """The labels and the problem type."""
        kind = MULTI_LABEL if self.is_multi_label else SINGLE_LABEL
        return {"id2label": dict(enumerate(self.labels)), "problem_type": kind}

    def target(self, example: LabelledText) -> int | list[float]:
        """Return the label's index, or 1 for each label that applies and 0 for the others."""
        numbers = []
        for name in _names(example):
            if name not in self._numbers:
                known = first_few(self.labels, 10)
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

    def logits_sizes(self, batch: RowBatch) -> dict[str, int | None]:
        """Return [R, L], a score for each label."""
        return {"rows": len(batch.rows), "labels": len(self.labels)}

    def loss(self, logits: Tensor, batch: RowBatch) -> Tensor:
        """Return the summed cross-entropy; if multi-label, each row's is the mean over labels."""
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
        """Accuracy first; with two labels, `f1` is that of the second."""
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
        """Compare labels; in a multi-label task, accuracy counts exactly equal sets."""
        sklearn = import_extra("sklearn.metrics", "measuring a fine-tuned model", "sklearn")
        true = np.array([self.target(example) for example in examples])
        if self.is_multi_label:
            given = np.array([[float(n in a.label) for n in self.labels] for a in answers])
        else:
            given = np.array([self._numbers[str(answer.label)] for answer in answers])
        # scikit-learn reads a single column as two classes, one of which is "not the label".
        lone = [1] if self.is_multi_label and len(self.labels) == 1 else None
        values: dict[str, float] = {}
        for name in self._measured():
            base, _, average = name.partition("_")
            with warnings.catch_warnings():  # ignore: a label was predicted but never right
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
        """Return the predicted and the right label, as named in the files."""
        return answer.label, example.label

    def record(self, example: LabelledText, answer: ClassAnswer) -> dict[str, Any]:
        """Return the predicted label and the probability of each label."""
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
        """Return weights that make all labels count equally, as scikit-learn's `balanced` does.

        In a multi-label task, a weight says how much a text with the label outweighs one without.
        """
        of_label = [max(1, counts[name]) for name in self.labels]
        if self.is_multi_label:
            return [max(1, num_examples - count) / count for count in of_label]
        return [num_examples / (len(self.labels) * count) for count in of_label]


def mean_over_rows(rows: Sequence[Row], logits: Sequence[Tensor], num_examples: int) -> Tensor:
    """Return [E, ...], the mean scores over each example's rows."""
    stacked = torch.stack(list(logits))
    examples = torch.tensor([row.example for row in rows])
    sums = stacked.new_zeros(num_examples, *stacked.shape[1:]).index_add_(0, examples, stacked)
    counts = torch.bincount(examples, minlength=num_examples)
    return sums / counts.reshape(-1, *[1] * (sums.dim() - 1))


def _names(example: LabelledText) -> tuple[str, ...]:
    """Return an example's labels, one or several."""
    if example.label is None:
        return ()
    return (example.label,) if isinstance(example.label, str) else example.label


def _order(labels: Counter[str]) -> Any:
    """Return the sort key of labels: their value if all are whole numbers."""
    numeric = all(name.removeprefix("-").isdecimal() for name in labels)
    return int if numeric else str
