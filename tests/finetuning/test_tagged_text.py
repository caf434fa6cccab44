"""Pins the reading of tagged texts: each format gives the same examples, whatever its scheme, and
what is wrong in a file is named with its line.

Run alone: `pytest tests/finetuning/test_tagged_text.py`; the real sets are read where they are.
"""

from __future__ import annotations

import json

import pytest

from bert_scratch.config import InputError
from bert_scratch.finetuning.tagged_text import joined, read_tagged_texts
from bert_scratch.finetuning.task_settings import TaskSettings

SETTINGS = TaskSettings(task="token-classification")
CONLL = """-DOCSTART- -X- O O

EU NNP I-NP I-ORG
rejects VBZ I-VP O
German JJ I-NP I-MISC
calls NNS I-NP O

Peter NNP I-NP I-PER
Blackburn NNP I-NP I-PER
"""
IOB2 = [("B-ORG", "O", "B-MISC", "O"), ("B-PER", "I-PER")]


def reading(tmp_path, text, name="some.conll", *, labels_needed=True, **changes):
    (tmp_path / name).write_text(text, encoding="utf-8")
    path = str(tmp_path / name)
    return read_tagged_texts(path, SETTINGS.replace(**changes), labels_needed=labels_needed)


def test_columns_become_sentences_in_iob2_and_the_scheme_is_said(tmp_path, capsys):
    examples = reading(tmp_path, CONLL)
    assert [example.tags for example in examples] == IOB2
    assert [example.text for example in examples] == ["EU rejects German calls", "Peter Blackburn"]
    first = examples[0]
    assert [first.text[start:end] for start, end in first.words] == first.text.split()
    assert [example.place.rpartition(":")[2] for example in examples] == ["3", "8"]
    assert "IOB1, trained as IOB2" in capsys.readouterr().err


def test_windows_line_ends_tabs_and_a_missing_last_line_end_change_nothing(tmp_path):
    tabs = CONLL.replace(" ", "\t").replace("\n", "\r\n").rstrip()
    assert [example.tags for example in reading(tmp_path, tabs)] == IOB2


def test_any_column_can_be_the_tag(tmp_path, capsys):
    examples = reading(tmp_path, CONLL, label_column=("2",))
    assert examples[0].tags == ("NNP", "VBZ", "JJ", "NNS")
    assert capsys.readouterr().err == ""
    with pytest.raises(InputError, match="--label-column 9: must be a number from 1 to 4"):
        reading(tmp_path, CONLL, label_column=("9",))


def test_a_lone_column_is_words_to_tag(tmp_path):
    examples = reading(tmp_path, "EU\nrejects\n\nPeter\n", labels_needed=False)
    assert [example.text for example in examples] == ["EU rejects", "Peter"]
    assert examples[0].tags is None
    with pytest.raises(InputError, match=r"some.conll:1: has no tags"):
        reading(tmp_path, "EU\nrejects\n")


def test_lines_of_text_to_answer_are_texts(tmp_path):
    for text in (
        "John lives in Berlin\n",
        "John Mary saw Berlin\nMary likes Rome\n",
        "北京是首都。\n",
    ):
        examples = reading(tmp_path, text, "some.txt", labels_needed=False)
        assert [example.text for example in examples] == text.splitlines()
        assert all(example.words is None and example.tags is None for example in examples)


def test_a_blank_line_of_texts_to_answer_is_an_empty_text(tmp_path):
    text = "\nJohn lives in Berlin\n \r\n\nMary likes Rome\n"
    examples = reading(tmp_path, text, "some.txt", labels_needed=False)
    found = {int(example.place.rpartition(":")[2]): example.text for example in examples}
    assert found == {1: "", 2: "John lives in Berlin", 3: "", 4: "", 5: "Mary likes Rome"}
    for text in ("yes\n\nno\n", "我爱北京天安门\n\n他在上海工作\n"):
        found = reading(tmp_path, text, "some.txt", labels_needed=False)
        assert [example.text for example in found] == text.splitlines()
    with pytest.raises(InputError, match=r"some\.txt: holds no examples"):
        reading(tmp_path, "\n\n", "some.txt", labels_needed=False)


