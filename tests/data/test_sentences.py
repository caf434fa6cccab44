"""Pins where sentences end: hand-made texts in 24 languages, one file each in `boundaries/` (one
sentence a line, blank line between paragraphs), and the properties of the split. The texts in
`boundaries/held_out/` were written after the rules; no rule was made for what they get wrong.

Run alone: pytest tests/data/test_sentences.py.
"""

from __future__ import annotations

import gzip
import sys
from itertools import accumulate
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bert_scratch.config import InputError
from bert_scratch.data.sentences import (
    check_sentence_rule,
    choose_rule,
    sections,
    split_document,
    split_sentences,
)

BOUNDARIES = Path(__file__).parent / "boundaries"
HELD_OUT = BOUNDARIES / "held_out"
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


@pytest.mark.parametrize(("folder", "at_least"), [(BOUNDARIES, 660), (HELD_OUT, 170)])
def test_boundaries_are_found_in_all_languages(folder: Path, at_least: int) -> None:
    expected, found, right = score(sorted(folder.glob("*.txt")))
    assert expected >= at_least
    f1 = 2 * right / (expected + found)
    assert f1 >= 0.95, f"F1 {f1:.3f}: {expected} boundaries, {found} found, {right} right"


@pytest.mark.parametrize("file", sorted(BOUNDARIES.glob("*.txt")), ids=lambda file: file.stem)
def test_boundaries_are_found_in_each_language(file: Path) -> None:
    expected, found, right = score([file])
    # Thai has no stop: a cut after so many characters often falls on another phrase.
    assert 2 * right / (expected + found) >= (0.7 if file.stem == "thai" else 0.93)


def test_line_end_always_ends_a_sentence() -> None:
    assert split_sentences("a line without a stop\nand another") == [
        "a line without a stop",
        "and another",
    ]


def test_lowercased_text_is_split() -> None:
    assert split_sentences("he went home . she stayed .") == ["he went home .", "she stayed ."]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('"Who is there?" I asked. No answer.', 2),
        ('"Who is there?" He did not answer.', 2),
        ("“是谁？”他问。没有人回答。", 2),
        ("“是谁？”没有人回答。", 2),
        ("我……我不知道。", 1),
        ("他什么也没有说……门开了。", 2),
        ("看了《你好，李焕英！》这部电影。", 1),
        ("See www.example.org/a.html?q=1.2 or a.b@example.org. Then go.", 2),
        ("Version 3.1.4 came at 9.30 a.m. on 1.2.2003 for $4.50. It was free.", 2),
    ],
)
def test_hard_case_is_split_as_a_reader_would(text: str, expected: int) -> None:
    assert len(split_sentences(text)) == expected


def test_long_stretch_without_stop_is_cut_at_spaces() -> None:
    words = ["word"] * 1000
    pieces = split_sentences(" ".join(words))
    assert [len(piece) for piece in pieces] == [2004, 1999, 994]
    assert " ".join(pieces).split() == words


def test_giant_word_is_cut_but_keeps_its_accents() -> None:
    text = "e\u0301" * 5_000 + "." * 5_000
    pieces = split_sentences(text)
    assert "".join(pieces) == text
    assert max(map(len, pieces)) <= 3_000
    assert not any(piece.startswith("\u0301") for piece in pieces)


def test_thai_is_cut_between_phrases() -> None:
    phrase = "ประเทศไทยมีประชากรจำนวนมาก"
    pieces = split_sentences(" ".join([phrase] * 20))
    assert all(len(piece) == 80 and piece.startswith(phrase) for piece in pieces[:-1])
    # A foreign name does not make a paragraph Thai.
    english = "and this goes on for quite a while " * 20
    assert len(split_sentences(f"Bangkok (กรุงเทพมหานคร) is large {english}")) == 1


@pytest.mark.parametrize(
    "unit", [".", "Mr. ", "1. ", "I. ", "《你？", "。”他想", '."', "มู. ", "மு. ", "e\u0301"]
)
def test_time_grows_with_length_not_its_square(unit: str) -> None:
    # A square would take long here.
    text = unit * 20_000
    assert "".join("".join(split_sentences(text)).split()) == "".join(text.split())


@pytest.mark.parametrize("text", ["", "  ", ".", "...", "? !", '"'])
def test_odd_text_is_neither_lost_nor_empty(text: str) -> None:
    sentences = split_sentences(text)
    assert all(sentence.strip() for sentence in sentences)
    assert "".join("".join(sentences).split()) == "".join(text.split())


@settings(max_examples=200, deadline=None, derandomize=True)
@given(
    st.text(alphabet="aB1.!?…。！”\"' )\n;؟।中й《》．", max_size=60)
    | st.text(max_size=60)
    | st.text(alphabet="กข ๆ\u0e31é\u0301中", min_size=60, max_size=500)
)
def test_split_keeps_every_character_in_order(text: str) -> None:
    sentences = split_sentences(text)
    assert "".join("".join(sentences).split()) == "".join(text.split())
    assert all(sentence == sentence.strip() != "" for sentence in sentences)


