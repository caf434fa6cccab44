"""A corpus report as one screen of text: at most 40 lines of 100 columns."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator

from bert_scratch.config import counted
from bert_scratch.pretraining.corpus_report import CorpusReport
from bert_scratch.pretraining.corpus_statistics import Lengths
from bert_scratch.pretraining.repeats import RepeatReport

MAX_LINES = 40
MAX_COLUMNS = 100

STEPS = {
    "cleaning": "cleaning",
    "nfc": "NFC",
    "lowercase": "--lowercase",
    "strip_accents": "--strip-accents",
}
"""Names of the normalisation steps; those that are not flags are always done."""

_INDENT = 12
_MAX_SOURCES = 3
_MAX_SOURCE_LINES = 4
_MAX_SCRIPTS = 6
_SHOWN_CHARACTERS = 30
_BARS = " ▁▂▃▄▅▆▇█"


def screen(report: CorpusReport) -> str:
    """Return the report as text without a trailing newline."""
    lines = [line for name, text in _entries(report) for line in _wrapped(name, text)]
    warnings = [line for text in report.warnings for line in _wrapped("WARNING", text)]
    free = MAX_LINES - len(lines)
    if len(warnings) > free:
        warnings = [*warnings[: free - 1], " " * _INDENT + "... all of it: --json, --output-html"]
    return "\n".join([*lines, *(warnings or _wrapped("warnings", "none"))])


def share(value: float) -> str:
    """Format a share in per cent, with enough digits to tell it from none and all."""
    if value in (0, 1):
        return f"{100 * value:.0f} %"
    nearest = round(100 * min(value, 1 - value), 6)
    if nearest < 0.001:
        return "< 0.001 %" if value < 0.5 else "> 99.999 %"
    digits = 1 if nearest >= 0.1 else 2 if nearest >= 0.01 else 3
    return f"{100 * value:.{digits}f} %"


def _wrapped(name: str, text: str) -> list[str]:
    return textwrap.wrap(
        text,
        MAX_COLUMNS,
        initial_indent=name.ljust(_INDENT),
        subsequent_indent=" " * _INDENT,
        break_on_hyphens=False,
        max_lines=_MAX_SOURCE_LINES,
        placeholder=" ...",
    )


def _entries(report: CorpusReport) -> Iterator[tuple[str, str]]:
    """Yield (name, text) of each part, top to bottom."""
    about = "" if report.measured_share == 1 else "about "
    yield (
        "corpus",
        f"{about}{counted(report.num_documents, 'document')}, "
        f"{counted(report.num_sentences, 'sentence')}, {report.num_words:,} words and marks, "
        f"{report.num_characters:,} characters, "
        f"{report.num_bytes / 1e6:,.1f} MB",
    )
    if report.measured_share < 1:
        yield "", f"estimated from {share(report.measured_share)} of the text, evenly spread"
    for source in report.sources[:_MAX_SOURCES]:
        yield "", f"{source.path}: {source.evidence}"
    if len(report.sources) > _MAX_SOURCES:
        yield (
            "",
            f"and {counted(len(report.sources) - _MAX_SOURCES, 'more source')}: --json lists them",
        )
    if report.num_sections != report.num_documents:
        yield "", f"long documents are cut in sections: {report.num_sections:,} documents then"
    yield "lengths", f"of documents in sentences  {_lengths(report.document_sentences)}"
    yield "", f"of sentences in tokens     {_lengths(report.sentence_tokens)}"
    yield "repeats", f"lines      {_repeats(report.repeated_lines)}"
    yield "", f"documents  {_repeats(report.repeated_documents)}"
    yield from _characters(report)
    yield from _vocabulary(report)
    yield "normalising", _normalisation(report)
    yield from _training(report)


def _lengths(lengths: Lengths) -> str:
    highest = max(group.count for group in lengths.histogram)
    bars = "".join(
        _BARS[-(-(len(_BARS) - 1) * group.count // highest)] for group in lengths.histogram
    )
    low, median, high = (lengths.percentiles[str(n)] for n in (5, 50, 95))
    return (
        f"median {median:,}, 90 % {low:,} to {high:,}, longest {lengths.longest:,}  {bars.strip()}"
    )


def _repeats(repeats: RepeatReport) -> str:
    text = f"{share(repeats.share)} came before ({share(repeats.byte_share)} of the text)"
    if repeats.one_followed_in > 1:
        text += f", from 1 in {repeats.one_followed_in} of them"
    if repeats.most_frequent:
        most = repeats.most_frequent[0]
        text += f'; {most.count:,} times "{_printable(most.text)}"'
    return text


def _printable(text: str) -> str:
    """Return the beginning of a text without terminal control characters."""
    shown = "".join(c if c.isprintable() else " " for c in text[:_SHOWN_CHARACTERS])
    return shown if len(text) <= _SHOWN_CHARACTERS else f"{shown}…"


def _characters(report: CorpusReport) -> Iterator[tuple[str, str]]:
    characters = report.characters
    scripts = list(characters.scripts.items())
    shown = ", ".join(f"{script} {share(part)}" for script, part in scripts[:_MAX_SCRIPTS])
    more = f" and {len(scripts) - _MAX_SCRIPTS} more" if len(scripts) > _MAX_SCRIPTS else ""
    yield "characters", f"alphabet {characters.alphabet_size:,}; letters: {shown}{more}"
    yield (
        "encoding",
        f"U+FFFD {characters.replacement_characters:,}, control {characters.control_characters:,}, "
        f"wrongly decoded {characters.mojibake:,}, byte order marks {characters.byte_order_marks:,}"
        f", lone joiners {characters.lone_joiners:,}, "
        f"without meaning {characters.private_or_unassigned:,}",
    )


def _vocabulary(report: CorpusReport) -> Iterator[tuple[str, str]]:
    use, unknown = report.vocabulary, report.unknown_characters
    name = "learned" if report.vocabulary_is_learned else use.name
    yield (
        "vocabulary",
        f"{use.vocab_size:,} tokens ({name}); {use.pieces_per_word:.2f} pieces per word; [UNK] for "
        f"{share(use.unknown_word_share)} of words; {unknown.num_characters:,} characters unknown "
        f"({share(unknown.share)})",
    )
    for other in report.compared:
        yield (
            "",
            f"{other.name}: {other.vocab_size:,} tokens; {other.pieces_per_word:.2f} "
            f"pieces per word; [UNK] for {share(other.unknown_word_share)} of words",
        )


def _normalisation(report: CorpusReport) -> str:
    effects = report.normalisation
    parts = []
    for step, part in effects.words_changed.items():
        merged, examples = effects.spellings_merged[step], effects.examples[step]
        such_as = f", spellings fewer by {merged:,} ({examples[0]})" if examples else ""
        parts.append(f"{STEPS[step]} {share(part)} of words{such_as}")
    return f"would change: {'; '.join(parts)}; {effects.joiners_dropped:,} joiners would go"


def _training(report: CorpusReport) -> Iterator[tuple[str, str]]:
    expected = report.expectation
    yield (
        "pairs",
        f"{share(expected.usable_sentence_share)} of the sentences are in documents of two or "
        f"more (--pair-task {expected.pair_task})",
    )
    yield (
        "an epoch",
        f"{counted(expected.num_examples, 'example')} of {expected.max_seq_length} tokens, "
        f"{counted(expected.num_steps, 'step')} of {expected.train_batch_size} "
        f"(preset {expected.preset}); {counted(expected.facts.train_documents, 'document')} and "
        f"{expected.facts.train_tokens:,} tokens to learn from, "
        f"{counted(expected.facts.eval_documents, 'document')} held out",
    )
    padding = ", ".join(f"{share(part)} at {length}" for length, part in expected.padding.items())
    yield "padding", f"{padding} tokens, were each example padded; batches are packed"
