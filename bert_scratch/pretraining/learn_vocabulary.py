"""The tokenizer of a corpus: a given one, or one learned from its train text."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

from tokenizers import Tokenizer

from bert_scratch.config import InputError
from bert_scratch.data.corpus import Slice
from bert_scratch.data.mixture import mixture_shares
from bert_scratch.data.vocabulary import MAX_TRAINING_BYTES, VocabularyLearner
from bert_scratch.data.wordpiece import load_tokenizer
from bert_scratch.pretraining import corpus_plan
from bert_scratch.pretraining.added_tokens import with_added_tokens
from bert_scratch.pretraining.corpus_plan import Text
from bert_scratch.pretraining.corpus_settings import CorpusSettings
from bert_scratch.pretraining.reading import read_train_text


def given_tokenizer(settings: CorpusSettings) -> Tokenizer | None:
    """Load the given tokenizer, with the added words.

    Returns:
        None if one is to be learned.

    Raises:
        InputError: if it cannot be used.
    """
    if settings.tokenizer is None:
        return None
    tokenizer = load_tokenizer(
        settings.tokenizer, lowercase=settings.lowercase, strip_accents=settings.strip_accents
    )
    return with_added_tokens(tokenizer, settings.add_tokens) if settings.add_tokens else tokenizer


def learn_tokenizer(settings: CorpusSettings, text: Text) -> tuple[Tokenizer, dict[str, Any]]:
    """Learn a tokenizer from the train documents, and report on it.

    Args:
        settings: what the user asked for.
        text: with the share of documents that is held out.

    Returns:
        (tokenizer, report in the manifest's form).

    Raises:
        InputError: if the text holds no words, or too few entries were asked for.
    """
    started = time.monotonic()
    amount = min(text.num_bytes, MAX_TRAINING_BYTES)
    sample = " sampled" if amount < text.num_bytes else ""
    print(f"vocabulary reading {amount / 1e6:,.1f} MB of text{sample}", flush=True)
    try:
        learner = VocabularyLearner(
            train_lines(text, settings.mixture),
            lowercase=bool(settings.lowercase),
            strip_accents=bool(settings.strip_accents),
            text_bytes=text.num_bytes if text.num_bytes > MAX_TRAINING_BYTES else 0,
        )
    except InputError as error:
        corpus_plan.check_enough_documents(text)
        corpus_plan.check_not_copies(text)
        share = f"--eval-fraction {text.rules.eval_fraction:.4g}"
        raise InputError(
            f"--corpus, without the documents that {share} holds out: {error}"
        ) from error
    vocab_size = settings.vocab_size
    if vocab_size is None:
        vocab_size, why = corpus_plan.choose_vocab_size(text.num_bytes, learner.alphabet_ids)
        print(f"chosen     --vocab-size {vocab_size}: {why}")
    print(f"vocabulary joining pieces into {vocab_size:,} tokens", flush=True)
    tokenizer, report = learner.learn(vocab_size)
    print(f"vocabulary {report.describe()}, {time.monotonic() - started:.1f} s")
    return tokenizer, report.to_dict()


def train_lines(text: Text, mixture: tuple[str, ...]) -> Iterator[str]:
    """Yield lines of the documents that are not held out, in a mixture's shares if there is one.

    Of a large corpus only the beginning of each slice is read. A component whose share is larger
    than its text is repeated, as in training.
    """
    total = min(text.num_bytes, MAX_TRAINING_BYTES)
    if not mixture:
        yield from _beginnings(text, text.slices, total / text.num_bytes)
        return
    components = corpus_plan.components(text)
    sizes = [sum(map(corpus_plan.text_bytes, slices)) for slices in components]
    for share, size, slices in zip(mixture_shares(mixture, sizes), sizes, components, strict=True):
        passes = share * total / size
        for _ in range(int(passes)):
            yield from _beginnings(text, slices, 1.0)
        yield from _beginnings(text, slices, passes % 1)


def _beginnings(text: Text, slices: list[Slice], share: float) -> Iterator[str]:
    """Yield the lines of the first share of each slice, from 0 (none) to 1 (all)."""
    for part in slices:
        wanted = share * corpus_plan.text_bytes(part)
        read = 0
        documents = read_train_text(part, text.rules) if wanted else iter(())
        for lines in documents:
            yield from lines
            read += sum(len(line.encode()) + 1 for line in lines)
            if share < 1 and read >= wanted:
                break