def test_columns_to_answer_are_told_from_texts_by_their_tags(tmp_path):
    assert [e.tags for e in reading(tmp_path, CONLL, labels_needed=False)] == IOB2
    parts = "John NNP\nlives VBZ\n"
    path = tmp_path / "parts.txt"
    path.write_text(parts)
    known = read_tagged_texts(str(path), SETTINGS, labels_needed=False, labels=("NNP", "VBZ"))
    assert [example.tags for example in known] == [("NNP", "VBZ")]


def test_names_above_the_columns_make_no_words_sentences(tmp_path):
    text = "word\tlabel\nJohn\tB-PER\nsleeps\tO\n\nBerlin\tB-LOC\n"
    examples = reading(tmp_path, text)
    assert [example.tags for example in examples] == [("B-PER", "O"), ("B-LOC",)]
    assert [example.place.rpartition(":")[2] for example in examples] == ["2", "5"]


def test_malformed_tags_of_iob2_are_mended_too(tmp_path, capsys):
    text = "a I-PER\nb I-PER\nc O\n\n" + "a B-PER\nb I-PER\nc O\n\n" * 3
    assert {example.tags for example in reading(tmp_path, text)} == {("B-PER", "I-PER", "O")}
    assert "1 tag of malformed entities, trained as IOB2" in capsys.readouterr().err


def test_rows_of_words_and_tags(tmp_path):
    text = "text_a\tlabel\n相 比 青 岛\tO O B-ORG I-ORG\nEU calls\tB-ORG O\n"
    examples = reading(tmp_path, text, "some.tsv")
    assert [example.text for example in examples] == ["相比青岛", "EU calls"]
    assert examples[0].tags == ("O", "O", "B-ORG", "I-ORG")
    with pytest.raises(InputError, match=r"some.tsv:3: has 2 words and 1 tag; each"):
        reading(tmp_path, text.replace("B-ORG O\n", "B-ORG\n"), "some.tsv")
    with pytest.raises(InputError, match=r"some.tsv:4: has 1 column, the header 2"):
        reading(tmp_path, text + "alone\n", "some.tsv")


def test_the_forms_of_json(tmp_path):
    lines = [
        {
            "text": "叶老桂在浙商",
            "label": {"name": {"叶老桂": [[0, 2]]}, "company": {"浙商": [[4, 5]]}},
        },
        {"text": "叶老桂在浙商", "spans": [[4, 6, "company"], [0, 3, "name"]]},
        {"tokens": ["EU", "calls"], "tags": ["B-ORG", "O"]},
    ]
    text = "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines)
    examples = reading(tmp_path, text, "some.json")
    assert examples[0].spans == examples[1].spans == ((0, 3, "name"), (4, 6, "company"))
    assert examples[2].tags == ("B-ORG", "O")
    unlabelled = reading(tmp_path, '{"id": 0, "text": "a b"}\n', "x.jsonl", labels_needed=False)
    assert unlabelled[0].spans is None


def test_of_spans_over_each_other_the_longer_is_kept_and_said(tmp_path, capsys):
    text = '{"text": "abcdef", "spans": [[0, 2, "x"], [1, 5, "y"], [5, 6, "x"]]}\n'
    assert reading(tmp_path, text)[0].spans == ((1, 5, "y"), (5, 6, "x"))
    assert "1 span overlapping a longer one" in capsys.readouterr().err


