"""Exact search: the vectors with the largest cosine, from a file of any length.

Letters: Q queries, N vectors, D numbers per vector, K neighbours.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from bert_scratch.config import InputError, check_range
from bert_scratch.inference.inputs import text_batches
from bert_scratch.inference.pooling import Vectors, unit_length
from bert_scratch.inference.text_vectors import Embed, TextVectorOptions
from bert_scratch.inference.texts import given_texts, read_texts
from bert_scratch.inference.vector_files import VECTOR_WRITERS, Read, read_vectors

_TEXTS_AT_ONCE = 4096
_QUERIES_AT_ONCE = 1024


class NearestSearch:
    """Keeps, for each query, the nearest of all vectors seen.

    Attributes:
        scores: Q arrays of up to K float32, cosines, the largest first.
        rows: Q arrays of up to K int64, the vectors' numbers from 0; the first wins a tie.
    """

    def __init__(self, queries: Vectors, top_k: int) -> None:
        """Start without vectors.

        Args:
            queries: [Q, D], not necessarily normalised.
            top_k: K, at least 1.
        """
        self.scores = [np.empty(0, np.float32) for _ in queries]
        self.rows = [np.empty(0, np.int64) for _ in queries]
        self._queries = unit_length(queries)
        self._top_k = top_k
        self._num_seen = 0

    def add(self, vectors: Vectors) -> None:
        """Search further vectors [n, D], not necessarily normalised.

        Raises:
            InputError: if their size differs from the queries', or either is not a matrix.
        """
        if vectors.ndim != 2 or self._queries.ndim != 2:
            raise InputError(
                f"queries [Q, D] and vectors [N, D] are needed; got the shapes "
                f"{list(self._queries.shape)} and {list(vectors.shape)}: one vector is v[None]"
            )
        if vectors.shape[1] != self._queries.shape[1]:
            raise InputError(
                f"the vectors have {vectors.shape[1]} numbers, those of the queries "
                f"{self._queries.shape[1]}: embed both with the same model and options"
            )
        scaled = unit_length(vectors)
        for start in range(0, len(self._queries), _QUERIES_AT_ONCE):
            products = self._queries[start : start + _QUERIES_AT_ONCE] @ scaled.T
            for query, scores in enumerate(products, start):
                self._keep_best(query, scores)
        self._num_seen += len(vectors)

    def _keep_best(self, query: int, scores: npt.NDArray[np.float32]) -> None:
        best = self.scores[query]
        # A later vector with an equal score never displaces one that is kept.
        is_full = len(best) == self._top_k
        candidates = np.flatnonzero(scores > best[-1]) if is_full else np.arange(len(scores))
        if not len(candidates):
            return
        merged = np.concatenate([best, scores[candidates]])
        order = np.argsort(-merged, kind="stable")[: self._top_k]
        rows = np.concatenate([self.rows[query], candidates + self._num_seen])
        self.scores[query], self.rows[query] = merged[order], rows[order]


def nearest(
    queries: Vectors, vectors: Iterable[Vectors], top_k: int = 5
) -> tuple[list[npt.NDArray[np.int64]], list[npt.NDArray[np.float32]]]:
    """Find the vectors with the largest cosine, by comparing with all of them.

    Args:
        queries: [Q, D] float32, not necessarily normalised.
        vectors: one array [N, D], or several in turn, such as slices of an .npy file opened with
            `mmap_mode="r"`: only one needs to be in memory.
        top_k: K.

    Returns:
        Q arrays of row numbers from 0 and Q of cosines, each [min(K, N)], the nearest first.

    Raises:
        InputError: if the sizes differ.
    """
    check_range("top_k", top_k, at_least=1)
    search = NearestSearch(queries, top_k)
    for chunk in [vectors] if isinstance(vectors, np.ndarray) else vectors:
        search.add(chunk)
    return search.rows, search.scores


@dataclass(frozen=True, kw_only=True)
class NearestConfig(TextVectorOptions):
    """Find the texts nearest to a query, by comparing it with every one."""

    input: str
    """What is searched: a file embed wrote (.npy, .npz, .jsonl with vectors, .parquet) with the
    same options, or texts: lines, or .jsonl with "text" only."""
    query: tuple[str, ...] = ()
    """One or more texts to look for; - reads texts from standard input, one per line."""
    queries: str | None = None
    """A file of texts to look for, one per line; or .jsonl, objects with "text"."""
    texts: str | None = None
    """The texts that an .npy or .npz file was made of, to show next to their numbers."""
    top_k: int = 5
    """Neighbours of each query."""
    json: bool = False
    """Print one JSON object per query."""

    def __post_init__(self) -> None:
        """Check what does not depend on the model.

        Raises:
            InputError: naming the flag.
        """
        super().__post_init__()
        check_range("--top-k", self.top_k, at_least=1)
        if not self.query and self.queries is None:
            raise InputError("give --query TEXT..., or --queries FILE")


def run_nearest(config: NearestConfig) -> None:
    """Print the nearest texts of each query.

    Raises:
        InputError: if the model or a file cannot be used, or there is nothing to search for or in.
    """
    flags = ("--query", "--queries")
    queries = list(given_texts(config.query, config.queries, flags=flags))
    embed_texts = config.embedder()
    search = NearestSearch(np.stack(list(embed_texts(queries))), config.top_k)
    texts: dict[int, str] = {}
    num_seen = 0
    for vectors, own_texts in _searched(config.input, embed_texts):
        search.add(vectors)
        if own_texts is not None:
            kept = {int(row) for rows in search.rows for row in rows}
            new = {row: text for row, text in enumerate(own_texts, num_seen) if row in kept}
            texts = {row: text for row, text in texts.items() if row in kept} | new
        num_seen += len(vectors)
    if not num_seen:
        raise InputError(f"--input {config.input}: holds nothing to search")
    if config.texts is not None:
        kept = {int(row) for rows in search.rows for row in rows}
        texts = _named_texts(config.texts, kept, num_vectors=num_seen, source=config.input)
    _print(config, queries, search, texts)


def _named_texts(file: str, kept: set[int], *, num_vectors: int, source: str) -> dict[int, str]:
    """Return the texts of some rows from a file that has one for each vector."""
    texts: dict[int, str] = {}
    num_texts = 0
    for row, text in enumerate(read_texts(file, flag="--texts")):
        num_texts += 1
        if row in kept:
            texts[row] = text
    if num_texts != num_vectors:
        raise InputError(
            f"--texts {file}: holds {num_texts:,} texts, --input {source} has {num_vectors:,} "
            f"vectors; give the file that the vectors were made of"
        )
    return texts


def _searched(source: str, embed_texts: Embed) -> Read:
    """Yield the vectors to search, and their texts if known."""
    if Path(source).suffix in VECTOR_WRITERS and not _is_text(source):
        yield from read_vectors(source)
        return
    for group in text_batches(read_texts(source), _TEXTS_AT_ONCE):
        yield np.stack(list(embed_texts(group))), group


def _is_text(source: str) -> bool:
    """Tell whether a .jsonl file holds texts without vectors."""
    if Path(source).suffix != ".jsonl" or not Path(source).is_file():
        return False
    with Path(source).open("rb") as file:
        first = file.readline()
    try:
        return not {"vector", "units"} & json.loads(first).keys()
    except (ValueError, AttributeError, RecursionError):  # the reader of texts says what is wrong
        return True


def _print(
    config: NearestConfig, queries: list[str], search: NearestSearch, texts: dict[int, str]
) -> None:
    for query, rows, scores in zip(queries, search.rows, search.scores, strict=True):
        found = list(_neighbours(rows.tolist(), scores.tolist(), texts))
        if config.json:
            print(json.dumps({"query": query, "neighbours": found}, ensure_ascii=False))
            continue
        print(query)
        for neighbour in found:
            text = neighbour.get("text", "")
            print(f"  {neighbour['cosine']:7.4f}  row {neighbour['row']}  {text}".rstrip())


def _neighbours(
    rows: list[int], scores: list[float], texts: dict[int, str]
) -> Iterator[dict[str, float | int | str]]:
    for row, score in zip(rows, scores, strict=True):
        text = {"text": texts[row]} if row in texts else {}
        yield {"row": row, "cosine": round(score, 6)} | text
