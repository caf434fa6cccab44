"""Multiple choice: which of several texts continues a context, or answers a question.

Files are JSON lines, {"context" and/or "question", "choices": [...], "label": 0}, or tables with
SWAG's columns: sent1, sent2, ending0, ending1, ..., label.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from tokenizers import Tokenizer
from torch import Tensor

from bert_scratch.config import InputError, counted
from bert_scratch.data.records import Record, read_table
from bert_scratch.finetuning.rows import Row, RowBatch
from bert_scratch.finetuning.task import Example, Task
from bert_scratch.finetuning.texts import encode_pairs
from bert_scratch.model.losses import cross_entropy_sum
from bert_scratch.model.task_heads import BertForMultipleChoice

_ENDING = re.compile(r"ending(\d+)")


@dataclass(frozen=True, kw_only=True)
class ChoiceQuestion(Example):
    """A context and its possible continuations."""

    context: str
    choices: tuple[str, ...]
    """The texts to choose from, each with the beginning that all share."""
    label: int | None = None
    """Index of the right choice, from 0."""


@dataclass(frozen=True)
class Choice:
    """The model's choice."""

    number: int
    probabilities: tuple[float, ...]


class MultipleChoice(Task[ChoiceQuestion, Choice]):
    """Choose among several texts, as many in each example.

    Source:
        Devlin et al. 2018, section 4.4.
    """

    model_class = BertForMultipleChoice

    def read(self, file: str, *, labels_needed: bool) -> list[ChoiceQuestion]:
        """Read JSON lines or SWAG's columns."""
        table = read_table(file, is_header=lambda cells: any(map(_ENDING.fullmatch, cells)))
        examples = [_example(record, label_needed=labels_needed) for record in table.records]
        for example in examples:
            if len(example.choices) != len(examples[0].choices):
                raise InputError(
                    f"{example.place}: has {counted(len(example.choices), 'choice')}, "
                    f"{examples[0].place} has {len(examples[0].choices)}; all examples need the "
                    f"same number"
                )
            if labels_needed and example.label is None:
                raise InputError(f"{example.place}: has no label")
        return examples

    def is_labelled(self, example: ChoiceQuestion) -> bool:
        """Tell whether the right choice is known."""
        return example.label is not None

    def unlabelled(self, example: ChoiceQuestion) -> ChoiceQuestion:
        """Return the question alone."""
        return replace(example, label=None)

    @property
    def config_fields(self) -> dict[str, Any]:
        """One score for each text, without names."""
        return {"id2label": None, "problem_type": None}

    def encode(self, examples: Sequence[ChoiceQuestion], tokenizer: Tokenizer) -> list[Row]:
        """Make each example a row, with a sequence of the context and each choice."""
        sequences = iter(
            encode_pairs(
                tokenizer,
                [example.context for example in examples for _ in example.choices],
                [choice for example in examples for choice in example.choices],
                max_seq_length=self.settings.row_length,
            )
        )
        labelled = all(self.is_labelled(example) for example in examples)
        return [
            Row(
                sequences=tuple(next(sequences) for _ in example.choices),
                example=number,
                place=example.place,
                label=example.label if labelled else None,
            )
            for number, example in enumerate(examples)
        ]

    def logits_sizes(self, batch: RowBatch) -> dict[str, int | None]:
        """Return [R, C], a score for each choice."""
        return {"rows": len(batch.rows), "choices": batch.input_ids.shape[1]}

    def loss(self, logits: Tensor, batch: RowBatch) -> Tensor:
        """Return [], the cross-entropy of [R, C] summed over rows."""
        assert batch.labels is not None
        return cross_entropy_sum(logits, batch.labels)[0]

    def answers(
        self, examples: Sequence[ChoiceQuestion], rows: Sequence[Row], logits: Sequence[Tensor]
    ) -> list[Choice]:
        """Take the choice with the highest score."""
        return [
            Choice(int(scores.argmax()), tuple(scores.softmax(dim=0).tolist())) for scores in logits
        ]

    @property
    def metric_names(self) -> tuple[str, ...]:
        """Accuracy, the share of right choices."""
        return ("accuracy",)

    def metrics(
        self, examples: Sequence[ChoiceQuestion], answers: Sequence[Choice]
    ) -> dict[str, float]:
        """Return the share of right choices."""
        right = [e.label == answer.number for e, answer in zip(examples, answers, strict=True)]
        return {"accuracy": float(np.mean(right))}

    def compared(self, example: ChoiceQuestion, answer: Choice) -> tuple[int, int | None]:
        """Return the indices of the predicted and the right choice."""
        return answer.number, example.label

    def record(self, example: ChoiceQuestion, answer: Choice) -> dict[str, Any]:
        """Return the predicted choice and the probability of each."""
        return {
            "label": answer.number,
            "choice": example.choices[answer.number],
            "probabilities": [round(share, 6) for share in answer.probabilities],
            "context": example.context,
        }


def _example(record: Record, *, label_needed: bool) -> ChoiceQuestion:
    cells, place = record.cells, record.place
    if "choices" in cells:
        choices, context, before = cells["choices"], cells.get("context"), cells.get("question")
    else:
        endings = [name for name in cells if _ENDING.fullmatch(name)]
        choices = [cells[name] for name in sorted(endings, key=_number_of)]
        context, before = cells.get("sent1"), cells.get("sent2")
    if not isinstance(choices, list) or not all(isinstance(choice, str) for choice in choices):
        raise InputError(f"{place}: choices must be a list of texts; got {choices!r}")
    if len(choices) < 2:
        raise InputError(
            f"{place}: needs at least two choices, as a list of choices or in columns ending0, "
            f"ending1, ...; it has {len(choices)}"
        )
    for name, text in (("context", context), ("question", before)):
        if text is not None and not isinstance(text, str):
            raise InputError(f"{place}: {name} must be text; got {text!r}")
    if context is None and before is None:
        raise InputError(f'{place}: needs "context", "question" or both (of SWAG sent1, sent2)')
    if context is None:
        context, before = before, None
    full = [f"{before} {choice}".strip() if before else choice for choice in choices]
    label = _label(place, cells.get("label"), len(choices), needed=label_needed)
    return ChoiceQuestion(place=place, context=context or "", choices=tuple(full), label=label)


def _number_of(ending: str) -> int:
    return int(ending.removeprefix("ending"))


def _label(place: str, value: Any, num_choices: int, *, needed: bool) -> int | None:
    """Return the index of the right choice; None without a label, or for -1 if none is needed."""
    if value is None or value == "":
        return None
    is_number = isinstance(value, int) or (isinstance(value, str) and value.strip().isdecimal())
    if not is_number or not 0 <= int(value) < num_choices:
        if not needed:
            return None
        raise InputError(
            f"{place}: label must be the number of the right choice, 0 to {num_choices - 1}; got "
            f"{value!r}"
        )
    return int(value)
