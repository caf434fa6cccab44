"""Report on a corpus and on training with it, before anything is prepared.

Text is read as `prepare` would read it, and settings are chosen as `pretrain` would choose them, so
the report shows what a run with the same flags would find.
"""

from __future__ import annotations

import contextlib
import math
import statistics
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from tokenizers import Tokenizer

from bert_scratch.config import InputError, check_range
from bert_scratch.data import layout, textfile
from bert_scratch.data.corpus import Source
from bert_scratch.data.encoding import encode_texts
from bert_scratch.data.normalisation import NormalisationEffects, normalisation_effects
from bert_scratch.data.wordpiece import load_tokenizer, special_ids
from bert_scratch.pretraining import corpus_advice
from bert_scratch.pretraining.characters import CharacterReport
from bert_scratch.pretraining.corpus_expectation import Expectation, expect
from bert_scratch.pretraining.corpus_plan import Text, choose_eval_fraction, find_text
from bert_scratch.pretraining.corpus_sample import sampled_documents, sampled_share
from bert_scratch.pretraining.corpus_settings import CorpusSettings
from bert_scratch.pretraining.corpus_statistics import (
    CorpusTally,
    Lengths,
    SourceTally,
    VocabularyUse,
)
from bert_scratch.pretraining.learn_vocabulary import given_tokenizer, learn_tokenizer
from bert_scratch.pretraining.repeats import RepeatReport

MAX_NORMALISED_BYTES = 20_000_000
"""Larger texts are sampled to see what normalising would change."""

_MAX_HEADS = 32
_SHOWN_CHARACTERS = 20


@dataclass(frozen=True, kw_only=True)
class CorpusReportConfig(CorpusSettings):
    """Say what a corpus holds and what looks wrong with it, before it is prepared."""

    # A report continues where preparing would stop, and counts such bytes.
    encoding_errors: str = "replace"
    compare_tokenizer: tuple[str, ...] = ()
    """More tokenizers (folder, tokenizer.json or vocab.txt) to compare by pieces per word."""
    max_seq_length: int | None = None
    """Tokens per example, for what an epoch would be. Left out: as pretrain would choose."""
    json: bool = False
    """Print one JSON object instead of lines."""
    output_html: str | None = None
    """Also write a page with plots to this file; it needs no network."""

    def __post_init__(self) -> None:
        """Check each value.

        Raises:
            InputError: naming the flag.
        """
        super().__post_init__()
        check_range("--max-seq-length", self.max_seq_length, at_least=8, at_most=65536)


@dataclass(frozen=True, kw_only=True)
class SourceReport:
    """One path of `--corpus`: how it is read, and what was found."""

    path: str
    kind: str
    num_files: int
    documents_rule: str
    sentence_rule: str
    evidence: str
    lines_per_block: float | None
    """Lines between two blank lines, in the median file; None unless plain text."""
    counts: SourceTally


@dataclass(frozen=True, kw_only=True)
class UnknownCharacters:
    """Characters that the vocabulary lacks; a word with one of them is [UNK]."""

    num_characters: int
    share: float
    """Share of the text's characters."""
    commonest: str


