"""Token classification: named entities in any tagging scheme, or a plain class for each word.

A word's tag is read at its first piece; the others do not count. A text longer than a row is read
in overlapping windows, and each word's tag is taken from the window with most context around it.
"""

from __future__ import annotations

import sys
from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from typing import Any

import numpy as np
from tokenizers import Tokenizer
from torch import Tensor

from bert_scratch.config import InputError, counted, did_you_mean
from bert_scratch.data.wordpiece import special_ids
from bert_scratch.extras import import_extra
from bert_scratch.finetuning.entity_loss import entity_loss_sum
from bert_scratch.finetuning.pieces import Pieces, Places, pieces_of
from bert_scratch.finetuning.rows import Row, RowBatch, token_sequence
from bert_scratch.finetuning.tagged_text import TaggedText, read_tagged_texts
from bert_scratch.finetuning.tagging_schemes import (
    OUTSIDE,
    Span,
    iob2_labels,
    is_entity_tag,
    kind_of,
    likeliest_tags,
    spans_of_tags,
    tags_of_spans,
)
from bert_scratch.finetuning.task import Task
from bert_scratch.inference.encode import windows_of
from bert_scratch.model.losses import IGNORED_LABEL, cross_entropy_sum
from bert_scratch.model.task_heads import BertForTokenClassification


@dataclass(frozen=True, slots=True, kw_only=True)
class TaggedRow(Row):
    """A window of a text, and the words whose first piece is in it."""

    columns: Places
    """[W] position of each word's first piece in the row."""
    words: Places
    """[W] index of each word in its text."""
    places: Places
    """[W, 2] start and end of each word in the text, in characters."""


@dataclass(frozen=True)
class Tagging:
    """The tags of a text's words."""

    places: list[tuple[int, int]]
    """Start and end of each word, in characters."""
    tags: list[str]
    probabilities: list[float]
    """The probability of each tag."""

    @property
    def spans(self) -> list[Span]:
        """The entities, in characters."""
        return [
            (self.places[first][0], self.places[end - 1][1], kind)
            for first, end, kind in spans_of_tags(self.tags)
        ]


