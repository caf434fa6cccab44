"""The command `corpus-report`, and its report as a page for the browser."""

from __future__ import annotations

import json
from html import escape
from pathlib import Path

from bert_scratch import durable
from bert_scratch.output_places import make_place_for, refuse_input
from bert_scratch.pretraining.corpus_report import CorpusReport, CorpusReportConfig, corpus_report
from bert_scratch.pretraining.corpus_statistics import Bin, Lengths
from bert_scratch.pretraining.repeats import RepeatReport
from bert_scratch.views import plots
from bert_scratch.views.corpus_text import STEPS, screen, share
from bert_scratch.views.page import figure, page, section, table, with_flags

_MAX_SCRIPTS = 8


def run_corpus_report(config: CorpusReportConfig) -> None:
    """Read a corpus, print a report, and write the page if requested.

    Raises:
        InputError: as `corpus_report`, or if the page cannot be drawn or written.
    """
    place = None if config.output_html is None else Path(config.output_html)
    if place is not None:
        plots.check_installed()
        for source in config.corpus:
            refuse_input(place, source, flag="--output-html", source_flag="--corpus")
        make_place_for(place, flag="--output-html")
    report = corpus_report(config)
    print(json.dumps(report.to_dict(), indent=2) if config.json else screen(report))
    if place is not None:
        durable.write_text(place, corpus_page(report))


def corpus_page(report: CorpusReport) -> str:
    """Return the page, with the same bytes for the same report."""
    body = [
        _head(report),
        _tiles(report),
        _warnings(report),
        _reading(report),
        _lengths(report),
        _repeats(report),
        _characters(report),
        _vocabulary(report),
        _normalisation(report),
        _epoch(report),
    ]
    return page(f"Corpus report: {', '.join(report.corpus)}", body)


def _head(report: CorpusReport) -> str:
    paths = "<br>".join(escape(path) for path in report.corpus)
    sample = ""
    if report.measured_share < 1:
        sample = (
            f"<p>Estimated from {share(report.measured_share)} of the text: the beginning of each "
            "64 MiB, or every so many files.</p>"
        )
    return f'<header><h1>Corpus report</h1><p class="faint">{paths}</p>{sample}</header>'


def _tiles(report: CorpusReport) -> str:
    about = "" if report.measured_share == 1 else "about "
    figures = {
        "documents": f"{report.num_documents:,}",
        "sentences": f"{report.num_sentences:,}",
        "words and marks": f"{report.num_words:,}",
        "tokens": f"{report.num_tokens:,}",
        "characters": f"{report.num_characters:,}",
        "of text": f"{report.num_bytes / 1e6:,.1f} MB",
    }
    tiles = (f"<div><b>{about}{value}</b>{name}</div>" for name, value in figures.items())
    return f'<div class="tiles">{"".join(tiles)}</div>'


def _warnings(report: CorpusReport) -> str:
    if not report.warnings:
        return '<section class="well"><h2>Nothing looks wrong</h2></section>'
    items = "".join(f"<li>{with_flags(text)}</li>" for text in report.warnings)
    return f'<section class="warnings"><h2>What looks wrong</h2><ul>{items}</ul></section>'


def _reading(report: CorpusReport) -> str:
    head = ["source", "files", "documents", "of one sentence", "lines", "sentences", "largest"]
    listing = table(
        head,
        [
            [
                source.path,
                f"{source.num_files:,}",
                f"{source.counts.documents:,}",
                f"{source.counts.one_sentence_documents:,}",
                f"{source.counts.lines:,}",
                f"{source.counts.sentences:,}",
                f"{source.counts.largest_document_bytes / 1e3:,.1f} kB",
            ]
            for source in report.sources
        ],
    )
    evidence = "".join(
        f"<li>{escape(source.path)}: documents by <code>{escape(source.documents_rule)}</code>, "
        f"sentences by <code>{escape(source.sentence_rule)}</code>. "
        f"{with_flags(source.evidence)}</li>"
        for source in report.sources
    )
    cut = ""
    if report.num_sections != report.num_documents:
        cut = (
            f"<p>Long documents are cut at sentence ends into sections of about 20 kB, each a "
            f"document from then on: {report.num_sections:,} in all.</p>"
        )
    return section("How it is read", f"<ul>{evidence}</ul>{cut}{listing}")


def _lengths(report: CorpusReport) -> str:
    documents, sentences = report.document_sentences, report.sentence_tokens
    plotted = "".join(
        figure(
            plots.columns(
                name,
                [_label(group) for group in lengths.histogram],
                [group.count for group in lengths.histogram],
                x_label=x_label,
                y_label=y_label,
            )
        )
        for name, lengths, x_label, y_label in (
            ("documents", documents, "sentences in a document", "documents"),
            ("sentences", sentences, "tokens in a sentence", "sentences"),
        )
    )
    names = ["", "mean", *(f"{n} %" for n in documents.percentiles), "longest"]
    listing = table(
        names, [_row("sentences in a document", documents), _row("tokens in a sentence", sentences)]
    )
    return section("Lengths", f'<div class="pair">{plotted}</div>{listing}')


def _label(group: Bin) -> str:
    return f"{group.first:,}" if group.first == group.last else f"{group.first:,}–{group.last:,}"


def _row(name: str, lengths: Lengths) -> list[str]:
    percentiles = [f"{length:,}" for length in lengths.percentiles.values()]
    return [name, f"{lengths.mean:,.1f}", *percentiles, f"{lengths.longest:,}"]


