"""A classifier's mistakes in a report: the confusion matrix and the worst examples."""

from __future__ import annotations

from html import escape
from typing import Any

Json = dict[str, Any]


def mistakes_html(found: Json) -> str:
    """Return the confusion matrix and the worst examples from the content of `mistakes.json`."""
    wrong, total = found["num_wrong"], found["num_examples"]
    parts = [f"<p>{wrong:,} of {total:,} held-out examples are answered wrong.</p>"]
    if found["confusion"] is not None:
        parts.append(_confusion(found["labels"], found["confusion"]))
    if found["worst"]:
        parts.append(_worst(found["worst"], wrong))
    return "".join(parts)


def _confusion(labels: list[str], counts: list[list[int]]) -> str:
    head = "".join(f'<th class="n" scope="col"><bdi>{escape(label)}</bdi></th>' for label in labels)
    rows = "".join(
        f'<tr><th scope="row"><bdi>{escape(label)}</bdi></th>{_cells(row, number)}</tr>'
        for number, (label, row) in enumerate(zip(labels, counts, strict=True))
    )
    return (
        '<p class="faint">Rows: the right label. Columns: what the model says. Stronger: a larger '
        f'share of the row.</p><div class="wide"><table class="confusion"><tr><td></td>{head}</tr>'
        f"{rows}</table></div>"
    )


def _cells(row: list[int], right: int) -> str:
    total = sum(row) or 1
    return "".join(
        f'<td class="n{" right" if number == right else ""}" '
        f'style="--share: {100 * count / total:.0f}%">{count:,}</td>'
        for number, count in enumerate(row)
    )


def _worst(worst: list[Json], num_wrong: int) -> str:
    rows = "".join(
        f'<tr><td><bdi>{escape(example["text"])}</bdi>{_pair(example)}<br><small class="faint">'
        f"{escape(example['place'])}</small></td><td>{_said(example, 'label', 'probability')}</td>"
        f"<td>{_said(example, 'answer', 'answer_probability')}</td></tr>"
        for example in worst
    )
    which = "all" if len(worst) == num_wrong else f"the worst {len(worst)}"
    return (
        f'<h3>Wrong answers, {which}</h3><p class="faint">The right label thought least likely '
        'comes first.</p><div class="wide"><table class="worst"><tr><th>text</th><th>right</th>'
        f"<th>answer</th></tr>{rows}</table></div>"
    )


def _pair(example: Json) -> str:
    return f"<br><bdi>{escape(example['text_pair'])}</bdi>" if "text_pair" in example else ""


def _said(example: Json, label: str, probability: str) -> str:
    share = f"{example[probability]:.1%}"
    return f'<bdi>{escape(example[label])}</bdi> <span class="faint">{share}</span>'
