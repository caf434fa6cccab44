"""Answers as lines of text stay one line each, whatever characters words and labels hold.
Runs anywhere: `pytest tests/finetuning/test_predictions.py`."""

from __future__ import annotations

from bert_scratch.finetuning.predictions import conll_lines, tsv_lines


def test_a_label_with_a_tab_or_a_line_break_keeps_the_table_whole() -> None:
    record = {"label": "a\tb", "probabilities": {"a\tb": 0.75, "c\nd": 0.25}, "text": "good"}
    assert [line.split("\t") for line in tsv_lines([record]).splitlines()] == [
        ["label", "probabilities.a b", "probabilities.c d", "text"],
        ["a b", "0.75", "0.25", "good"],
    ]


def test_a_word_that_is_a_line_break_does_not_end_its_sentence() -> None:
    record = {"tokens": ["Bob", "\n", "a\tb", ""], "tags": ["B-PER", "O", "O", "O"]}
    assert conll_lines([record]) == "Bob\tB-PER\n \tO\na b\tO\n\tO\n\n"