def _repeats(report: CorpusReport) -> str:
    parts = [
        _repeated("Lines", report.repeated_lines),
        _repeated("Documents", report.repeated_documents),
    ]
    return section("Repeats", f'<div class="pair">{"".join(parts)}</div>')


def _repeated(name: str, repeats: RepeatReport) -> str:
    followed = ""
    if repeats.one_followed_in > 1:
        followed = f" One in {repeats.one_followed_in} different ones was followed."
    text = (
        f"<p>{share(repeats.share)} came before, {share(repeats.byte_share)} of the text."
        f"{followed}</p>"
    )
    rows = [[repeated.text, f"{repeated.count:,}"] for repeated in repeats.most_frequent]
    listing = table([f"most frequent {name.lower()}", "times"], rows) if rows else ""
    return f"<div><h3>{name}</h3>{text}{listing}</div>"


def _characters(report: CorpusReport) -> str:
    characters = report.characters
    scripts = list(characters.scripts.items())[:_MAX_SCRIPTS]
    plot = plots.rows(
        "scripts",
        [name for name, _ in scripts],
        [part for _, part in scripts],
        [share(part) for _, part in scripts],
        x_label="of the letters",
    )
    shown = [
        f"{example.found} for {example.meant} ({example.count:,})"
        for example in characters.mojibake_examples
    ]
    listing = table(
        ["", "characters"],
        [
            ["different ones", f"{characters.alphabet_size:,}"],
            ["scripts among the letters", f"{len(characters.scripts):,}"],
            ["U+FFFD, for undecodable bytes", f"{characters.replacement_characters:,}"],
            ["control characters", f"{characters.control_characters:,}"],
            [f"UTF-8 read as Windows-1252 {', '.join(shown)}", f"{characters.mojibake:,}"],
            ["byte order marks inside", f"{characters.byte_order_marks:,}"],
            ["joiners with nothing to join", f"{characters.lone_joiners:,}"],
            ["without a meaning in Unicode", f"{characters.private_or_unassigned:,}"],
        ],
    )
    return section("Characters", f'<div class="pair">{figure(plot)}{listing}</div>')


def _vocabulary(report: CorpusReport) -> str:
    unknown = report.unknown_characters
    rows = [
        [
            "learned from this corpus" if use.name == "learned" else use.name,
            f"{use.vocab_size:,}",
            f"{use.pieces_per_word:.3f}",
            share(use.unknown_word_share),
            share(use.unknown_token_share),
        ]
        for use in (report.vocabulary, *report.compared)
    ]
    head = ["vocabulary", "tokens", "pieces per word", "words [UNK]", "tokens [UNK]"]
    text = (
        f"<p>{unknown.num_characters:,} different characters are not in it, {share(unknown.share)} "
        f"of the text. <bdi>{escape(' '.join(unknown.commonest))}</bdi></p>"
    )
    return section("Vocabulary", table(head, rows) + text)


def _normalisation(report: CorpusReport) -> str:
    effects = report.normalisation
    listing = table(
        ["step", "words changed", "spellings merged"],
        [
            [STEPS[step], share(part), f"{effects.spellings_merged[step]:,}"]
            for step, part in effects.words_changed.items()
        ],
    )
    examples = "".join(
        f"<li><code>{STEPS[step]}</code> makes one of <bdi>{escape(', '.join(groups))}</bdi></li>"
        for step, groups in effects.examples.items()
        if groups
    )
    dropped = (
        f"<p>Cleaning and NFC are always done, the others when asked for. Cleaning drops "
        f"{effects.joiners_dropped:,} joiners, {effects.format_characters_dropped:,} other format "
        f"characters and {effects.control_characters_dropped:,} control characters.</p>"
    )
    content = f'<div class="pair">{listing}<div><ul>{examples}</ul></div></div>'
    return section("What normalising would change", content + _by_script(report) + dropped)


def _by_script(report: CorpusReport) -> str:
    """Return a table of the words changed in each script, if there are several."""
    shares = report.normalisation.words_changed_by_script
    scripts = list(shares["strip_accents"])
    if len(scripts) < 2:
        return ""
    return table(
        ["words changed, by script", *scripts],
        [
            [STEPS[step], *(share(parts.get(script, 0.0)) for script in scripts)]
            for step, parts in shares.items()
        ],
    )


def _epoch(report: CorpusReport) -> str:
    expected = report.expectation
    listing = table(
        ["as pretrain would choose", expected.preset],
        [
            ["sentences that can serve in a pair", share(expected.usable_sentence_share)],
            ["pair task", expected.pair_task],
            ["tokens of an example", f"{expected.max_seq_length:,}"],
            ["examples of an update", f"{expected.train_batch_size:,}"],
            ["documents to learn from", f"{expected.facts.train_documents:,}"],
            ["documents held out", f"{expected.facts.eval_documents:,}"],
            ["tokens to learn from", f"{expected.facts.train_tokens:,}"],
            ["examples in a pass", f"{expected.num_examples:,}"],
            ["updates in a pass", f"{expected.num_steps:,}"],
        ],
    )
    plot = plots.rows(
        "padding",
        [f"{length} tokens" for length in expected.padding],
        list(expected.padding.values()),
        [share(part) for part in expected.padding.values()],
        x_label="padding, were each example padded (batches are packed)",
    )
    verdict = "".join(f"<p>{with_flags(line)}</p>" for line in expected.verdict)
    return section("A pass over it", f'<div class="pair">{listing}{figure(plot)}</div>{verdict}')
