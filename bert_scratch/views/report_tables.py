"""The tables of a report: runs side by side, words filled in, corpus, settings."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

from bert_scratch.views.page import table
from bert_scratch.views.report_data import Line, RunRecord, figures

MAX_EVALUATIONS = 8
NUM_SHOWN_GUESSES = 3
_FACTS = {
    "vocab_size": "vocabulary",
    "train_documents": "documents to train on",
    "train_sentences": "sentences to train on",
    "train_tokens": "tokens to train on",
    "eval_documents": "documents held out",
    "eval_sentences": "sentences held out",
    "eval_tokens": "tokens held out",
    "unknown_share": "share of [UNK]",
    "uniform_loss": "ln V, nats",
    "unigram_entropy": "unigram entropy, nats",
}


def comparison(runs: Sequence[RunRecord]) -> str:
    """Return the figures of several runs, one column each."""
    columns = [{"state": run.state, **figures(run)} for run in runs]
    return side_by_side([run.name for run in runs], columns)


def side_by_side(heads: Sequence[str], columns: Sequence[Mapping[str, str]]) -> str:
    """Return a table with one row for each name that occurs in any column."""
    names = dict.fromkeys(name for column in columns for name in column)
    rows = [[name, *(column.get(name, "–") for column in columns)] for name in names]
    return table(["", *heads], rows)


def settings_tables(runs: Sequence[RunRecord]) -> list[tuple[str, str]]:
    """Return (title, HTML) of corpus facts, settings and versions; differences come first."""
    heads = [run.name for run in runs] if len(runs) > 1 else [""]
    found = []
    facts = [_facts(run) for run in runs]
    if any(facts):
        found.append(("Corpus", side_by_side(heads, facts)))
    settings = [{n: _shown(v) for n, v in run.settings.items()} for run in runs]
    html = ""
    if len(runs) > 1:
        names = dict.fromkeys(name for values in settings for name in values)
        differing = [n for n in names if len({values.get(n) for values in settings}) > 1]
        html = "<p>What differs:</p>" + side_by_side(
            heads, [{n: values[n] for n in differing if n in values} for values in settings]
        )
    html += f"<details><summary>All settings</summary>{side_by_side(heads, settings)}</details>"
    found.append(("Settings", html))
    versions = [run.versions for run in runs]
    if any(versions):
        found.append(("Versions", side_by_side(heads, versions)))
    return found


def _facts(run: RunRecord) -> dict[str, str]:
    return {
        words: f"{run.facts[name]:.3%}" if name == "unknown_share" else _number(run.facts[name])
        for name, words in _FACTS.items()
        if name in run.facts
    }


def _number(value: float) -> str:
    return f"{value:,}" if isinstance(value, int) else f"{value:.3f}"


def _shown(value: Any) -> str:
    if value is None:
        return "left out"
    if isinstance(value, list):
        return " ".join(map(str, value)) or "none"
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:g}" if isinstance(value, float) else str(value)


def checkpoint_table(run: RunRecord) -> str:
    """Return a table of the existing checkpoints."""
    rows = [[f"after step {step:,}", f"{size / 1e6:,.1f} MB"] for step, size in run.checkpoints]
    return table(["checkpoint", "size"], rows)


def fill_in_tables(run: RunRecord) -> str:
    """Return the model's guesses at each evaluation, sentence by sentence; "" if there are none."""
    lines = _spread([line for line in run.fill_ins if line.get("sentences")])
    if not lines:
        return ""
    parts = [
        f"<p>The same held-out sentences at every evaluation, one word hidden: "
        f"the first {NUM_SHOWN_GUESSES} guesses with their probability in per cent.</p>"
    ]
    for number, sentence in enumerate(lines[-1]["sentences"]):
        told = "".join(_row(line, number) for line in lines if number < len(line["sentences"]))
        parts.append(
            f'<div class="fill"><p><bdi>{escape(sentence["before"])} '
            f"<mark>[{escape(sentence['hidden'])}]</mark> {escape(sentence['after'])}</bdi></p>"
            f'<div class="wide"><table>{told}</table></div></div>'
        )
    return "".join(parts)


def _row(line: Line, number: int) -> str:
    sentence = line["sentences"][number]
    cells = "".join(
        f'<span class="guess{" right" if guess["token"] == sentence["hidden"] else ""}">'
        f"<bdi>{escape(guess['token'])}</bdi><small>{100 * guess['score']:.0f}</small></span>"
        for guess in sentence["guesses"][:NUM_SHOWN_GUESSES]
    )
    return f"<tr><td>step {line['step']:,}</td><td>{cells}</td></tr>"


def _spread(lines: Sequence[Line]) -> list[Line]:
    """Return the first, the last, and some lines in between."""
    last = len(lines) - 1
    if last < MAX_EVALUATIONS:
        return list(lines)
    return [lines[round(i * last / (MAX_EVALUATIONS - 1))] for i in range(MAX_EVALUATIONS)]
