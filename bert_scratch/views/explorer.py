"""The backend of `explore`: one or two models, a text, and some of its words hidden."""

from __future__ import annotations

import re
from collections import OrderedDict
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
from tokenizers import Tokenizer

from bert_scratch.config import InputError
from bert_scratch.data.encoding import encode_texts
from bert_scratch.inference.embed import embed
from bert_scratch.inference.inputs import MASK
from bert_scratch.inference.next_sentence import has_learned_next_sentence, next_sentences
from bert_scratch.inference.whole_model import WholeModel
from bert_scratch.inference.whole_words import word_spans
from bert_scratch.model.heads import BertForPreTraining
from bert_scratch.views.embedding_map import project
from bert_scratch.views.explain import explain_page
from bert_scratch.views.explain_data import Json, explanation

NUM_PAGES_KEPT = 8
"""Number of pages that a browser may still request; it shows one or two at a time."""


@dataclass(frozen=True, kw_only=True)
class NamedModel:
    """A model and the name that pages show."""

    name: str
    model: WholeModel
    tokenizer: Tokenizer


@dataclass(frozen=True, kw_only=True)
class Word:
    """A word of a text."""

    start: int
    """Index of its first character in the text."""
    end: int
    pieces: tuple[str, ...]
    """Its tokens, which are the same in any text."""
    is_mask: bool
    """Whether the text says [MASK] here."""


class Explorer:
    """Queries models with one vocabulary; one request at a time, from whatever thread.

    Models run in a separate thread: a server's threads are not joined when the process ends, and
    one that is inside torch then makes Python abort.
    """

    def __init__(self, models: Sequence[NamedModel], *, attribution_steps: int) -> None:
        """Set the models.

        Args:
            models: one or two, all with the first one's vocabulary.
            attribution_steps: see `ExplainConfig`.
        """
        self.models = models
        self._attribution_steps = attribution_steps
        self._worker = ThreadPoolExecutor(max_workers=1)
        self._pages: OrderedDict[int, str] = OrderedDict()
        self._num_pages = 0

    def read(self, text: str, pair: str) -> Json:
        """Return the words of a text and its pair, and each model's verdict on the pair.

        Returns:
            words: for each of the two texts, [{"text", "pieces", "is_mask"}].
            follows: for each model, the probabilities that the second text follows the first, and
                the first the second; None for a model that cannot tell.

        Raises:
            InputError: if the pair is longer than a model takes.
        """
        return self._answer(self._read, text, pair)

    def look(self, text: str, pair: str, hidden: Sequence[Sequence[int]]) -> Json:
        """Explain a text in which some words are hidden.

        Args:
            text: not empty.
            pair: a second text; "" for none.
            hidden: for each of the two texts, the indices of its hidden words.

        Returns:
            pages: for each model, the number of its page for `page`.

        Raises:
            InputError: if the text cannot be explained, or lacks a word to hide.
        """
        return self._answer(self._look, text, pair, hidden)

    def page(self, number: int) -> str | None:
        """Return a recently made page, or None if it is gone."""
        return self._pages.get(number)

    def map(self, lines: Sequence[str], method: str) -> Json:
        """Return the position of each line, by the mean of the last layer's vectors.

        Args:
            lines: at least `embedding_map.MIN_LINES`.
            method: a key of `embedding_map.METHODS`.

        Returns:
            maps: for each model, {"points": [[x, y]], "kept": share of the variance or None}.

        Raises:
            InputError: if the method is not available on this machine.
        """
        return self._answer(self._map, lines, method)

    def finish(self) -> None:
        """Wait for the answers in progress; no new ones are started."""
        self._worker.shutdown()

    def _answer(self, answer: Callable[..., Json], *asked: object) -> Json:
        try:
            answered = self._worker.submit(answer, *asked)
        except RuntimeError as error:  # the worker is shut down
            raise InputError("explore has ended; start it again") from error
        return answered.result()

    def _read(self, text: str, pair: str) -> Json:
        tokenizer = self.models[0].tokenizer
        words = [
            [
                {"text": of[w.start : w.end], "pieces": w.pieces, "is_mask": w.is_mask}
                for w in words_of(tokenizer, of)
            ]
            for of in (text, pair)
        ]
        both = text.strip() and pair.strip()
        return {
            "words": words,
            "follows": [_follows(m, text, pair) for m in self.models] if both else [],
        }

    def _look(self, text: str, pair: str, hidden: Sequence[Sequence[int]]) -> Json:
        tokenizer = self.models[0].tokenizer
        words = [words_of(tokenizer, of) for of in (text, pair)]
        for which, own, numbers in zip(("first", "second"), words, hidden, strict=True):
            _check_numbers(which, len(own), numbers)
        a, b = map(with_hidden, (text, pair), words, hidden)
        return {"pages": [self._explain(m, a, b if b.strip() else None) for m in self.models]}

    def _map(self, lines: Sequence[str], method: str) -> Json:
        maps = []
        for named in self.models:
            vectors = np.asarray(embed(named.model, named.tokenizer, lines))
            maps.append(project(vectors, method))
        return {"maps": maps}

    def _explain(self, named: NamedModel, a: str, b: str | None) -> int:
        values = explanation(named.model, named.tokenizer, a, b, num_steps=self._attribution_steps)
        self._num_pages += 1
        self._pages[self._num_pages] = explain_page(named.name, values)
        if len(self._pages) > NUM_PAGES_KEPT:
            self._pages.popitem(last=False)
        return self._num_pages


