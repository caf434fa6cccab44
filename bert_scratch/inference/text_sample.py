"""Sample sentences of a text to ask models about, and keep the rest to count in."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from bert_scratch.config import InputError
from bert_scratch.data.corpus import Source, read_documents, resolve_sources, slices_of
from bert_scratch.data.sentences import choose_rule, sections, split_document
from bert_scratch.inference.whole_words import word_spans

MAX_READ_CHARACTERS = 5_000_000
"""A larger text is sampled evenly to about this size."""
MAX_SENTENCE_CHARACTERS = 300
MIN_SENTENCE_WORDS = 5
"""Limits on sentences: longer ones would take most of the time, shorter ones are titles."""
MIN_SENTENCES = 20

_ASKED_SHARES = (0.2, 0.5)
"""Share of the text to ask about; the second if the first has too few sentences."""
_SLICE_BYTES = 1 << 18
_SAMPLED_DOCUMENTS = 20


@dataclass(frozen=True, kw_only=True)
class TextSample:
    """Sentences from all over a text, each with the sentence after it if the text has such."""

    sentences: list[str]
    """N sentences, in random order."""
    followers: list[str]
    """The sentence after each in its document; empty if too few have one."""
    documents: list[int]
    """The document of each sentence."""
    rest: list[str]
    """The sentences of all other documents, to count in; empty if there is only one document."""


def read_text(path: str, *, documents: str, sentences: str) -> list[list[str]]:
    """Read the sentences of each document of a text, long documents in sections.

    Args:
        path: a file, folder or glob, as `prepare --corpus` takes it.
        documents: auto, blank-lines, files, lines or titles.
        sentences: auto, lines, rules, or a library.

    Raises:
        InputError: if the text cannot be found or read.
    """
    found: list[list[str]] = []
    num_characters = 0
    for lines in _documents(path, documents):
        found.append(lines)
        num_characters += sum(map(len, lines))
        if num_characters >= MAX_READ_CHARACTERS:
            break
    rule = sentences
    if rule == "auto":
        rule, _ = choose_rule(found[:: max(1, len(found) // _SAMPLED_DOCUMENTS)])
    return [part for lines in found for part in sections(split_document(lines, rule))]


def _documents(path: str, documents: str) -> Iterator[list[str]]:
    """Yield documents from evenly spread places of a text, or all of a small one."""
    try:
        sources: list[Source] = resolve_sources([path], documents)
    except InputError as error:  # name the flag that was given instead of --corpus
        raise InputError(str(error).replace("--corpus", "--text", 1)) from error
    slices = slices_of(sources, _SLICE_BYTES)
    num_bytes = sum(part.end - part.start for part in slices)
    for part in slices[:: max(1, math.ceil(num_bytes / MAX_READ_CHARACTERS))]:
        yield from read_documents(part, sources[part.source_index])


def sample_sentences(
    documents: Sequence[Sequence[str]],
    *,
    num_sentences: int,
    seed: int,
    fits: Callable[[str], bool] = lambda _: True,
    source: str = "--text",
) -> TextSample:
    """Draw sentences of ordinary length, with the sentence after each if there is one.

    Args:
        documents: from `read_text`.
        num_sentences: N; fewer are returned if the text does not have as many.
        seed: equal seeds draw equal sentences.
        fits: tells whether every model can take a sentence.
        source: the flag and file that gave the documents, for errors.

    Raises:
        InputError: if there are fewer than 20.
    """
    random = np.random.Generator(np.random.Philox(seed))
    order = random.permutation(len(documents)).tolist()
    for share in _ASKED_SHARES:
        asked = _first_documents(documents, order, share)
        places = [(d, s) for d in asked for s in range(len(documents[d]))]
        shuffled = [places[index] for index in random.permutation(len(places)).tolist()]
        drawn = list(itertools.islice(_drawn(documents, shuffled, 2, fits), num_sentences))
        has_followers = len(drawn) >= MIN_SENTENCES
        if not has_followers:
            drawn = list(itertools.islice(_drawn(documents, shuffled, 1, fits), num_sentences))
        if len(drawn) == num_sentences:
            break
    if len(drawn) < MIN_SENTENCES:
        raise InputError(
            f"{source}: has {len(drawn)} sentences of {MIN_SENTENCE_WORDS} words to "
            f"{MAX_SENTENCE_CHARACTERS} characters that each model can take in "
            f"{len(asked)} of its {len(documents)} documents; at least {MIN_SENTENCES} are needed"
        )
    unasked = sorted(set(range(len(documents))) - set(asked))
    return TextSample(
        sentences=[documents[d][s] for d, s in drawn],
        followers=[documents[d][s + 1] for d, s in drawn] if has_followers else [],
        documents=[d for d, _ in drawn],
        rest=[sentence for d in unasked for sentence in documents[d]],
    )


def _first_documents(
    documents: Sequence[Sequence[str]], order: Sequence[int], share: float
) -> list[int]:
    """Return the first documents that hold a share of the text, but never all of them."""
    sizes = [sum(map(len, documents[d])) for d in order]
    reached = np.cumsum(sizes) / max(1, sum(sizes))
    num_documents = int(np.searchsorted(reached, share)) + 1
    return list(order[: max(1, min(num_documents, len(order) - 1))])


def _drawn(
    documents: Sequence[Sequence[str]],
    shuffled: Sequence[tuple[int, int]],
    num_together: int,
    fits: Callable[[str], bool],
) -> Iterator[tuple[int, int]]:
    """Yield the places of runs of usable sentences, without overlaps."""
    taken: set[tuple[int, int]] = set()
    for d, s in shuffled:
        run = [(d, s + k) for k in range(num_together)]
        texts = documents[d][s : s + num_together]
        if len(texts) == num_together and taken.isdisjoint(run):
            if all(_is_ordinary(text) and fits(text) for text in texts):
                taken.update(run)
                yield d, s


def _is_ordinary(sentence: str) -> bool:
    if len(sentence) > MAX_SENTENCE_CHARACTERS:
        return False
    return len(word_spans([sentence])[0]) >= MIN_SENTENCE_WORDS
