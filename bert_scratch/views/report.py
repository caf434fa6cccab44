"""The command `report`: what happened in runs, as one page and in words."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path

from bert_scratch import durable
from bert_scratch.config import InputError, Settings
from bert_scratch.output_places import make_place_for
from bert_scratch.views.page import data_block, page, section, with_flags
from bert_scratch.views.report_charts import charts, curves
from bert_scratch.views.report_data import RunRecord, figures, read_runs
from bert_scratch.views.report_mistakes import mistakes_html
from bert_scratch.views.report_tables import (
    checkpoint_table,
    comparison,
    fill_in_tables,
    settings_tables,
)
from bert_scratch.views.report_warnings import warnings_of

REPORT = "report.html"
MAX_RUNS = 6
_FOLDER = Path(__file__).parent


@dataclass(frozen=True, kw_only=True)
class ReportConfig(Settings):
    """Show what happened in a run, or in several side by side, as one page."""

    run: tuple[str, ...]
    """Folders of runs, of pretrain or finetune; up to 6."""
    output: str | None = None
    """The page to write. Left out: report.html in the run's folder; needed for several runs."""
    json: bool = False
    """Print one JSON object of figures and warnings instead of lines."""

    def __post_init__(self) -> None:
        """Check what does not depend on the runs.

        Raises:
            InputError: naming the flag.
        """
        if len(set(self.run)) != len(self.run) or not 1 <= len(self.run) <= MAX_RUNS:
            raise InputError(
                f"--run takes 1 to {MAX_RUNS} different folders; got {' '.join(self.run) or 'none'}"
            )
        if len(self.run) > 1 and self.output is None:
            raise InputError("--output is needed for several runs: the page to write")


def run_report(config: ReportConfig) -> None:
    """Write the page, and print figures and warnings.

    Raises:
        InputError: if a folder holds no run, or the page cannot be written.
    """
    runs = read_runs([Path(path) for path in config.run])
    place = Path(config.output or Path(config.run[0]) / REPORT)
    make_place_for(place)
    durable.write_text(place, report_page(runs))
    if config.json:
        print(json.dumps({"report": str(place), "runs": [_plain(run) for run in runs]}, indent=2))
        return
    for run in runs:
        print(f"{run.name}: {run.kind.lower()}, {run.state}")
        for name, value in figures(run).items():
            print(f"  {name:<30} {value}")
        for text in warnings_of(run):
            print(f"  warning: {text}")
    print(f"report     {place}")


def _plain(run: RunRecord) -> dict[str, object]:
    return {
        "run": str(run.path),
        "kind": run.kind,
        "state": run.state,
        "step": run.step,
        "evaluation": run.last_evaluation,
        "warnings": warnings_of(run),
    }


def report_page(runs: Sequence[RunRecord]) -> str:
    """Return the page, with the same bytes for the same folders."""
    parts = charts(runs)
    body = [
        _head(runs),
        _tiles(runs[0]) if len(runs) == 1 else section("Side by side", comparison(runs)),
        _warnings(runs),
        '<div id="bar" class="bar"></div>',
        *(_charts(title, len(found), title == "Losses") for title, found in parts.items() if found),
        *(section(_of(run, runs, "Words it fills in"), html) for run, html in _fill_ins(runs)),
        *(
            section(_of(run, runs, "Mistakes"), mistakes_html(run.mistakes))
            for run in runs
            if run.mistakes
        ),
        *(section(title, html) for title, html in settings_tables(runs)),
        *(
            section(_of(run, runs, "Checkpoints"), checkpoint_table(run))
            for run in runs
            if run.checkpoints
        ),
        data_block("data", {"runs": [curves(run) for run in runs], "charts": parts}),
    ]
    return page(
        f"Training report: {', '.join(run.name for run in runs)}",
        body,
        style=(_FOLDER / "report.css").read_text(encoding="utf-8"),
        script=(_FOLDER / "report.js").read_text(encoding="utf-8"),
    )


def _head(runs: Sequence[RunRecord]) -> str:
    if len(runs) > 1:
        return f"<header><h1>{len(runs)} runs</h1></header>"
    run = runs[0]
    message = f"<p>{escape(run.message)}</p>" if run.message else ""
    return (
        f"<header><h1>{escape(run.kind)}: <bdi>{escape(run.name)}</bdi>"
        f'<span class="state {escape(run.state)}">{escape(run.state)}</span></h1>{message}</header>'
    )


def _tiles(run: RunRecord) -> str:
    tiles = (
        f"<div><b>{escape(value)}</b>{escape(name)}</div>" for name, value in figures(run).items()
    )
    return f'<div class="tiles">{"".join(tiles)}</div>'


def _warnings(runs: Sequence[RunRecord]) -> str:
    items = "".join(
        f"<li>{_who(run, runs)}{with_flags(text)}</li>" for run in runs for text in warnings_of(run)
    )
    if not items:
        return '<section class="well"><h2>Nothing looks wrong</h2></section>'
    return f'<section class="warnings"><h2>What looks wrong</h2><ul>{items}</ul></section>'


def _who(run: RunRecord, runs: Sequence[RunRecord]) -> str:
    return "" if len(runs) == 1 else f"<b><bdi>{escape(run.name)}</bdi></b>: "


def _of(run: RunRecord, runs: Sequence[RunRecord], title: str) -> str:
    return title if len(runs) == 1 else f"{title}: {run.name}"


def _charts(title: str, count: int, is_first: bool) -> str:
    boxes = "".join(f'<div data-chart="{escape(title)}:{number}"></div>' for number in range(count))
    hint = ""
    if is_first:
        hint = '<p class="faint">Losses are in nats. Point at a curve, or use arrow keys.</p>'
        hint += (
            "<noscript><p>The curves are drawn by the page's script, which is off.</p></noscript>"
        )
    return section(title, f'{hint}<div class="charts">{boxes}</div>')


def _fill_ins(runs: Sequence[RunRecord]) -> list[tuple[RunRecord, str]]:
    found = ((run, fill_in_tables(run)) for run in runs)
    return [(run, html) for run, html in found if html]
