"""Pins where sentences and documents are found, for rows in any order over any shards.

Run alone: pytest tests/data/test_split_text.py.
"""

from __future__ import annotations

from bisect import bisect_right
from itertools import accumulate
from types import SimpleNamespace

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from bert_scratch.data.split_text import SplitText

Documents = list[list[int]]  # documents of sentence lengths


def shard_of(documents: Documents) -> SimpleNamespace:
    sentences = np.cumsum([length for document in documents for length in document])
    tokens = np.arange(sum(map(sum, documents)), dtype=np.uint16)
    return SimpleNamespace(
        num_tokens=len(tokens),
        num_documents=len(documents),
        num_one_sentence_documents=sum(len(document) == 1 for document in documents),
        sentences=sentences.astype(np.uint32),
        documents=np.cumsum([len(document) for document in documents]).astype(np.uint32),
        read=lambda start, end: tokens[start:end],
        read_word_starts=lambda start, end: tokens[start:end] % 3 != 1,
    )


documents = st.lists(
    st.lists(st.integers(1, 9), min_size=1, max_size=5), min_size=1, max_size=8
).filter(lambda documents: any(len(document) > 1 for document in documents))


@settings(max_examples=100, deadline=None, derandomize=True)
@given(shape=st.lists(documents, min_size=1, max_size=4), seed=st.integers(0, 99))
def test_rows_find_sentences_and_documents(shape: list[Documents], seed: int) -> None:
    rng = np.random.default_rng(seed)
    text = SplitText([shard_of(documents) for documents in shape])
    shards = rng.integers(0, len(shape), 20)
    tokens = rng.integers(0, text.num_tokens[shards])
    lookup = text.lookup(shards)
    sentences = lookup.sentence_at(tokens)
    found = lookup.document_of(sentences)
    ranges = [
        lookup.sentence_start(sentences),
        lookup.sentence_end(sentences),
        *lookup.document_range(found),
        *lookup.document_sentences(found),
        lookup.next_document_of_two(found),
    ]
    for row, (shard, token) in enumerate(zip(shards.tolist(), tokens.tolist(), strict=True)):
        sizes = [len(document) for document in shape[shard]]
        sentence_ends = [0, *accumulate(n for document in shape[shard] for n in document)]
        document_ends = [0, *accumulate(sizes)]
        sentence = bisect_right(sentence_ends, token) - 1
        document = bisect_right(document_ends, sentence) - 1
        of_two = [index for index, size in enumerate(sizes) if size > 1]
        first, last = document_ends[document : document + 2]
        expected = (
            *sentence_ends[sentence : sentence + 2],
            sentence_ends[first],
            sentence_ends[last],
            first,
            last,
            # the document itself counts as its own next
            next((index for index in of_two if index >= document), of_two[0]),
        )
        assert tuple(answer[row] for answer in ranges) == expected
        assert (sentences[row], found[row]) == (sentence, document)


def test_no_rows_have_no_answers() -> None:
    text = SplitText([shard_of([[3, 4], [5]])])
    assert len(text.lookup(np.empty(0, np.int64)).sentence_at(np.empty(0, np.int64))) == 0


def test_places_count_through_all_shards_and_skip_empty_ones() -> None:
    text = SplitText([shard_of([[3, 4]]), shard_of([]), shard_of([[2, 1]])])
    shards, tokens = text.locate(np.array([0, 6, 7, 9]))
    assert shards.tolist() == [0, 0, 2, 2]
    assert tokens.tolist() == [0, 6, 0, 2]


def test_segments_are_read_in_their_order() -> None:
    text = SplitText([shard_of([[3, 4]]), shard_of([[2, 9]])], word_starts=True)
    batch = text.read(
        np.array([1, 0, 1]), np.array([4, 2, 0]), np.array([2, 3, 1]), np.array([2, 1]), None
    )
    assert batch.tokens.tolist() == [4, 5, 2, 3, 4, 0]
    assert batch.tokens.dtype == np.int32
    assert batch.word_starts is not None
    assert batch.word_starts.tolist() == [False, True, True, True, False, True]
    assert batch.segment_lengths.tolist() == [2, 3, 1]
