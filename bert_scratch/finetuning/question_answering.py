"""Question answering: where in a passage the answer to a question begins and ends.

A passage longer than a row is read in overlapping windows. An answer's score is the sum of the
logits of its start and end, in the window with most context around its start. Answers are ranked
over all windows.
"""

from __future__ import annotations

import sys
from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from numpy.lib.stride_tricks import sliding_window_view
from tokenizers import Encoding, Tokenizer
from torch import Tensor, nn

from bert_scratch.config import InputError, counted
from bert_scratch.data.encoding import TextEncoder, encode_with_offsets
from bert_scratch.data.wordpiece import SpecialIds, special_ids
from bert_scratch.finetuning.question_scores import is_chinese, question_scores
from bert_scratch.finetuning.questions import Question, read_questions
from bert_scratch.finetuning.rows import Ids, Row, RowBatch, token_sequence
from bert_scratch.finetuning.task import Task
from bert_scratch.inference.encode import Window, windows_of
from bert_scratch.model.losses import IGNORED_LABEL, cross_entropy_sum
from bert_scratch.model.task_heads import BertForQuestionAnswering

MAX_QUESTION_TOKENS = 64
"""As in google-research/bert, but at most half a row if rows are short."""
MAX_ANSWER_TOKENS = 30
"""As in google-research/bert; more if training answers are longer."""
NOT_LEARNT = [IGNORED_LABEL] * 2
"""The label of a row whose answer is not a span of the passage."""
_ENCODED_TOGETHER = 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class WindowRow(Row):
    """A question and a window of its passage."""

    first: int
    """The position of the window's first token."""
    places: npt.NDArray[np.int64]
    """[W, 2] start and end of each of its tokens, in characters of the passage."""
    is_best: npt.NDArray[np.bool_]
    """[W] whether no other window has more context around a token."""


@dataclass(frozen=True, slots=True)
class Candidate:
    """A span of the passage that may be the answer."""

    score: float
    """The sum of the logits of its start and end."""
    start: int
    """The first character, counted in the passage."""
    end: int
    """The character after the last."""
    probability: float = 0.0
    """Probability among the candidates, and no answer if that is possible."""


@dataclass(frozen=True)
class Ranking:
    """The model's answer to a question."""

    text: str
    """The best candidate, or "" for no answer."""
    candidates: list[Candidate]
    """The best first."""
    null_score: float
    """Score of no answer minus that of the best candidate."""


