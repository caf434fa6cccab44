"""Hide whole words in sentences, the same for every model, and test who can restore them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from tokenizers import Tokenizer

from bert_scratch.data.encoding import encode_with_offsets
from bert_scratch.inference.count_models import EDGE, Context, NeighbourCounts
from bert_scratch.inference.inputs import MaskedLM
from bert_scratch.inference.masked_guesses import MaskedRow, answer_rows
from bert_scratch.inference.whole_words import (
    Span,
    fold,
    folded_words,
    is_word,
    tokens_of_words,
    word_spans,
)

MASKED_SHARE = 0.15
_CONTINUES = "##"


@dataclass(frozen=True, kw_only=True)
class HiddenWords:
    """The words of N sentences, and which of them are hidden."""

    sentences: Sequence[str]
    """N sentences."""
    spans: list[list[Span]]
    """The positions of the words of each sentence."""
    chosen: list[list[int]]
    """The hidden words of each sentence, ascending, never two adjacent."""

    def words(self) -> list[str]:
        """Return the hidden words of all sentences, folded for comparison."""
        return [fold(self._word(n, word)) for n, word in self._places()]

    def contexts(self) -> list[Context]:
        """Return the neighbours of each hidden word, folded for comparison."""
        return [
            (self._neighbour(n, word - 1), self._neighbour(n, word + 1))
            for n, word in self._places()
        ]

    def _places(self) -> Iterator[tuple[int, int]]:
        return ((n, word) for n, words in enumerate(self.chosen) for word in words)

    def _neighbour(self, sentence: int, word: int) -> str:
        inside = 0 <= word < len(self.spans[sentence])
        return fold(self._word(sentence, word)) if inside else EDGE

    def _word(self, sentence: int, word: int) -> str:
        start, end = self.spans[sentence][word]
        return self.sentences[sentence][start:end]


def hide_words(sentences: Sequence[str], *, seed: int) -> HiddenWords:
    """Hide 15 % of the words and numbers of each sentence, at least one if it has any."""
    spans = word_spans(sentences)
    random = np.random.Generator(np.random.Philox(seed))
    chosen = [
        choose_apart(
            [n for n, (start, end) in enumerate(own) if is_word(text[start:end])],
            round(MASKED_SHARE * len(own)) or 1,
            random,
        )
        for text, own in zip(sentences, spans, strict=True)
    ]
    return HiddenWords(sentences=sentences, spans=spans, chosen=chosen)


def choose_apart(
    candidates: Sequence[int], num_wanted: int, random: np.random.Generator
) -> list[int]:
    """Draw places of which no two are adjacent; fewer if no more fit."""
    chosen: set[int] = set()
    for place in random.permutation(np.array(candidates, np.int64)).tolist():
        if len(chosen) < num_wanted and chosen.isdisjoint((place - 1, place + 1)):
            chosen.add(place)
    return sorted(chosen)


def restored_by_model(
    model: MaskedLM, tokenizer: Tokenizer, hidden: HiddenWords
) -> Iterator[tuple[list[int], list[list[bool]]]]:
    """Yield (indices of sentences, which of their hidden words a model restores).

    All pieces of a word are masked, and all must be right, ignoring case and accents.
    """
    rows, pieces_of_words = [], []
    encodings = encode_with_offsets(tokenizer, hidden.sentences)
    for encoding, spans, chosen in zip(encodings, hidden.spans, hidden.chosen, strict=True):
        tokens = tokens_of_words(encoding.offsets, spans)
        pieces_of_words.append([tokens[word] for word in chosen])
        masked = sorted({token for word in chosen for token in tokens[word]})
        rows.append(MaskedRow(encoding.ids, masked))
    words = iter(hidden.words())
    expected = [[next(words) for _ in chosen] for chosen in hidden.chosen]
    for indices, answers in answer_rows(model, tokenizer, rows):
        restored = []
        for index, answer in zip(indices, answers, strict=True):
            found = dict(zip(rows[index].masked, answer.ids.tolist(), strict=True))
            guesses = [
                _spelt(tokenizer, [found[p] for p in pieces]) for pieces in pieces_of_words[index]
            ]
            pairs = zip(guesses, expected[index], strict=True)
            restored.append([guess == word for guess, word in pairs])
        yield indices, restored


def restored_by_counts(
    hidden: HiddenWords, rest: Sequence[str]
) -> tuple[npt.NDArray[np.bool_], npt.NDArray[np.bool_]]:
    """Return which hidden words equal the most frequent word, and which the neighbours predict.

    Args:
        hidden: K words in total.
        rest: other sentences of the text, to count in.

    Returns:
        Two arrays [K].
    """
    counts = NeighbourCounts(hidden.contexts())
    for words in folded_words(rest):
        counts.add(words)
    expected = hidden.words()
    frequent = counts.most_frequent()
    guesses = map(counts.guess, hidden.contexts())
    by_neighbours = [guess == word for guess, word in zip(guesses, expected, strict=True)]
    return np.array([word == frequent for word in expected]), np.array(by_neighbours)


def _spelt(tokenizer: Tokenizer, ids: Sequence[int]) -> str:
    """Return the text that pieces spell, folded for comparison; several words never match one."""
    pieces = [tokenizer.id_to_token(index) or "" for index in ids]  # a model may have more rows
    rest = [p.removeprefix(_CONTINUES) if p.startswith(_CONTINUES) else f" {p}" for p in pieces[1:]]
    return fold("".join([*pieces[:1], *rest]))
