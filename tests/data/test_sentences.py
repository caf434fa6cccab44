"""Pins where sentences end: a hand-made set over twelve languages, one file each in
`boundaries/` (one sentence a line, blank line between paragraphs), and the properties of the split.

Run alone: pytest tests/data/test_sentences.py.
"""

from __future__ import annotations

from itertools import accumulate
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bert_scratch.data.sentences import choose_rule, sections, split_document, split_sentences

BOUNDARIES = Path(__file__).parent / "boundaries"
UNSPACED = ("chinese", "japanese")


def ends(sentences: list[str]) -> set[int]:
    """Return the boundaries inside a paragraph, counted in characters that are not spaces."""
    lengths = [len("".join(sentence.split())) for sentence in sentences]
    return set(list(accumulate(lengths))[:-1])


def score(files: list[Path]) -> tuple[int, int, int]:
    """Return (boundaries, boundaries found, found that are right) over some languages."""
    expected = found = right = 0
    for file in files:
        separator = "" if file.stem in UNSPACED else " "
        for paragraph in file.read_text(encoding="utf-8").strip().split("\n\n"):
            sentences = paragraph.split("\n")
            wanted = ends(sentences)
            given = ends(split_sentences(separator.join(sentences)))
            expected, found, right = (
                expected + len(wanted),
                found + len(given),
                right + len(wanted & given),
            )
    return expected, found, right


def test_boundaries_are_found_in_all_languages() -> None:
    expected, found, right = score(sorted(BOUNDARIES.glob("*.txt")))
    assert expected >= 150
    f1 = 2 * right / (expected + found)
    assert f1 >= 0.95, f"F1 {f1:.3f}: {expected} boundaries, {found} found, {right} right"


@pytest.mark.parametrize("file", sorted(BOUNDARIES.glob("*.txt")), ids=lambda file: file.stem)
def test_boundaries_are_found_in_each_language(file: Path) -> None:
    expected, found, right = score([file])
    assert 2 * right / (expected + found) >= 0.9


def test_line_end_always_ends_a_sentence() -> None:
    assert split_sentences("a line without a stop\nand another") == [
        "a line without a stop",
        "and another",
    ]


def test_lowercased_text_is_split() -> None:
    assert split_sentences("he went home . she stayed .") == ["he went home .", "she stayed ."]


def test_long_sentence_without_stop_is_left_whole() -> None:
    text = " ".join(["word"] * 1000)
    assert split_sentences(text) == [text]


@pytest.mark.parametrize("text", ["", "  ", ".", "...", "? !", '"'])
def test_odd_text_is_neither_lost_nor_empty(text: str) -> None:
    sentences = split_sentences(text)
    assert all(sentence.strip() for sentence in sentences)
    assert "".join("".join(sentences).split()) == "".join(text.split())


@settings(max_examples=200, deadline=None, derandomize=True)
@given(st.text(alphabet="aB1.!?…。！”\"' )\n;؟।中й", max_size=60))
def test_split_keeps_every_character_in_order(text: str) -> None:
    sentences = split_sentences(text)
    assert "".join("".join(sentences).split()) == "".join(text.split())
    assert all(sentence == sentence.strip() != "" for sentence in sentences)


def test_document_is_split_by_lines_or_rules() -> None:
    paragraphs = ["One. Two.", "Three."]
    assert split_document(paragraphs, "lines") == paragraphs
    assert split_document(paragraphs, "rules") == ["One.", "Two.", "Three."]


def test_auto_keeps_lines_that_are_sentences() -> None:
    sentences = [["First sentence of it.", "Second one here."]] * 10
    assert choose_rule(sentences)[0] == "lines"
    rule, evidence = choose_rule([["First. Second. Third.", "Fourth. Fifth."]] * 10)
    assert rule == "rules"
    assert "--sentences lines" in evidence


def test_short_document_is_one_section() -> None:
    assert list(sections(["One.", "Two."])) == [["One.", "Two."]]
    assert list(sections([])) == []


@pytest.mark.parametrize("sentence", ["A sentence of thirty bytes....", "一句话有三十个字节长。"])
def test_long_document_is_cut_into_sections_of_even_size(sentence: str) -> None:
    sentences = [f"{i} {sentence}" for i in range(10_000)]
    parts = list(sections(sentences))
    sizes = [sum(len(s.encode()) for s in part) for part in parts]
    assert [s for part in parts for s in part] == sentences
    assert len(parts) == round(sum(sizes) / 20_000)
    assert max(sizes) - min(sizes) < 200


def test_giant_sentence_makes_no_empty_section() -> None:
    parts = list(sections(["x" * 100_000, "y", "z" * 100_000]))
    assert all(parts)
    assert sum(map(len, parts)) == 3