def test_what_there_is_one_of_is_told_in_the_singular(tmp_path, capsys):
    reading(tmp_path, '{"text": "ab", "spans": [[0, 1, "x"], [0, 2, "y"]]}\n')
    assert "1 span overlapping" in capsys.readouterr().err
    with pytest.raises(InputError, match="in the text, which has 1 character$"):
        reading(tmp_path, '{"text": "a", "spans": [[0, 2, "x"]]}\n')


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "holds no examples"),
        ("\n\n", "holds no examples"),
        ("EU NNP O\nrejects O\n", r":2: has 2 columns \('rejects O'\), line 1 has 3"),
        ("EU b-org\n\nrejects o\n", r":1: has the tag 'b-org'; .* a capital letter, a hyphen"),
        ("EU B_ORG\n\nrejects O\n", r":1: has the tag 'B_ORG'"),
        ("EU ORG-B\n\nrejects O\n", r":1: has the tag 'ORG-B'"),
        ("EU B-ORG\n\nrejects X-ORG\n", r":3: has the tag 'X-ORG'; others are O, or a letter"),
        ('{"text": "abc", "spans": [[1, 4, "x"]]}', r":1: the span from 1 up to 4 \(x\) is not in"),
        ('{"text": "abc", "spans": [[2, 2, "x"]]}', r":1: the span from 2 up to 2 \(x\) is not in"),
        ('{"text": "abc", "spans": [[1, "x"]]}', r":1: spans must be \[start, end, kind\]"),
        ('{"text": "abc", "spans": {"a": 1}}', r":1: spans must be \[start, end, kind\]"),
        ('{"text": "abc", "label": {"x": {"bc": [[0, 1]]}}}', r"0 to 1 are 'ab', not 'bc'"),
        ('{"text": "abc", "label": {"x": [[0, 1]]}}', r":1: label must be \{kind: \{surface"),
        ('{"tokens": ["a", "b"], "tags": ["O"]}', r":1: has 2 words and 1 tag; each"),
        ('{"tokens": null, "tags": ["O"]}', r":1: tokens must be a list of strings"),
        ('{"text": "abc", "spans": [[0, 1, " "]]}', r":1: spans must be \[start, end, kind\]"),
        ("EU\tO\rcalls\tO\r", r"some.conll: lines end in bare carriage returns"),
        ('{"tokens": ["a"], "tags": [0]}', r":1: tags must be a list of strings"),
        ('{"label": 3}', r':1: needs "text", or "tokens" with "tags"'),
        ('{"text": "abc"}', r":1: has no tags"),
        ('{"text": "abc"', r":1: is not JSON"),
        ('{"text": "a\\ud800"}', r":1: holds half of a surrogate pair"),
    ],
)
def test_what_is_wrong_is_named_with_its_line(text, message, tmp_path):
    with pytest.raises(InputError, match=message):
        reading(tmp_path, text)


@pytest.mark.parametrize("tags", ["O VITAMIN_B OTHER", "O CHART-I CHART-II", "O b-cell t-cell"])
def test_classes_of_words_may_look_like_misspelt_tags(tags, tmp_path):
    text = "".join(f"word {tag}\n" for tag in tags.split())
    (example,) = reading(tmp_path, text)
    assert example.tags == tuple(tags.split())


def test_texts_are_joined_as_they_are_written():
    assert joined(["EU", "calls", "."])[0] == "EU calls ."
    assert joined(["在", "EU", "里", "。"])[0] == "在EU里。"
    assert joined(["한국", "말"])[0] == "한국 말"
    assert joined([]) == ("", ())


@pytest.mark.parametrize(
    ("name", "scheme", "num_examples"),
    [
        ("conll2003/eng.testa", "IOB1", 3250),
        ("cluener/dev.json", None, 1343),
        ("msra-ner/dev.tsv", "IOB2", 2318),
        ("resume-ner/dev.char.bmes", "BMES", 463),
    ],
)
def test_published_sets_are_read_whole(name, scheme, num_examples, shared, capsys):
    file = shared / "data" / name
    assert len(read_tagged_texts(str(file), SETTINGS, labels_needed=True)) == num_examples
    said = capsys.readouterr().err
    assert (f": {scheme}, trained as IOB2" in said) if scheme else not said


def test_white_space_around_a_tag_is_none_of_it(tmp_path):
    assert reading(tmp_path, "EU\tB-ORG \ncalls\tO\n")[0].tags == ("B-ORG", "O")
    objects = '{"tokens": ["EU"], "tags": [" B-ORG"]}\n'
    assert reading(tmp_path, objects, "some.jsonl")[0].tags == ("B-ORG",)
    spans = '{"text": "EU calls", "spans": [[0, 2, "ORG "]]}\n'
    assert reading(tmp_path, spans, "some.jsonl")[0].spans == ((0, 2, "ORG"),)


