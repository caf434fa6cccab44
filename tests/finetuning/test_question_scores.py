"""Pins exact match and F1 against straightforward transcriptions of the official scripts, on the
real sets where they are and on anything else by hypothesis.

Run alone: `pytest tests/finetuning/test_question_scores.py`.
"""

from __future__ import annotations

import collections
import random
import re
import string

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bert_scratch.finetuning.question_scores import question_scores
from bert_scratch.finetuning.questions import read_questions

ENGLISH, CHINESE = "an English passage", "一段中文"
MARKS = [
    *(
        "-",
        ":",
        "_",
        "*",
        "^",
        "/",
        "\\",
        "~",
        "`",
        "+",
        "=",
        "，",
        "。",
        "：",
        "？",
        "！",
        "“",
        "”",
    ),
    *("；", "’", "《", "》", "……", "·", "、", "「", "」", "（", "）", "－", "～", "『", "』"),
]


def normalize_answer(text):
    text = "".join(ch for ch in text.lower() if ch not in set(string.punctuation))
    return " ".join(re.sub(r"\b(a|an|the)\b", " ", text).split())


def squad_f1(gold, given):
    gold_tokens, given_tokens = normalize_answer(gold).split(), normalize_answer(given).split()
    common = collections.Counter(gold_tokens) & collections.Counter(given_tokens)
    num_same = sum(common.values())
    if len(gold_tokens) == 0 or len(given_tokens) == 0:
        return int(gold_tokens == given_tokens)
    if num_same == 0:
        return 0
    precision = num_same / len(given_tokens)
    recall = num_same / len(gold_tokens)
    return (2 * precision * recall) / (precision + recall)


def squad(given, golds):
    golds = [gold for gold in golds if normalize_answer(gold)] or [""]
    exact = max(int(normalize_answer(gold) == normalize_answer(given)) for gold in golds)
    return exact, max(squad_f1(gold, given) for gold in golds)


def mixed_segmentation(text):
    """Cut as CMRC's script does, with a tokenizer of words in nltk's place."""
    segments, waiting = [], ""
    for character in text.lower().strip():
        if character in MARKS:
            continue
        if re.search(r"[\u4e00-\u9fa5]", character):
            segments += re.findall(r"\w+(?:[.,']\w+)*|[^\w\s]", waiting)
            waiting = ""
            segments.append(character)
        else:
            waiting += character
    return segments + re.findall(r"\w+(?:[.,']\w+)*|[^\w\s]", waiting)


def longest_common(first, second):
    table = [[0] * (len(second) + 1) for _ in range(len(first) + 1)]
    longest = 0
    for i in range(len(first)):
        for j in range(len(second)):
            if first[i] == second[j]:
                table[i + 1][j + 1] = table[i][j] + 1
                longest = max(longest, table[i + 1][j + 1])
    return longest


def cmrc(given, golds):
    def plain(text):
        return "".join(c for c in text.lower().strip() if c not in MARKS)

    exact, scores = 0, []
    for gold in golds:
        exact = max(exact, int(plain(gold) == plain(given)))
        gold_segments, given_segments = mixed_segmentation(gold), mixed_segmentation(given)
        common = longest_common(gold_segments, given_segments)
        if common == 0:
            scores.append(0)
            continue
        precision, recall = common / len(given_segments), common / len(gold_segments)
        scores.append((2 * precision * recall) / (precision + recall))
    return exact, max(scores)


words = st.lists(st.sampled_from(["The", "a", "cat", "cat's", "sat,", "on", "8.5", "!"])).map(
    " ".join
)
segments = st.lists(
    st.sampled_from([*"中国北京大学，。2 a", "USB", "1,000", "……", "(", "…"]), min_size=1
)


@given(words, st.lists(words, min_size=1, max_size=3))
def test_english_scores_are_those_of_squads_script(prediction, references):
    expected = squad(prediction, references)
    assert question_scores(prediction, references, ENGLISH) == pytest.approx(expected)


@given(segments.map("".join), st.lists(segments.map("".join), min_size=1, max_size=3))
def test_chinese_scores_are_those_of_cmrcs_script(prediction, references):
    expected = cmrc(prediction, references)
    assert question_scores(prediction, references, CHINESE) == pytest.approx(expected)


def test_known_answers():
    assert question_scores("the Denver Broncos!", ["Denver Broncos"], ENGLISH) == (1.0, 1.0)
    assert question_scores("Denver", ["Denver Broncos"], ENGLISH) == (0.0, pytest.approx(2 / 3))
    assert question_scores("北京大学", ["北京", "京大学"], CHINESE) == (0.0, pytest.approx(6 / 7))
    assert question_scores("大学北京", ["北京大学"], CHINESE)[1] == pytest.approx(0.5)


@pytest.mark.parametrize("passage", [ENGLISH, CHINESE])
def test_no_answer_is_right_where_there_is_none(passage):
    assert question_scores("", [], passage) == (1.0, 1.0)
    assert question_scores("cat", [], passage) == (0.0, 0.0)
    assert question_scores("", ["cat"], passage) == (0.0, 0.0)


@pytest.mark.parametrize(
    ("name", "script"),
    [("squad-v1.1/dev-v1.1.json", squad), ("cmrc2018/cmrc2018_dev.json", cmrc)],
)
def test_scores_on_the_real_set_are_those_of_its_script(name, script, shared):
    questions = read_questions(str(shared / "data" / name), labels_needed=True)[::20]
    draw = random.Random(3)
    for question in questions:
        golds = [reference.text for reference in question.references]
        start = draw.randrange(len(question.context))
        near = draw.choice(golds)
        passage = question.context
        for text in (near, near[draw.randrange(3) :], passage[start : start + 20].strip()):
            if text:
                expected = script(text, golds)
                assert question_scores(text, golds, passage) == pytest.approx(expected)