@dataclass(frozen=True, kw_only=True)
class CorpusReport:
    """The whole report; counts are estimates if only a share of the text was read."""

    corpus: list[str]
    measured_share: float
    """Share of the text that was read."""
    sources: list[SourceReport]
    num_documents: int
    num_sections: int
    """Documents, after long ones have been cut into sections."""
    num_lines: int
    num_sentences: int
    num_words: int
    """Words as BERT splits them: each punctuation mark and each ideograph is one."""
    num_tokens: int
    num_characters: int
    """Characters without white space."""
    num_bytes: int
    """Bytes of the text in UTF-8."""
    document_sentences: Lengths
    sentence_tokens: Lengths
    repeated_lines: RepeatReport
    repeated_documents: RepeatReport
    characters: CharacterReport
    vocabulary: VocabularyUse
    vocabulary_is_learned: bool
    vocabulary_is_filled: bool
    """False if the text cannot fill the wanted size, so that a larger one changes nothing."""
    unknown_characters: UnknownCharacters
    compared: list[VocabularyUse]
    normalisation: NormalisationEffects
    expectation: Expectation

    @property
    def warnings(self) -> list[str]:
        """What looks wrong, each with the flag or command that fixes it."""
        return corpus_advice.advise(self)

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON values."""
        return {**asdict(self), "warnings": self.warnings}


def corpus_report(config: CorpusReportConfig) -> CorpusReport:
    """Read a corpus, or an even share of a large one, and count.

    Raises:
        InputError: if text or a tokenizer cannot be used, or the text holds no words.
    """
    others = [load_tokenizer(path) for path in config.compare_tokenizer]
    text = _find_text(config)
    tokenizer, is_filled = given_tokenizer(config), True
    if tokenizer is None:
        with contextlib.redirect_stdout(sys.stderr):  # messages on the way are not the report
            tokenizer, learned = learn_tokenizer(config, text)
        is_filled = learned["vocab_size"] == learned["requested_vocab_size"]
    tally, to_normalise = _count(text, tokenizer, others)
    share = sampled_share(text)
    scale = 1 / share
    num_bytes = sum(source.bytes for source in tally.sources)
    characters = tally.characters.report()
    use = tally.tokens.use(config.tokenizer or "learned")
    return CorpusReport(
        corpus=list(dict.fromkeys(source.path for source in text.sources)),
        measured_share=share,
        sources=_sources(text, tally),
        num_documents=round(scale * sum(source.documents for source in tally.sources)),
        num_sections=round(scale * sum(source.sections for source in tally.sources)),
        num_lines=round(scale * sum(source.lines for source in tally.sources)),
        num_sentences=round(scale * tally.num_sentences),
        num_words=round(scale * use.num_words),
        num_tokens=round(scale * use.num_tokens),
        num_characters=round(scale * characters.num_characters),
        num_bytes=round(scale * num_bytes),
        document_sentences=Lengths.of(tally.document_sentences, doubling=True),
        sentence_tokens=Lengths.of(tally.sentence_tokens, doubling=False),
        repeated_lines=tally.lines.report(num_bytes),
        repeated_documents=tally.documents.report(num_bytes),
        characters=characters,
        vocabulary=use,
        vocabulary_is_learned=config.tokenizer is None,
        vocabulary_is_filled=is_filled,
        unknown_characters=_unknown_characters(tokenizer, tally),
        compared=[
            other.use(name)
            for name, other in zip(config.compare_tokenizer, tally.others, strict=True)
        ],
        normalisation=normalisation_effects(to_normalise),
        expectation=expect(tally, use, scale=scale, max_seq_length=config.max_seq_length),
    )


def _find_text(config: CorpusReportConfig) -> Text:
    """Find the text and set the share that prepare would hold out."""
    text = find_text(config)
    eval_fraction = config.eval_fraction or choose_eval_fraction(text)
    return replace(text, rules=replace(text.rules, eval_fraction=eval_fraction))


def _count(
    text: Text, tokenizer: Tokenizer, others: Sequence[Tokenizer]
) -> tuple[CorpusTally, list[str]]:
    """Count the documents; keep the lines of every k-th to see what normalising would change."""
    tally = CorpusTally(tokenizer, others=others, rules=text.rules)
    every = math.ceil(sampled_share(text) * text.num_bytes / MAX_NORMALISED_BYTES)
    to_normalise: list[str] = []
    for index, (source_index, lines) in enumerate(sampled_documents(text)):
        tally.add(source_index, lines)
        if index % every == 0:
            to_normalise += lines
    tally.finish()
    if not tally.num_sentences:
        raise InputError("--corpus: holds no words, only marks that are dropped")
    return tally, to_normalise


def _sources(text: Text, tally: CorpusTally) -> list[SourceReport]:
    return [
        SourceReport(
            path=source.path,
            kind=source.kind,
            num_files=len(source.files),
            documents_rule=source.documents,
            sentence_rule=sentence_rule,
            evidence=source.evidence.removeprefix(f"{source.path}: "),
            lines_per_block=_lines_per_block(source),
            counts=counts,
        )
        for source, sentence_rule, counts in zip(
            text.sources, text.rules.sentence_rules, tally.sources, strict=True
        )
    ]


def _lines_per_block(source: Source) -> float | None:
    """Return the lines between blank ones, in the median of a few files' heads."""
    if source.kind != "text":
        return None
    heads = [layout.inspect(textfile.read_head(file)) for file in source.files[:_MAX_HEADS]]
    return statistics.median(head.num_lines / max(1, head.num_blocks) for head in heads)


def _unknown_characters(tokenizer: Tokenizer, tally: CorpusTally) -> UnknownCharacters:
    alphabet = tally.characters.alphabet()
    unknown_id = special_ids(tokenizer).unk
    unknown = [
        character
        for character, ids in zip(alphabet, encode_texts(tokenizer, list(alphabet)), strict=True)
        if unknown_id in ids
    ]
    return UnknownCharacters(
        num_characters=len(unknown),
        share=sum(alphabet[character] for character in unknown) / max(1, alphabet.total()),
        commonest="".join(unknown[:_SHOWN_CHARACTERS]),
    )
