"""Read slices into documents of sentences; whether one is held out depends only on its text."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from bert_scratch.data.corpus import Slice, Source, read_documents
from bert_scratch.data.sentences import LONG_DOCUMENT_BYTES, sections, split_document

NUM_HASHES = 2**64


@dataclass(frozen=True, kw_only=True)
class ReadingRules:
    """How text becomes documents of sentences, and which of them are held out."""

    sources: Sequence[Source]
    sentence_rules: Sequence[str]
    """For each source: rules, lines or the name of a library."""
    encoding_errors: str
    """strict or replace."""
    eval_fraction: float
    """Documents whose hash is below this share of all hashes are held out."""

    def holds_out(self, number: int) -> bool:
        """Tell whether a document with this hash is held out."""
        return number < int(self.eval_fraction * NUM_HASHES)


class Document(NamedTuple):
    """A document, or a section of a long one."""

    sentences: list[str]
    hash: int
    """The first 64 bits of the text's BLAKE2b hash."""
    is_held_out: bool


class Piece(NamedTuple):
    """A document, or a section of a long one, which is already split into sentences."""

    lines: list[str]
    is_split: bool
    hash: int

    def sentences(self, sentence_rule: str) -> list[str]:
        """Return its sentences, split by the rule that sections are cut with."""
        return self.lines if self.is_split else split_document(self.lines, sentence_rule)


def read_sections(part: Slice, rules: ReadingRules) -> Iterator[Document]:
    """Read the documents that begin in a slice, long ones in sections.

    Args:
        part: from `slices_of`.
        rules: the same for every slice.

    Raises:
        InputError: naming file and byte offset, if the text cannot be read.
    """
    sentence_rule = rules.sentence_rules[part.source_index]
    for piece in _pieces(part, rules):
        yield Document(piece.sentences(sentence_rule), piece.hash, rules.holds_out(piece.hash))


def read_train_text(part: Slice, rules: ReadingRules) -> Iterator[list[str]]:
    """Read the lines of the documents that are not held out.

    They are not split into sentences, which would take longer than the rest of reading.
    """
    return (piece.lines for piece in _pieces(part, rules) if not rules.holds_out(piece.hash))


def read_hashes(part: Slice, rules: ReadingRules) -> Iterator[int]:
    """Read the hash of each document, or section of a long one."""
    return (piece.hash for piece in _pieces(part, rules))


def _pieces(part: Slice, rules: ReadingRules) -> Iterator[Piece]:
    source = rules.sources[part.source_index]
    sentence_rule = rules.sentence_rules[part.source_index]
    for paragraphs in read_documents(part, source, rules.encoding_errors):
        yield from pieces_of(paragraphs, sentence_rule)


def pieces_of(paragraphs: list[str], sentence_rule: str) -> Iterator[Piece]:
    """Cut a long document into sections, which needs its sentences; leave others as they are."""
    text = "\n".join(paragraphs).encode()
    if len(text) <= LONG_DOCUMENT_BYTES:
        yield Piece(paragraphs, False, _hash(text))
        return
    del text
    for sentences in sections(split_document(paragraphs, sentence_rule)):
        yield Piece(sentences, True, _hash("\n".join(sentences).encode()))


def _hash(text: bytes) -> int:
    return int.from_bytes(hashlib.blake2b(text, digest_size=8).digest(), "big")
