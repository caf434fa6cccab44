"""Word vectors of other programs as the initial word embeddings of a new BERT.

Letters: V vocabulary, D hidden, E numbers of a vector in the file.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from tokenizers import Tokenizer

from bert_scratch.config import InputError
from bert_scratch.data.unpack import READ_ERRORS, open_bytes
from bert_scratch.data.wordpiece import unselectable_ids
from bert_scratch.inference.pooling import Vectors

_NO_DEVIATION = 1e-6
"""A standard deviation so small beside the largest number is that of rounding."""


@dataclass(frozen=True, slots=True)
class InitialEmbeddings:
    """Initial rows of a word embedding; rows without a vector stay as they are."""

    ids: npt.NDArray[np.int64]
    """[n] token ids, ascending."""
    vectors: Vectors
    """[n, D] float32."""
    coverage: str
    """A description of how much of the vocabulary that is."""
    decoder_bias: npt.NDArray[np.float32] | None = None
    """[V], the bias of each token in the decoder; None if it starts at zero."""


def word_embeddings_from_vectors(
    tokenizer: Tokenizer, path: str, *, hidden_size: int, standard_deviation: float
) -> InitialEmbeddings:
    """Read the vectors of a vocabulary's words from word2vec's or GloVe's text format.

    A word of the file goes to the token that equals it once normalised. If there are several such
    words, the one spelt like the token is used, else the first, since files are sorted by
    frequency. Vectors longer than the model's width are reduced to their principal components.

    Args:
        tokenizer: of the new model.
        path: the file, plain or compressed, with or without word2vec's first line.
        hidden_size: D.
        standard_deviation: of the values returned, the model's initializer_range; replaces the
            file's own scale.

    Raises:
        InputError: naming the line, if the file has another format; if its vectors are shorter
            than D or do not differ; or if it has none of the vocabulary's words, or too few to
            reduce longer vectors.
    """
    special = set(unselectable_ids(tokenizer))
    tokens = {
        token: number
        for token, number in tokenizer.get_vocab().items()
        if number not in special and not token.startswith("##")
    }
    normalizer = tokenizer.normalizer
    found: dict[int, Vectors] = {}
    exact: set[int] = set()
    for place, word, numbers in _read(path):
        normal = word if normalizer is None else normalizer.normalize_str(word).strip()
        number = tokens.get(normal)
        if number is None or number in exact or (number in found and word != normal):
            continue
        found[number] = _parsed(numbers, place)
        if word == normal:
            exact.add(number)
    if not found:
        raise InputError(f"{path}: has none of the vocabulary's {len(tokens):,} words")
    ids = np.array(sorted(found), np.int64)
    raw = np.stack([found[number] for number in ids.tolist()])
    vectors = _narrowed(raw, hidden_size, path)
    deviation = float(vectors.std())
    if deviation <= _NO_DEVIATION * float(np.abs(raw).max()):
        raise InputError(
            f"{path}: the vectors of the vocabulary's words do not differ; take another file"
        )
    scaled = np.asarray(vectors * (standard_deviation / deviation), np.float32)
    vocab_size = tokenizer.get_vocab_size()
    coverage = (
        f"{len(ids):,} of {len(tokens):,} words ({len(ids) / max(1, len(tokens)):.1%}), "
        f"{len(ids) / vocab_size:.1%} of all {vocab_size:,} tokens"
    )
    return InitialEmbeddings(ids, scaled, coverage)


def _read(path: str) -> Iterator[tuple[str, str, list[bytes]]]:
    """Yield for each line its name for errors, its word, and its numbers, not yet parsed."""
    size = None
    try:
        with open_bytes(Path(path)) as lines:
            for number, line in enumerate(lines, start=1):
                place = f"{path}, line {number}"
                # Words in GloVe's largest file contain spaces, so numbers are counted from the end.
                parts = line.rstrip().split(b" ")
                if number == 1 and len(parts) == 2 and all(part.isdigit() for part in parts):
                    size = int(parts[1])
                    continue
                size = len(parts) - 1 if size is None else size
                if len(parts) <= size or not size:
                    raise InputError(f"{place}: needs a word and {size or 'its'} numbers")
                word = b" ".join(parts[:-size]).decode("utf-8", "replace")
                yield place, word, parts[-size:]
    except READ_ERRORS as error:
        raise InputError(f"{path}: cannot be read: {error}") from error


def _parsed(numbers: list[bytes], place: str) -> Vectors:
    try:
        vector = np.array(numbers, np.float32)
    except ValueError as error:
        raise InputError(f"{place}: is not a word and numbers: {error}") from error
    if not np.isfinite(vector).all():
        raise InputError(f"{place}: has a number that is not finite")
    return vector


def _narrowed(vectors: Vectors, hidden_size: int, path: str) -> Vectors:
    """Reduce [n, E] to [n, D]: the principal components, in descending order of variance."""
    size = vectors.shape[1]
    if size < hidden_size:
        raise InputError(
            f"{path}: its vectors have {size} numbers, the model is {hidden_size} wide; take "
            f"longer vectors or --hidden-size {size} and a number of heads that divides it"
        )
    if size == hidden_size:
        return vectors
    if len(vectors) <= hidden_size:
        raise InputError(
            f"{path}: has only {len(vectors):,} of the vocabulary's words; at least "
            f"{hidden_size + 1:,} are needed to reduce its vectors from {size} numbers to "
            f"{hidden_size}; take a file with more of the words or with vectors of that length"
        )
    centred = vectors.astype(np.float64) - vectors.mean(axis=0, dtype=np.float64)
    _, directions = np.linalg.eigh(centred.T @ centred)
    return np.asarray(centred @ directions[:, ::-1][:, :hidden_size], np.float32)
