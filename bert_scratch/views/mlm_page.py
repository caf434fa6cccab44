"""The command `mlm-report`, its tables for a terminal, and its page of plots."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from html import escape
from pathlib import Path

from tqdm import tqdm

from bert_scratch import durable
from bert_scratch.inference.mlm_report import Group, MlmReport, MlmReportConfig, mlm_report
from bert_scratch.output_places import make_place_for, refuse_input
from bert_scratch.views import plots
from bert_scratch.views.page import figure, page, section, table

_HEAD = ("tokens", "right", "+-", "confidence", "loss")
_COUNTS_HEAD = "loss of counts"


def run_mlm_report(config: MlmReportConfig) -> None:
    """Ask the model, with a progress bar on a terminal; print, and write the page if requested.

    Raises:
        InputError: as `mlm_report`, or if the page cannot be drawn or written.
    """
    place = None if config.output_html is None else Path(config.output_html)
    if place is not None:
        plots.check_installed()
        refuse_input(place, config.text, flag="--output-html", source_flag="--text")
        make_place_for(place, flag="--output-html")
    with tqdm(unit=" sentences", leave=False, disable=not sys.stderr.isatty()) as bar:

        def progress(done: int, total: int) -> None:
            bar.total = total
            bar.update(done - bar.n)

        report = mlm_report(config, progress)
    print(json.dumps(report.to_dict(), indent=2) if config.json else screen(report))
    if place is not None:
        durable.write_text(place, mlm_page(report))


def screen(report: MlmReport) -> str:
    """Return the tables as text."""
    lines = [
        f"{report.model}: {report.whole.num_tokens:,} tokens masked in {report.num_sentences:,} "
        f"sentences of {report.text}",
    ]
    for title, groups in _parts(report):
        head = _head(groups)
        width = max(len(title), *(len(group.name) for group in groups))
        lines += ["", f"{title.ljust(width)}  {'  '.join(head)}"]
        for group in groups:
            cells = (c.rjust(len(h)) for c, h in zip(_cells(group), head, strict=True))
            lines.append(f"{group.name.ljust(width)}  {'  '.join(cells)}")
    return "\n".join([*lines, "", _calibration(report), _explanation(report)])


def mlm_page(report: MlmReport) -> str:
    """Return the page, with the same bytes for the same report."""
    head = (
        f'<header><h1>Masked tokens</h1><p class="faint">{escape(report.model)}</p>'
        f"<p>{report.whole.num_tokens:,} tokens masked in {report.num_sentences:,} sentences of "
        f"{escape(report.text)}. {escape(_explanation(report))}</p></header>"
    )
    parts = [
        section(title, _plot(number, title, groups) + _table(title, groups))
        for number, (title, groups) in enumerate(_parts(report))
    ]
    return page(f"Masked tokens: {report.model}", [head, *parts])


def _parts(report: MlmReport) -> list[tuple[str, list[Group]]]:
    parts = [
        ("all", [report.whole]),
        ("times in the rest of the text", report.by_frequency),
        ("part of the word", report.by_part),
        ("position in the sentence", report.by_place),
        ("confidence from", report.by_confidence),
    ]
    return [(title, groups) for title, groups in parts if groups]


def _head(groups: Sequence[Group]) -> list[str]:
    return [*_HEAD, *([] if groups[0].count_loss is None else [_COUNTS_HEAD])]


def _cells(group: Group) -> list[str]:
    return [
        f"{group.num_tokens:,}",
        f"{group.accuracy.mean:.1%}",
        f"{100 * group.accuracy.standard_error:.1f}",
        f"{group.confidence:.1%}",
        f"{group.loss:.2f}",
        *([] if group.count_loss is None else [f"{group.count_loss:.2f}"]),
    ]


def _table(title: str, groups: Sequence[Group]) -> str:
    return table([title, *_head(groups)], [[group.name, *_cells(group)] for group in groups])


def _plot(number: int, title: str, groups: Sequence[Group]) -> str:
    """Plot accuracy by group; for confidence, with the line of a calibrated model."""
    if len(groups) < 2:
        return ""
    right = [group.accuracy.mean for group in groups]
    name = f"part{'abcde'[number]}"
    if title != "confidence from":
        names = [group.name for group in groups]
        return figure(plots.columns(name, names, right, x_label=title, y_label="share right"))
    sure = [group.confidence for group in groups]
    lines = {"this model": right, "confidence that can be trusted": sure}
    return figure(plots.curves(name, sure, lines, x_label="confidence", y_label="share right"))


def _calibration(report: MlmReport) -> str:
    gap = report.whole.confidence - report.whole.accuracy.mean
    side = "too sure" if gap > 0 else "too modest"
    return (
        f"calibration error {report.calibration_error:.1%}: its confidence is that far from its "
        f"accuracy; on the whole it is {side} by {abs(gap):.1%}."
    )


def _explanation(report: MlmReport) -> str:
    shown = (
        "right: the most probable token is the one that stood there. confidence: its probability. "
        "loss: nats, of the token that stood there"
    )
    if report.num_counted_tokens:
        return (
            f"{shown}; loss of counts: by how often tokens stand in the rest of the text, the "
            f"line to be below."
        )
    return (
        f"{shown}. Frequencies and the loss of counts are left out: the text is one document, with "
        f"no rest to count in; a text of several documents has one (see --documents)."
    )
