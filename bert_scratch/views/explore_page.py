"""The page of `explore`: text to type, words to hide, and what one or two models make of it."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from pathlib import Path

from bert_scratch.views.embedding_map import known_methods
from bert_scratch.views.explain import choice
from bert_scratch.views.page import data_block, page, section

MAX_CHARACTERS = 2_000
MAX_LINES = 500
_FOLDER = Path(__file__).parent
_STYLES = ("explain.css", "explore.css")
_SCRIPTS = ("explain_draw.js", "explain_words.js", "explore.js")


def explore_page(names: Sequence[str]) -> str:
    """Return the page, which requests everything else from its server.

    Args:
        names: of the models, one or two.
    """
    listed = " and ".join(f"<b><bdi>{escape(name)}</bdi></b>" for name in names)
    head = (
        f'<header><div><h1>Explore BERT</h1><p class="faint">{listed}</p></div>'
        '<button id="theme" type="button" aria-label="Light or dark">◐</button></header>'
    )
    tabs = choice("part", "What to see", {"inside": "look inside a text", "map": "map of lines"})
    map_form = (
        "<p>One line each: words, sentences. A model's vectors of them, laid out in a plane; what "
        f'it takes to be alike lies near.</p><label for="lines">At most {MAX_LINES} lines</label>'
        f'<textarea id="lines" rows="8" spellcheck="false">{_LINES}</textarea>'
        + choice("method", "How to lay out", known_methods())
        + '<p id="map-note" class="faint" aria-live="polite"></p><div id="maps"></div>'
    )
    parts = [
        head,
        tabs,
        f'<div id="inside">{section("A text", _TEXT)}'
        '<section id="guesses" hidden><h2>In the place of hidden words</h2>'
        '<div class="wide"></div></section><div id="frames"></div></div>',
        f'<div id="map" hidden>{section("A map of lines", map_form)}</div>',
        data_block("data", {"names": list(names)}),
    ]
    return page(
        "Explore BERT",
        parts,
        style="".join((_FOLDER / name).read_text(encoding="utf-8") for name in _STYLES),
        script='"use strict";\n'
        + "".join((_FOLDER / name).read_text(encoding="utf-8") for name in _SCRIPTS),
        sources="connect-src 'self'; frame-src 'self'",
    )


_TEXT = (
    f'<label for="text">Text</label><textarea id="text" rows="2" maxlength="{MAX_CHARACTERS}">'
    "The function returns a list of names.</textarea>"
    '<label for="pair">A second text, if you like</label>'
    f'<textarea id="pair" rows="1" maxlength="{MAX_CHARACTERS}"></textarea>'
    '<p class="faint hint">Choose a word to hide it behind [MASK]; choose it again to show it.</p>'
    '<div id="words" role="group" aria-label="Words"></div><div id="follows"></div>'
    '<p id="note" class="faint" aria-live="polite"></p>'
)
_LINES = "\n".join(
    (
        "Open a file and read its lines.",
        "Write the text to a file.",
        "Close the file when it is not needed.",
        "Return the sum of two numbers.",
        "Compute the square root of a number.",
        "Divide one number by another.",
        "Send a request to the server.",
        "Wait for the answer of the server.",
        "Close the connection to the client.",
    )
)