def test_document_is_split_by_lines_or_rules() -> None:
    paragraphs = ["One. Two.", "Three."]
    assert split_document(paragraphs, "lines") == paragraphs
    assert split_document(paragraphs, "rules") == ["One.", "Two.", "Three."]


def test_document_is_split_by_pysbd_in_the_language_given() -> None:
    pytest.importorskip("pysbd")
    german = ["Am 3. Mai kam z. B. Dr. Lang. Er ging.", "Drei."]
    assert split_document(german, "pysbd:de")[-2:] == ["Er ging.", "Drei."]
    assert split_document(["Mr. Lee left. She stayed."], "pysbd") == [
        "Mr. Lee left.",
        "She stayed.",
    ]


def test_document_is_split_by_a_function_of_the_user(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "own_splitter.py").write_text(
        "def halves(text):\n    return [text[:4], ' ', text[4:] + ' ']\n"
        "def loses(text):\n    return [text[1:]]\n"
        "def swaps(text):\n    return [text[4:], text[:4]]\n"
        "def fails(text):\n    raise KeyError('rule')\n"
        "def text_itself(text):\n    return text\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    check_sentence_rule("own_splitter:halves")
    assert "own_splitter" not in sys.modules
    assert split_document(["one two"], "own_splitter:halves") == ["one", "two"]
    for name, problem in {
        "loses": "not the characters of the text",
        "swaps": "not the characters of the text",
        "fails": "failed on 'one two': KeyError",
        "text_itself": "must return a list of str",
        "halve": r"no function 'halve' \(did you mean 'halves'\?\)",
    }.items():
        with pytest.raises(InputError, match=f"--sentences own_splitter:{name}: .*{problem}"):
            split_document(["one two"], f"own_splitter:{name}")


@pytest.mark.parametrize(
    ("name", "problem"),
    [
        ("rule", r"did you mean 'rules'\?"),
        ("pysdb", r"did you mean 'pysbd'\?"),
        ("spacy", "MODULE:FUNCTION; got 'spacy'"),
        ("no_such_library:split", "no module 'no_such_library'"),
        ("a:b:c", "MODULE:FUNCTION"),
    ],
)
def test_unknown_sentence_rule_is_refused_early(name: str, problem: str) -> None:
    with pytest.raises(InputError, match=f"--sentences.*{problem}"):
        check_sentence_rule(name)


@pytest.mark.parametrize("name", ["auto", "lines", "rules", "pysbd", "pysbd:de"])
def test_known_sentence_rule_is_accepted(name: str) -> None:
    if name.startswith("pysbd"):
        pytest.importorskip("pysbd")
    check_sentence_rule(name)


def test_missing_pysbd_is_named_with_its_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(InputError, match=r'pip install "bert-scratch\[sentences\]"'):
        check_sentence_rule("pysbd:de")


def test_unknown_language_of_pysbd_is_refused() -> None:
    pytest.importorskip("pysbd")
    with pytest.raises(InputError, match="pysbd knows the languages .*; got 'tlh'"):
        split_document(["Qapla'."], "pysbd:tlh")


@pytest.mark.parametrize(
    ("name", "rule"),
    [
        ("wikipedia-en/wikipedia-en-10mb.txt.gz", "rules"),
        ("wikipedia-zh/wikipedia-zh-20mb.txt.gz", "rules"),
        ("novels-en/Dickens_Bleak_1853.txt.gz", "rules"),
        ("cluecorpus-zh/CLUECorpusSmall_bert_sampled.txt", "lines"),
        ("wikitext-2/test.txt", "rules"),
    ],
)
def test_auto_decides_on_real_corpora(shared: Path, name: str, rule: str) -> None:
    file = shared / "data" / name
    opened = gzip.open(file, "rt", encoding="utf-8") if file.suffix == ".gz" else file.open()
    with opened as lines:
        sample = [line for line in (next(lines).strip() for _ in range(500)) if line]
    assert choose_rule([sample])[0] == rule


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


def test_a_number_behind_a_bullet_and_a_tab_is_no_sentence() -> None:
    assert split_sentences("-\t5. Read on. Then stop.") == ["-\t5. Read on.", "Then stop."]


def test_a_cut_leaves_accents_with_their_letter() -> None:
    text = "x" * 2999 + "e\u0301" + "y" * 2500
    pieces = split_sentences(text)
    assert "".join(pieces) == text and len(pieces) > 1
    assert not any(piece.startswith("\u0301") for piece in pieces)


def test_a_sentence_of_several_sections_makes_no_small_ones() -> None:
    found = sections(["x" * 50_000, *["y" * 1000] * 50])
    assert [len(section) for section in found] == [1, 10, 20, 20]
