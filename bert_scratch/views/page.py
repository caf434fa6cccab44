"""Building blocks of pages: one file each, no network, light and dark, any width."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from collections.abc import Iterable, Sequence
from html import escape
from typing import Any

_LIGHT = """color-scheme: light; --ground: #fbfaf8; --panel: #fff; --ink: #22262b;
  --faint: #666d75; --line: #dcd9d3; --bar: #2f6f9f; --warn: #9a5b00; --well: #2b7a4b;"""
_DARK = """color-scheme: dark; --ground: #15181c; --panel: #1d2126; --ink: #e4e6e8;
  --faint: #9aa2ab; --line: #363c43; --bar: #6aaede; --warn: #f0b45a; --well: #6cc492;"""
# The system setting decides, unless a page's own switch sets data-theme.
_SCHEMES = f"""
:root {{ {_LIGHT} }}
@media (prefers-color-scheme: dark) {{ :root {{ {_DARK} }} }}
:root[data-theme=light] {{ {_LIGHT} }} :root[data-theme=dark] {{ {_DARK} }}
"""
_STYLE = """
* { box-sizing: border-box; }
body { margin: 0 auto; padding: 1.5rem 1rem 3rem; max-width: 68rem; background: var(--ground);
  color: var(--ink); font: 16px/1.5 system-ui, sans-serif; }
h1 { font-size: 1.6rem; margin: 0; } h2 { font-size: 1.15rem; margin: 0 0 .6rem; }
h3 { font-size: 1rem; margin: 1rem 0 .3rem; }
p { margin: .3rem 0 .6rem; } .faint, caption, figcaption, th { color: var(--faint); }
section { background: var(--panel); border: 1px solid var(--line); border-radius: .6rem;
  padding: 1rem 1.2rem; margin-top: 1rem; overflow-wrap: anywhere; }
.tiles { display: grid; grid-template-columns: repeat(auto-fit, minmax(8.2rem, 1fr)); gap: .6rem;
  margin-top: 1rem; }
.tiles div { background: var(--panel); border: 1px solid var(--line); border-radius: .6rem;
  padding: .6rem .8rem; }
.tiles b { display: block; font-size: 1.25rem; font-variant-numeric: tabular-nums; }
.pair { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 24rem), 1fr));
  gap: 0 2rem; align-items: start; }
.wide { overflow-x: auto; }
table { border-collapse: collapse; width: 100%; font-variant-numeric: tabular-nums; }
caption { text-align: left; padding-bottom: .2rem; }
th, td { text-align: left; padding: .3rem .8rem .3rem 0; border-bottom: 1px solid var(--line);
  vertical-align: top; font-weight: normal; }
td.n, th.n { text-align: right; white-space: nowrap; }
tr > :first-child { min-width: 9rem; }
tr > :last-child { padding-right: 0; }
.warnings { border-left: .35rem solid var(--warn); } .warnings h2 { color: var(--warn); }
.well { border-left: .35rem solid var(--well); } .well h2 { color: var(--well); margin: 0; }
ul { margin: 0; padding-left: 1.1rem; } li + li { margin-top: .4rem; }
code { font: .92em ui-monospace, monospace; background: var(--ground); padding: 0 .2em;
  border-radius: .2em; }
figure { margin: 0; } svg { display: block; width: 100%; height: auto; }
svg text { font-family: inherit !important; }
"""


def page(
    title: str, parts: Iterable[str], *, style: str = "", script: str = "", sources: str = ""
) -> str:
    """Return a whole page.

    Args:
        title: plain text.
        parts: of the body, in HTML.
        style: additional CSS, after that of every page.
        script: JavaScript at the end of the body, the only script that a browser will run.
        sources: policy directives for a page served by our own server; without them a page loads
            nothing.
    """
    # All text is escaped; if a script ever slipped through, the policy would keep it from running.
    policy = "default-src 'none'; style-src 'unsafe-inline'"
    if script:
        digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
        policy += f"; script-src 'sha256-{digest}'"
        parts = [*parts, f"<script>{script}</script>"]
    if sources:
        policy += f"; {sources}"
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{policy}">\n'
        f"<title>{escape(title)}</title>\n<style>{_SCHEMES}{_STYLE}{style}</style>\n</head>\n<body>\n"
        + "\n".join(parts)
        + "\n</body>\n</html>\n"
    )


def data_block(name: str, value: Any) -> str:
    """Return a value as a JSON element for a page's script, safe for any text.

    Args:
        name: the id of the element; its textContent is the JSON.
        value: of plain JSON types.
    """
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    for mark in "<>&":
        text = text.replace(mark, f"\\u{ord(mark):04x}")
    return f'<script type="application/json" id="{escape(name)}">{text}</script>'


def section(title: str, content: str) -> str:
    """Return a titled part of a page; the content is HTML."""
    return f"<section><h2>{escape(title)}</h2>{content}</section>"


def figure(plot: str) -> str:
    """Return a plot from `plots` as a part of a page."""
    return f"<figure>{plot}</figure>"


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a table of plain texts, with words in the first column and figures in the others."""

    def row(cells: Sequence[str], tag: str) -> str:
        first, *others = (escape(cell) for cell in cells)
        figures = "".join(f'<{tag} class="n">{cell}</{tag}>' for cell in others)
        return f"<tr><{tag}><bdi>{first}</bdi></{tag}>{figures}</tr>"

    body = "".join(row(cells, "td") for cells in rows)
    return f'<div class="wide"><table>{row(head, "th")}{body}</table></div>'


def with_flags(text: str) -> str:
    """Return a plain text as HTML with `commands` and --flags set as code."""
    commands = re.sub("`([^`]+)`", r"<code>\1</code>", escape(text))
    return re.sub(r"(?<![\w>-])(--[a-z][a-z0-9-]*)", r"<code>\1</code>", commands)
