"""Pins word vectors counted from a corpus: what is counted, and that alike words are alike.
Anywhere: `pytest tests/pretraining/test_counted_vectors.py`."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
import torch

from bert_scratch.config import BertConfig
from bert_scratch.data.shard import SPLITS, write_shard
from bert_scratch.data.store import TokenStore, write_manifest
from bert_scratch.inference.word_embeddings import InitialEmbeddings
from bert_scratch.pretraining import counted_vectors
from bert_scratch.pretraining.counted_vectors import (
    OFFSETS,
    WORD_GAIN,
    count_neighbours,
    positive_information,
    reduced,
    word_vectors_from_corpus,
)
from bert_scratch.pretraining.pretrain_config import PretrainConfig
from bert_scratch.pretraining.starting_model import drawn_model

StoreOf = Callable[..., TokenStore]
VOCAB_SIZE = 40


@pytest.fixture
def store_of(tmp_path: Path) -> StoreOf:
    """Makes a store whose train shards hold the tokens given, each line of them a document."""

    def make(*shards: Sequence[Sequence[int]], vocab_size: int = VOCAB_SIZE) -> TokenStore:
        records = []
        for index, documents in enumerate(shards):
            record = {}
            for split in SPLITS:
                with write_shard(tmp_path, index, split, vocab_size) as writer:
                    for tokens in documents if split == "train" else [[7, 8]]:
                        writer.add_document([np.array(tokens)])
                record[split] = writer.record
            records.append(record)
        write_manifest(tmp_path, records, vocab_size=vocab_size, facts={})
        return TokenStore(tmp_path)

    return make


def sentences(num: int) -> list[list[int]]:
    """Documents in which 10 to 14 stand between 20 and 21, and 15 to 19 between 30 and 31."""
    draw = random.Random(0)
    made = []
    for _ in range(num):
        first = draw.random() < 0.5
        word = draw.randrange(10, 15) if first else draw.randrange(15, 20)
        made.append([20, word, 21] if first else [30, word, 31])
    return made


def vectors_of(store: TokenStore, width: int = 16) -> InitialEmbeddings:
    return word_vectors_from_corpus(store, hidden_size=width, standard_deviation=0.05, seed=1)


def test_words_between_the_same_words_start_alike(store_of: StoreOf) -> None:
    found = vectors_of(store_of(sentences(2000)))
    rows = dict(zip(found.ids.tolist(), torch.from_numpy(found.vectors), strict=True))
    words = torch.stack([rows[word] for word in range(10, 20)])
    similar = torch.nn.functional.cosine_similarity(words[:, None], words[None], dim=2)
    same = similar[:5, :5].min().item(), similar[5:, 5:].min().item()
    assert min(same) > 0.8
    assert similar[:5, 5:].max() < 0.3


def test_counts_are_those_of_the_text_in_any_number_of_stretches(
    store_of: StoreOf, monkeypatch: pytest.MonkeyPatch
) -> None:
    draw = random.Random(1)
    tokens = [draw.randrange(5, 12) for _ in range(200)]
    store, contexts = store_of([tokens[:90], tokens[90:]]), np.array([9, 5, 6])
    for place, counts in zip(OFFSETS, count_neighbours(store, contexts), strict=True):
        expected = np.zeros((VOCAB_SIZE, 3))
        for at, word in enumerate(tokens):
            if 0 <= at + place < len(tokens) and tokens[at + place] in (9, 5, 6):
                expected[word, [9, 5, 6].index(tokens[at + place])] += 1
        np.testing.assert_array_equal(counts, expected)
    whole = sum(counts.sum() for counts in count_neighbours(store, contexts))
    monkeypatch.setattr(counted_vectors, "PIECE_TOKENS", 50)
    monkeypatch.setattr(counted_vectors, "TOKENS_AT_ONCE", 50)
    pieces = sum(counts.sum() for counts in count_neighbours(store, contexts))
    assert 0.9 * whole < pieces < whole  # neighbours across the cuts are left out


def test_of_a_large_corpus_each_piece_is_counted_in_proportion(
    store_of: StoreOf, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = store_of([[5, 6] * 50], [[7] * 150 + [8] * 150])
    monkeypatch.setattr(counted_vectors, "MAX_TOKENS", 100)
    monkeypatch.setattr(counted_vectors, "PIECE_TOKENS", 50)
    words = np.concatenate(list(counted_vectors._stretches(store)))
    assert np.bincount(words).tolist() == [0, 0, 0, 0, 0, 14, 12, 39, 39]


def test_many_small_shards_are_counted_as_one_stretch(store_of: StoreOf) -> None:
    store = store_of(*[[[5, 6, 7]]] * 30)
    assert [len(stretch) for stretch in counted_vectors._stretches(store)] == [90]


def test_few_contexts_are_counted_for_a_large_vocabulary(
    store_of: StoreOf, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = store_of(sentences(200))
    monkeypatch.setattr(counted_vectors, "MAX_COUNTS", 4 * VOCAB_SIZE)
    few = vectors_of(store, width=32)
    assert np.linalg.matrix_rank(few.vectors, tol=1e-4) <= 4 * len(OFFSETS)


def test_information_is_positive_and_zero_without_a_meeting() -> None:
    counts = np.array([[8, 0], [1, 1], [0, 0]], np.float32)
    share = np.array([9.0, 1.0]) ** 0.75
    share /= share.sum()
    expected = [
        [max(0.0, np.log(8 / (8 * share[0]))), 0.0],
        [max(0.0, np.log(1 / (2 * share[0]))), np.log(1 / (2 * share[1]))],
        [0.0, 0.0],
    ]
    np.testing.assert_allclose(positive_information(counts), expected, rtol=1e-5)


@pytest.mark.parametrize("size", [4, 12, 40])
def test_reduced_rows_keep_the_largest_singular_values(size: int) -> None:
    generator = torch.Generator().manual_seed(0)
    spectrum = torch.tensor([2.0**-k for k in range(12)])
    sides = [torch.linalg.qr(torch.randn(n, 12, generator=generator))[0] for n in (20, 30)]
    matrix = (sides[0] * spectrum) @ sides[1].T
    rows = reduced(matrix, size, generator)
    kept = sides[0] * (spectrum * (torch.arange(12) < size))
    assert rows.shape == (20, size)
    torch.testing.assert_close(rows @ rows.T, kept @ kept.T, atol=1e-4, rtol=0)


def test_reduced_rows_spread_their_variance_over_all_numbers() -> None:
    generator = torch.Generator().manual_seed(0)
    matrix = torch.randn(400, 50, generator=generator) * torch.tensor([0.8**k for k in range(50)])
    spread = reduced(matrix, 16, generator).std(dim=0)
    assert spread.max() < 10 * spread.min()  # not turned: 0.8**-15 = 28


def test_unseen_tokens_keep_their_drawn_rows_and_biases_are_frequencies(store_of: StoreOf) -> None:
    store = store_of(sentences(500))
    found = vectors_of(store, width=8)
    seen = np.flatnonzero(store.token_counts)
    assert found.ids.tolist() == seen.tolist() and len(seen) == 14
    config = PretrainConfig(initializer="normal", train_pad_row=False)
    shape = BertConfig(
        vocab_size=VOCAB_SIZE,
        hidden_size=8,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=8,
    )
    torch.manual_seed(0)
    drawn = drawn_model(config, shape, None)
    torch.manual_seed(0)
    counted = drawn_model(config, shape, found)
    unseen = np.setdiff1d(np.arange(VOCAB_SIZE), seen)
    rows = [m.bert.embeddings.word_embeddings.weight for m in (drawn, counted)]
    assert torch.equal(rows[0][unseen], rows[1][unseen])
    guessed = counted.mlm_head.decoder.bias.softmax(0).detach().numpy()
    wanted = (store.token_counts + 1) / (store.token_counts + 1).sum()
    np.testing.assert_allclose(guessed, wanted, rtol=1e-4)
    lengths = np.linalg.norm(found.vectors, axis=1)
    np.testing.assert_allclose(lengths, WORD_GAIN * 0.05 * 8**0.5, rtol=1e-4)


def test_the_same_seed_gives_the_same_bits_and_another_one_others(store_of: StoreOf) -> None:
    store = store_of(sentences(300))
    first, second = vectors_of(store), vectors_of(store)
    assert first.vectors.tobytes() == second.vectors.tobytes()
    other = word_vectors_from_corpus(store, hidden_size=16, standard_deviation=0.05, seed=2)
    assert not np.allclose(first.vectors, other.vectors)


@pytest.mark.parametrize("tokens", [[5], [5, 5, 5, 5], [5, 6, 7]])
def test_a_text_too_small_to_tell_words_apart_gives_finite_vectors(
    tokens: list[int], store_of: StoreOf
) -> None:
    found = vectors_of(store_of([tokens]), width=64)
    assert np.isfinite(found.vectors).all()
    assert found.decoder_bias is not None and np.isfinite(found.decoder_bias).all()
