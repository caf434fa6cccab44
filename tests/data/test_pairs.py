"""Pins the examples of an epoch: true labels, even shares, limits, coverage, what is refused.

Every token of a corpus here has an id of its own, so an example tells exactly which tokens it was
made of. Run alone: pytest tests/data/test_pairs.py (the 100,000 pairs: -m slow).
"""

from __future__ import annotations

import hashlib
from types import SimpleNamespace
from typing import NamedTuple

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bert_scratch.config import InputError
from bert_scratch.data.examples import ExampleBatch
from bert_scratch.data.loader import open_examples
from bert_scratch.data.philox import MAX_SLOTS
from bert_scratch.data.split_text import SplitText
from bert_scratch.data.windows import TokenWindows

Shape = list[list[list[int]]]  # shards of documents of sentence lengths


class Corpus:
    """Shards in memory whose token ids are 0, 1, 2, ... through all of them."""

    def __init__(self, shape: Shape) -> None:
        self.shards = []
        self.document_of: list[int] = []
        self.sentence_starts: set[int] = set()
        self.document_starts: set[int] = set()
        num_documents = 0
        for documents in shape:
            first = len(self.document_of)
            for document in documents:
                for length in document:
                    self.sentence_starts.add(len(self.document_of))
                    self.document_of += [num_documents] * length
                num_documents += 1
                self.document_starts.add(len(self.document_of))
            tokens = np.arange(first, len(self.document_of), dtype=np.uint32)
            lengths = [length for document in documents for length in document]
            self.shards.append(
                SimpleNamespace(
                    num_tokens=len(tokens),
                    num_documents=len(documents),
                    num_one_sentence_documents=sum(len(d) == 1 for d in documents),
                    sentences=np.cumsum(lengths).astype(np.uint32),
                    documents=np.cumsum([len(d) for d in documents]).astype(np.uint32),
                    read=lambda start, end, tokens=tokens: tokens[start:end],
                )
            )

    def open(self, *, max_seq_length: int = 64, short_seq_prob: float = 0.1, **choices):
        settings = {"pair_task": "nsp", "pair_sampling": "balanced", "seed": 5, "split": "train"}
        return open_examples(
            self.shards,
            max_seq_length=max_seq_length,
            short_seq_prob=short_seq_prob,
            **settings | choices,
        )

    def documents(self, segment) -> set[int]:
        return {self.document_of[token] for token in segment.tolist()}


class Example(NamedTuple):
    """One row of a batch: its segments and label."""

    segments: list[np.ndarray]
    label: int | None


def rows_of(batch: ExampleBatch) -> list[Example]:
    assert batch.tokens.dtype == np.int32
    segments = np.split(batch.tokens, np.cumsum(batch.segment_lengths)[:-1])
    ends = np.cumsum(batch.segments_per_row).tolist()
    labels = [None] * len(ends) if batch.labels is None else batch.labels.tolist()
    return [
        Example(segments[start:end], label)
        for start, end, label in zip([0, *ends], ends, labels, strict=False)
    ]


def epoch(source, number: int = 0) -> list[Example]:
    slots = np.arange(source.facts.num_examples)
    return rows_of(source.batch(np.full_like(slots, number), slots))


