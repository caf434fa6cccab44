"""Plots as inline SVG, which scale and take their colours from the page.

The same figures give the same bytes: no dates, no random ids.
"""

from __future__ import annotations

import html
import io
import re
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from bert_scratch.config import InputError

if TYPE_CHECKING:
    from matplotlib.axes import Axes

LABEL_CHARACTERS = 40
"""Characters, spaces between included, that fit below a plot in a browser's font."""

_WIDTH_INCHES, _HEIGHT_INCHES, _ROW_INCHES = 6.4, 2.9, 0.34
# Placeholder colours used nowhere else, each replaced by a variable of the page's style.
_COLOURS = {"#010203": "var(--ink)", "#040506": "var(--bar)", "#070809": "var(--line)"}
_INK, _BAR, _LINE = _COLOURS
_STYLE: dict[Any, Any] = {
    "svg.fonttype": "none",
    "font.size": 11,
    "text.color": _INK,
    "axes.edgecolor": _LINE,
    "axes.labelcolor": _INK,
    "axes.grid": True,
    "axes.axisbelow": True,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "grid.color": _LINE,
    "grid.linewidth": 0.6,
    "xtick.color": _INK,
    "ytick.color": _INK,
}


def check_installed() -> None:
    """Raise `InputError`, naming the extra, if plots cannot be drawn."""
    try:
        import matplotlib  # noqa: F401
    except ImportError as error:
        raise InputError(
            'drawing plots needs matplotlib: pip install "bert-scratch[plot]"'
        ) from error


def columns(
    name: str, labels: Sequence[str], values: Sequence[float], *, x_label: str, y_label: str
) -> str:
    """Return a plot of vertical bars, as many of them labelled as there is room for.

    Args:
        name: letters only; prefix of the ids inside.
        labels: one per bar.
        values: one per bar, >= 0.
        x_label: what the bars stand for.
        y_label: what the heights are.
    """

    def draw(axes: Axes) -> None:
        most = max(1, LABEL_CHARACTERS // (1 + max(map(len, labels), default=0)))
        every = max(1, -(-len(labels) // most))
        axes.bar(range(len(values)), values, width=0.86, color=_BAR)
        axes.set_xticks(range(0, len(labels), every), labels[::every])
        axes.grid(visible=False, axis="x")
        axes.set_xlabel(x_label)
        axes.set_ylabel(y_label)
        axes.yaxis.set_major_formatter(lambda value, _: f"{value:,g}")

    return _svg(name, draw, _HEIGHT_INCHES, f"{y_label} by {x_label}")


def rows(
    name: str, labels: Sequence[str], values: Sequence[float], texts: Sequence[str], *, x_label: str
) -> str:
    """Return a plot of shares as horizontal bars, the first on top.

    Args:
        name: letters only; prefix of the ids inside.
        labels: one per bar.
        values: one per bar, 0 to 1.
        texts: one per bar, the share in words.
        x_label: what the shares are of.
    """

    def draw(axes: Axes) -> None:
        bars = axes.barh(range(len(values)), values, color=_BAR)
        axes.bar_label(bars, texts, padding=4)
        axes.set_yticks(range(len(labels)), labels)
        axes.tick_params(length=0)
        axes.invert_yaxis()
        axes.set_xlim(0, 1.2)
        axes.set_xticks([])
        axes.grid(visible=False)
        axes.spines["bottom"].set_visible(False)
        axes.set_xlabel(x_label)

    return _svg(name, draw, _ROW_INCHES * (len(values) + 1), x_label)


def curves(
    name: str,
    points: Sequence[float],
    lines: Mapping[str, Sequence[float]],
    *,
    x_label: str,
    y_label: str,
) -> str:
    """Return a plot of up to three lines over the same points, the first one in full colour.

    Args:
        name: letters only; prefix of the ids inside.
        points: positions on the x axis.
        lines: name -> one value per point.
        x_label: what the points are.
        y_label: what the values are.
    """

    def draw(axes: Axes) -> None:
        looks: tuple[dict[str, Any], ...] = (
            {"color": _BAR, "marker": "o", "linewidth": 2},
            {"color": _INK, "linestyle": "--", "linewidth": 1.2},
            {"color": _INK, "linestyle": ":", "linewidth": 1.2},
        )
        for (label, values), look in zip(lines.items(), looks, strict=False):
            axes.plot(points, values, label=label, **look)
        axes.legend(frameon=False)
        axes.set_xlabel(x_label)
        axes.set_ylabel(y_label)

    return _svg(name, draw, _HEIGHT_INCHES, f"{y_label} by {x_label}")


def _svg(name: str, draw: Callable[[Axes], None], height_inches: float, description: str) -> str:
    """Draw a figure and return it as an element of a page."""
    import matplotlib
    from matplotlib.figure import Figure

    with matplotlib.rc_context(rc=_STYLE | {"svg.hashsalt": name}):
        figure = Figure(figsize=(_WIDTH_INCHES, height_inches), layout="constrained")
        figure.patch.set_visible(False)
        axes = figure.add_subplot()
        axes.patch.set_visible(False)
        draw(axes)
        out = io.StringIO()
        figure.savefig(out, format="svg", metadata={"Date": None})
    text = out.getvalue()
    text = text[text.index("<svg") :]
    text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.DOTALL)
    head, rest = text.split(">", 1)
    view_box = re.search(r'viewBox="[^"]*"', head)
    assert view_box is not None
    rest = re.sub(r'(\bid="|href="#|url\(#)', rf"\1{name}-", rest)
    for stand_in, colour in _COLOURS.items():
        rest = rest.replace(stand_in, colour)
    return f'<svg {view_box[0]} role="img" aria-label="{html.escape(description)}">{rest}'
