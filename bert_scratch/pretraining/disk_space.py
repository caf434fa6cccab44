"""Check that a corpus's store fits on the disk, before hours of work."""

from __future__ import annotations

import shutil
from collections.abc import Collection, Iterator
from pathlib import Path

from tokenizers import Tokenizer

from bert_scratch.config import InputError
from bert_scratch.data.encoding import encode_texts
from bert_scratch.data.shard import PAGE_BYTES, token_dtype
from bert_scratch.data.wordpiece import vocab_size_of
from bert_scratch.pretraining import corpus_plan
from bert_scratch.pretraining.corpus_plan import Text
from bert_scratch.pretraining.reading import Document, read_sections

_SAMPLED_SLICES = 8
_SAMPLED_CHARACTERS = 32_768
_MARGIN = 1.1
"""Safety margin: a sample is inexact, and so is the estimated size of compressed text."""


def check_free_disk(
    folder: Path,
    text: Text,
    tokenizer: Tokenizer,
    *,
    finished: Collection[int],
    has_word_starts: bool,
) -> None:
    """Check that the shards still to be made fit on the disk, judging by a sample of the text.

    Args:
        folder: of the store.
        text: of the corpus.
        tokenizer: the one it will be made with.
        finished: shards that already exist.
        has_word_starts: whether one bit per token is stored.

    Raises:
        InputError: naming the folder, and the space needed and free.
    """
    to_come = [
        part for index, parts in enumerate(text.shards) if index not in finished for part in parts
    ]
    if not to_come:
        return
    num_bytes = sum(map(corpus_plan.text_bytes, to_come))
    needed = _MARGIN * num_bytes * _stored_share(text, tokenizer, has_word_starts)
    free = shutil.disk_usage(folder).free
    if free < needed:
        raise InputError(
            f"--output-dir {folder}: the corpus will take about {needed / 1e6:,.1f} MB there, for "
            f"{num_bytes / 1e6:,.1f} MB of text, but {free / 1e6:,.1f} MB are free; make room or "
            f"give a folder on another disk"
        )


def _stored_share(text: Text, tokenizer: Tokenizer, has_word_starts: bool) -> float:
    """Return the bytes of the store per byte of text, measured on the beginnings of some slices."""
    count = min(len(text.slices), _SAMPLED_SLICES)
    documents = [
        document
        for index in range(count)
        for document in _beginning(text, index * len(text.slices) // count)
    ]
    sentences = [sentence for document in documents for sentence in document.sentences]
    num_tokens = sum(map(len, encode_texts(tokenizer, sentences)))
    read = sum(len(sentence.encode()) + 1 for sentence in sentences)
    bits = 1 / 8 if has_word_starts else 0
    token_bytes = token_dtype(vocab_size_of(tokenizer)).itemsize + bits
    stored = num_tokens * token_bytes + 4 * len(sentences) + 4 * len(documents)
    return (1 + 4 / PAGE_BYTES) * stored / max(1, read)


def _beginning(text: Text, index: int) -> Iterator[Document]:
    read = 0
    for document in read_sections(text.slices[index], text.rules):
        yield document
        read += sum(map(len, document.sentences))
        if read >= _SAMPLED_CHARACTERS:
            return
