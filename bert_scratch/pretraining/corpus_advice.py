"""Describe what looks wrong with a corpus, each with the flag or command that fixes it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from bert_scratch.data.sentences import LONG_DOCUMENT_BYTES

if TYPE_CHECKING:
    from bert_scratch.pretraining.corpus_report import CorpusReport, SourceReport

MIN_USABLE_SHARE = 0.8
MAX_REPEATED_BYTE_SHARE = 0.05
MAX_UNKNOWN_WORD_SHARE = 0.005
MAX_PIECES_PER_WORD = 2.0
"""Only for a given vocabulary: a learned one has as many as its size implies."""
MAX_WRONG_CHARACTER_SHARE = 1e-5
MAX_CUT_SENTENCE_SHARE = 0.25

_FEW_LINES = 20


def advise(report: CorpusReport) -> list[str]:
    """Return a sentence or two for each thing that looks wrong; none if all is well."""
    return [
        *_on_size(report),
        *(line for source in report.sources for line in _on_documents(source, report)),
        *_on_pairs(report),
        *_on_vocabulary(report),
        *_on_repeats(report),
        *_on_characters(report),
    ]


def _on_size(report: CorpusReport) -> Iterator[str]:
    for line in report.expectation.verdict:
        if not line.startswith("train"):
            yield line


def _on_documents(source: SourceReport, report: CorpusReport) -> Iterator[str]:
    counts, rule = source.counts, source.documents_rule
    if counts.lines < _FEW_LINES:
        return
    if rule == "blank-lines" and _has_blank_between_lines(source):
        yield (
            f"{source.path}: a blank line stands between nearly all lines, and makes each of them "
            f"a document of its own; --documents files makes each file one, or take out the "
            f"blank lines inside documents"
        )
    if rule != "files" or counts.largest_document_bytes <= LONG_DOCUMENT_BYTES:
        return
    if counts.largest_document_bytes > 0.5 * sum(s.counts.bytes for s in report.sources):
        blank = source.lines_per_block is not None and source.lines_per_block < 1.5
        why = "blank lines between all its lines" if blank else "no blank lines between documents"
        yield (
            f"{source.path}: one document of {counts.largest_document_bytes / 1e6:,.1f} MB holds "
            f"most of the text ({why}) and is cut into sections; if it is many texts, put a blank "
            f"line between them and use --documents blank-lines, or one text a line and "
            f"--documents lines"
        )


def _has_blank_between_lines(source: SourceReport) -> bool:
    return source.counts.one_line_documents > 0.8 * source.counts.documents


def _on_pairs(report: CorpusReport) -> Iterator[str]:
    share = report.expectation.usable_sentence_share
    if share < MIN_USABLE_SHARE:
        yield (
            f"{1 - share:.0%} of the sentences are alone in their document, and sentence pairs "
            f"need two; {_how_to_get_pairs(report)}, or train without pairs: --pair-task none"
        )
    longest = report.expectation.max_seq_length
    bins = report.sentence_tokens.histogram
    num_cut = sum(lengths.count for lengths in bins if lengths.first > longest)
    if num_cut > MAX_CUT_SENTENCE_SHARE * sum(lengths.count for lengths in bins):
        by_line = any(source.sentence_rule == "lines" for source in report.sources)
        remedy = "use --sentences rules" if by_line else f"raise --max-seq-length above {longest}"
        yield (
            f"more than {MAX_CUT_SENTENCE_SHARE:.0%} of the sentences are longer than an example "
            f"of {longest} tokens and are cut anywhere; {remedy}"
        )


def _how_to_get_pairs(report: CorpusReport) -> str:
    """Say how to get documents of several sentences, given how they are read now."""
    source = max(report.sources, key=lambda source: source.counts.one_sentence_documents)
    if source.documents_rule == "blank-lines" and _has_blank_between_lines(source):
        return "take out the blank lines inside documents, or use --documents files"
    if source.sentence_rule == "lines":
        return "if a line holds several, use --sentences rules"
    if source.documents_rule == "lines" and source.kind == "text":
        return "if neighbouring lines belong together, use --documents files"
    return "join what belongs together"


def _on_vocabulary(report: CorpusReport) -> Iterator[str]:
    use = report.vocabulary
    if not report.vocabulary_is_filled:
        mend = f"give more text: this one cannot fill more than {use.vocab_size:,} entries"
    elif report.vocabulary_is_learned:
        mend = f"raise --vocab-size above {use.vocab_size}"
    else:
        mend = "leave --tokenizer out (one is learned), or give one of this language"
    if use.unknown_word_share > MAX_UNKNOWN_WORD_SHARE:
        yield f"{use.unknown_word_share:.2%} of the words become [UNK]; {mend}"
    elif not report.vocabulary_is_learned and use.pieces_per_word > MAX_PIECES_PER_WORD:
        yield f"the vocabulary cuts a word into {use.pieces_per_word:.1f} pieces; {mend}"


def _on_repeats(report: CorpusReport) -> Iterator[str]:
    documents, lines = report.repeated_documents, report.repeated_lines
    if documents.byte_share > MAX_REPEATED_BYTE_SHARE:
        yield (
            f"{documents.byte_share:.0%} of the text is in documents that repeat earlier ones; "
            f"keep one of each: `awk -v RS= -v ORS='\\n\\n' '!seen[$0]++' FILE` for documents "
            f"between blank lines, `awk '!seen[$0]++' FILE` for lines, `fdupes FOLDER` for files"
        )
    elif lines.byte_share > MAX_REPEATED_BYTE_SHARE:
        yield (
            f"{lines.byte_share:.0%} of the text is in lines that repeat earlier ones; if that is "
            f"boilerplate, remove it: `awk '!NF || !seen[$0]++' FILE` keeps the first of each"
        )


def _on_characters(report: CorpusReport) -> Iterator[str]:
    characters = report.characters
    too_many = MAX_WRONG_CHARACTER_SHARE * characters.num_characters
    if characters.replacement_characters > too_many:
        yield (
            f"{characters.replacement_characters:,} characters are U+FFFD, which stands for bytes "
            f"that are not UTF-8: convert the files with `iconv -f ENCODING -t UTF-8`; with "
            f"--encoding-errors strict the first such place is named"
        )
    if characters.mojibake > too_many:
        shown = ", ".join(f'"{e.found}" for "{e.meant}"' for e in characters.mojibake_examples)
        yield (
            f"{characters.mojibake:,} places look like UTF-8 read as Windows-1252 ({shown}); "
            f"`ftfy FILE` mends them (pip install ftfy)"
        )
    if characters.control_characters > too_many:
        yield (
            f"control characters ({characters.control_characters:,}) are dropped, which may join "
            f"words: `tr '\\001-\\010\\016-\\037\\177' ' ' < FILE` makes them spaces"
        )
    if characters.byte_order_marks:
        yield (
            f"byte order marks inside the text ({characters.byte_order_marks:,}): files were "
            f"joined there, perhaps without a blank line; `sed 's/\\xef\\xbb\\xbf/\\n\\n/g' FILE` "
            f"parts them"
        )
