"""Texts as the tokenizer cuts them, and where their words are: in the pieces and in the characters.

Letters: P pieces, W words.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from tokenizers import Tokenizer

from bert_scratch.data.encoding import TextEncoder, encode_with_offsets
from bert_scratch.data.wordpiece import special_ids
from bert_scratch.finetuning.rows import Ids
from bert_scratch.finetuning.tagged_text import TaggedText

Places = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Pieces:
    """A text as the tokenizer cuts it."""

    ids: Ids
    """[P] without special tokens."""
    first: Places
    """[W] index of each word's first piece."""
    places: Places
    """[W, 2] start and end of each word, in characters."""


def pieces_of(examples: Sequence[TaggedText], tokenizer: Tokenizer) -> Iterator[Pieces]:
    """Yield the pieces of each text, whose words are given or else found by the tokenizer."""
    encoder, unknown = TextEncoder(tokenizer), special_ids(tokenizer).unk
    for example in examples:
        if example.words is None:
            yield _found(tokenizer, example.text)
            continue
        pieces = encoder.encode([example.text[start:end] for start, end in example.words])
        # A word with only characters that the tokenizer drops still needs a position.
        pieces = [ids if len(ids) else np.array([unknown], dtype=np.int32) for ids in pieces]
        ends = np.cumsum([len(ids) for ids in pieces], dtype=np.int64)
        yield Pieces(
            np.concatenate(pieces) if pieces else np.empty(0, dtype=np.int32),
            np.append(0, ends)[:-1],
            np.array(example.words, dtype=np.int64).reshape(-1, 2),
        )


def _found(tokenizer: Tokenizer, text: str) -> Pieces:
    """Return the pieces of a text whose words the tokenizer finds."""
    encoding = encode_with_offsets(tokenizer, [text])[0]
    numbers = np.array([-1 if word is None else word for word in encoding.word_ids])
    first = np.flatnonzero(np.diff(numbers, prepend=-2))
    last = np.append(first[1:], len(numbers)) - 1
    offsets = np.array(encoding.offsets, dtype=np.int64).reshape(-1, 2)
    places = np.stack([offsets[first, 0], offsets[last, 1]], axis=1) if len(first) else offsets
    return Pieces(np.array(encoding.ids, dtype=np.int32), first, places)
