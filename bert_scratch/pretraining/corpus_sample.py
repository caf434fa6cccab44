"""What is read of a corpus to report on it: all of it, or of a large one an even share."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from functools import partial
from typing import TypeVar

from tokenizers import Tokenizer
from tqdm import tqdm

from bert_scratch.data.corpus import Slice, read_documents
from bert_scratch.data.vocabulary import VocabularyLearner
from bert_scratch.data.wordpiece import load_tokenizer
from bert_scratch.pretraining import corpus_plan
from bert_scratch.pretraining.corpus_plan import Text
from bert_scratch.pretraining.prepare import CorpusSettings
from bert_scratch.pretraining.tokenise import Document, read_sections

MAX_SAMPLED_BYTES = 100_000_000

T = TypeVar("T")


def sampled_share(text: Text) -> float:
    """Return the share of a corpus that is read, 1 for all."""
    return min(1.0, MAX_SAMPLED_BYTES / max(1, text.num_bytes))


def sampled_documents(text: Text) -> Iterator[tuple[int, list[str]]]:
    """Yield (index of the source, lines) of the documents that are counted."""
    read = partial(_read_lines, text)
    for part, lines in _sampled(text, read, _lines_bytes, "counting"):
        yield part.source_index, lines


def learned_or_given_tokenizer(settings: CorpusSettings, text: Text) -> Tokenizer:
    """Load the tokenizer that was asked for, or learn one as `prepare` would.

    Args:
        settings: what was asked for.
        text: with the share of documents that is held out.

    Raises:
        InputError: if the tokenizer cannot be used, or the text holds no words.
    """
    if settings.tokenizer is not None:
        return load_tokenizer(settings.tokenizer)
    learner = VocabularyLearner(
        _train_sentences(text),
        lowercase=bool(settings.lowercase),
        strip_accents=bool(settings.strip_accents),
    )
    vocab_size = settings.vocab_size
    if vocab_size is None:
        vocab_size, _ = corpus_plan.choose_vocab_size(text.num_bytes, learner.alphabet_ids)
    tokenizer, _ = learner.learn(vocab_size)
    return tokenizer


def _train_sentences(text: Text) -> Iterator[str]:
    """Yield the sentences that are not held out; all of them where nothing else is there."""
    is_empty = True
    for document in _sampled_sections(text):
        if not document.is_held_out:
            is_empty = False
            yield from document.sentences
    if is_empty:
        for document in _sampled_sections(text):
            yield from document.sentences


def _sampled_sections(text: Text) -> Iterator[Document]:
    read = partial(read_sections, rules=text.rules)
    sampled = _sampled(text, read, lambda document: _lines_bytes(document.sentences), "learning")
    return (document for _, document in sampled)


def _read_lines(text: Text, part: Slice) -> Iterator[list[str]]:
    source = text.sources[part.source_index]
    return read_documents(part, source, text.rules.encoding_errors)


def _lines_bytes(lines: list[str]) -> int:
    return sum(len(line.encode()) + 1 for line in lines)


def _sampled(
    text: Text, read: Callable[[Slice], Iterator[T]], size_of: Callable[[T], int], doing: str
) -> Iterator[tuple[Slice, T]]:
    """Read an even share of a corpus: the beginning of each slice, or every k-th small file.

    Reading stops, and goes on, where what was read falls short of the share of what was passed.
    """
    share = sampled_share(text)
    wanted, num_read = 0.0, 0
    with tqdm(
        total=round(share * text.num_bytes),
        unit="B",
        unit_scale=True,
        desc=doing,
        leave=False,
        disable=not sys.stderr.isatty(),
    ) as bar:
        for part in text.slices:
            wanted += share * corpus_plan.text_bytes(part)
            if share < 1 and num_read >= wanted:
                continue
            for document in read(part):
                yield part, document
                size = size_of(document)
                num_read += size
                bar.update(size)
                if share < 1 and num_read >= wanted:
                    break
