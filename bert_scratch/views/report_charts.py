"""The curves and reference lines of runs, as data for the page's script."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from bert_scratch.pretraining.corpus_facts import PAIR_CHANCE_LOSS
from bert_scratch.training.metrics import is_split
from bert_scratch.views.report_data import Line, RunRecord, measure

Json = dict[str, Any]

MAX_POINTS = 400
"""Most points of a curve; a longer log is thinned so that its peaks stay."""
ALIKE = 0.03
"""Reference lines closer than this share of their value would hide each other."""
X_AXES = ("step", "tokens", "elapsed_s")
_LOSSES = ("loss", "mlm_loss", "nsp_loss")
_SHARES = ("mfu", "data_wait_fraction", "padding_fraction")
_RATES = ("learning_rate", "grad_norm", "tokens_per_s", *_SHARES)
_NORMS = {
    "grad_norm/": "Gradient norm by module",
    "weight_norm/": "Weight norm by module",
}


def curves(run: RunRecord) -> Json:
    """Return a run's columns: {"train": {name: values or null}, "eval": {...}}."""
    train, held_out = _thinned(run.train), _thinned(run.held_out)
    return {"name": run.name, "train": _columns(train), "eval": _columns(held_out)}


def _columns(lines: Sequence[Line]) -> dict[str, list[float | None]]:
    names = dict.fromkeys(name for line in lines for name in line if name != "split")
    return {name: [line.get(name) for line in lines] for name in names}


def _thinned(lines: Sequence[Line]) -> list[Line]:
    """Keep the line with the highest loss and the last line of each stretch."""
    stretch = math.ceil(2 * len(lines) / MAX_POINTS)
    if stretch <= 2:
        return list(lines)
    kept: list[Line] = []
    for start in range(0, len(lines), stretch):
        part = lines[start : start + stretch]
        highest = max(part, key=lambda line: line.get("loss", 0.0))
        kept += [highest, part[-1]] if highest is not part[-1] else [highest]
    return kept


def charts(runs: Sequence[RunRecord]) -> dict[str, list[Json]]:
    """Return the charts of each part of the page, except those without points.

    A chart is {"title", "metrics": names of columns, "references": [{"label", "value"}],
    "format": number | share, "log": whether its y axis is logarithmic, "run": an index, or null
    for all runs}.
    """
    seen = {name for run in runs for name in _names(run)}
    metrics = {
        name
        for run in runs
        for line in run.held_out
        for name in line
        if name not in (*_LOSSES, *X_AXES, "split", "mlm_accuracy") and "/" not in name
    }
    has_total = any(names and not is_split(names) for names in map(_names, runs))
    losses = [n for n in _LOSSES if n in seen and (n != "loss" or has_total)]
    accuracies = ["mlm_accuracy", *sorted(metrics)]
    return {
        "Losses": [_chart(n, references=_references(n, runs)) for n in losses],
        "Right answers": [
            _chart(n, references=_references(n, runs)) for n in accuracies if n in seen
        ],
        "Learning": [_chart(n, references=_references(n, runs)) for n in _RATES[:2] if n in seen],
        "Modules": [
            {
                **_chart(*names, title=title, log=True),
                "title": title if len(runs) == 1 else f"{title}: {run.name}",
                "run": index,
            }
            for index, run in enumerate(runs)
            for prefix, title in _NORMS.items()
            if (names := [n for n in (run.train[-1] if run.train else {}) if n.startswith(prefix)])
        ],
        "Speed": [_chart(n) for n in _RATES[2:] if n in seen],
    }


def _names(run: RunRecord) -> set[str]:
    return {name for line in (*run.train, *run.held_out) for name in line}


def _chart(
    *metrics: str, title: str = "", references: Sequence[Json] = (), log: bool = False
) -> Json:
    name = metrics[0]
    words = title or measure(name)
    is_share = name in _SHARES or name.endswith("accuracy")
    return {
        "title": words[0].upper() + words[1:],
        "metrics": list(metrics),
        "references": list(references),
        "format": "share" if is_share else "number",
        "log": log,
        "run": None,
    }


def _references(name: str, runs: Sequence[RunRecord]) -> list[Json]:
    """Return the reference lines of a curve, keeping the first of those nearly equal."""
    found: list[tuple[str, float]] = []
    for run in runs:
        facts = run.facts
        if name == "mlm_loss" and "uniform_loss" in facts:
            unigram = (run.final or {}).get("unigram_loss", facts["unigram_entropy"])
            found += [("ln V, guessing", facts["uniform_loss"])]
            found += [("word frequencies only", unigram)]
        if name == "nsp_loss":
            found += [("guessing, ln 2", PAIR_CHANCE_LOSS)]
        if name == "nsp_accuracy":
            found += [("guessing", 0.5)]
        if name == "grad_norm" and run.settings.get("max_grad_norm"):
            found += [("scaled down above", run.settings["max_grad_norm"])]
    kept: list[Json] = []
    for label, value in found:
        if all(abs(other["value"] - value) > ALIKE * abs(value) for other in kept):
            kept.append({"label": label, "value": value})
    return kept
