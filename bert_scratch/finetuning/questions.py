"""Files of questions about passages: SQuAD 1.1, SQuAD 2.0 and CMRC 2018, or JSON lines.

Each JSON line is {"question": ..., "context": ..., "answers": ...}, where `answers` is a list of
{"text": ..., "answer_start": ...} or, as in data sets of the hub, {"text": [...],
"answer_start": [...]}.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

from bert_scratch.config import InputError, counted
from bert_scratch.data.records import check_characters, json_table, read_text
from bert_scratch.finetuning.task import Example

NEARBY = 20
"""An answer's position may be off by this many characters and is still corrected."""


@dataclass(frozen=True, slots=True)
class Reference:
    """A right answer."""

    text: str
    start: int | None
    """Its first character in the passage; None if it is not in the passage."""


@dataclass(frozen=True, kw_only=True)
class Question(Example):
    """A question about a passage."""

    id: str
    question: str
    context: str
    references: tuple[Reference, ...] | None = None
    """Right answers; empty if the passage has none, None if they are not known."""


def read_questions(file: str, *, labels_needed: bool) -> list[Question]:
    """Read questions, and report on standard error how many answers are misplaced in the file.

    Args:
        file: a path, or - for standard input.
        labels_needed: whether a question without "answers", or with unusable ones, is an error.

    Raises:
        InputError: naming the file and the line or the question.
    """
    name, text = read_text(file)
    questions = _squad(name, text, labels_needed=labels_needed)
    if questions is None:
        questions = list(_lines(name, text, labels_needed=labels_needed))
    if not questions:
        raise InputError(f"{name}: holds no questions")
    for question in questions if labels_needed else ():
        if question.references is None:
            raise InputError(f'{question.place}: has no "answers"')
    return _mended(name, questions)


def _squad(name: str, text: str, *, labels_needed: bool) -> list[Question] | None:
    """Read a whole SQuAD document; None if the text is not one JSON document."""
    try:
        document = json.loads(text)
    except (ValueError, RecursionError):
        return None
    if not isinstance(document, dict) or "data" not in document:
        return None
    check_characters(name, text, document)
    questions: list[Question] = []
    for a, article in enumerate(_list(document, "data", name)):
        for p, paragraph in enumerate(_list(article, "paragraphs", f"{name}: data[{a}]")):
            where = f"{name}: data[{a}].paragraphs[{p}]"
            context = _string(paragraph, "context", where)
            for values in _list(paragraph, "qas", where):
                identity = str(values.get("id", "")) if isinstance(values, dict) else ""
                place = f"{name}, question {identity or f'{len(questions)} of {where}'}"
                identity = identity or str(len(questions))
                questions.append(
                    _question(place, values, context, identity, labels_needed=labels_needed)
                )
    return questions


def _lines(name: str, text: str, *, labels_needed: bool) -> Iterator[Question]:
    if text.strip() and not text.lstrip().startswith("{"):
        raise InputError(
            f"{name}: must be SQuAD's JSON, or a JSON object with "
            f'"question" and "context" per line'
        )
    for number, record in enumerate(json_table(name, text).records):
        context = _string(record.cells, "context", record.place)
        identity = record.cells.get("id", number)
        yield _question(record.place, record.cells, context, identity, labels_needed=labels_needed)


def _question(
    place: str, values: Any, context: str, identity: Any, *, labels_needed: bool
) -> Question:
    question = _string(values, "question", place)
    try:
        references = _references(place, values)
    except InputError:
        if labels_needed:
            raise
        references = None
    return Question(
        place=place,
        id=str(identity),
        question=question,
        context=context,
        references=references,
    )


def _references(place: str, values: dict[str, Any]) -> tuple[Reference, ...] | None:
    if "answers" not in values:
        return None
    answers = values["answers"]
    if isinstance(answers, dict):
        columns = [_list(answers, key, f"{place}, answers") for key in ("text", "answer_start")]
        num_texts, num_starts = map(len, columns)
        if num_texts != num_starts:
            raise InputError(
                f"{place}: answers has {num_texts} text and {num_starts} answer_start; each answer "
                f"needs both"
            )
        answers = [{"text": t, "answer_start": s} for t, s in zip(*columns, strict=True)]
    if not isinstance(answers, list):
        raise InputError(f"{place}: answers must be a list; got {answers!r}")
    if values.get("is_impossible"):
        return ()
    references = []
    for answer in answers:
        start = answer.get("answer_start") if isinstance(answer, dict) else None
        if start is not None and not isinstance(start, int):
            raise InputError(f"{place}: answer_start must be a whole number; got {start!r}")
        references.append(Reference(_string(answer, "text", f"{place}, answers"), start))
    return tuple(references)


def _mended(name: str, questions: Sequence[Question]) -> list[Question]:
    """Move answers to where their text stands in the passage."""
    mended, num_moved, num_lost = [], 0, 0
    for question in questions:
        references = []
        for reference in question.references or ():
            start = _start(question.context, reference)
            num_lost += start is None
            num_moved += start is not None and start != reference.start
            references.append(Reference(reference.text, start))
        known = None if question.references is None else tuple(references)
        mended.append(replace(question, references=known))
    if num_moved:
        print(
            f"mended     {name}: {counted(num_moved, 'answer')} placed where the text is; "
            f"answer_start was missing or not exact",
            file=sys.stderr,
        )
    if num_lost:
        print(
            f"mended     {name}: {counted(num_lost, 'answer')} not found in the passage; counted "
            f"in evaluation, not trained on",
            file=sys.stderr,
        )
    return mended


def _start(context: str, reference: Reference) -> int | None:
    """Return an answer's position: the stated one, or the only match nearby."""
    text, said = reference.text, reference.start
    if not text:
        return None
    if said is not None and said >= 0 and context.startswith(text, said):
        return said
    places = [found.start() for found in re.finditer(f"(?={re.escape(text)})", context)]
    if said is not None and said >= 0:
        places = [place for place in places if abs(place - said) <= NEARBY]
    return places[0] if len(places) == 1 else None


def _list(values: Any, key: str, place: str) -> list[Any]:
    found = values.get(key) if isinstance(values, dict) else None
    if not isinstance(found, list):
        raise InputError(f'{place}: needs a list "{key}"')
    return found


def _string(values: Any, key: str, place: str) -> str:
    found = values.get(key) if isinstance(values, dict) else None
    if not isinstance(found, str):
        raise InputError(f'{place}: needs a string "{key}"')
    return found
