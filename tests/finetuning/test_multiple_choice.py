"""Pins multiple choice: both kinds of file give the same examples, each choice is a sequence
with the context, and what is wrong is named with its line.

Run alone: `pytest tests/finetuning/test_multiple_choice.py`.
"""

from __future__ import annotations

import json

import pytest
import torch

from bert_scratch.config import InputError
from bert_scratch.data.wordpiece import build_tokenizer
from bert_scratch.finetuning.multiple_choice import MultipleChoice
from bert_scratch.finetuning.rows import RowBatch
from bert_scratch.finetuning.task_settings import TaskSettings

SWAG = """,video-id,sent1,sent2,gold-source,ending0,ending1,ending2,label
0,a,"He cooks, then",He,gold,eats.,sleeps.,runs.,0
1,b,She swims.,She,gold,eats.,"is, wet.",runs.,1
"""


def reading(tmp_path, text, name="some.csv", *, labels_needed=True, **changes):
    (tmp_path / name).write_text(text, encoding="utf-8")
    task = MultipleChoice(TaskSettings(task="multiple-choice", **changes))
    return task, task.read(str(tmp_path / name), labels_needed=labels_needed)


def test_swags_columns_and_json_lines_are_the_same(tmp_path):
    _, table = reading(tmp_path, SWAG)
    assert table[0].context == "He cooks, then"
    assert table[1].choices == ("She eats.", "She is, wet.", "She runs.")
    assert [example.label for example in table] == [0, 1]
    lines = [
        {"context": "He cooks, then", "question": "He", "choices": ["eats.", "sleeps.", "runs."]},
        {"context": "She swims.", "question": "She", "choices": ["eats.", "is, wet.", "runs."]},
    ]
    text = "".join(json.dumps({**line, "label": i}) + "\n" for i, line in enumerate(lines))
    _, objects = reading(tmp_path, text, "some.jsonl")
    shown = [(e.context, e.choices, e.label) for e in objects]
    assert shown == [(e.context, e.choices, e.label) for e in table]


def test_a_question_alone_stands_before_each_choice(tmp_path):
    line = {"question": "Who cooks?", "choices": ["He", "She"]}
    _, (example,) = reading(tmp_path, json.dumps(line), "some.jsonl", labels_needed=False)
    assert (example.context, example.choices, example.label) == ("Who cooks?", ("He", "She"), None)


def test_rows_have_a_sequence_for_each_choice(tmp_path):
    words = "he she cooks swims eats sleeps runs is wet then , .".split()
    tokens = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *words]
    vocab = {token: index for index, token in enumerate(tokens)}
    tokenizer = build_tokenizer(vocab, lowercase=True, strip_accents=False, nfc=False)
    task, examples = reading(tmp_path, SWAG, max_seq_length=9)
    rows = task.encode(examples, tokenizer)
    batch = RowBatch.of(rows, pad_id=0)
    assert batch.input_ids.shape == (2, 3, 9)
    shown = [tokenizer.id_to_token(int(i)) for i in batch.input_ids[1, 1]]
    assert shown == "[CLS] she swims . [SEP] she is , [SEP]".split()
    assert batch.token_type_ids[1, 1].tolist() == [0] * 5 + [1] * 4
    assert batch.labels.tolist() == [0, 1]
    logits = torch.tensor([[3.0, 0.0, 0.0], [0.0, 0.0, 1.0]])
    answers = task.answers(examples, rows, list(logits))
    assert task.metrics(examples, answers) == {"accuracy": 0.5}
    expected = torch.nn.functional.cross_entropy(logits, batch.labels, reduction="sum")
    torch.testing.assert_close(task.loss(logits, batch), expected)
    record = task.record(examples[1], answers[1])
    assert (record["label"], record["choice"]) == (2, "She runs.")
    assert sum(record["probabilities"]) == pytest.approx(1, abs=1e-5)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ({"choices": ["a", "b"], "label": 0}, r':1: needs "context", "question" or both'),
        (
            {"question": "x", "choices": ["a", 3], "label": 0},
            r":1: choices must be a list of texts",
        ),
        ({"question": "x", "choices": "ab", "label": 0}, r":1: choices must be a list of texts"),
        ({"question": "x", "choices": ["a"], "label": 0}, r":1: needs at least two choices"),
        ({"question": "x", "label": 0}, r":1: needs at least two choices"),
        (
            {"question": "x", "choices": ["a", "b"], "label": 2},
            r":1: label must be .* 0 to 1; got 2",
        ),
        ({"question": "x", "choices": ["a", "b"], "label": "B"}, r":1: label must be .*; got 'B'"),
        ({"question": "x", "choices": ["a", "b"]}, r":1: has no label"),
        ({"question": 3, "choices": ["a", "b"], "label": 0}, r":1: question must be text; got 3"),
    ],
)
def test_what_is_wrong_is_named_with_its_line(line, message, tmp_path):
    with pytest.raises(InputError, match=message):
        reading(tmp_path, json.dumps(line), "some.jsonl")


def test_all_examples_need_as_many_choices(tmp_path):
    lines = [{"question": "x", "choices": ["a", "b", "c"][:n], "label": 0} for n in (2, 3)]
    text = "".join(json.dumps(line) + "\n" for line in lines)
    with pytest.raises(InputError, match=r"some.jsonl:2: has 3 choices, .*some.jsonl:1 has 2"):
        reading(tmp_path, text, "some.jsonl")


def test_an_empty_file_is_refused(tmp_path):
    with pytest.raises(InputError, match="holds no examples"):
        reading(tmp_path, "")


@pytest.mark.parametrize("label", [-1, 2, "B"])
def test_an_unusable_label_is_none_where_none_is_needed(tmp_path, label):
    line = {"question": "x", "choices": ["a", "b"], "label": label}
    _, (example,) = reading(tmp_path, json.dumps(line), "some.jsonl", labels_needed=False)
    assert example.label is None


def test_endings_are_in_the_order_of_their_numbers_however_written(tmp_path):
    columns = ["ending10", "ending02", "ending01"]
    text = f"sent1,{','.join(columns)},label\nx,c,b,a,0\n"
    _, (example,) = reading(tmp_path, text)
    assert example.choices == ("a", "b", "c")
