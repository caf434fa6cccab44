"""The command `probe`, its table for a terminal, and its page with a plot."""

from __future__ import annotations

import json
import sys
from html import escape
from pathlib import Path

from tqdm import tqdm

from bert_scratch import durable
from bert_scratch.finetuning.probe import ProbeConfig, ProbeReport, probe
from bert_scratch.output_places import make_place_for, refuse_input
from bert_scratch.views import plots
from bert_scratch.views.page import figure, page, section, table

_HEAD = ("right", "+-", "control task", "selectivity")


def run_probe(config: ProbeConfig) -> None:
    """Train the probes, with a count of texts on a terminal; print, and write a requested page.

    Raises:
        InputError: as `probe`, or if the page cannot be drawn or written.
    """
    place = None if config.output_html is None else Path(config.output_html)
    if place is not None:
        plots.check_installed()
        refuse_input(place, config.train_file, flag="--output-html", source_flag="--train-file")
        if config.eval_file is not None:
            refuse_input(place, config.eval_file, flag="--output-html", source_flag="--eval-file")
        make_place_for(place, flag="--output-html")
    with tqdm(unit=" texts", leave=False, disable=not sys.stderr.isatty()) as bar:
        report = probe(config, bar.update)
    print(json.dumps(report.to_dict(), indent=2) if config.json else screen(report))
    if place is not None:
        durable.write_text(place, probe_page(report))


def screen(report: ProbeReport) -> str:
    """Return the table as text, with what it means."""
    lines = [f"{report.model}: {_asked(report)}", "", f"{'layer':>5}  {'  '.join(_HEAD)}"]
    for row in _rows(report):
        cells = (cell.rjust(len(name)) for cell, name in zip(row[1:], _HEAD, strict=True))
        lines.append(f"{row[0]:>5}  {'  '.join(cells)}")
    return "\n".join([*lines, "", *_meaning(report)])


def probe_page(report: ProbeReport) -> str:
    """Return the page, with the same bytes for the same report."""
    layers = report.layers
    plot = plots.curves(
        "probe",
        [layer.layer for layer in layers],
        {
            "labels": [layer.accuracy.mean for layer in layers],
            "control task": [layer.control.mean for layer in layers],
            "most frequent label": [report.most_frequent_label.mean] * len(layers),
        },
        x_label="layer (0: embeddings)",
        y_label="share right",
    )
    head = (
        f'<header><h1>Linear probes</h1><p class="faint">{escape(report.model)}</p>'
        f"<p>{escape(_asked(report))}</p></header>"
    )
    meaning = "".join(f"<p>{escape(line)}</p>" for line in _meaning(report))
    content = figure(plot) + table(["layer", *_HEAD], _rows(report)) + meaning
    return page(f"Linear probes: {report.model}", [head, section("By layer", content)])


def _asked(report: ProbeReport) -> str:
    return (
        f"{report.num_labels} labels of {report.unit}s in {report.train_file}; "
        f"{report.num_train:,} to learn from, {report.num_test:,} to test on"
    )


def _rows(report: ProbeReport) -> list[list[str]]:
    return [
        [
            str(layer.layer),
            f"{layer.accuracy.mean:.1%}",
            f"{100 * layer.accuracy.standard_error:.1f}",
            f"{layer.control.mean:.1%}",
            f"{100 * layer.selectivity:+.1f}",
        ]
        for layer in report.layers
    ]


def _meaning(report: ProbeReport) -> list[str]:
    best = max(report.layers, key=lambda layer: layer.accuracy.mean)
    selective = max(report.layers, key=lambda layer: layer.selectivity)
    what = "each word" if report.unit == "word" else "the first word of a text"
    return [
        f"most right: layer {best.layer}, {best.accuracy.mean:.1%}; the most frequent label alone "
        f"gives {report.most_frequent_label.mean:.1%}. Most selective: layer {selective.layer}.",
        f"control task: {what} has a label drawn at random, which a probe can only memorise; "
        "selectivity is how much better it does on the real labels, in points.",
        "layer 0 is the embeddings, which know no context.",
    ]
