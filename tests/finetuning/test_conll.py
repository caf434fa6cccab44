"""Pins the reading of CoNLL columns, and how they are told from lines of text.

Run alone: `pytest tests/finetuning/test_conll.py`.
"""

from __future__ import annotations

import pytest

from bert_scratch.config import InputError
from bert_scratch.finetuning.conll import Sentence, are_columns, read_columns
from bert_scratch.finetuning.task_settings import TaskSettings

SETTINGS = TaskSettings(task="token-classification")
CONLL = """-DOCSTART- -X- O O

EU NNP I-NP I-ORG
rejects VBZ I-VP O

Peter NNP I-NP I-PER
"""
NUMBERED = {"text_column": "2", "label_column": ("3",)}
"""The columns that a model was trained on."""


def sentences(text, *, labels_needed=True, **changes):
    settings = SETTINGS.replace(**changes)
    return list(read_columns("a.conll", text.split("\n"), settings, labels_needed=labels_needed))


def test_lines_between_empty_ones_are_a_sentence_with_the_place_of_its_first_word():
    assert sentences(CONLL) == [
        Sentence(place="a.conll:3", words=["EU", "rejects"], tags=["I-ORG", "O"]),
        Sentence(place="a.conll:6", words=["Peter"], tags=["I-PER"]),
    ]


def test_columns_between_tabs_may_hold_spaces():
    (sentence,) = sentences("New York\tB-LOC")
    assert (sentence.words, sentence.tags) == (["New York"], ["B-LOC"])


def test_columns_asked_for_are_counted_from_one():
    (sentence,) = sentences("1 EU NNP B-ORG", text_column="2", label_column=("3",))
    assert (sentence.words, sentence.tags) == (["EU"], ["NNP"])
    for asked in ("0", "9", "word"):
        with pytest.raises(InputError, match=f"--text-column {asked}: must be a number from 1 to"):
            sentences("1 EU NNP B-ORG", text_column=asked)


def test_lines_without_the_column_of_tags_are_words_where_none_are_needed():
    assert [s.tags for s in sentences("EU\nrejects\n")] == [None]
    assert [s.tags for s in sentences("1 EU\n", labels_needed=False, **NUMBERED)] == [None]
    with pytest.raises(InputError, match="--label-column 3: must be a number from 1 to 2"):
        sentences("1 EU\n", **NUMBERED)


def test_a_line_of_another_number_of_columns_is_named_with_the_first():
    with pytest.raises(InputError, match=r"a.conll:4: has 1 column \('rejects'\), line 3 has 2"):
        sentences("\n\nEU B-ORG\nrejects\n")


@pytest.mark.parametrize(
    ("text", "asked", "labels", "expected"),
    [
        (CONLL, {}, (), True),
        ("John NNP\nlives VBZ", {}, ("NNP", "VBZ"), True),
        ("John NNP\nlives VBZ", {}, (), False),
        ("EU\nrejects\n\nPeter", {}, (), True),
        ("北京是首都。", {}, (), False),
        ("John lives\tin Berlin\nMary likes Rome", {}, (), False),
        ("1 EU\n2 rejects\n\n1 Peter", NUMBERED, (), True),
        ("a cat\na dog", NUMBERED, (), False),
    ],
)
def test_columns_are_told_from_lines_of_text(text, asked, labels, expected):
    assert are_columns(text.split("\n"), SETTINGS.replace(**asked), labels) is expected
