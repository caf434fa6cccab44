"""Turn texts into vectors, as a scikit-learn transformer."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Self

import numpy as np

from bert_scratch.extras import import_extra
from bert_scratch.inference.embed import EmbedOptions, embeddings
from bert_scratch.inference.inputs import ModelOptions, each_text
from bert_scratch.inference.pooling import Vectors

import_extra("sklearn", "BertVectorizer", "sklearn")

from sklearn.base import (  # noqa: E402
    BaseEstimator,
    ClassNamePrefixFeaturesOutMixin,
    TransformerMixin,
)
from sklearn.utils.validation import check_is_fitted  # noqa: E402


class BertVectorizer(
    ClassNamePrefixFeaturesOutMixin,  # type: ignore[misc]
    TransformerMixin,  # type: ignore[misc]
    BaseEstimator,  # type: ignore[misc]
):
    """Turn texts into the vectors of a frozen BERT, as a step of a scikit-learn pipeline.

        Pipeline([("bert", BertVectorizer("runs/mine/model")), ("classify", LogisticRegression())])

    `GridSearchCV` can search any argument, such as `bert__layers`. Nothing is learned from the
    texts: if a search changes only later steps, give the pipeline a `memory` folder, and each text
    is embedded once per fold.

    Args:
        model: a model folder, a checkpoint, or a hub id.
        pooling: mean, cls or max; see `EmbedOptions`, also for the others.
        layers: one or more of 0 (embeddings) to L, or -1 (last) to -(L + 1); or ("all",).
        layer_combine: mean, sum or concat.
        normalize: scale every vector to length 1.
        max_seq_length: tokens per row. None: as many as in the rows the model was trained on, or
            all that it can take.
        stride: tokens from one window of a longer text to the next. None: the text is cut off.
        batch_size: rows of 128 tokens per pass. None: 8 on a CPU, 64 elsewhere.
        device: auto, cpu, cuda or cuda:N.
        dtype: float32, bfloat16, float16 or int8.

    Attributes:
        model_: the loaded `BertModel`, without its pooler.
        tokenizer_: its tokenizer.
    """

    def __init__(
        self,
        model: str,
        *,
        pooling: str = "mean",
        layers: Sequence[int | str] = (-1,),
        layer_combine: str = "mean",
        normalize: bool = False,
        max_seq_length: int | None = None,
        stride: int | None = None,
        batch_size: int | None = None,
        device: str = "auto",
        dtype: str = "float32",
    ) -> None:
        self.model = model
        self.pooling = pooling
        self.layers = layers
        self.layer_combine = layer_combine
        self.normalize = normalize
        self.max_seq_length = max_seq_length
        self.stride = stride
        self.batch_size = batch_size
        self.device = device
        self.dtype = dtype

    def fit(self, X: Iterable[str], y: object = None) -> Self:
        """Load the model; the texts are only checked for their type.

        Raises:
            InputError: if the model cannot be loaded, or an argument does not fit it.
        """
        list(each_text(X))
        options = ModelOptions(model=self.model, device=self.device, dtype=self.dtype)
        self.model_, self.tokenizer_ = options.load_encoder()
        self._n_features_out = self._vectors([""]).shape[1]
        return self

    def transform(self, X: Iterable[str]) -> Vectors:
        """Return [N, D] float32, a vector for each text.

        Raises:
            InputError: if X is not a list of texts.
            sklearn.exceptions.NotFittedError: before `fit`.
        """
        check_is_fitted(self)
        return self._vectors(list(each_text(X)))

    def _vectors(self, texts: list[str]) -> Vectors:
        options = EmbedOptions(
            pooling=self.pooling,
            layers=tuple(map(str, self.layers)),
            layer_combine=self.layer_combine,
            normalize=self.normalize,
            max_seq_length=self.max_seq_length,
            stride=self.stride,
            batch_size=self.batch_size,
        )
        options.check_one_vector()
        found = [e.vectors for e in embeddings(self.model_, self.tokenizer_, texts, options)]
        return np.stack(found) if found else np.empty((0, self._n_features_out), np.float32)

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.string = True
        tags.input_tags.two_d_array = False
        return tags
