"""Pins Google's pairs: our planning over token ranges equals the original's list handling, given
the same draws. Run alone: pytest tests/data/test_google_pairs.py.
"""

from __future__ import annotations

import random
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bert_scratch.data.google_pairs import GooglePairs, IndexedShard, plan_pairs

Documents = list[list[list[int]]]  # documents of sentences of tokens


def pairs_from_lists(
    documents: Documents, max_num_tokens: int, short_seq_prob: float, rng: random.Random
) -> list[tuple[list[int], list[int], int]]:
    """Go through the documents as google-research/bert create_pretraining_data.py describes it."""
    pairs = []
    for document_index, document in enumerate(documents):
        target_seq_length = max_num_tokens
        if rng.random() < short_seq_prob:
            target_seq_length = rng.randint(2, max_num_tokens)
        chunk: list[list[int]] = []
        i = 0
        while i < len(document):
            chunk.append(document[i])
            if i == len(document) - 1 or sum(map(len, chunk)) >= target_seq_length:
                a_end = rng.randint(1, len(chunk) - 1) if len(chunk) >= 2 else 1
                tokens_a = [token for sentence in chunk[:a_end] for token in sentence]
                tokens_b: list[int] = []
                is_random = len(chunk) == 1 or rng.random() < 0.5
                if is_random:
                    for _ in range(10):
                        other = rng.randint(0, len(documents) - 1)
                        if other != document_index:
                            break
                    start = rng.randint(0, len(documents[other]) - 1)
                    for sentence in documents[other][start:]:
                        tokens_b += sentence
                        if len(tokens_b) >= target_seq_length - len(tokens_a):
                            break
                    i -= len(chunk) - a_end
                else:
                    tokens_b = [token for sentence in chunk[a_end:] for token in sentence]
                while len(tokens_a) + len(tokens_b) > max_num_tokens:
                    longer = tokens_a if len(tokens_a) > len(tokens_b) else tokens_b
                    longer.pop(0 if rng.random() < 0.5 else -1)
                pairs.append((tokens_a, tokens_b, int(is_random)))
                chunk = []
            i += 1
    return pairs


def corpus_of(shape: list[list[list[int]]]) -> tuple[list[SimpleNamespace], Documents]:
    """Return shards with token ids 0, 1, 2, ... and the same documents as lists."""
    shards, documents, first = [], [], 0
    for lengths in shape:
        start = first
        for document in lengths:
            ends = np.cumsum([first, *document]).tolist()
            documents.append([list(range(*ends[i : i + 2])) for i in range(len(document))])
            first = ends[-1]
        tokens = np.arange(start, first, dtype=np.uint32)
        shard = SimpleNamespace(
            num_tokens=len(tokens),
            num_documents=len(lengths),
            num_one_sentence_documents=sum(len(document) == 1 for document in lengths),
            sentences=np.cumsum([n for d in lengths for n in d]).astype(np.uint32),
            documents=np.cumsum([len(d) for d in lengths]).astype(np.uint32),
            read=lambda start, end, tokens=tokens: tokens[start:end],
        )
        shards.append(shard)
    return shards, documents


def read_plan(shards: list[SimpleNamespace], plan: np.ndarray) -> list[tuple[list, list, int]]:
    return [
        (shards[sa].read(a, c).tolist(), shards[sb].read(b, d).tolist(), label)
        for label, sa, a, c, sb, b, d in plan.tolist()
    ]


shapes = st.lists(
    st.lists(
        st.lists(st.one_of(st.integers(1, 30), st.integers(1, 300)), min_size=1, max_size=12),
        min_size=1,
        max_size=6,
    ),
    min_size=1,
    max_size=3,
)


@settings(max_examples=200, deadline=None, derandomize=True)
@given(
    shape=shapes,
    max_tokens=st.sampled_from([2, 13, 61, 125]),
    short_seq_prob=st.sampled_from([0.0, 0.1, 1.0]),
    seed=st.integers(0, 2**32),
)
def test_plan_equals_the_original_on_the_same_draws(
    shape, max_tokens: int, short_seq_prob: float, seed: int
) -> None:
    shards, documents = corpus_of(shape)
    ours, theirs = random.Random(seed), random.Random(seed)
    plan = plan_pairs([IndexedShard(shard) for shard in shards], ours, max_tokens, short_seq_prob)
    expected = pairs_from_lists(documents, max_tokens, short_seq_prob, theirs)
    assert read_plan(shards, plan) == expected
    assert ours.getstate() == theirs.getstate()


def open_google(seed: int = 1) -> tuple[GooglePairs, list[SimpleNamespace]]:
    rng = np.random.default_rng(0)
    shape = [[rng.integers(1, 40, rng.integers(1, 30)).tolist() for _ in range(40)]] * 2
    shards, _ = corpus_of(shape)
    return GooglePairs(shards, max_tokens=61, short_seq_prob=0.1, seed=seed, split="train"), shards


def test_an_epoch_gives_the_planned_pairs() -> None:
    source, _ = open_google()
    slots = np.arange(source.facts.num_examples)
    labels = source.batch(np.zeros_like(slots), slots).labels
    assert set(labels.tolist()) == {0, 1}
    assert source.facts.random_next_share == pytest.approx(labels.mean())
    assert labels.mean() > 0.5


def test_epochs_have_draws_of_their_own_but_one_size() -> None:
    source, _ = open_google()
    slots = np.arange(source.facts.num_examples)
    first, second = (source.batch(np.full_like(slots, epoch), slots) for epoch in (0, 1))
    assert len(first.labels) == len(second.labels)
    assert (first.labels != second.labels).any()


def test_a_reopened_source_gives_the_same_pairs() -> None:
    epochs, slots = np.array([5, 0, 6]), np.array([3, 3, 200])
    used, fresh = open_google()[0], open_google()[0]
    used.batch(np.array([1, 2]), np.array([0, 1]))
    one, other = used.batch(epochs, slots), fresh.batch(epochs, slots)
    assert (one.labels == other.labels).all()
    assert (one.segment_lengths == other.segment_lengths).all()
    assert (one.tokens == other.tokens).all()
