"""Project vectors to a plane, where lines with similar vectors lie near each other.

Letters: N lines, D hidden.
"""

from __future__ import annotations

import importlib
import importlib.util
from typing import Any

from bert_scratch.config import check_choice
from bert_scratch.extras import import_extra
from bert_scratch.inference.pooling import Vectors
from bert_scratch.views.explain_data import Json

METHODS = {"pca": "PCA", "t-sne": "t-SNE", "umap": "UMAP"}
MIN_LINES = 3
_SEED = 0
_NEIGHBOURS = 15
"""Number of neighbours that t-SNE and UMAP keep near, if there are enough lines."""


def known_methods() -> dict[str, str]:
    """Return the methods available on this machine, with their display names."""
    has_umap = importlib.util.find_spec("umap") is not None
    return {key: name for key, name in METHODS.items() if key != "umap" or has_umap}


def project(vectors: Vectors, method: str) -> Json:
    """Project vectors to a plane, the same way for the same vectors.

    Args:
        vectors: [N, D] float32, N >= MIN_LINES.
        method: a key of METHODS.

    Returns:
        points: N of [x, y], in arbitrary units; all [0, 0] if the vectors do not vary.
        kept: the share of the variance that the plane shows, 0 to 1; None except for pca.

    Raises:
        InputError: if the method is not available on this machine.
    """
    check_choice("the method", method, known_methods())
    if (vectors == vectors[0]).all():  # scikit-learn divides by the variance
        return {"points": [[0.0, 0.0] for _ in vectors], "kept": 1.0 if method == "pca" else None}
    neighbours = min(_NEIGHBOURS, len(vectors) - 1)
    purpose = f"drawing a map by {METHODS[method]}"
    mapper: Any
    if method == "pca":
        package = import_extra("sklearn.decomposition", purpose, "explore")
        mapper = package.PCA(n_components=2, svd_solver="full")
    elif method == "t-sne":
        package = import_extra("sklearn.manifold", purpose, "explore")
        # The authors of t-SNE use three times as many neighbours as the perplexity.
        mapper = package.TSNE(perplexity=max(neighbours / 3, 1), random_state=_SEED)
    else:
        mapper = importlib.import_module("umap").UMAP(
            n_neighbors=neighbours,
            # Its spectral start needs more lines than it has axes to compute.
            init="spectral" if len(vectors) > MIN_LINES else "random",
            random_state=_SEED,
        )
    points = mapper.fit_transform(vectors)
    kept = float(mapper.explained_variance_ratio_.sum()) if method == "pca" else None
    return {"points": [[float(x), float(y)] for x, y in points], "kept": kept}
