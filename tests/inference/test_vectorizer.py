"""Pins the scikit-learn transformer: its conventions, the vectors of `embed`, pipelines and grid
search. Needs scikit-learn. Run alone: `pytest tests/inference/test_vectorizer.py`."""

from __future__ import annotations

import pickle
import sys
from pathlib import Path

import numpy as np
import pytest
from tokenizers import Tokenizer

import bert_scratch
from bert_scratch import embed
from bert_scratch.config import InputError
from bert_scratch.model.heads import BertForPreTraining

sklearn = pytest.importorskip("sklearn")

from sklearn.base import clone  # noqa: E402
from sklearn.exceptions import NotFittedError  # noqa: E402
from sklearn.linear_model import LogisticRegression  # noqa: E402
from sklearn.model_selection import GridSearchCV, cross_val_score  # noqa: E402
from sklearn.pipeline import Pipeline  # noqa: E402
from sklearn.utils import estimator_checks  # noqa: E402

from bert_scratch.inference.vectorizer import BertVectorizer  # noqa: E402

TEXTS = ["the cat sees a dog.", "x y z", "a garden in the house", "z y", "the dog", "y x x"] * 4
LABELS = [0, 1, 0, 1, 0, 1] * 4


@pytest.mark.parametrize(
    "check",
    [
        "check_estimator_cloneable",
        "check_estimator_repr",
        "check_estimator_tags_renamed",
        "check_get_params_invariance",
        "check_mixin_order",
        "check_no_attributes_set_in_init",
        "check_set_params",
        "check_valid_tag_types",
    ],
)
def test_keeps_the_conventions_of_scikit_learn(check: str, folder: Path) -> None:
    getattr(estimator_checks, check)("BertVectorizer", BertVectorizer(str(folder)))


def test_vectors_are_those_of_embed(
    folder: Path, model: BertForPreTraining, tokenizer: Tokenizer
) -> None:
    vectorizer = BertVectorizer(str(folder), layers=(0, -1), layer_combine="concat", pooling="max")
    found = vectorizer.fit_transform(np.array(TEXTS))
    chosen = {"layers": (0, -1), "layer_combine": "concat", "pooling": "max"}
    np.testing.assert_array_equal(found, embed(model, tokenizer, TEXTS, **chosen))
    names = vectorizer.get_feature_names_out()
    assert len(names) == found.shape[1] and names[0] == "bertvectorizer0"
    assert vectorizer.transform([]).shape == (0, found.shape[1])


def test_works_in_a_pipeline_and_a_grid_search(folder: Path) -> None:
    classify = LogisticRegression(C=1000)
    pipeline = Pipeline([("bert", BertVectorizer(str(folder))), ("classify", classify)])
    assert cross_val_score(pipeline, TEXTS, LABELS, cv=2).mean() == 1
    grid = {
        "bert__layers": [(0,), (-1,)],
        "bert__pooling": ["mean", "cls"],
        "classify__C": [0.1, 1],
    }
    search = GridSearchCV(pipeline, grid, cv=2, error_score="raise").fit(TEXTS, LABELS)
    assert search.best_score_ == 1
    assert search.predict(["the cat", "y z"]).tolist() == [0, 1]


def test_copies_fit_anew_and_pickles_answer_alike(folder: Path) -> None:
    fitted = BertVectorizer(str(folder)).fit(TEXTS)
    with pytest.raises(NotFittedError):
        clone(fitted).transform(TEXTS)
    again = pickle.loads(pickle.dumps(fitted))
    np.testing.assert_array_equal(again.transform(TEXTS), fitted.transform(TEXTS))


def test_is_public_and_names_its_extra_when_scikit_learn_is_missing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert bert_scratch.BertVectorizer is BertVectorizer
    monkeypatch.setitem(sys.modules, "sklearn", None)
    monkeypatch.delitem(sys.modules, "bert_scratch.inference.vectorizer")
    with pytest.raises(InputError, match=r"BertVectorizer needs sklearn: pip install .*sklearn"):
        _ = bert_scratch.BertVectorizer


@pytest.mark.parametrize(
    ("arguments", "texts", "message"),
    [
        ({}, "one text", "needs a list of texts; got one string"),
        ({}, [["a"], ["b"]], "got a list among them"),
        ({}, [1.0], "got a float among them"),
        ({"layers": (9,)}, ["a"], "layers must be all, or 0"),
        ({"layer_combine": "stack"}, ["a"], "choose --layer-combine mean, sum or concat"),
        ({"dtype": "int4"}, ["a"], "--dtype must be one of"),
    ],
)
def test_wrong_input_is_refused(
    arguments: dict[str, object], texts: object, message: str, folder: Path
) -> None:
    with pytest.raises(InputError, match=message):
        BertVectorizer(str(folder), **arguments).fit(texts)