def words_of(tokenizer: Tokenizer, text: str) -> list[Word]:
    """Return the words of a text, counting each [MASK] as a word."""
    spans: list[tuple[int, int, bool]] = []
    start = 0
    for part in re.split(f"({re.escape(MASK)})", text):
        if part == MASK:
            spans.append((start, start + len(part), True))
        else:
            spans += [(start + first, start + end, False) for first, end in word_spans([part])[0]]
        start += len(part)
    texts = [text[first:end] for first, end, _ in spans]
    ids = encode_texts(tokenizer, texts, tokens=[MASK])
    return [
        Word(
            start=first,
            end=end,
            pieces=tuple(tokenizer.id_to_token(int(token)) or "" for token in pieces),
            is_mask=is_mask,
        )
        for (first, end, is_mask), pieces in zip(spans, ids, strict=True)
    ]


def with_hidden(text: str, words: Sequence[Word], numbers: Sequence[int]) -> str:
    """Return a text with a [MASK] for each piece of some words; the other tokens stay."""
    for number in sorted(set(numbers) & set(range(len(words))), reverse=True):
        word = words[number]
        text = text[: word.start] + MASK * len(word.pieces) + text[word.end :]
    return text


def _check_numbers(which: str, num_words: int, numbers: Sequence[int]) -> None:
    """Refuse indices of words that a text does not have."""
    for number in numbers:
        if not 0 <= number < num_words:
            raise InputError(
                f"hidden: there is no word {number} in the {which} text; it has {num_words}, "
                f"counted from 0"
            )


def check_same_words(models: Sequence[NamedModel]) -> None:
    """Refuse models that mean different words by the same ids.

    Raises:
        InputError: naming the two models.
    """
    first = models[0]
    for other in models[1:]:
        if other.tokenizer.get_vocab() != first.tokenizer.get_vocab():
            raise InputError(
                f"--model {first.name} and {other.name}: their vocabularies differ; two models are "
                f"compared token by token, such as two checkpoints of one run"
            )


def _follows(named: NamedModel, text: str, pair: str) -> list[float] | None:
    model = named.model
    if not isinstance(model, BertForPreTraining) or not has_learned_next_sentence(model.config):
        return None
    verdicts = next_sentences(model, named.tokenizer, [(text, pair), (pair, text)])
    return [verdict.is_next for verdict in verdicts]
