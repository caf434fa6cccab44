"""Exact match and F1 of an answer, as SQuAD's and CMRC 2018's own scripts compute them.

The passage decides between the two: CMRC's applies if it is Chinese.
"""

from __future__ import annotations

import re
import string
from collections import Counter
from collections.abc import Sequence

_PUNCTUATION = frozenset(string.punctuation)
_ARTICLES = re.compile(r"\b(a|an|the)\b")
_IDEOGRAPH = re.compile("[\u4e00-\u9fa5]")
_LETTER = re.compile("[A-Za-z]")
# Marks that CMRC's script drops; it leaves other ASCII marks to the word tokenizer below.
_CMRC_MARKS = frozenset("-:_*^/\\~`+=，。：？！“”；’《》·、「」（）－～『』")
# Words and numbers with the marks inside them; any other mark stands by itself.
_WORD = re.compile(r"\w+(?:[.,']\w+)*|[^\w\s]")


def is_chinese(passage: str) -> bool:
    """Tell whether a passage has at least one ideograph for ten Latin letters.

    Chinese passages quote names and formulas (a ratio of at least 0.27 in CMRC 2018); English ones
    hardly ever have an ideograph (at most 0.04 in SQuAD).
    """
    return 10 * len(_IDEOGRAPH.findall(passage)) > len(_LETTER.findall(passage))


def question_scores(
    prediction: str, references: Sequence[str], passage: str
) -> tuple[float, float]:
    """Return exact match and F1 of an answer, the best over the references, each in [0, 1].

    Args:
        prediction: the predicted answer, "" for no answer.
        references: the right answers; empty if the passage has no answer.
        passage: decides which rule applies.

    Source:
        SQuAD's evaluate-v2.0.py (the same numbers as evaluate-v1.1.py on its data); CMRC 2018's
        cmrc2018_evaluate.py, which splits what is not Chinese with nltk's word tokenizer; this
        splits at spaces and around marks.
    """
    if is_chinese(passage):
        scores = [_cmrc(prediction, reference) for reference in references or [""]]
    else:
        says_something = [text for text in references if _squad_words(text)]
        scores = [_squad(prediction, reference) for reference in says_something or [""]]
    return max(exact for exact, _ in scores), max(f1 for _, f1 in scores)


def _squad(prediction: str, reference: str) -> tuple[float, float]:
    given, right = _squad_words(prediction), _squad_words(reference)
    if not given or not right:
        same = float(given == right)
        return same, same
    common = sum((Counter(given) & Counter(right)).values())
    return float(given == right), _f1(common, len(given), len(right))


def _squad_words(text: str) -> list[str]:
    """Return the words in lower case, without punctuation and articles."""
    letters = "".join(c for c in text.lower() if c not in _PUNCTUATION)
    return _ARTICLES.sub(" ", letters).split()


def _cmrc(prediction: str, reference: str) -> tuple[float, float]:
    exact = float(_without_marks(prediction) == _without_marks(reference))
    if not prediction or not reference:
        return exact, exact
    given, right = _cmrc_segments(prediction), _cmrc_segments(reference)
    return exact, _f1(_longest_common_run(given, right), len(given), len(right))


def _without_marks(text: str) -> str:
    return "".join(c for c in text.lower().strip() if c not in _CMRC_MARKS)


def _cmrc_segments(text: str) -> list[str]:
    """Return each ideograph, and each word between ideographs."""
    spaced = _IDEOGRAPH.sub(lambda found: f" {found.group()} ", _without_marks(text))
    return [word for part in spaced.split() for word in _WORD.findall(part)]


def _longest_common_run(first: Sequence[str], second: Sequence[str]) -> int:
    """Return the length of the longest common run of segments."""
    longest, ending = 0, [0] * (len(second) + 1)
    for a in first:
        ending = [0, *(ending[i] + 1 if a == b else 0 for i, b in enumerate(second))]
        longest = max(longest, *ending)
    return longest


def _f1(common: int, num_given: int, num_right: int) -> float:
    if not common:
        return 0.0
    precision, recall = common / num_given, common / num_right
    return 2 * precision * recall / (precision + recall)
