"""Pins the reading of questions: SQuAD 1.1 and 2.0, CMRC 2018 and JSON lines; answers are put where
their text stands, and what is wrong is named with its place.

Run alone: `pytest tests/finetuning/test_questions.py`; the real sets are read where they are.
"""

from __future__ import annotations

import json

import pytest

from bert_scratch.config import InputError
from bert_scratch.finetuning.questions import Reference, read_questions

CONTEXT = "Denver Broncos won. The game was in Santa Clara. Denver is a city."


def squad(*qas, context=CONTEXT):
    return json.dumps(
        {"version": "x", "data": [{"paragraphs": [{"context": context, "qas": qas}]}]}
    )


def reading(tmp_path, text, *, labels_needed=True):
    (tmp_path / "some.json").write_text(text, encoding="utf-8")
    return read_questions(str(tmp_path / "some.json"), labels_needed=labels_needed)


def qa(*answers, **more):
    found = [{"text": text, "answer_start": start} for text, start in answers]
    return {"id": "q7", "question": "Who won?", "answers": found, **more}


def test_squad_with_several_references_and_without_any(tmp_path):
    text = squad(qa(("Denver Broncos", 0), ("Broncos", 7)), qa(is_impossible=True))
    first, second = reading(tmp_path, text)
    assert first.references == (Reference("Denver Broncos", 0), Reference("Broncos", 7))
    assert (first.id, first.question, first.context) == ("q7", "Who won?", CONTEXT)
    assert second.references == ()


def test_json_lines_in_both_forms_of_answers(tmp_path):
    one = {
        "question": "Who?",
        "context": CONTEXT,
        "answers": [{"text": "Broncos", "answer_start": 7}],
    }
    other = {**one, "answers": {"text": ["Broncos"], "answer_start": [7]}}
    first, second = reading(tmp_path, json.dumps(one) + "\n" + json.dumps(other) + "\n")
    assert first.references == second.references == (Reference("Broncos", 7),)
    assert second.place.endswith("some.json:2")
    assert (first.id, second.id) == ("0", "1")


def test_questions_to_answer_need_no_answers(tmp_path):
    text = squad({"id": 3, "question": "Who?"})
    assert reading(tmp_path, text, labels_needed=False)[0].references is None
    with pytest.raises(InputError, match='some.json, question 3: has no "answers"'):
        reading(tmp_path, text)


def test_an_answer_a_little_beside_is_mended_and_said(tmp_path, capsys):
    (question,) = reading(tmp_path, squad(qa(("Santa Clara", 35), ("won", -1), ("Broncos", None))))
    assert [reference.start for reference in question.references] == [36, 15, 7]
    assert "3 answers placed where the text is" in capsys.readouterr().err


def test_an_answer_that_is_not_there_counts_but_is_not_learnt(tmp_path, capsys):
    asked = squad(qa(("Denver", 26), ("Paris", 4), ("Denver", None), ("is a city", 2)))
    (question,) = reading(tmp_path, asked)
    assert [reference.start for reference in question.references] == [None] * 4
    assert question.references[1].text == "Paris"
    assert "4 answers not found in the passage" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "some.json: holds no questions"),
        ('{"data": []}', "some.json: holds no questions"),
        ("who won?", r"some.json: must be SQuAD's JSON, or a JSON object"),
        ('{"data": 3}', r'some.json: needs a list "data"'),
        ('{"data": [{"title": "x"}]}', r'some.json: data\[0\]: needs a list "paragraphs"'),
        ('{"data": [{"paragraphs": [{"qas": []}]}]}', r'paragraphs\[0\]: needs a string "context"'),
        (squad({"id": "q7", "question": "\ud800"}), r"some.json: holds half of a surrogate pair"),
        (squad({"id": "q7"}), r'some.json, question q7: needs a string "question"'),
        (squad(7), r'data\[0\].paragraphs\[0\]: needs a string "question"'),
        (squad(qa((3, 0))), r'question q7, answers: needs a string "text"'),
        (squad(qa(("Denver", "0"))), r"q7: answer_start must be a whole number; got '0'"),
        (squad({**qa(), "answers": "Denver"}), r"q7: answers must be a list; got 'Denver'"),
        (
            squad({**qa(), "answers": {"text": ["cat", "the"], "answer_start": [4]}}),
            r"q7: answers has 2 text and 1 answer_start; each answer needs both",
        ),
        (squad({**qa(), "answers": None}), r"q7: answers must be a list; got None"),
        ('{"question": "a"}', r'some.json:1: needs a string "context"'),
        ('{"question": "a", "context": "b"}\nx', r"some.json:2: is not JSON"),
    ],
)
def test_what_is_wrong_is_named_with_its_place(text, message, tmp_path):
    with pytest.raises(InputError, match=message):
        reading(tmp_path, text)


@pytest.mark.parametrize(
    ("name", "num_questions", "num_lost"),
    [("squad-v1.1/dev-v1.1.json", 10570, 0), ("cmrc2018/cmrc2018_dev.json", 3219, 193)],
)
def test_real_sets_are_read_whole(name, num_questions, num_lost, shared):
    questions = read_questions(str(shared / "data" / name), labels_needed=True)
    assert len(questions) == num_questions
    references = [(q, reference) for q in questions for reference in q.references]
    assert sum(reference.start is None for _, reference in references) == num_lost
    assert all(
        question.context.startswith(reference.text, reference.start)
        for question, reference in references
        if reference.start is not None
    )


@pytest.mark.parametrize("answers", [None, "Denver", {"text": ["a", "b"], "answer_start": [4]}])
def test_unusable_answers_are_none_where_none_are_needed(tmp_path, answers):
    (question,) = reading(tmp_path, squad({**qa(), "answers": answers}), labels_needed=False)
    assert question.references is None
