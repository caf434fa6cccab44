"""Pins question answering: answers keep their characters through windows, candidates are the best
stretches there are, and no answer is given when its score says so.

Run alone: `pytest tests/finetuning/test_question_answering.py`.
"""

from __future__ import annotations

import json
from itertools import product

import numpy as np
import pytest
import torch
from tokenizers import Tokenizer

from bert_scratch.config import InputError
from bert_scratch.data.wordpiece import SpecialIds, build_tokenizer
from bert_scratch.finetuning.question_answering import QuestionAnswering, WindowRow, _candidates
from bert_scratch.finetuning.rows import RowBatch, token_sequence
from bert_scratch.finetuning.task_settings import TaskSettings

PASSAGE = "the Éclair, a cake; the tart a pie the bun a bread. in 北京 the pie"


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    words = "the cake tart pie bun bread in a , ; . ? what is who 北 京 ec"
    tokens = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *words.split(), "##lair", "##s"]
    vocab = {token: index for index, token in enumerate(tokens)}
    return build_tokenizer(vocab, lowercase=True, strip_accents=True, nfc=False)


def task_of(path, *questions, **changes):
    lines = [{"question": "what is a cake?", "context": PASSAGE, **q} for q in questions]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    task = QuestionAnswering(TaskSettings(task="question-answering", **changes))
    examples = task.read(str(path), labels_needed=True)
    task.learn(examples)
    return task, examples


def said(*texts):
    return {"answers": [{"text": text, "answer_start": PASSAGE.index(text)} for text in texts]}


def perfect(rows) -> list[torch.Tensor]:
    """Return scores that say what each row's labels say, with positions of padding behind."""
    scores = []
    for row in rows:
        of_row = torch.zeros(row.num_tokens + 4, 2)
        of_row[row.label[0], 0] = of_row[row.label[1], 1] = 5.0
        scores.append(of_row)
    return scores


@pytest.mark.parametrize("text", ["Éclair", "a pie", "Éclair, a cake", "北京", "京", "the pie"])
@pytest.mark.parametrize("length", [16, 24, 64])
def test_answers_keep_their_characters_through_windows(text, length, tmp_path, tokenizer):
    task, examples = task_of(tmp_path / "x", said(text), max_seq_length=length)
    rows = task.encode(examples, tokenizer)
    assert max(row.num_tokens for row in rows) <= length
    assert any(row.label != [0, 0] for row in rows)
    (answer,) = task.answers(examples, rows, perfect(rows))
    assert answer.text == text
    record = task.record(examples[0], answer)
    assert PASSAGE[record["start"] : record["end"]] == record["answer"] == text
    assert record["n_best"][0]["text"] == text
    assert task.metrics(examples, [answer]) == {"f1": 1.0, "exact_match": 1.0}


