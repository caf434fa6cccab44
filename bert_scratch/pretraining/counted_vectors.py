"""Word vectors counted from the corpus, with which a narrow model's word embeddings start.

Words that occur between the same words have similar meanings, and counting shows this in seconds;
a model with randomly drawn embeddings spends the first part of a short run finding it out.

Letters: V vocabulary, C context words, O offsets, D hidden.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from bert_scratch.data.store import TokenStore
from bert_scratch.inference.word_embeddings import InitialEmbeddings
from bert_scratch.training.runtime import seed_for

OFFSETS = (-2, -1, 1, 2)
"""Offsets of the neighbours counted, each separately: what precedes differs from what follows."""
CONTEXT_WORDS, MAX_COUNTS = 1500, 25_000_000
"""Only the most frequent words are counted as neighbours: the first number of them, or fewer if a
large vocabulary would need more counts per offset than the second number."""
CONTEXT_POWER = 0.75
"""Exponent of context frequencies; keeps rare ones from being overrated (Levy et al. 2015, 3.2)."""
WORD_GAIN = 2.0
"""Scale of the vectors relative to other weights, the same as that of `mimetic` positions."""
MAX_TOKENS = 20_000_000
"""Most tokens counted; more of a large corpus would hardly change the vectors."""
PIECE_TOKENS, TOKENS_AT_ONCE = 50_000, 2_000_000
ITERATIONS = 3
"""Subspace iterations: 3 find directions with 23.6 % of the squared norm, 8 find 24.3 % (16,384
words of Wikipedia, D = 128)."""


def word_vectors_from_corpus(
    store: TokenStore, *, hidden_size: int, standard_deviation: float, seed: int
) -> InitialEmbeddings:
    """Count which words occur next to which, and make each word's vector from its neighbours.

    A vector is the word's row of positive pointwise mutual information with its neighbours,
    reduced to D numbers, minus the mean of all, and scaled to a common length. The decoder's
    biases are the logarithms of the word frequencies, minus their mean. Sentence and document
    ends are ignored, and in a mixture each text counts once.

    Args:
        store: the prepared corpus; only its train part is read.
        hidden_size: D.
        standard_deviation: the model's initializer_range; the vectors' is `WORD_GAIN` times it.
        seed: of the run. The bits depend on the seed, the CPU model and the number of threads.

    Returns:
        Vectors of the tokens that occur next to a context word more often than by chance, and
        biases of all.

    Source:
        Levy and Goldberg 2014, "Neural word embedding as implicit matrix factorization"; with
        neighbours distinguished by offset, as in their "Linguistic regularities", section 3.
    """
    counts = store.token_counts
    num_contexts = min(CONTEXT_WORDS, MAX_COUNTS // store.vocab_size, np.count_nonzero(counts))
    contexts = np.argsort(-counts, kind="stable")[:num_contexts]
    associations = [
        torch.from_numpy(positive_information(neighbours)).to_sparse()
        for neighbours in count_neighbours(store, contexts)
    ]
    generator = torch.Generator().manual_seed(seed_for("word vectors", seed))
    vectors = reduced(torch.cat(associations, dim=1), hidden_size, generator)
    found = vectors.any(dim=1).nonzero().squeeze(1)
    vectors = torch.nn.functional.normalize(vectors[found] - vectors[found].mean(dim=0), dim=1)
    vectors *= WORD_GAIN * standard_deviation * hidden_size**0.5
    log_frequencies = np.log(counts + 1.0)
    return InitialEmbeddings(
        ids=found.numpy(),
        vectors=vectors.numpy(),
        coverage=f"{len(found):,} of {len(counts):,} tokens",
        decoder_bias=(log_frequencies - log_frequencies.mean()).astype(np.float32),
    )


def count_neighbours(
    store: TokenStore, contexts: npt.NDArray[np.int64]
) -> Iterator[npt.NDArray[np.float32]]:
    """Yield for each of `OFFSETS` how often each word has each context at it, [V, C].

    Args:
        store: the prepared corpus.
        contexts: [C] token ids.
    """
    size = len(contexts) + 1
    column = np.full(store.vocab_size, size - 1)  # the last column is for all other words
    column[contexts] = np.arange(size - 1)
    for offset in OFFSETS:
        counts = np.zeros(store.vocab_size * size, np.float32)
        for tokens in _stretches(store):
            words, neighbours = tokens[max(0, -offset) :], tokens[max(0, offset) :]
            length = min(len(words), len(neighbours))
            places = words[:length] * size + column[neighbours[:length]]
            counts += np.bincount(places, minlength=len(counts))
        yield counts.reshape(-1, size)[:, :-1]


def _stretches(store: TokenStore) -> Iterator[npt.NDArray[np.int64]]:
    """Yield at most about `MAX_TOKENS` train tokens: the same share of each piece of text.

    Small shards are joined, because each stretch costs a pass over the table of counts.
    """
    shards = store.shards("train")
    share = min(1.0, MAX_TOKENS / max(1, sum(shard.num_tokens for shard in shards)))
    pieces, length = [], 0
    for shard in shards:
        for start in range(0, shard.num_tokens, PIECE_TOKENS):
            size = min(PIECE_TOKENS, shard.num_tokens - start)
            pieces.append(shard.read(start, start + math.ceil(share * size)))
            length += len(pieces[-1])
            if length >= TOKENS_AT_ONCE:
                yield np.concatenate(pieces).astype(np.int64)
                pieces, length = [], 0
    if pieces:
        yield np.concatenate(pieces).astype(np.int64)


def positive_information(counts: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """Return the positive pointwise mutual information of words and contexts, in nats.

    Args:
        counts: [V, C], how often they occur together.

    Returns:
        [V, C], max(0, log(P(w, c) / (P(w) P(c)))), and 0 if they never occur together.
    """
    share = counts.sum(axis=0) ** CONTEXT_POWER
    expected = counts.sum(axis=1, keepdims=True) * (share / max(share.sum(), 1.0))
    ratio = np.divide(counts, expected, out=np.zeros_like(counts), where=counts > 0)
    np.maximum(ratio, 1.0, out=ratio)
    information: npt.NDArray[np.float32] = np.log(ratio, out=ratio)
    return information


def reduced(matrix: Tensor, size: int, generator: torch.Generator) -> Tensor:
    """Reduce the rows to fewer numbers, keeping most of what distinguishes them.

    The rows are projected on the directions of the largest singular values, rotated at random so
    that all numbers matter equally: Adam treats them alike.

    Args:
        matrix: [V, n], sparse or not.
        size: D.
        generator: draws where the search for directions begins, and the rotation.

    Returns:
        [V, D]; a row of zeros stays one.

    Source:
        Halko et al. 2011, "Finding structure with randomness", algorithm 4.4.
    """
    width = matrix.shape[1]
    basis = torch.randn(width, min(size, width), generator=generator)
    for _ in range(ITERATIONS):
        basis, _ = torch.linalg.qr(matrix.T @ (matrix @ basis))
    turn, _ = torch.linalg.qr(torch.randn(size, size, generator=generator))
    directions: Tensor = basis @ turn[: basis.shape[1]]
    return matrix @ directions
