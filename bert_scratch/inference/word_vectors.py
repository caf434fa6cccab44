"""One static vector per word: the mean over all its contexts in a text.

Letters: W words, D hidden.
"""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from tokenizers import Tokenizer
from torch import nn
from tqdm import tqdm

from bert_scratch import durable
from bert_scratch.config import InputError, check_range
from bert_scratch.data.encoding import encode_with_offsets
from bert_scratch.data.records import STANDARD_INPUT
from bert_scratch.data.wordpiece import special_ids
from bert_scratch.inference.embed import EmbedOptions, ReadingOptions, embeddings
from bert_scratch.inference.inputs import ModelOptions, text_batches
from bert_scratch.inference.pooling import Vectors, group_pieces
from bert_scratch.inference.texts import read_texts
from bert_scratch.output_places import make_place_for

_TEXTS_AT_ONCE = 1024


@dataclass(frozen=True, slots=True)
class WordVectors:
    """Words, the most frequent first."""

    words: list[str]
    """W words as the tokenizer normalises them, perhaps in lower case."""
    counts: npt.NDArray[np.int64]
    """[W], number of contexts of each word."""
    vectors: Vectors
    """[W, D], the mean over these contexts."""

    def save(self, path: Path) -> None:
        """Write word2vec's text format: W and D, then a word and its numbers per line."""
        with durable.durable_path(path) as temporary, temporary.open("w", encoding="utf-8") as file:
            print(*self.vectors.shape, file=file)
            for word, vector in zip(self.words, self.vectors.tolist(), strict=True):
                print(word, *(f"{value:.6g}" for value in vector), file=file)


def static_word_vectors(
    model: nn.Module,
    tokenizer: Tokenizer,
    read: Callable[[], Iterable[str]],
    options: ReadingOptions | None = None,
    *,
    min_count: int = 1,
) -> WordVectors:
    """Average the vectors of each word over all its occurrences.

    Args:
        model: a `BertModel`, or any model around one.
        tokenizer: the model's, which defines words; one of several pieces is their mean.
        read: returns the texts; called twice, to count the words and to average them. Memory
            grows only with the number of different words.
        options: layers and windows; None takes the last layer.
        min_count: contexts a word needs.

    Returns:
        The words that the tokenizer can read, without [UNK].

    Raises:
        InputError: if no word is left, the options do not fit the model, or read gives texts only
            once.

    Source:
        Bommasani et al. 2020, "Interpreting Pretrained Contextualized Representations via
        Reductions to Static Embeddings", "aggregated" with mean over pieces and contexts.
    """
    options = options or ReadingOptions()
    options.check_one_vector()
    counted = _count_words(tokenizer, read())
    kept = [word for word, count in counted.most_common() if count >= min_count]
    if not kept:
        raise InputError(f"no word occurs in the texts {min_count:,} times or more")
    index = {word: number for number, word in enumerate(kept)}
    counts, sums = np.zeros(len(kept), np.int64), None
    normalized = _Normalized(tokenizer)
    unit = EmbedOptions.from_dict(options.to_dict() | {"unit": "word"})
    for found in embeddings(model, tokenizer, read(), unit):
        assert found.offsets is not None
        words = [normalized[found.text[start:end]] for start, end in found.offsets]
        rows = np.array([index.get(word, -1) for word in words], np.int64)
        if sums is None and len(rows):
            sums = np.zeros((len(kept), found.vectors.shape[1]))
        if sums is not None:
            np.add.at(sums, rows[rows >= 0], found.vectors[rows >= 0])
            np.add.at(counts, rows[rows >= 0], 1)
    if sums is None:
        raise InputError("read() gave no text when called again; it must open the texts anew")
    # If texts were cut off at the end of a row, a word may have been seen less often than counted.
    order = np.argsort(-counts, kind="stable")
    seen = order[counts[order] >= min_count]
    if not len(seen):
        raise InputError(
            f"no word occurs {min_count:,} times or more in what is read of the texts, which are "
            f"cut off at the end of a row; give --stride, or a lower --min-count"
        )
    means = np.asarray(sums[seen] / counts[seen, None], np.float32)
    return WordVectors([kept[row] for row in seen.tolist()], counts[seen], means)


class _Normalized(dict[str, str]):
    """Words as spelt in a text -> as the tokenizer normalises them."""

    _MAX_WORDS = 1_000_000

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._normalizer = tokenizer.normalizer

    def __missing__(self, word: str) -> str:
        if len(self) >= self._MAX_WORDS:
            self.clear()
        normal = word if self._normalizer is None else self._normalizer.normalize_str(word)
        self[word] = normal.strip()
        return self[word]


def _count_words(tokenizer: Tokenizer, texts: Iterable[str]) -> Counter[str]:
    """Count the words that the tokenizer can read."""
    unknown = special_ids(tokenizer).unk
    normalized = _Normalized(tokenizer)
    counts: Counter[str] = Counter()
    for group in text_batches(texts, _TEXTS_AT_ONCE):
        for text, encoding in zip(group, encode_with_offsets(tokenizer, group), strict=True):
            ids = encoding.ids
            starts, spans = group_pieces(encoding.word_ids, encoding.offsets)
            counts.update(
                normalized[text[start:end]]
                for first, (start, end) in zip(starts.tolist(), spans, strict=True)
                if ids[first] != unknown
            )
    # The format separates a word from its numbers by a space, so words must not contain any.
    return Counter({word: n for word, n in counts.items() if word and len(word.split()) == 1})


@dataclass(frozen=True, kw_only=True)
class WordVectorsConfig(ModelOptions, ReadingOptions):
    """Write one vector for each word: the mean over all its contexts in a file of texts."""

    input: str
    """Texts, one per line; or .jsonl, objects with "text". Read twice."""
    output: str
    """The vectors in word2vec's text format, which gensim and others load."""
    min_count: int = 5
    """Contexts a word needs."""

    def __post_init__(self) -> None:
        """Check what does not depend on the model.

        Raises:
            InputError: naming the flag.
        """
        ModelOptions.__post_init__(self)
        ReadingOptions.__post_init__(self)
        self.check_one_vector()
        check_range("--min-count", self.min_count, at_least=1)
        if self.input == STANDARD_INPUT or Path(self.input).is_fifo():
            raise InputError(f"--input {self.input}: must be a file, not a pipe: it is read twice")


def run_word_vectors(config: WordVectorsConfig) -> None:
    """Write the vectors, with a progress bar on a terminal.

    Raises:
        InputError: if the model or the texts cannot be used.
    """
    make_place_for(Path(config.output), source=config.input)
    model, tokenizer = config.load_encoder()
    passes = iter(("counting words", "averaging"))

    def read() -> Iterable[str]:
        texts = read_texts(config.input)
        quiet = not sys.stderr.isatty()
        return tqdm(texts, desc=next(passes), unit=" texts", disable=quiet)  # type: ignore[no-any-return]

    values = config.to_dict()
    options = ReadingOptions.from_dict({name: values[name] for name in ReadingOptions().to_dict()})
    found = static_word_vectors(model, tokenizer, read, options, min_count=config.min_count)
    found.save(Path(config.output))
    print(
        f"{len(found.words):,} words of {found.vectors.shape[1]} numbers, from "
        f"{found.counts.sum():,} contexts: {config.output}"
    )