class QuestionAnswering(Task[Question, Ranking]):
    """Find the answer in a passage, or decide that there is none.

    Source:
        Devlin et al. 2018, sections 4.2 and 4.3; google-research/bert run_squad.py.
    """

    model_class = BertForQuestionAnswering

    def read(self, file: str, *, labels_needed: bool) -> list[Question]:
        """Read SQuAD's JSON, or JSON lines; see `questions`."""
        return read_questions(file, labels_needed=labels_needed)

    def is_labelled(self, example: Question) -> bool:
        """Tell whether the right answers are known."""
        return example.references is not None

    def unlabelled(self, example: Question) -> Question:
        """Return the question alone."""
        return replace(example, references=None)

    def learn(self, examples: Sequence[Question]) -> None:
        """Find out how long answers are, and whether some questions have none."""
        answers = [reference for e in examples for reference in e.references or ()]
        if answers and all(answer.start is None for answer in answers):
            raise InputError(
                f"{examples[0].place}: no answer of {len(answers):,} is found in its passage, "
                f"so where answers are cannot be learned"
            )
        settings = self.settings
        if settings.max_answer_length is None:
            settings = settings.replace(max_answer_length=_longest_answer(examples))
        if settings.null_score_threshold is None and any(e.references == () for e in examples):
            settings = settings.replace(null_score_threshold=0.0)
        self.settings = settings

    @property
    def config_fields(self) -> dict[str, Any]:
        """Two outputs without names, as in transformers."""
        return {"id2label": None, "problem_type": None}

    def encode(self, examples: Sequence[Question], tokenizer: Tokenizer) -> list[Row]:
        """Cut passages into windows, each after its question."""
        encoder, special = TextEncoder(tokenizer), special_ids(tokenizer)
        rows, num_cut = list[Row](), 0
        longest = min(MAX_QUESTION_TOKENS, self.settings.row_length // 2)
        labelled = all(self.is_labelled(example) for example in examples)
        for start in range(0, len(examples), _ENCODED_TOGETHER):
            some = examples[start : start + _ENCODED_TOGETHER]
            passages = list(dict.fromkeys(example.context for example in some))
            encodings = encode_with_offsets(tokenizer, passages)
            of_passage = dict(zip(passages, encodings, strict=True))
            questions = encoder.encode([example.question for example in some])
            for number, (example, question) in enumerate(zip(some, questions, strict=True), start):
                num_cut += len(question) > longest
                rows += self._windows(
                    *(number, example, question[:longest], of_passage[example.context]),
                    special=special,
                    labelled=labelled,
                )
        all_questions = counted(len(examples), "question")
        length = f"--max-seq-length {self.settings.row_length}"
        num_lost = len({row.example for row in rows if row.label == NOT_LEARNT})
        if num_cut:
            _say(f"cut        {num_cut:,} of {all_questions} after {longest} tokens")
        if num_lost:
            _say(
                f"unseen     the answers of {num_lost:,} of {all_questions}: not in the passage, "
                f"or no row of {length} shows them whole"
            )
        if len(rows) > len(examples):
            _say(f"windows    {all_questions} in {len(rows):,} rows of {length}")
        return rows

    def _windows(
        self,
        number: int,
        example: Question,
        question: Ids,
        passage: Encoding,
        *,
        special: SpecialIds,
        labelled: bool,
    ) -> list[Row]:
        """Return the rows of one question."""
        room = self.settings.row_length - len(question) - 3
        stride = min(self.settings.doc_stride or (room + 1) // 2, room)
        ids = np.array(passage.ids, dtype=np.int32)
        places = np.array(passage.offsets, dtype=np.int64).reshape(-1, 2)
        windows = list(windows_of([passage.ids], max_tokens=room, stride=stride))
        first = len(question) + 2
        labels: Sequence[list[int] | None] = [None] * len(windows)
        if labelled:
            labels = _labels(example, _answer_tokens(example, places), windows, first)
        rows: list[Row] = []
        best = _best_windows(windows, len(ids))
        for window, is_best, label in zip(windows, best, labels, strict=True):
            inside = slice(window.start, window.start + len(window.ids))
            rows.append(
                WindowRow(
                    sequences=(token_sequence(question, ids[inside], special),),
                    example=number,
                    place=example.place,
                    label=label,
                    first=first,
                    places=places[inside],
                    is_best=is_best,
                )
            )
        return rows

    def logits(self, model: nn.Module, batch: RowBatch) -> Tensor:
        """Return [R, S, 2], the scores of start and end."""
        output = model(batch.input_ids, batch.token_type_ids, batch.attention_mask)
        return torch.stack([output.start_logits, output.end_logits], dim=-1)

    def logits_sizes(self, batch: RowBatch) -> dict[str, int | None]:
        """Return [R, S, 2], the scores of start and end."""
        return {"rows": len(batch.rows), "tokens": batch.input_ids.shape[-1], "start and end": 2}

    def loss(self, logits: Tensor, batch: RowBatch) -> Tensor:
        """Return [], the mean cross-entropy of start and end, summed over rows."""
        assert batch.labels is not None
        ends = (cross_entropy_sum(logits[..., i], batch.labels[:, i])[0] for i in (0, 1))
        return torch.stack(list(ends)).mean()

    def loss_weight(self, batch: RowBatch) -> float:
        """Return the number of rows to learn from."""
        return float(sum(row.label != NOT_LEARNT for row in batch.rows))

    def answers(
        self, examples: Sequence[Question], rows: Sequence[Row], logits: Sequence[Tensor]
    ) -> list[Ranking]:
        """Rank the candidates of all windows of each question."""
        answers = []
        pairs = zip(rows, logits, strict=True)
        for number, group in groupby(pairs, key=lambda pair: pair[0].example):
            windows = [(row, scores) for row, scores in group if isinstance(row, WindowRow)]
            answers.append(self._rank(examples[number].context, windows))
        return answers

    def _rank(self, context: str, windows: Sequence[tuple[WindowRow, Tensor]]) -> Ranking:
        settings = self.settings
        longest = settings.max_answer_length or MAX_ANSWER_TOKENS
        limits = {"number": settings.n_best_size, "longest": longest}
        found = [c for row, scores in windows for c in _candidates(row, scores, **limits)]
        best: dict[str, Candidate] = {}
        for candidate in sorted(found, key=lambda c: (-c.score, c.start, c.end)):
            best.setdefault(context[candidate.start : candidate.end], candidate)
        kept = list(best.items())[: settings.n_best_size]
        null = min(float(scores[0].sum()) for _, scores in windows)
        threshold = settings.null_score_threshold
        scores = [candidate.score for _, candidate in kept]
        shares = torch.tensor(scores + [null] * (threshold is not None)).softmax(dim=0).tolist()
        candidates = [
            Candidate(c.score, c.start, c.end, share)
            for (_, c), share in zip(kept, shares, strict=False)
        ]
        null_score = null - scores[0] if scores else float("inf")
        is_null = not kept or (threshold is not None and null_score > threshold)
        return Ranking("" if is_null else kept[0][0], candidates, null_score)

    @property
    def metric_names(self) -> tuple[str, ...]:
        """F1 of shared words, and the share of exact matches."""
        return ("f1", "exact_match")

    def metrics(self, examples: Sequence[Question], answers: Sequence[Ranking]) -> dict[str, float]:
        """Compare as the sets' own scripts do, with each question's best reference, in [0, 1]."""
        scores = [
            question_scores(
                answer.text, [reference.text for reference in e.references or ()], e.context
            )
            for e, answer in zip(examples, answers, strict=True)
        ]
        exact, f1 = np.mean(scores, axis=0)
        return {"f1": float(f1), "exact_match": float(exact)}

    def compared(self, example: Question, answer: Ranking) -> tuple[str, list[str]]:
        """Return the predicted answer, and all right answers."""
        return answer.text, [reference.text for reference in example.references or ()]

    def record(self, example: Question, answer: Ranking) -> dict[str, Any]:
        """Return the answer, its place in characters, and the ranking."""
        ranking: list[dict[str, Any]] = [
            {
                "text": example.context[candidate.start : candidate.end],
                "start": candidate.start,
                "end": candidate.end,
                "probability": round(candidate.probability, 6),
            }
            for candidate in answer.candidates
        ]
        values: dict[str, Any] = {
            "answer": answer.text,
            "id": example.id,
            "question": example.question,
        }
        if answer.text:
            values |= {key: ranking[0][key] for key in ("start", "end", "probability")}
        if ranking:
            values["null_score"] = round(answer.null_score, 6)
        return {**values, "n_best": ranking}


def _say(line: str) -> None:
    print(line, file=sys.stderr)


def _longest_answer(examples: Sequence[Question]) -> int:
    """Return the length that 99 % of answers fit in: an ideograph is 1 token, another word 1.5."""
    lengths = [
        len(r.text) if is_chinese(example.context) else 1.5 * len(r.text.split())
        for example in examples
        for r in example.references or ()
    ]
    return max(MAX_ANSWER_TOKENS, int(np.quantile(lengths or [0], 0.99)))


def _best_windows(windows: Sequence[Window], num_tokens: int) -> list[npt.NDArray[np.bool_]]:
    """Return, for each window, which of its tokens have the most context there.

    Source:
        google-research/bert run_squad.py `_check_is_max_context`.
    """
    shown = np.full((len(windows), num_tokens), -1.0)
    for row, window in zip(shown, windows, strict=True):
        places = np.arange(len(window.ids))
        around = np.minimum(places, len(window.ids) - 1 - places) + 0.01 * len(window.ids)
        row[window.start : window.start + len(window.ids)] = around
    best = shown.argmax(axis=0)
    return [
        best[window.start : window.start + len(window.ids)] == number
        for number, window in enumerate(windows)
    ]


def _answer_tokens(example: Question, places: npt.NDArray[np.int64]) -> tuple[int, int] | None:
    """Return the first and last token of the answer; None if it is not in the passage."""
    reference = next((r for r in example.references or () if r.start is not None), None)
    if reference is None or reference.start is None:
        return None
    start, end = reference.start, reference.start + len(reference.text)
    first = bisect_right(places[:, 1].tolist(), start)
    last = bisect_left(places[:, 0].tolist(), end) - 1
    return (first, last) if first <= last else None


def _labels(
    example: Question, answer: tuple[int, int] | None, windows: Sequence[Window], first: int
) -> list[list[int]]:
    """Return the positions of the answer's start and end in each window, [CLS] where it lacks it.

    An answer that is not a span of the passage, or that no window holds whole, cannot be learnt
    from: -100 in all windows.
    """
    if answer is None:
        return [NOT_LEARNT if example.references else [0, 0]] * len(windows)
    labels = []
    for window in windows:
        start, end = (token - window.start for token in answer)
        is_whole = start >= 0 and end < len(window.ids)
        labels.append([first + start, first + end] if is_whole else [0, 0])
    return labels if any(map(any, labels)) else [NOT_LEARNT] * len(windows)


def _candidates(row: WindowRow, scores: Tensor, *, number: int, longest: int) -> list[Candidate]:
    """Return a window's best spans that are not too long and start where its context is best."""
    places, num_tokens = row.places, len(row.places)
    starts, ends = scores[row.first : row.first + num_tokens].numpy().T
    behind = np.full(longest, -np.inf, dtype=ends.dtype)
    # [W, L]: for each first token, with the last 0 to L - 1 tokens after it
    sums = starts[:, None] + sliding_window_view(np.append(ends, behind), longest)[:num_tokens]
    sums[~row.is_best] = -np.inf
    count = min(number, int(np.isfinite(sums).sum()))
    best = np.argsort(-sums, axis=None, kind="stable")[:count]
    firsts, lengths = np.divmod(best, longest)
    return [
        Candidate(float(sums[first, more]), int(places[first, 0]), int(places[first + more, 1]))
        for first, more in zip(firsts, lengths, strict=True)
    ]
