"""Pins Google's pairs: index arithmetic equals the original's handling of lists on the same draws.

The next pass is planned while one is read. Run alone: pytest tests/data/test_google_pairs.py.
"""

from __future__ import annotations

from collections.abc import Iterator
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bert_scratch.data.examples import ExampleBatch
from bert_scratch.data.google_pairs import GooglePairs
from bert_scratch.data.philox import Purpose, philox4x32

Shape = list[list[list[int]]]  # shards of documents of sentence lengths
SEED = 3


class Stream:
    """The draws of one document or chunk, one after the other."""

    def __init__(self, epoch: int, shard: int, sentence: int, purpose: Purpose) -> None:
        self._words = self._all_words(epoch, shard, sentence, purpose)

    @staticmethod
    def _all_words(epoch: int, shard: int, sentence: int, purpose: Purpose) -> Iterator[int]:
        block = 0
        while True:
            yield from philox4x32(SEED, (epoch, sentence, shard, 256 * block + purpose))
            block += 1

    def random(self) -> float:
        return next(self._words) / 2**32

    def randint(self, first: int, last: int) -> int:
        return first + (next(self._words) * (last - first + 1) >> 32)


class Document(list):
    """Sentences of tokens, and where the document lies: its shard and first sentence."""

    def __init__(self, sentences: list[list[int]], shard: int, first: int) -> None:
        super().__init__(sentences)
        self.shard, self.first = shard, first


def create_instances_from_document(
    all_documents: list[Document],
    document_index: int,
    max_num_tokens: int,
    short_seq_prob: float,
    epoch: int,
) -> Iterator[tuple[list[int], list[int], bool]]:
    """As create_pretraining_data.py describes it; a stream for the document and each chunk."""
    document = all_documents[document_index]
    rng = Stream(epoch, document.shard, document.first, Purpose.TARGET)
    target_seq_length = max_num_tokens
    if rng.random() < short_seq_prob:
        target_seq_length = rng.randint(2, max_num_tokens)
    current_chunk: list[list[int]] = []
    current_length = 0
    i = 0
    while i < len(document):
        if not current_chunk:
            rng = Stream(epoch, document.shard, document.first + i, Purpose.PLAN)
        current_chunk.append(document[i])
        current_length += len(document[i])
        if i == len(document) - 1 or current_length >= target_seq_length:
            a_end = 1
            if len(current_chunk) >= 2:
                a_end = rng.randint(1, len(current_chunk) - 1)
            tokens_a = [token for sentence in current_chunk[:a_end] for token in sentence]
            tokens_b: list[int] = []
            is_random_next = False
            if len(current_chunk) == 1 or rng.random() < 0.5:
                is_random_next = True
                target_b_length = target_seq_length - len(tokens_a)
                for _ in range(10):
                    random_document_index = rng.randint(0, len(all_documents) - 1)
                    if random_document_index != document_index:
                        break
                random_document = all_documents[random_document_index]
                random_start = rng.randint(0, len(random_document) - 1)
                for j in range(random_start, len(random_document)):
                    tokens_b.extend(random_document[j])
                    if len(tokens_b) >= target_b_length:
                        break
                i -= len(current_chunk) - a_end
            else:
                for sentence in current_chunk[a_end:]:
                    tokens_b.extend(sentence)
            truncate_seq_pair(tokens_a, tokens_b, max_num_tokens, rng)
            yield tokens_a, tokens_b, is_random_next
            current_chunk = []
            current_length = 0
        i += 1


def truncate_seq_pair(tokens_a: list, tokens_b: list, max_num_tokens: int, rng: Stream) -> None:
    while len(tokens_a) + len(tokens_b) > max_num_tokens:
        trunc_tokens = tokens_a if len(tokens_a) > len(tokens_b) else tokens_b
        if rng.random() < 0.5:
            del trunc_tokens[0]
        else:
            trunc_tokens.pop()


def corpus_of(shape: Shape) -> tuple[list[SimpleNamespace], list[Document]]:
    """Return shards with token ids 0, 1, 2, ... and the same documents as lists."""
    shards, documents, first = [], [], 0
    for index, lengths in enumerate(shape):
        start, num_sentences = first, 0
        for document in lengths:
            ends = np.cumsum([first, *document]).tolist()
            sentences = [list(range(*ends[i : i + 2])) for i in range(len(document))]
            documents.append(Document(sentences, index, num_sentences))
            num_sentences += len(document)
            first = ends[-1]
        tokens = np.arange(start, first, dtype=np.uint32)
        shards.append(
            SimpleNamespace(
                num_tokens=len(tokens),
                num_documents=len(lengths),
                num_one_sentence_documents=sum(len(document) == 1 for document in lengths),
                sentences=np.cumsum([n for d in lengths for n in d]).astype(np.uint32),
                documents=np.cumsum([len(d) for d in lengths]).astype(np.uint32),
                read=lambda start, end, tokens=tokens: tokens[start:end],
            )
        )
    return shards, documents


def open_google(shards, *, max_tokens: int = 61, short_seq_prob: float = 0.1) -> GooglePairs:
    return GooglePairs(
        shards, max_tokens=max_tokens, short_seq_prob=short_seq_prob, seed=SEED, split="train"
    )


def pairs_of(batch: ExampleBatch) -> list[tuple[list[int], list[int], bool]]:
    segments = np.split(batch.tokens, np.cumsum(batch.segment_lengths)[:-1])
    assert batch.labels is not None
    return [
        (a.tolist(), b.tolist(), bool(label))
        for a, b, label in zip(segments[::2], segments[1::2], batch.labels, strict=True)
    ]


shapes = st.lists(
    st.lists(
        st.lists(st.one_of(st.integers(1, 30), st.integers(1, 300)), min_size=1, max_size=12),
        max_size=6,
    ),
    min_size=1,
    max_size=3,
).filter(lambda shape: sum(map(len, shape)) > 1 and any(len(d) > 1 for s in shape for d in s))


@settings(max_examples=200, deadline=None, derandomize=True)
@given(
    shape=shapes,
    max_tokens=st.sampled_from([2, 13, 61, 125]),
    short_seq_prob=st.sampled_from([0.0, 0.1, 1.0]),
    epoch=st.integers(0, 3),
)
def test_pairs_equal_the_original_on_the_same_draws(
    shape: Shape, max_tokens: int, short_seq_prob: float, epoch: int
) -> None:
    shards, documents = corpus_of(shape)
    source = open_google(shards, max_tokens=max_tokens, short_seq_prob=short_seq_prob)
    expected = [
        pair
        for index in range(len(documents))
        for pair in create_instances_from_document(
            documents, index, max_tokens, short_seq_prob, epoch
        )
    ]
    slots = np.arange(len(expected))
    assert pairs_of(source.batch(np.full_like(slots, epoch), slots)) == expected
    if epoch == 0:
        assert source.facts.num_examples == len(expected)
        assert source.facts.random_next_share == pytest.approx(np.mean([p[2] for p in expected]))