def test_a_tab_in_a_line_of_text_makes_no_columns(tmp_path):
    text = "John lives\tin Berlin\nMary likes Rome\n\nAnd so do I\n"
    examples = reading(tmp_path, text, "some.txt", labels_needed=False)
    assert [example.text for example in examples] == text.splitlines()
    assert all(example.words is None for example in examples)


def test_a_column_asked_for_is_refused_where_objects_have_none(tmp_path):
    (tmp_path / "some.jsonl").write_text('{"tokens": ["EU"]}\n')
    with pytest.raises(InputError, match=r"JSON objects, so --text-column has no effect"):
        read_tagged_texts(
            str(tmp_path / "some.jsonl"),
            SETTINGS.replace(text_column="1"),
            labels_needed=False,
            columns_asked=("--text-column",),
        )


TABLE = {"text_column": "words", "label_column": ("ner",)}
"""The columns of a table that a model was trained on."""


def test_lines_of_text_are_texts_whatever_the_columns_of_training(tmp_path):
    text = "John lives in Berlin\nMary likes Rome very much\n"
    for columns in (TABLE, {"text_column": "1", "label_column": ("2",)}):
        examples = reading(tmp_path, text, "some.txt", labels_needed=False, **columns)
        assert [example.text for example in examples] == text.splitlines()
        assert all(example.words is None for example in examples)


def test_columns_without_tags_are_columns_if_training_had_numbered_ones(tmp_path):
    text = "1 EU\n2 rejects\n\n1 Peter\n"
    numbered = {"text_column": "2", "label_column": ("3",)}
    for columns in (numbered, {"text_column": "2"}, {"label_column": ("3",)}):
        examples = reading(tmp_path, text, "some.txt", labels_needed=False, **columns)
        words = [example.text for example in examples]
        assert words == (["EU rejects", "Peter"] if "text_column" in columns else ["1 2", "1"])
    one_line_each = reading(tmp_path, "a cat\na dog\n", "t.txt", labels_needed=False, **numbered)
    assert [example.text for example in one_line_each] == ["a cat", "a dog"]


def test_tags_of_columns_without_a_header_are_read_after_a_table_of_training(tmp_path):
    (example,) = reading(tmp_path, "EU O\nrejects O\n", labels_needed=False, **TABLE)
    assert example.tags == ("O", "O")


def test_columns_without_a_header_are_read_whatever_the_table_of_training(tmp_path):
    for columns in (TABLE, {"text_column": "1", "label_column": ("4",)}):
        words = reading(tmp_path, "EU\nrejects\n\nPeter\n", labels_needed=False, **columns)
        assert [example.text for example in words] == ["EU rejects", "Peter"]
    tagged = reading(tmp_path, CONLL, labels_needed=False, **TABLE)
    assert [example.text for example in tagged] == ["EU rejects German calls", "Peter Blackburn"]


def test_tags_in_the_column_of_training_tell_columns_from_texts(tmp_path):
    text = "B-ORG EU\nO rejects\n\nB-PER Peter\nI-PER Blackburn\n"
    columns = {"text_column": "2", "label_column": ("1",)}
    examples = reading(tmp_path, text, labels_needed=False, **columns)
    assert [example.text for example in examples] == ["EU rejects", "Peter Blackburn"]


def test_a_table_is_told_by_the_columns_named_with_or_without_tags(tmp_path):
    text = "number\twords\tner\n1\tEU rejects\tB-ORG O\n"
    (tagged,) = reading(tmp_path, text, "some.tsv", **TABLE)
    assert (tagged.text, tagged.tags) == ("EU rejects", ("B-ORG", "O"))
    for bare in ("number\twords\n1\tEU rejects\n", "words\nEU rejects\n"):
        (example,) = reading(tmp_path, bare, "some.tsv", labels_needed=False, **TABLE)
        assert (example.text, example.tags) == ("EU rejects", None)
    bare = "number\twords\n1\tEU\n2\trejects\n\n1\tPeter\n"
    examples = reading(tmp_path, bare, "some.tsv", labels_needed=False, **TABLE)
    assert [(e.text, e.tags) for e in examples] == [("EU rejects", None), ("Peter", None)]
    with pytest.raises(InputError, match=r"number, words, ner; name that of the tags with --label"):
        reading(tmp_path, text, "some.tsv", text_column="words")