def take(source, count: int) -> list[Example]:
    examples: list[Example] = []
    while len(examples) < count:
        examples += epoch(source, len(examples) // source.facts.num_examples)
    return examples[:count]


def is_run(*segments) -> bool:
    tokens = np.concatenate(segments)
    return bool((np.diff(tokens.astype(np.int64)) == 1).all())


def mixed_shape(seed: int, num_documents: int = 300, longest: int = 40) -> Shape:
    """Three shards of documents of 1 to 20 sentences, a fifth of them of one."""
    rng = np.random.default_rng(seed)
    sizes = np.where(rng.random(num_documents) < 0.2, 1, rng.integers(2, 21, num_documents))
    documents = [rng.integers(1, longest + 1, size).tolist() for size in sizes]
    return [documents[: num_documents // 2], documents[num_documents // 2 : -9], documents[-9:]]


@pytest.fixture(scope="module")
def corpus() -> Corpus:
    return Corpus(mixed_shape(0))


@pytest.mark.parametrize(
    ("num_pairs", "tolerance"),
    [(20_000, 0.0125), pytest.param(100_000, 0.005, marks=pytest.mark.slow)],
)
def test_nsp_labels_are_true_and_even(corpus: Corpus, num_pairs: int, tolerance: float) -> None:
    pairs = take(corpus.open(), num_pairs)
    wrong = 0
    for (a, b), label in pairs:
        document_a, document_b = corpus.documents(a), corpus.documents(b)
        assert is_run(a) and is_run(b) and len(document_a) == len(document_b) == 1
        follows = is_run(a, b) and document_a == document_b
        wrong += not follows if label == 0 else document_a == document_b
    assert wrong == 0
    assert abs(np.mean([label == 0 for _, label in pairs]) - 0.5) < tolerance


def test_nsp_labels_are_true_with_two_documents() -> None:
    corpus = Corpus([[[9, 8, 30, 5]], [[4, 70, 6]]])
    for (a, b), label in take(corpus.open(max_seq_length=32), 2000):
        assert (corpus.documents(a) == corpus.documents(b)) == (label == 0)


def test_nsp_random_b_comes_from_all_shards(corpus: Corpus) -> None:
    random_b = [pair.segments[1] for pair in take(corpus.open(), 10_000) if pair.label]
    used = set().union(*(corpus.documents(b) for b in random_b))
    assert len(used) > 0.9 * len(set(corpus.document_of))


def test_nsp_lengths_do_not_betray_the_label(corpus: Corpus) -> None:
    pairs = take(corpus.open(), 20_000)
    for segment in (0, 1):
        lengths = [
            np.array([len(pair.segments[segment]) for pair in pairs if pair.label == label])
            for label in (0, 1)
        ]
        spread = np.sqrt(sum(length.var() / len(length) for length in lengths))
        # a random B may come from a document that is too short for it: a few tokens at most
        assert abs(lengths[0].mean() - lengths[1].mean()) < 4 * spread + 1.0 * segment


@settings(max_examples=150, deadline=None, derandomize=True)
@given(
    shape=st.lists(
        st.lists(
            st.lists(st.one_of(st.integers(1, 40), st.integers(3, 5000)), min_size=1, max_size=5),
            min_size=1,
            max_size=4,
        ),
        min_size=1,
        max_size=3,
    ).filter(lambda shape: sum(map(len, shape)) > 1 and max(len(d) for s in shape for d in s) > 1),
    max_seq_length=st.one_of(st.integers(5, 12), st.sampled_from([64, 128, 512])),
    pair_task=st.sampled_from(["nsp", "sop", "none"]),
    short_seq_prob=st.sampled_from([0.0, 0.1, 1.0]),
)
def test_examples_fit_and_have_no_empty_segment(
    shape: Shape, max_seq_length: int, pair_task: str, short_seq_prob: float
) -> None:
    source = Corpus(shape).open(
        max_seq_length=max_seq_length, pair_task=pair_task, short_seq_prob=short_seq_prob
    )
    slots = np.arange(min(100, source.facts.num_examples))
    for segments, _ in rows_of(source.batch(np.zeros_like(slots), slots)):
        assert all(len(segment) > 0 for segment in segments)
        assert 1 + sum(len(segment) + 1 for segment in segments) <= max_seq_length
        assert len(segments) == 2 or pair_task == "none"


def test_full_rows_are_full_where_documents_are_long_enough() -> None:
    shape = [[np.random.default_rng(1).integers(1, 40, 30).tolist() for _ in range(20)]]
    for pair_task in ("nsp", "sop", "none"):
        source = Corpus(shape).open(short_seq_prob=0.0, pair_task=pair_task)
        for segments, _ in epoch(source):
            assert 1 + sum(len(segment) + 1 for segment in segments) == 64


def test_short_targets_have_their_share_and_are_uniform() -> None:
    corpus = Corpus([[[10] * 100, [10] * 100]])
    lengths = np.array(
        [sum(map(len, e.segments)) for e in take(corpus.open(short_seq_prob=0.4), 6000)]
    )
    short = lengths[lengths < 61]
    # a "short" target is the full length once in 60
    assert abs(len(short) / 6000 - 0.4 * 59 / 60) < 4 * np.sqrt(0.24 / 6000)
    assert short.min() == 2
    assert abs(short.mean() - 31) < 4 * 17.3 / np.sqrt(len(short))


def test_segments_are_whole_sentences_from_their_start() -> None:
    rng = np.random.default_rng(2)
    corpus = Corpus([[rng.integers(3, 20, 40).tolist() for _ in range(30)]])
    for (a, b), label in epoch(corpus.open(short_seq_prob=0.0)):
        # a window that would pass the document's end is moved back until it ends there
        ends_document = label == 0 and b[-1] + 1 in corpus.document_starts
        assert a[0] in corpus.sentence_starts or label == 1 or ends_document
        assert b[0] in corpus.sentence_starts
        assert a[-1] + 1 in corpus.sentence_starts


def test_one_sentence_documents_serve_only_as_b_and_are_counted() -> None:
    corpus = Corpus([[[7], [5, 6], [9]], [[8]], [[30], [4, 4, 20], [11]]])
    source = corpus.open(max_seq_length=24)
    assert source.facts.num_one_sentence_documents == 5
    assert source.facts.num_documents == 7
    pairs = take(source, 500)
    assert set().union(*(corpus.documents(pair.segments[0]) for pair in pairs)) == {1, 5}
    assert set().union(*(corpus.documents(pair.segments[1]) for pair in pairs)) == set(range(7))


@pytest.mark.parametrize("sampling", ["balanced", "google"])
@pytest.mark.parametrize(
    ("shape", "reason"),
    [
        ([[[5, 5, 5]]], "two documents"),
        ([[[5], [6]], [[7]]], "two sentences"),
        ([], "two documents"),
    ],
)
def test_nsp_refuses_a_corpus_without_true_pairs(shape: Shape, reason: str, sampling: str) -> None:
    with pytest.raises(InputError, match=f"(?s){reason}.*--pair-task none"):
        Corpus(shape).open(pair_sampling=sampling)


def test_sop_takes_a_single_document_and_none_takes_one_sentence() -> None:
    assert epoch(Corpus([[[5, 5, 5]]]).open(pair_task="sop"))
    assert epoch(Corpus([[[1]]]).open(pair_task="none"))


def test_none_refuses_an_empty_split() -> None:
    with pytest.raises(InputError, match="eval split"):
        Corpus([]).open(pair_task="none", split="eval")


def test_sop_label_is_one_where_the_segments_are_swapped(corpus: Corpus) -> None:
    pairs = take(corpus.open(pair_task="sop"), 5000)
    for (first, second), label in pairs:
        a, b = (second, first) if label else (first, second)
        assert is_run(a, b)
        assert corpus.documents(a) == corpus.documents(b)
    assert abs(np.mean([pair.label for pair in pairs]) - 0.5) < 0.03


def test_none_joins_consecutive_documents(corpus: Corpus) -> None:
    examples = epoch(corpus.open(pair_task="none"))
    for segments, label in examples:
        assert label is None
        assert is_run(*segments)
        documents = [corpus.documents(segment) for segment in segments]
        assert all(len(document) == 1 for document in documents)
        assert len(set().union(*documents)) == len(segments)
    assert max(len(example.segments) for example in examples) > 2


@pytest.mark.parametrize(
    ("pair_task", "shares"), [("nsp", (0.65, 0.95)), ("sop", (0.75, 0.95)), ("none", (0.75, 0.95))]
)
def test_epochs_cover_the_corpus(pair_task: str, shares: tuple[float, float]) -> None:
    corpus = Corpus([[d for d in s if len(d) > 1] for s in mixed_shape(3)])
    source = corpus.open(pair_task=pair_task)
    uses = np.zeros(len(corpus.document_of), int)
    covered = []
    for number in range(5):
        for example in epoch(source, number):
            for segment in example.segments:
                uses[segment] += 1
        covered.append((uses > 0).mean())
    assert covered[0] > shares[0]
    assert covered[-1] > shares[1]
    assert uses.max() < 8 * uses.mean()


def test_long_sentences_are_covered_to_their_end() -> None:
    corpus = Corpus([[[2000, 1500], [700, 900, 1]]])
    uses = np.zeros(len(corpus.document_of), int)
    for example in take(corpus.open(max_seq_length=32), 1000):
        for segment in example.segments:
            uses[segment] += 1
    assert (uses > 0).mean() > 0.99


def test_examples_are_the_same_for_any_company(corpus: Corpus) -> None:
    source = corpus.open()
    together = rows_of(source.batch(np.array([0, 3, 3, 1]), np.array([5, 0, 77, 5])))
    alone = rows_of(source.batch(np.array([3]), np.array([77])))[0]
    assert alone.label == together[2].label
    for one, other in zip(alone.segments, together[2].segments, strict=True):
        assert (one == other).all()


def test_slots_beyond_the_counter_are_refused() -> None:
    shard = SimpleNamespace(
        num_tokens=(MAX_SLOTS + 1) * 61, num_documents=2, num_one_sentence_documents=0
    )
    with pytest.raises(InputError, match="--max-seq-length"):
        TokenWindows(SplitText([shard]), [True], max_tokens=61, short_seq_prob=0.1, seed=0)


def test_google_sampling_is_refused_without_nsp(corpus: Corpus) -> None:
    with pytest.raises(InputError, match="--pair-sampling google"):
        corpus.open(pair_task="sop", pair_sampling="google")


@pytest.mark.parametrize("pair_task", ["nsp", "sop", "none"])
def test_example_bits_have_not_changed(corpus: Corpus, pair_task: str) -> None:
    digest = hashlib.sha256()
    for segments, label in take(corpus.open(pair_task=pair_task), 3000):
        digest.update(repr(([segment.tolist() for segment in segments], label)).encode())
    assert digest.hexdigest()[:16] == GOLDEN[pair_task]


GOLDEN = {"nsp": "a459bc18d172bff8", "sop": "f8e2ad738a196786", "none": "3be10b586a6a7ae7"}
