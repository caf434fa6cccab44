"""Baselines that a pretrained model has to beat: they train in seconds and know no other text.

Labels of texts and pairs: TF-IDF of words or of characters with logistic regression, whichever is
better in cross-validation on the training rows. Entities: a conditional random field over a window
of words, their endings and their shapes. Questions: the words of a passage that stand closest to
those of the question. Each returns the metric that fine-tuning reports, from the same library.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import sklearn_crfsuite
from scipy.sparse import csr_matrix, hstack
from seqeval.metrics.v1 import precision_recall_fscore_support
from seqeval.scheme import IOB2
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import accuracy_score, f1_score, make_scorer, matthews_corrcoef
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import Pipeline

from bert_scratch.finetuning.labelled_rows import read_labelled_texts
from bert_scratch.finetuning.question_scores import question_scores
from bert_scratch.finetuning.questions import Question, read_questions
from bert_scratch.finetuning.tagged_text import TaggedText, read_tagged_texts
from bert_scratch.finetuning.tagging_schemes import tags_of_spans
from bert_scratch.finetuning.task_settings import TaskSettings

IDEOGRAPHS = "\u4e00-\u9fff"
WORD = rf"[{IDEOGRAPHS}]|[^\W{IDEOGRAPHS}]+|[^\w\s]"
"""An ideograph, a word or a mark; Chinese is cut into characters, whose pairs serve as words."""
UNITS: dict[str, dict[str, Any]] = {
    "words": {"analyzer": "word", "token_pattern": WORD, "ngram_range": (1, 2)},
    "characters": {"analyzer": "char_wb", "ngram_range": (1, 5)},
}
FOLDS = 3
REACH = 25
"""Words before and after an answer in which question words count."""
HALF_ANSWERS = (0, 1, 2, 4, 6, 8)
"""Words of an answer on each side of its middle; the value best on the training rows is taken."""


def baseline(task: str, metric: str, train: Path, evaluate: Path) -> dict[str, Any]:
    """Train the baseline of a task and measure it.

    Returns:
        `value`, the metric on the evaluation rows, and `choice`, what was chosen and why.
    """
    return BASELINES[task](str(train), str(evaluate), metric)


def label_texts(train: str, evaluate: str, metric: str) -> dict[str, Any]:
    """Choose units and regularisation by cross-validation on the training rows, then evaluate."""
    texts, labels = read_texts(train)
    score = CLASS_METRICS[metric](sorted(set(labels)))
    regression = LogisticRegression(solver="liblinear")  # the fast solver for two classes
    pipeline = Pipeline([("vectors", Vectors()), ("regression", regression)])
    grid = {"vectors__units": list(UNITS), "regression__C": [1.0, 10.0]}
    search = GridSearchCV(pipeline, grid, cv=FOLDS, scoring=make_scorer(score))
    search.fit(texts, labels)
    held_out, truth = read_texts(evaluate)
    value = score(truth, search.predict(held_out))
    choice = f"{search.best_params_}, {search.best_score_:.4f} on training rows left out"
    return {"value": float(value), "choice": choice}


def read_texts(file: str) -> tuple[list[tuple[str, str | None]], list[str]]:
    """Return texts, or pairs, and their labels."""
    settings = TaskSettings(task="classification")
    rows = read_labelled_texts(file, settings, labels_needed=True)
    return [(row.text, row.text_pair) for row in rows], [str(row.label) for row in rows]


def _f1_of_the_last(labels: Sequence[str]) -> Callable[..., float]:
    def score(truth: Any, given: Any) -> float:
        return float(f1_score(truth, given, pos_label=labels[-1]))

    return score


CLASS_METRICS: dict[str, Callable[[Sequence[str]], Callable[..., float]]] = {
    "accuracy": lambda labels: accuracy_score,
    "matthews_corrcoef": lambda labels: matthews_corrcoef,
    "f1": _f1_of_the_last,
}


class Vectors(BaseEstimator, TransformerMixin):
    """TF-IDF of texts; for pairs, what their vectors share, where they differ, and their cosine."""

    def __init__(self, units: str = "words") -> None:
        self.units = units

    def fit(self, texts: Sequence[tuple[str, str | None]], _labels: Any = None) -> Vectors:
        """Count the words or characters of the training texts, of both halves of pairs."""
        self.vectorizer_ = TfidfVectorizer(sublinear_tf=True, **UNITS[self.units])
        self.vectorizer_.fit([text for pair in texts for text in pair if text is not None])
        return self

    def transform(self, texts: Sequence[tuple[str, str | None]]) -> csr_matrix:
        """Return a row for each text or pair."""
        first = self.vectorizer_.transform([text for text, _ in texts])
        if texts[0][1] is None:
            return first
        second = self.vectorizer_.transform([text or "" for _, text in texts])
        shared = first.multiply(second)
        return csr_matrix(hstack([shared, abs(first - second), shared.sum(axis=1)]))


def tag_words(train: str, evaluate: str, _metric: str) -> dict[str, Any]:
    """Train a conditional random field and return F1 of entities."""
    words, tags = read_words(train)
    field = sklearn_crfsuite.CRF(
        algorithm="lbfgs", c1=0.1, c2=0.1, max_iterations=100, all_possible_transitions=True
    )
    field.fit([word_features(sentence) for sentence in words], tags)
    held_out, truth = read_words(evaluate)
    found = field.predict([word_features(sentence) for sentence in held_out])
    _, _, f1, _ = precision_recall_fscore_support(
        truth, [list(sentence) for sentence in found], average="micro", scheme=IOB2, zero_division=0
    )
    return {"value": float(f1), "choice": "sklearn-crfsuite, c1 0.1, c2 0.1"}


def read_words(file: str) -> tuple[list[list[str]], list[list[str]]]:
    """Return the words and tags of sentences; if a file tags characters, each is a word."""
    settings = TaskSettings(task="token-classification")
    sentences = read_tagged_texts(file, settings, labels_needed=True)
    return [_words(one) for one in sentences], [_tags(one) for one in sentences]


def _words(sentence: TaggedText) -> list[str]:
    if sentence.words is None:
        return list(sentence.text)
    return [sentence.text[start:end] for start, end in sentence.words]


def _tags(sentence: TaggedText) -> list[str]:
    if sentence.tags is not None:
        return list(sentence.tags)
    return tags_of_spans(sentence.spans or (), len(sentence.text))


def word_features(words: Sequence[str]) -> list[list[str]]:
    """Return, for each word, the names of the features that hold for it and its neighbours."""
    padded = ["<<", "<", *words, ">", ">>"]
    lower = [word.lower() for word in padded]
    shapes = [_shape(word) for word in padded]
    features = []
    for at in range(2, len(padded) - 2):
        word, small = padded[at], lower[at]
        features.append(
            [
                "bias",
                f"word={word}",
                *(f"{move}={lower[at + move]}" for move in range(-2, 3)),
                *(f"shape{move}={shapes[at + move]}" for move in range(-1, 2)),
                *(f"pair{move}={lower[at + move]} {lower[at + move + 1]}" for move in (-1, 0)),
                *(f"start={small[:size]}" for size in (1, 2, 3, 4)),
                *(f"end={small[-size:]}" for size in (1, 2, 3, 4)),
            ]
        )
    return features


def _shape(word: str) -> str:
    """Return Aa of Paris, A of NATO, 9.9 of 1,200.50 written 9,9.9."""
    letters = re.sub(r"[^\W\d_]", lambda m: "A" if m[0].isupper() else "a", word)
    return re.sub(r"(.)\1+", r"\1", re.sub(r"\d", "9", letters))


def answer_questions(train: str, evaluate: str, _metric: str) -> dict[str, Any]:
    """Answer with the words of the passage that are closest to those of the question."""
    learned = read_questions(train, labels_needed=True)
    counts = Counter(w for q in learned for w in {m[0].lower() for m in _cut(q.context)})
    rarity = {word: math.log(1 + len(learned) / count) for word, count in counts.items()}
    unseen = math.log(1 + len(learned))

    def f1(questions: Sequence[Question], half: int) -> float:
        scores = [
            question_scores(
                closest_words(q, rarity, unseen, half),
                [reference.text for reference in q.references or ()],
                q.context,
            )[1]
            for q in questions
        ]
        return float(np.mean(scores))

    half = max(HALF_ANSWERS, key=lambda size: f1(learned, size))
    choice = f"{half} words on each side of the middle, by the training rows"
    return {"value": f1(read_questions(evaluate, labels_needed=True), half), "choice": choice}


def closest_words(question: Question, rarity: dict[str, float], unseen: float, half: int) -> str:
    """Return the run of words, none from the question, around the one closest to its rare words.

    Args:
        question: the question, with its passage.
        rarity: rarity of each word of the training passages, in nats.
        unseen: rarity of any other word.
        half: most words of the answer before and after the middle.
    """
    asked = {match[0].lower() for match in _cut(question.question)}
    places = _cut(question.context)
    weight = np.array([rarity.get(m[0].lower(), unseen) for m in places])
    is_asked = np.array([m[0].lower() in asked for m in places])
    may_answer = ~is_asked & np.array([m[0][0].isalnum() for m in places])
    if not may_answer.any():
        return ""
    nearness = 1 / (1 + np.abs(np.arange(-REACH, REACH + 1)))
    score = np.convolve(weight * is_asked, nearness, mode="full")[REACH : REACH + len(places)]
    middle = int(np.argmax(np.where(may_answer, score * weight, -1)))
    first = last = middle
    while first > max(0, middle - half) and may_answer[first - 1]:
        first -= 1
    while last < min(len(places) - 1, middle + half) and may_answer[last + 1]:
        last += 1
    return question.context[places[first].start() : places[last].end()]


def _cut(text: str) -> list[re.Match[str]]:
    return list(re.finditer(WORD, text))


BASELINES: dict[str, Callable[[str, str, str], dict[str, Any]]] = {
    "classification": label_texts,
    "token-classification": tag_words,
    "question-answering": answer_questions,
}