def test_each_token_is_shown_best_in_one_window(tmp_path, tokenizer):
    task, examples = task_of(tmp_path / "x", said("a pie"), max_seq_length=16, doc_stride=3)
    rows = task.encode(examples, tokenizer)
    assert len(rows) > 3
    seen = [place for row in rows for place in row.places[row.is_best][:, 0].tolist()]
    assert sorted(seen) == sorted({place for row in rows for place in row.places[:, 0].tolist()})
    middle = rows[1]
    assert middle.is_best[len(middle.places) // 2] and not middle.is_best[0]


def test_candidates_are_the_best_of_all_stretches(tmp_path, tokenizer):
    task, examples = task_of(
        tmp_path / "x", said("a pie"), max_seq_length=64, n_best_size=7, max_answer_length=3
    )
    (row,) = task.encode(examples, tokenizer)
    scores = torch.randn(row.num_tokens, 2, generator=torch.Generator().manual_seed(5))
    (answer,) = task.answers(examples, [row], [scores])
    first, tokens = row.first, range(len(row.places))
    every = {
        (int(row.places[a, 0]), int(row.places[b, 1])): float(
            scores[first + a, 0] + scores[first + b, 1]
        )
        for a, b in product(tokens, tokens)
        if a <= b < a + 3
    }
    best = sorted(every, key=lambda place: -every[place])
    texts = list(dict.fromkeys(PASSAGE[a:b] for a, b in best))[:7]
    assert [PASSAGE[c.start : c.end] for c in answer.candidates] == texts
    assert sum(c.probability for c in answer.candidates) == pytest.approx(1)


def test_a_question_has_no_answer_where_that_scores_better(tmp_path, tokenizer):
    task, examples = task_of(tmp_path / "x", said("a pie"), {"answers": []}, max_seq_length=24)
    assert task.settings.null_score_threshold == 0.0
    rows = task.encode(examples, tokenizer)
    assert all(row.label == [0, 0] for row in rows if row.example == 1)
    answers = task.answers(examples, rows, perfect(rows))
    assert [answer.text for answer in answers] == ["a pie", ""]
    assert answers[0].null_score < 0 < answers[1].null_score
    assert task.metrics(examples, answers)["exact_match"] == 1.0
    assert task.record(examples[1], answers[1])["answer"] == ""
    task.settings = task.settings.replace(null_score_threshold=20.0)
    assert all(answer.text for answer in task.answers(examples, rows, perfect(rows)))


def test_without_unanswerable_questions_each_is_answered(tmp_path, tokenizer):
    task, examples = task_of(tmp_path / "x", said("a pie"), max_seq_length=64)
    assert task.settings.null_score_threshold is None
    (row,) = task.encode(examples, tokenizer)
    scores = torch.zeros(row.num_tokens, 2)
    scores[0] = 99.0
    assert task.answers(examples, [row], [scores])[0].text


def test_an_answer_that_is_not_in_the_passage_is_not_learnt_from(tmp_path, tokenizer):
    lost = {"answers": [{"text": "a wedding", "answer_start": 3}]}
    task, examples = task_of(tmp_path / "x", lost, said("a pie"), max_seq_length=64)
    rows = task.encode(examples, tokenizer)
    assert rows[0].label == [-100, -100]
    batch = RowBatch.of(rows, pad_id=0)
    assert task.loss_weight(batch) == 1
    logits = torch.randn(2, batch.input_ids.shape[1], 2, generator=torch.Generator().manual_seed(2))
    start, end = rows[1].label
    expected = -(logits[1].log_softmax(0)[start, 0] + logits[1].log_softmax(0)[end, 1]) / 2
    torch.testing.assert_close(task.loss(logits, batch), expected)


def test_an_answer_that_no_window_holds_whole_is_not_learnt_from(tmp_path, tokenizer, capsys):
    long, short = said("a cake; the tart a pie the bun a bread"), said("a pie")
    task, examples = task_of(tmp_path / "x", long, short, max_seq_length=16)
    rows = task.encode(examples, tokenizer)
    assert {tuple(row.label) for row in rows if row.example == 0} == {(-100, -100)}
    assert {tuple(row.label) for row in rows if row.example == 1} > {(0, 0)}
    assert "answers of 1 of 2 questions: not in the passage, or no row" in capsys.readouterr().err


def test_answers_that_are_all_elsewhere_teach_nothing(tmp_path):
    lost = {"answers": [{"text": "a wedding", "answer_start": 3}]}
    with pytest.raises(InputError, match=r"no answer of 2 is found in its passage"):
        task_of(tmp_path / "x", lost, lost, {"answers": []})


def test_long_questions_are_cut_and_empty_passages_have_no_answer(tmp_path, tokenizer, capsys):
    long, empty = {"question": "who is a " * 9, **said("a pie")}, {"context": "", "answers": []}
    task, examples = task_of(tmp_path / "x", long, empty, max_seq_length=20)
    rows = task.encode(examples, tokenizer)
    assert rows[0].sequences[0].num_first == 12
    assert "1 of 2 questions after 10 tokens" in capsys.readouterr().err
    answers = task.answers(examples, rows, perfect(rows))
    assert [answer.text for answer in answers] == ["a pie", ""]
    assert task.record(examples[1], answers[1])["n_best"] == []


def test_answers_may_be_as_long_as_those_to_learn_from(tmp_path):
    chinese = "北京" * 40
    answer = {"text": chinese[:60], "answer_start": 0}
    task, _ = task_of(tmp_path / "x", {"context": chinese, "answers": [answer]})
    assert task.settings.max_answer_length == 60
    task, _ = task_of(tmp_path / "x", said("a pie"))
    assert task.settings.max_answer_length == 30


def test_candidates_begin_where_a_window_shows_most() -> None:
    sequence = token_sequence([7, 8, 9], None, SpecialIds(pad=0, unk=1, cls=2, sep=3, mask=4))
    row = WindowRow(
        sequences=(sequence,),
        example=0,
        place="f:0",
        first=1,
        places=np.array([[0, 1], [2, 3]]),
        is_best=np.array([False, True]),
    )
    scores = torch.tensor([[0.0, 0.0], [9.0, 9.0], [1.0, 1.0]])
    found = _candidates(row, scores, number=5, longest=2)
    assert [(c.start, c.end, c.score) for c in found] == [(2, 3, 2.0)]


def test_probabilities_leave_a_share_for_no_answer(tmp_path, tokenizer) -> None:
    for threshold, is_whole in ((None, True), (0.0, False)):
        task, questions = task_of(tmp_path / "x", said("a pie"), null_score_threshold=threshold)
        rows = task.encode(questions, tokenizer)
        (answer,) = task.answers(questions, rows, perfect(rows))
        total = sum(candidate.probability for candidate in answer.candidates)
        assert (total == pytest.approx(1.0)) is is_whole