class TokenClassification(Task[TaggedText, Tagging]):
    """Give each word of a text a tag.

    Source:
        Devlin et al. 2018, section 5.3.
    """

    model_class = BertForTokenClassification

    def read(self, file: str, *, labels_needed: bool) -> list[TaggedText]:
        """Read CoNLL columns, rows of tags, JSON, or texts for prediction; see `tagged_text`."""
        return read_tagged_texts(
            file,
            self.settings,
            labels_needed=labels_needed,
            labels=self.labels,
            columns_asked=self.columns_asked,
        )

    def is_labelled(self, example: TaggedText) -> bool:
        """Tell whether words are tagged, or spans are marked."""
        return example.tags is not None or example.spans is not None

    def unlabelled(self, example: TaggedText) -> TaggedText:
        """Return only the text and its words."""
        return replace(example, tags=None, spans=None)

    def learn(self, examples: Sequence[TaggedText]) -> None:
        """Take the labels from the entity kinds, or the classes, of the examples.

        Raises:
            InputError: if there is no tag but O.
        """
        tags = {tag for example in examples for tag in example.tags or ()}
        kinds = {kind for example in examples for _, _, kind in example.spans or ()}
        if kinds or any(is_entity_tag(tag) for tag in tags):
            kinds |= {kind_of(tag) for tag in tags if tag != OUTSIDE}
            self.labels = iob2_labels(kinds)
        else:
            self.labels = tuple(sorted(tags))
        if len(self.labels) < 2:
            raise InputError(
                f"{examples[0].place}: in this file every word is tagged "
                f"{self.labels[0] if self.labels else 'O'}: there is nothing to learn"
            )

    @property
    def config_fields(self) -> dict[str, Any]:
        """The labels."""
        return {"id2label": dict(enumerate(self.labels))}

    @property
    def _marks_entities(self) -> bool:
        return any(is_entity_tag(label) for label in self.labels)

    @property
    def _is_iob2(self) -> bool:
        """Whether the labels are as `learn` sets them; other models may begin entities with I-."""
        kinds = {kind_of(label) for label in self.labels if label != OUTSIDE}
        return self._marks_entities and self.labels == iob2_labels(kinds)

    def encode(self, examples: Sequence[TaggedText], tokenizer: Tokenizer) -> list[Row]:
        """Cut texts into windows, with a label at each word's first piece."""
        numbers = {label: number for number, label in enumerate(self.labels)}
        room = self.settings.row_length - 2
        special, rows, num_long, num_off = special_ids(tokenizer), list[Row](), 0, 0
        for index, (example, text) in enumerate(
            zip(examples, pieces_of(examples, tokenizer), strict=True)
        ):
            labels = self._labels(example, text, numbers)
            num_long += len(text.ids) > room
            num_off += _num_off_words(example, text)
            stride = min(self.settings.doc_stride or (room + 1) // 2, room)
            for window in windows_of([text.ids.tolist()], max_tokens=room, stride=stride):
                end = window.start + len(window.ids)
                words = np.flatnonzero((text.first >= window.start) & (text.first < end))
                columns = text.first[words] - window.start + 1
                token_labels = None
                if labels is not None:
                    token_labels = np.full(len(window.ids) + 2, IGNORED_LABEL, dtype=np.int64)
                    token_labels[columns] = labels[words]
                rows.append(
                    TaggedRow(
                        sequences=(
                            token_sequence(np.array(window.ids, dtype=np.int32), None, special),
                        ),
                        example=index,
                        place=example.place,
                        token_labels=token_labels,
                        columns=columns,
                        words=words,
                        places=text.places[words],
                    )
                )
        if num_long:
            print(
                f"windows    {num_long} of {counted(len(examples), 'text')} longer than "
                f"--max-seq-length {self.settings.row_length}: {counted(len(rows), 'row')}",
                file=sys.stderr,
            )
        if num_off:
            print(
                f"off words  {counted(num_off, 'span')} from or to the middle of a word, which "
                f"cannot be found; start and end count characters, not bytes, the end excluded",
                file=sys.stderr,
            )
        return rows

    def _labels(self, example: TaggedText, text: Pieces, numbers: dict[str, int]) -> Places | None:
        """Return [W], the label of each word."""
        tags = _tags(example, [(int(start), int(end)) for start, end in text.places])
        if tags is None:
            return None
        for word, tag in enumerate(tags):
            if tag not in numbers:
                what, known = "tag", list(self.labels)
                if self._marks_entities and is_entity_tag(tag):
                    what, known = "kind", [label[2:] for label in self.labels if label[0] == "B"]
                    tag = kind_of(tag)
                place = example.place_of(word) if example.tags is not None else example.place
                raise InputError(
                    f"{place}: has the {what} {tag!r}, which training did not see; known are "
                    f"{', '.join(known)}{did_you_mean(tag, known)}"
                )
        return np.array([numbers[tag] for tag in tags], dtype=np.int64)

    def logits_sizes(self, batch: RowBatch) -> dict[str, int | None]:
        """Return [R, S, L], a score for each tag of each token."""
        return {
            "rows": len(batch.rows),
            "tokens": batch.input_ids.shape[-1],
            "labels": len(self.labels),
        }

    def loss(self, logits: Tensor, batch: RowBatch) -> Tensor:
        """Return [], the cross-entropy of [R, S, L] summed over words; for entities, over rows."""
        assert batch.labels is not None
        if self._is_iob2:
            return entity_loss_sum(logits, batch.labels)
        return cross_entropy_sum(logits.flatten(0, 1), batch.labels.flatten())[0]

    def loss_weight(self, batch: RowBatch) -> float:
        """Return the number of words."""
        labels = [row.token_labels for row in batch.rows if row.token_labels is not None]
        return float(sum(np.count_nonzero(tags != IGNORED_LABEL) for tags in labels))

    def answers(
        self, examples: Sequence[TaggedText], rows: Sequence[Row], logits: Sequence[Tensor]
    ) -> list[Tagging]:
        """Take each word's likeliest tag, from the window with most context around it.

        If a word's likeliest tag continues an entity that was not begun, the likeliest valid
        sequence of tags is taken.
        """
        answers = []
        pairs = zip(rows, logits, strict=True)
        for _, group in groupby(pairs, key=lambda pair: pair[0].example):
            windows = [(row, scores) for row, scores in group if isinstance(row, TaggedRow)]
            answers.append(self._answer(windows))
        return answers

    def _answer(self, windows: Sequence[tuple[TaggedRow, Tensor]]) -> Tagging:
        num_words = max((int(row.words[-1]) + 1 for row, _ in windows if len(row.words)), default=0)
        margins, places = np.full(num_words, -1), np.zeros((num_words, 2), dtype=np.int64)
        log_probabilities = np.zeros((num_words, len(self.labels)))
        for row, scores in windows:
            margin = np.minimum(row.columns, row.num_tokens - 1 - row.columns)
            better = margin > margins[row.words]
            words, columns = row.words[better], row.columns[better]
            margins[words], places[words] = margin[better], row.places[better]
            log_probabilities[words] = scores[columns].log_softmax(dim=-1)
        labels = log_probabilities.argmax(axis=1)
        if self._is_iob2:
            labels = likeliest_tags(log_probabilities, self.labels)
        return Tagging(
            places=[(int(start), int(end)) for start, end in places],
            tags=[self.labels[label] for label in labels],
            probabilities=np.exp(log_probabilities[np.arange(num_words), labels]).tolist(),
        )

    @property
    def metric_names(self) -> tuple[str, ...]:
        """For entities f1, precision and recall; always the share of words tagged correctly."""
        return ("f1", "precision", "recall", "accuracy") if self._marks_entities else ("accuracy",)

    def metrics(
        self, examples: Sequence[TaggedText], answers: Sequence[Tagging]
    ) -> dict[str, float]:
        """Compare whole entities, with seqeval: start, end and kind must be right."""
        pairs = list(zip(examples, answers, strict=True))
        truth = [_tags(example, answer.places) or [] for example, answer in pairs]
        right = [
            tag == given
            for tags, (_, answer) in zip(truth, pairs, strict=True)
            for tag, given in zip(tags, answer.tags, strict=True)
        ]
        accuracy = {"accuracy": float(np.mean(right)) if right else 0.0}
        if not self._marks_entities:
            return accuracy
        seqeval = import_extra("seqeval.metrics.v1", "measuring entities", "sklearn")
        schemes = import_extra("seqeval.scheme", "measuring entities", "sklearn")
        compared = [_comparable(*pair) for pair in pairs]
        precision, recall, f1, _ = seqeval.precision_recall_fscore_support(
            [given for given, _ in compared],
            [found for _, found in compared],
            average="micro",
            scheme=schemes.IOB2,
            zero_division=0,
        )
        return {"f1": float(f1), "precision": float(precision), "recall": float(recall), **accuracy}

    def compared(self, example: TaggedText, answer: Tagging) -> tuple[list[str], list[str]]:
        """Return predicted and right tags of the words, in IOB2 if they mark entities."""
        return answer.tags, _tags(example, answer.places) or []

    def record(self, example: TaggedText, answer: Tagging) -> dict[str, Any]:
        """Return entities with their characters and words with their tags; `read` takes both."""
        spans = {"spans": [list(span) for span in answer.spans]} if self._marks_entities else {}
        return {
            **spans,
            "tags": answer.tags,
            "tokens": [example.text[start:end] for start, end in answer.places],
            "probabilities": [round(share, 6) for share in answer.probabilities],
            "text": example.text,
        }


def _tags(example: TaggedText, places: Sequence[tuple[int, int]]) -> list[str] | None:
    """Return the tags of the words at some places; a span covers each word it overlaps."""
    if example.tags is not None:
        return list(example.tags)
    if example.spans is None:
        return None
    starts, ends = [start for start, _ in places], [end for _, end in places]
    spans: list[Span] = []
    for start, end, kind in example.spans:
        first = max(bisect_right(ends, start), spans[-1][1] if spans else 0)
        behind = bisect_left(starts, end)
        if first < behind:
            spans.append((first, behind, kind))
    return tags_of_spans(spans, len(places))


def _num_off_words(example: TaggedText, text: Pieces) -> int:
    """Return how many spans of a text begin or end inside a word."""
    if not example.spans:
        return 0
    starts, ends = (set(column.tolist()) for column in text.places.T)
    return sum(start not in starts or end not in ends for start, end, _ in example.spans)


def _comparable(example: TaggedText, answer: Tagging) -> tuple[list[str], list[str]]:
    """Return the right and the predicted tags of the same units.

    If the example has spans of characters, the units are characters. A span that is not a whole
    number of the tokenizer's words cannot be found, and counts as missed.
    """
    if example.spans is None:
        return list(example.tags or ()), answer.tags
    length = len(example.text)
    return tags_of_spans(example.spans, length), tags_of_spans(answer.spans, length)
