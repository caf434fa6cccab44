"""Pins token classification: labels stand at first pieces, windows lose no word, right scores give
right entities, and entities are measured as seqeval measures them.

Run alone: `pytest tests/finetuning/test_token_classification.py`.
"""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
import torch
from tokenizers import Tokenizer

from bert_scratch.config import InputError
from bert_scratch.data.wordpiece import build_tokenizer
from bert_scratch.finetuning.entity_loss import entity_loss_sum
from bert_scratch.finetuning.rows import RowBatch
from bert_scratch.finetuning.task_settings import TaskSettings
from bert_scratch.finetuning.token_classification import TokenClassification

WORDS = "paris london anna bert in went to , . a b c 年 月 北 京"
IOB2 = """anna B-PER
went O
to O
parisian B-LOC
london I-LOC
. O

bert B-PER
in O
paris B-LOC
"""


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    tokens = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *WORDS.split(), "##i", "##an", "##1"]
    vocab = {token: index for index, token in enumerate(tokens)}
    return build_tokenizer(vocab, lowercase=True, strip_accents=False, nfc=False)


def task_of(path, text, **changes):
    path.write_text(text, encoding="utf-8")
    task = TokenClassification(TaskSettings(task="token-classification", **changes))
    examples = task.read(str(path), labels_needed=True)
    task.learn(examples)
    return task, examples


def perfect(rows, num_labels) -> list[torch.Tensor]:
    """Return scores that say what each row's labels say, with positions of padding behind."""
    scores = []
    for row in rows:
        of_row = torch.zeros(len(row.token_labels) + 3, num_labels)
        counted = np.flatnonzero(row.token_labels >= 0)
        of_row[counted, row.token_labels[counted]] = 5.0
        scores.append(of_row)
    return scores


def test_labels_stand_at_the_first_piece_of_each_word(tmp_path, tokenizer):
    task, examples = task_of(tmp_path / "x", IOB2)
    assert task.labels == ("O", "B-LOC", "I-LOC", "B-PER", "I-PER")
    row = task.encode(examples, tokenizer)[0]
    pieces = [tokenizer.id_to_token(int(i)) for i in row.sequences[0].ids]
    assert pieces == "[CLS] anna went to paris ##i ##an london . [SEP]".split()
    assert row.token_labels.tolist() == [-100, 3, 0, 0, 1, -100, -100, 2, 0, -100]
    assert task.config_fields == {"id2label": dict(enumerate(task.labels))}


def test_a_word_without_pieces_keeps_its_place(tmp_path, tokenizer):
    task, examples = task_of(tmp_path / "x", "anna B-PER\n\u200d O\nbert B-PER\n")
    row = task.encode(examples, tokenizer)[0]
    assert row.sequences[0].ids.tolist()[2] == tokenizer.token_to_id("[UNK]")
    assert row.token_labels.tolist() == [-100, 1, 0, 1, -100]


@pytest.mark.parametrize("stride", [None, 1, 3, 6])
def test_no_word_of_a_long_text_is_lost(stride, tmp_path, tokenizer, capsys):
    text = "".join(
        f"{word} {tag}\n" for word, tag in zip("abcabcabcabcabc", "OPQ" * 5, strict=True)
    )
    text = text.replace("P", "B-X").replace("Q", "I-X")
    task, examples = task_of(tmp_path / "x", text, max_seq_length=8, doc_stride=stride)
    rows = task.encode(examples, tokenizer)
    assert len(rows) > 1
    assert max(row.num_tokens for row in rows) == 8
    assert "1 of 1 text longer than --max-seq-length 8" in capsys.readouterr().err
    (answer,) = task.answers(examples, rows, perfect(rows, len(task.labels)))
    assert tuple(answer.tags) == examples[0].tags
    assert task.metrics(examples, [answer])["f1"] == 1.0


def test_a_word_in_two_windows_is_tagged_where_more_is_around_it(tmp_path, tokenizer):
    words = "".join(f"{word} O\n" for word in "abcabcab") + "a B-X\n"
    task, examples = task_of(tmp_path / "x", words, max_seq_length=8, doc_stride=3)
    rows = task.encode(examples, tokenizer)
    assert [row.words.tolist() for row in rows] == [[0, 1, 2, 3, 4, 5], [3, 4, 5, 6, 7, 8]]
    scores = [torch.zeros(8, 3), torch.zeros(8, 3)]
    scores[0][:, 1], scores[1][:, 2] = 1.0, 1.0
    (answer,) = task.answers(examples, rows, scores)
    assert answer.tags == ["B-X"] * 5 + ["I-X"] * 4


def test_a_word_inside_an_entity_that_nothing_began_is_tagged_otherwise(tmp_path, tokenizer):
    task, examples = task_of(tmp_path / "x", "a B-X\nb I-X\n")
    rows = task.encode(examples, tokenizer)
    scores = torch.zeros(4, 3)
    scores[1], scores[2] = torch.tensor([1.0, 0.9, 0.0]), torch.tensor([0.0, 0.0, 5.0])
    (answer,) = task.answers(examples, rows, [scores])
    assert answer.tags == ["B-X", "I-X"]
    assert answer.probabilities[0] == pytest.approx(float(scores[1].softmax(0)[1]))
    task.labels = ("I-X", "O", "B-X")  # of a model that others made, in a scheme of its own
    (answer,) = task.answers(examples, rows, [scores])
    assert answer.tags == ["I-X", "B-X"]


