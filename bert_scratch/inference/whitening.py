"""Whitening: rotate and scale sentence vectors so that no direction outweighs another.

Letters: N texts, D numbers of a vector, K of a whitened one.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file

from bert_scratch import durable
from bert_scratch.config import InputError, Settings, check_range
from bert_scratch.inference.pooling import Vectors
from bert_scratch.inference.vector_files import read_vectors
from bert_scratch.output_places import make_place_for

# Share of the largest variance below which variance is rounding error.
_SMALLEST_VARIANCE = 1e-7


@dataclass(frozen=True, slots=True)
class Whitening:
    """A map that gives vectors mean 0 and covariance 1."""

    mean: Vectors
    """[D] float32, mean of the vectors it was fitted to."""
    matrix: Vectors
    """[D, K] float32, the direction with the largest variance first."""

    def __call__(self, vectors: Vectors) -> Vectors:
        """Map [..., D] to [..., K].

        Raises:
            InputError: if the vectors have another size.
        """
        if vectors.shape[-1] != len(self.mean):
            raise InputError(
                f"the whitening was made of vectors of {len(self.mean)} numbers; these have "
                f"{vectors.shape[-1]}: embed with the same model, layers and combination"
            )
        return np.asarray((vectors - self.mean) @ self.matrix, np.float32)

    def save(self, path: str | Path) -> None:
        """Write a .safetensors file."""
        with durable.durable_path(Path(path)) as temporary:
            save_file({"mean": self.mean, "matrix": self.matrix}, temporary)

    @classmethod
    def load(cls, path: str | Path) -> Whitening:
        """Read what `save` wrote.

        Raises:
            InputError: if the file is something else.
        """
        try:
            tensors = load_file(path)
            return cls(mean=tensors["mean"], matrix=tensors["matrix"])
        except (OSError, SafetensorError, KeyError) as error:
            raise InputError(
                f"--whitening {path}: is not a file that the command whiten wrote: {error}"
            ) from error


def fit_whitening(chunks: Iterable[Vectors], num_dimensions: int | None = None) -> Whitening:
    """Find the whitening of vectors; memory does not grow with their number.

    Args:
        chunks: one array [N, D] of float32, or several in turn, N vectors in total.
        num_dimensions: K, the directions of largest variance to keep. None: all that vary.

    Raises:
        InputError: if there are fewer than two different vectors, a number is not finite, or
            no directions, or more than vary, are requested.

    Source:
        Su et al. 2021, "Whitening Sentence Representations for Better Semantics and Faster
        Retrieval", algorithm 1. Directions without variance are dropped, where the paper would
        divide by zero.
    """
    check_range("num_dimensions", num_dimensions, at_least=1)
    chunks = [chunks] if isinstance(chunks, np.ndarray) else chunks
    count, total, products = 0, np.zeros(0), np.zeros((0, 0))
    for chunk in filter(len, chunks):
        if not np.isfinite(chunk).all():
            raise InputError("whitening needs finite numbers; some vectors have NaN or infinity")
        values = chunk.astype(np.float64)
        if not count:
            # Subtracted from every vector for numerical precision of the products.
            origin = values.mean(axis=0)
            total, products = np.zeros(len(origin)), np.zeros((len(origin), len(origin)))
        values -= origin
        count += len(values)
        total += values.sum(axis=0)
        products += values.T @ values
    if count < 2:
        raise InputError(f"whitening needs two vectors or more; there are {count}")
    mean = total / count
    variances, directions = np.linalg.eigh(products / count - np.outer(mean, mean))
    variances, directions = variances[::-1], directions[:, ::-1]
    rank = int((variances > _SMALLEST_VARIANCE * variances[0]).sum())
    if not rank:
        raise InputError(f"all {count:,} vectors are equal; whitening needs different texts")
    size = rank if num_dimensions is None else num_dimensions
    if size > rank:
        raise InputError(
            f"only {rank} directions of the {count:,} vectors vary, too few for {size}; use "
            f"more texts or fewer dimensions"
        )
    matrix = directions[:, :size] / np.sqrt(variances[:size])
    return Whitening((origin + mean).astype(np.float32), matrix.astype(np.float32))


@dataclass(frozen=True, kw_only=True)
class WhitenConfig(Settings):
    """Find the whitening of embedded texts, for --whitening of embed, similarity and nearest."""

    input: str
    """Vectors of texts that embed wrote, without --normalize: .npy, .npz, .jsonl or .parquet."""
    output: str
    """The whitening, a .safetensors file."""
    num_dimensions: int | None = None
    """Directions to keep, those of largest variance. Left out: all that vary."""

    def __post_init__(self) -> None:
        """Check the names and the size.

        Raises:
            InputError: naming the flag.
        """
        check_range("--num-dimensions", self.num_dimensions, at_least=1)
        if Path(self.output).suffix != ".safetensors":
            raise InputError(f"--output {self.output}: must end in .safetensors")


def run_whiten(config: WhitenConfig) -> None:
    """Write the whitening of a file of vectors.

    Raises:
        InputError: if the file holds no vectors of texts, or too few.
    """
    make_place_for(Path(config.output), source=config.input)
    chunks = (vectors for vectors, _ in read_vectors(config.input))
    whitening = fit_whitening(chunks, config.num_dimensions)
    whitening.save(Path(config.output))
    before, after = whitening.matrix.shape
    print(f"{before} numbers per vector to {after}: {config.output}")
