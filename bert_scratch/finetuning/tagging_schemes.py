"""Schemes that write entities as one tag for each word: IOB1, IOB2, IOBES (BIOES), BMES, BILOU.

All express the same spans, so whatever scheme a file uses, its tags are turned into spans, and
these into IOB2. A span is (first word, word after the last, kind).
"""

from __future__ import annotations

import functools
import re
from collections.abc import Iterable, Sequence
from types import MappingProxyType
from typing import Any

import numpy as np
import numpy.typing as npt

OUTSIDE = "O"
IOB2 = "IOB2"

Span = tuple[int, int, str]

# A scheme's letters for an entity's first word, one inside, the last, and a single word.
_LETTERS = MappingProxyType(
    {"IOB1": "BIIB", IOB2: "BIIB", "IOBES": "BIES", "BMES": "BMES", "BILOU": "BILU"}
)
_ENDS = frozenset("ESLU")
_STARTS = frozenset("BSU")
_TAG = re.compile(r"([BIESMLU])-(.+)", re.DOTALL)
_MISSPELT = re.compile(r"[bi][-_].+|[BI]_.+|.+[-_][BI]", re.DOTALL)


def is_entity_tag(tag: str) -> bool:
    """Tell whether a tag is a letter of some scheme, a hyphen and a kind: B-PER."""
    return _TAG.fullmatch(tag) is not None


def is_misspelt_tag(tag: str) -> bool:
    """Tell whether a tag would be of some scheme if it were written as they are: b-per, B_PER."""
    return _MISSPELT.fullmatch(tag) is not None


def kind_of(tag: str) -> str:
    """Return PER for B-PER, and an empty string for O."""
    return "" if tag == OUTSIDE else tag[2:]


def spans_of_tags(tags: Sequence[str]) -> list[Span]:
    """Read the entities of a sentence in any scheme.

    Sequences that no scheme allows are read as by conlleval: an entity begins where its kind does.

    Args:
        tags: the tag of each word.

    Source:
        conlleval.txt of the CoNLL-2000 shared task, `startOfChunk` and `endOfChunk`.
    """
    spans: list[Span] = []
    start, open_kind, closed = 0, "", True
    for place, tag in enumerate([*tags, OUTSIDE]):
        letter, kind = tag[0], kind_of(tag)
        begins = kind != open_kind or closed or letter in _STARTS
        if open_kind and begins:
            spans.append((start, place, open_kind))
        if begins:
            start, open_kind = place, kind
        closed = letter in _ENDS
    return spans


def tags_of_spans(spans: Iterable[Span], num_words: int, scheme: str = IOB2) -> list[str]:
    """Write the entities of a sentence as tags.

    Args:
        spans: in order, without overlaps.
        num_words: number of words in the sentence.
        scheme: IOB1, IOB2, IOBES, BMES or BILOU.
    """
    first, inside, last, lone = tuple(_LETTERS[scheme])
    tags = [OUTSIDE] * num_words
    before = (0, 0, "")
    for start, end, kind in spans:
        letters = lone if end - start == 1 else first + inside * (end - start - 2) + last
        if scheme == "IOB1" and (before[1], before[2]) != (start, kind):
            letters = inside + letters[1:]
        tags[start:end] = [f"{letter}-{kind}" for letter in letters]
        before = (start, end, kind)
    return tags


def iob2_labels(kinds: Iterable[str]) -> tuple[str, ...]:
    """Return the labels of a model for these kinds: O, B-LOC, I-LOC, B-PER, ..."""
    return (OUTSIDE, *(f"{letter}-{kind}" for kind in sorted(kinds) for letter in "BI"))


@functools.cache
def _iob2_order(labels: tuple[str, ...]) -> tuple[npt.NDArray[np.bool_], npt.NDArray[np.bool_]]:
    """Return [L], the tags that may come first, and [L, L], the tags that may follow each."""
    follows = [
        [not after.startswith("I-") or kind_of(before) == after[2:] for after in labels]
        for before in labels
    ]
    return np.array([not label.startswith("I-") for label in labels]), np.array(follows)


def likeliest_tags(
    log_probabilities: npt.NDArray[np.floating[Any]], labels: tuple[str, ...]
) -> npt.NDArray[np.int64]:
    """Return the likeliest IOB2 tags of a sentence in which every I- continues its entity.

    If the likeliest tags of the single words form a valid sequence, they are taken; otherwise the
    valid sequence with the highest sum (Viterbi), so no half of an entity stands alone.

    Args:
        log_probabilities: [W, L], log-probabilities of each word's tags.
        labels: the L tags: O, and B- and I- of each kind.

    Returns:
        [W], indices in `labels`.
    """
    starts, follows = _iob2_order(labels)
    chosen: npt.NDArray[np.int64] = log_probabilities.argmax(axis=1)
    if not len(chosen) or (starts[chosen[0]] and follows[chosen[:-1], chosen[1:]].all()):
        return chosen
    cost = np.where(follows, 0.0, -np.inf)
    best = np.where(starts, log_probabilities[0], -np.inf)
    came_from = np.zeros(log_probabilities.shape, np.int64)
    for word in range(1, len(chosen)):
        paths = best[:, None] + cost
        came_from[word] = paths.argmax(axis=0)
        best = paths.max(axis=0) + log_probabilities[word]
    chosen[-1] = best.argmax()
    for word in range(len(chosen) - 1, 0, -1):
        chosen[word - 1] = came_from[word, chosen[word]]
    return chosen


def detect_scheme(sentences: Sequence[Sequence[str]]) -> tuple[str, int]:
    """Find the scheme that tags are written in.

    Args:
        sentences: the tags of each sentence.

    Returns:
        The scheme's name, and how many tags it would write differently: those of malformed
        entities.
    """
    letters = {tag[0] for tags in sentences for tag in tags}
    if "M" in letters:
        names = ["BMES"]
    elif letters & {"L", "U"}:
        names = ["BILOU"]
    else:
        names = ["IOBES"] if letters & {"E", "S"} else [IOB2, "IOB1"]
    spans = [spans_of_tags(tags) for tags in sentences]

    def num_otherwise(scheme: str) -> int:
        return sum(
            tag != written
            for tags, found in zip(sentences, spans, strict=True)
            for tag, written in zip(tags, tags_of_spans(found, len(tags), scheme), strict=True)
        )

    return min(((name, num_otherwise(name)) for name in names), key=lambda found: found[1])
