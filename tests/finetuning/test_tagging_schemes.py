"""Pins tagging schemes: every span survives each of them, malformed tags are read as seqeval reads
them, the scheme of a file is recognised, and the likeliest tags that fit together are found.

Run alone: `pytest tests/finetuning/test_tagging_schemes.py`.
"""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bert_scratch.finetuning.tagging_schemes import (
    detect_scheme,
    iob2_labels,
    is_entity_tag,
    likeliest_tags,
    spans_of_tags,
    tags_of_spans,
)

seqeval = pytest.importorskip("seqeval.metrics.sequence_labeling")

SCHEMES = ("IOB1", "IOB2", "IOBES", "BMES", "BILOU")


@st.composite
def sentences(draw):
    """Return spans in order, none over another, and the number of words."""
    spans, place = [], 0
    for _ in range(draw(st.integers(0, 6))):
        start = place + draw(st.integers(0, 2))
        place = start + draw(st.integers(1, 4))
        spans.append((start, place, draw(st.sampled_from(("PER", "LOC")))))
    return spans, place + draw(st.integers(0, 2))


@given(sentences(), st.sampled_from(SCHEMES))
def test_spans_survive_every_scheme(sentence, scheme):
    spans, num_words = sentence
    tags = tags_of_spans(spans, num_words, scheme)
    assert len(tags) == num_words
    assert spans_of_tags(tags) == spans


@given(st.lists(st.sampled_from(("O", *(f"{b}-{k}" for b in "BIES" for k in ("PER", "LOC"))))))
def test_any_tags_are_read_as_seqeval_reads_them(tags):
    expected = [(start, last + 1, kind) for kind, start, last in seqeval.get_entities(tags)]
    assert spans_of_tags(tags) == expected


@pytest.mark.parametrize(
    ("scheme", "tags"),
    [
        ("IOB1", "I-PER I-PER O I-LOC B-LOC I-LOC I-PER"),
        ("IOB2", "B-PER I-PER O B-LOC B-LOC I-LOC B-PER"),
        ("IOBES", "B-PER E-PER O S-LOC B-LOC E-LOC S-PER"),
        ("BMES", "B-PER M-PER E-PER O S-LOC"),
        ("BILOU", "B-PER I-PER L-PER O U-LOC"),
    ],
)
def test_scheme_is_recognised_and_written_back(scheme, tags):
    assert detect_scheme([tags.split(), ["O", "O"]]) == (scheme, 0)
    assert tags_of_spans(spans_of_tags(tags.split()), len(tags.split()), scheme) == tags.split()


def test_malformed_tags_are_counted():
    assert detect_scheme([["B-PER", "O"], ["S-PER", "I-LOC", "E-LOC"]]) == ("IOBES", 2)
    assert detect_scheme([["B-PER", "I-PER"]] * 9 + [["I-PER"]]) == ("IOB2", 1)


def test_plain_classes_are_no_entity_tags():
    assert is_entity_tag("I-PER")
    assert not any(map(is_entity_tag, ("O", "NNP", "-LRB-", "X-PER", "B-", "PER")))


def fits(tags):
    """Tell whether every I- continues an entity of its kind."""
    pairs = zip(("O", *tags), tags, strict=False)
    return all(after[0] != "I" or before[2:] == after[2:] for before, after in pairs)


@given(st.integers(0, 5), st.integers(0, 2**32 - 1))
def test_likeliest_tags_are_the_best_of_all_that_fit(num_words, seed):
    labels = iob2_labels(["PER", "LOC"])
    log_probabilities = np.random.default_rng(seed).standard_normal((num_words, len(labels)))
    sums = {
        path: sum(row[place] for row, place in zip(log_probabilities, path, strict=True))
        for path in itertools.product(range(len(labels)), repeat=num_words)
        if fits([labels[place] for place in path])
    }
    assert tuple(likeliest_tags(log_probabilities, labels)) == max(sums, key=sums.__getitem__)


def test_likeliest_tags_join_an_entity_that_changes_its_kind_half_way():
    labels = ("O", "B-LOC", "I-LOC", "B-PER", "I-PER")
    sure, unsure = np.log([0.05, 0.8, 0.05, 0.05, 0.05]), np.log([0.05, 0.05, 0.4, 0.05, 0.45])
    assert likeliest_tags(np.stack([sure, unsure]), labels).tolist() == [1, 2]


def test_lone_words_alone_tell_bilou() -> None:
    assert detect_scheme([["U-PER", "O"]]) == ("BILOU", 0)
