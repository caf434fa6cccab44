"""A probe of every layer that needs no labels: which words are not where they belong?

Some words of the sentences swap places, so displaced and untouched words come from the same
vocabulary. The embeddings alone cannot tell them apart: what a linear probe finds above layer 0 is
what the layers know about context.

Letters: W words, L layers, D hidden.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from tokenizers import Tokenizer

from bert_scratch.inference.embed import ALL_LAYERS, EmbedOptions, embeddings
from bert_scratch.inference.masked_words import choose_apart, hide_words
from bert_scratch.inference.whole_words import Span, fold, is_word, tokens_of_words
from bert_scratch.model.pretrained_model import PretrainedModel

_SENTENCES_AT_ONCE = 64


@dataclass(frozen=True, kw_only=True)
class DisplacedWords:
    """Sentences in which some words have swapped places."""

    sentences: list[str]
    """N sentences."""
    spans: list[list[Span]]
    """The positions, in each sentence, of the words that a probe is asked about."""
    displaced: list[list[bool]]
    """Which of these words are displaced; about half of them are."""


def displace_words(sentences: Sequence[str], *, seed: int) -> DisplacedWords:
    """Swap 15 % of the words and numbers, capitalised ones among themselves.

    Args:
        sentences: N, in random order.
        seed: equal seeds give equal sentences.
    """
    hidden = hide_words(sentences, seed=seed)
    random = np.random.Generator(np.random.Philox(seed + 1))
    words = [
        [text[start:end] for start, end in spans]
        for text, spans in zip(sentences, hidden.spans, strict=True)
    ]
    places = [(n, word) for n, chosen in enumerate(hidden.chosen) for word in chosen]
    replacements: dict[tuple[int, int], str] = {}
    for is_capital in (False, True):
        group = [(n, w) for n, w in places if words[n][w][0].isupper() == is_capital]
        drawn = [group[index] for index in random.permutation(len(group)).tolist()]
        # each takes the word of the next in a random cycle, so that no word stays where it is
        for (n, word), (other, its_word) in zip(drawn, drawn[1:] + drawn[:1], strict=True):
            if fold(words[other][its_word]) != fold(words[n][word]):
                replacements[n, word] = words[other][its_word]
    found = DisplacedWords(sentences=[], spans=[], displaced=[])
    for n, (text, spans) in enumerate(zip(sentences, hidden.spans, strict=True)):
        moved = [w for w in hidden.chosen[n] if (n, w) in replacements]
        others = [w for w in range(len(spans)) if w not in moved and is_word(words[n][w])]
        asked = sorted([*moved, *choose_apart(others, len(moved), random)])
        changed, new_spans = _replaced(text, spans, {w: replacements[n, w] for w in moved})
        found.sentences.append(changed)
        found.spans.append([new_spans[w] for w in asked])
        found.displaced.append([w in moved for w in asked])
    return found


def _replaced(
    text: str, spans: Sequence[Span], replacements: dict[int, str]
) -> tuple[str, list[Span]]:
    """Return a text with some words replaced, and the new positions of its words."""
    parts: list[str] = []
    new_spans = []
    length = end_before = 0
    for word, (start, end) in enumerate(spans):
        between, new = text[end_before:start], replacements.get(word, text[start:end])
        parts += [between, new]
        new_spans.append((length + len(between), length + len(between) + len(new)))
        length, end_before = new_spans[-1][1], end
    return "".join([*parts, text[end_before:]]), new_spans


def word_states(
    model: PretrainedModel, tokenizer: Tokenizer, sentences: Sequence[str], spans: list[list[Span]]
) -> Iterator[npt.NDArray[np.float32]]:
    """Yield for each sentence [W, L + 1, D], its words' vectors as the mean of their pieces.

    A sentence longer than a row is read in windows that overlap by half. A word that the tokenizer
    drops is all zeros.
    """
    row_length = model.config.trained_seq_length or model.config.max_position_embeddings
    stride = max(1, (row_length - 2) // 2)
    options = EmbedOptions(unit="token", layers=(ALL_LAYERS,), stride=stride)
    for start in range(0, len(sentences), _SENTENCES_AT_ONCE):
        some = sentences[start : start + _SENTENCES_AT_ONCE]
        for number, found in enumerate(embeddings(model, tokenizer, some, options), start=start):
            assert found.offsets is not None
            tokens = tokens_of_words(found.offsets, spans[number])
            states = np.zeros((len(tokens), *found.vectors.shape[1:]), np.float32)
            for word, own in enumerate(tokens):
                if own:
                    states[word] = found.vectors[own].mean(axis=0)
            yield states