def test_spans_of_characters_come_back_exactly(tmp_path, tokenizer):
    text = "Anna,in 北京a  Parisian."
    spans = [[0, 4, "PER"], [8, 10, "LOC"], [13, 21, "LOC"]]
    task, examples = task_of(tmp_path / "x", json.dumps({"text": text, "spans": spans}))
    rows = task.encode(examples, tokenizer)
    (answer,) = task.answers(examples, rows, perfect(rows, len(task.labels)))
    record = task.record(examples[0], answer)
    assert (record["text"], record["spans"]) == (text, spans)
    assert record["tokens"] == ["Anna", ",", "in", "北", "京", "a", "Parisian", "."]
    assert task.metrics(examples, [answer]) == {
        "f1": 1.0,
        "precision": 1.0,
        "recall": 1.0,
        "accuracy": 1.0,
    }


def test_a_span_that_is_no_whole_word_counts_as_missed(tmp_path, tokenizer, capsys):
    line = json.dumps({"text": "parisian paris", "spans": [[0, 5, "LOC"], [9, 14, "LOC"]]})
    task, examples = task_of(tmp_path / "x", line)
    rows = task.encode(examples, tokenizer)
    assert capsys.readouterr().err.startswith("off words  1 span from or to the middle of a word")
    answers = task.answers(examples, rows, perfect(rows, len(task.labels)))
    assert answers[0].spans == [(0, 8, "LOC"), (9, 14, "LOC")]
    assert task.metrics(examples, answers)["f1"] == 0.5


def test_an_empty_text_has_no_entities(tmp_path, tokenizer):
    lines = '{"text": "", "spans": []}\n{"text": "anna", "spans": [[0, 4, "PER"]]}\n'
    task, examples = task_of(tmp_path / "x", lines)
    rows = task.encode(examples, tokenizer)
    answers = task.answers(examples, rows, perfect(rows, len(task.labels)))
    assert [answer.spans for answer in answers] == [[], [(0, 4, "PER")]]


def test_metrics_are_seqevals(tmp_path, tokenizer):
    seqeval = pytest.importorskip("seqeval.metrics")
    task, examples = task_of(tmp_path / "x", IOB2)
    rows = task.encode(examples, tokenizer)
    generator = torch.Generator().manual_seed(3)
    scores = [
        right + 4 * torch.randn(right.shape, generator=generator)
        for right in perfect(rows, len(task.labels))
    ]
    answers = task.answers(examples, rows, scores)
    values = task.metrics(examples, answers)
    truth, found = [list(e.tags) for e in examples], [answer.tags for answer in answers]
    assert 0 < values["f1"] < 1
    assert values["f1"] == pytest.approx(seqeval.f1_score(truth, found))
    assert values["precision"] == pytest.approx(seqeval.precision_score(truth, found))
    assert values["recall"] == pytest.approx(seqeval.recall_score(truth, found))
    assert values["accuracy"] == pytest.approx(seqeval.accuracy_score(truth, found))


def test_predictions_are_examples_again(tmp_path, tokenizer):
    task, examples = task_of(tmp_path / "x", IOB2)
    rows = task.encode(examples, tokenizer)
    answers = task.answers(examples, rows, perfect(rows, len(task.labels)))
    records: list[Any] = [task.record(*pair) for pair in zip(examples, answers, strict=True)]
    text = records[0]["text"]
    assert [text[start:end] for start, end, _ in records[0]["spans"]] == ["anna", "parisian london"]
    lines = "".join(json.dumps(record) + "\n" for record in records)
    _, again = task_of(tmp_path / "again.jsonl", lines)
    assert [example.tags for example in again] == [example.tags for example in examples]


def test_plain_classes_are_measured_by_accuracy(tmp_path, tokenizer):
    task, examples = task_of(tmp_path / "x", "anna NNP\nwent VBD\n\nin IN\n")
    assert task.labels == ("IN", "NNP", "VBD")
    assert task.metric_names == ("accuracy",)
    rows = task.encode(examples, tokenizer)
    answers = task.answers(examples, rows, perfect(rows, 3))
    answers[1].tags[0] = "NNP"
    assert task.metrics(examples, answers) == {"accuracy": pytest.approx(2 / 3)}
    assert task.record(examples[0], answers[0])["tags"] == ["NNP", "VBD"]


@pytest.mark.parametrize("is_entity", [True, False])
def test_loss_is_that_of_each_word_and_of_entities_that_of_the_sequence(
    is_entity, tmp_path, tokenizer
):
    plain = IOB2.replace("B-", "").replace("I-", "")
    task, examples = task_of(tmp_path / "x", IOB2 if is_entity else plain)
    batch = RowBatch.of(task.encode(examples, tokenizer), pad_id=0)
    shape = (*batch.input_ids.shape, len(task.labels))
    logits = torch.randn(shape, generator=torch.Generator().manual_seed(1))
    expected = torch.nn.functional.cross_entropy(
        logits.flatten(0, 1), batch.labels.flatten(), reduction="sum"
    )
    if is_entity:
        assert entity_loss_sum(logits, batch.labels) < expected  # fewer sequences to tell apart
        expected = entity_loss_sum(logits, batch.labels)
    torch.testing.assert_close(task.loss(logits, batch), expected)
    assert task.loss_weight(batch) == 9


def test_what_training_did_not_see_is_named_with_its_line(tmp_path, tokenizer):
    task, _ = task_of(tmp_path / "x", IOB2)
    other = tmp_path / "dev.conll"
    other.write_text("anna B-PER\n\nin O\nbert B-PRE\n", encoding="utf-8")
    examples = task.read(str(other), labels_needed=True)
    message = r"dev.conll:4: has the kind 'PRE'.* known are LOC, PER \(did you mean 'PER'\?\)"
    with pytest.raises(InputError, match=message):
        task.encode(examples, tokenizer)


def test_nothing_but_o_cannot_be_learnt(tmp_path):
    with pytest.raises(InputError, match="every word is tagged O: there is nothing to learn"):
        task_of(tmp_path / "x", "anna O\nwent O\n")
