"""Linear probes: how well a label can be read linearly from each layer."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt

from bert_scratch.extras import import_extra

_REGULARISATION = 0.01
"""scikit-learn's C, for standardised vectors: small enough not to memorise the training part."""


def probe_layers(
    states: npt.NDArray[np.float32], labels: npt.NDArray[Any], *, num_train: int
) -> Iterator[npt.NDArray[np.bool_]]:
    """Yield for each layer which test labels a logistic regression predicts correctly.

    Args:
        states: [N, L + 1, D].
        labels: [N] of any kind, at least two different ones in the training part.
        num_train: the first num_train are the training part, the others the test part.
    """
    purpose = "a linear probe"
    linear = import_extra("sklearn.linear_model", purpose, "sklearn")
    preprocessing = import_extra("sklearn.preprocessing", purpose, "sklearn")
    pipeline = import_extra("sklearn.pipeline", purpose, "sklearn")
    for layer in range(states.shape[1]):
        probe = pipeline.make_pipeline(
            preprocessing.StandardScaler(),
            linear.LogisticRegression(C=_REGULARISATION, max_iter=1000),
        )
        probe.fit(states[:num_train, layer], labels[:num_train])
        yield probe.predict(states[num_train:, layer]) == labels[num_train:]
