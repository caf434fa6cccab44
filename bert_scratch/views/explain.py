"""The command `explain`: a page that shows what happens inside a model when it reads a text."""

from __future__ import annotations

from dataclasses import dataclass
from html import escape
from pathlib import Path

from bert_scratch import durable
from bert_scratch.config import check_range
from bert_scratch.inference.whole_model import load_whole_model
from bert_scratch.model.compute_settings import ComputeSettings
from bert_scratch.model.devices import take_device
from bert_scratch.output_places import make_place_for
from bert_scratch.views.explain_data import Json, explanation
from bert_scratch.views.page import data_block, page, section

_FOLDER = Path(__file__).parent
_SCRIPTS = ("explain_draw.js", "explain_words.js", "explain.js")


@dataclass(frozen=True, kw_only=True)
class ExplainConfig(ComputeSettings):
    """Write a page that shows what happens inside a model when it reads a text."""

    model: str
    """A model folder or a hub id."""
    text: str
    """The text, of at most 128 tokens; [MASK] in it is the mask token."""
    text_pair: str | None = None
    """A second text after the first."""
    output: str
    """The page to write, for example page.html; it needs no network and no other file."""
    attribution_steps: int = 16
    """Steps of integrated gradients, at each [MASK], or at each token if there is none."""

    def __post_init__(self) -> None:
        """Check what does not depend on the model.

        Raises:
            InputError: naming the flag.
        """
        super().__post_init__()
        check_range("--attribution-steps", self.attribution_steps, at_least=1, at_most=256)


def run_explain(config: ExplainConfig) -> None:
    """Write the page and print where it is.

    Raises:
        InputError: if the model cannot be loaded, the text cannot be used, or the page cannot be
            written.
    """
    place = Path(config.output)
    make_place_for(place)
    device = take_device(config)
    model, tokenizer = load_whole_model(config.model)
    values = explanation(
        model.to(device),
        tokenizer,
        config.text,
        config.text_pair,
        num_steps=config.attribution_steps,
    )
    durable.write_text(place, explain_page(Path(config.model).name, values))
    print(f"{place}: {place.stat().st_size / 1e6:.2f} MB, open it in a browser")


def explain_page(name: str, values: Json) -> str:
    """Return the page, with the same bytes for the same values.

    Args:
        name: of the model.
        values: from `explanation`.
    """
    shape = values["shape"]
    facts = (
        f"{shape['layers']} layers of {shape['heads']} heads, width {shape['hidden']:,}, "
        f"{shape['vocabulary']:,} words and pieces, {len(values['tokens'])} tokens"
    )
    head = (
        '<header><div><h1>Inside BERT</h1><p class="faint">'
        f"<b>{escape(name)}</b>: {facts}</p></div>"
        '<button id="theme" type="button" aria-label="Light or dark">◐</button></header>'
        '<noscript><p class="warnings">This page draws itself with a script, which this browser '
        "does not run.</p></noscript>"
    )
    parts = [head, _TOKENS, *_verdict(values), _attention(), _ROLLOUT]
    if "hidden" in values:
        parts += [_PREDICTIONS, _ATTRIBUTION]
    parts += [_NEAREST, _GEOMETRY, data_block("data", values)]
    style = (_FOLDER / "explain.css").read_text(encoding="utf-8")
    script = "".join((_FOLDER / name).read_text(encoding="utf-8") for name in _SCRIPTS)
    return page(f"Inside BERT: {name}", parts, style=style, script=f'"use strict";\n{script}')


def _verdict(values: Json) -> list[str]:
    """Return the model's verdict on a pair."""
    if "is_next" not in values:
        return []
    share = values["is_next"]
    said = "follows" if share >= 0.5 else "does not follow"
    bar = f'<div class="meter"><i style="width:{100 * share:.1f}%"></i></div>'
    text = f"<p>The second text <b>{said}</b> the first: {100 * share:.1f} % sure it does.</p>"
    return [section("Next sentence", text + bar)]


def choice(name: str, label: str, options: dict[str, str]) -> str:
    """Return a row of buttons of which one is selected, initially the first."""
    buttons = "".join(
        f'<button type="button" data-value="{value}" aria-pressed="false">{escape(text)}</button>'
        for value, text in options.items()
    )
    return (
        f'<div class="choice" id="{name}" role="group" aria-label="{escape(label)}">{buttons}</div>'
    )


_TOKENS = (
    '<nav id="tokens" aria-label="Tokens"></nav><p class="faint hint">Choose a token: all below '
    "follows it. Keys: <kbd>←</kbd> <kbd>→</kbd> token, <kbd>L</kbd> lines or matrix, "
    "<kbd>T</kbd> light or dark; arrows move among heads once one has the focus.</p>"
)


def _attention() -> str:
    colourings = {
        "maps": "maps",
        "entropy": "entropy",
        "distance": "distance",
        "to_cls": "[CLS]",
        "to_sep": "[SEP]",
        "to_self": "itself",
        "to_previous": "previous",
        "to_next": "next",
    }
    return section(
        "Attention",
        "<p>Each token looks at every token and takes a weighted mean of what it sees: softmax(Q "
        "Kᵀ ∕ √K) V. Each head of each layer has weights of its own.</p>"
        '<div class="two"><div><h3>Every head</h3>'
        + choice("colouring", "Colour heads by", colourings)
        + '<div id="heads" role="grid" aria-label="Heads"></div>'
        '<p id="heads-note" class="faint"></p><dl id="head-facts"></dl></div>'
        '<div><h3 id="head-title"></h3>'
        + choice("view", "Show the head as", {"lines": "lines", "matrix": "matrix"})
        + '<div id="head"></div><p id="head-note" class="faint" aria-live="polite"></p>'
        "</div></div>",
    )


_ROLLOUT = section(
    "Attention rollout",
    "<p>Where the chosen token's state comes from, after each layer: half is what the token had, "
    'half what it looked at, all the way down to the input.</p><div id="rollout"></div>',
)
_PREDICTIONS = section(
    "Predictions, layer by layer",
    "<p>The head for masked words, put on every layer as if it were the last. Hidden: the token "
    "stands behind [MASK], one at a time. Shown: the model sees it.</p>"
    + choice("lens", "The token is", {"hidden": "hidden", "shown": "shown"})
    + '<div id="lens-grid" class="wide"></div><h3 id="lens-title"></h3>'
    '<div id="lens-detail" class="wide"></div>',
)
_ATTRIBUTION = section(
    "Where the prediction comes from",
    '<p id="attribution-title"></p><h3>Integrated gradients</h3><div id="integrated" class="chips">'
    '</div><p id="integrated-note" class="faint"></p><h3>Gradient × input</h3><div id="gradient" '
    'class="chips"></div><p class="faint">Nats of log-probability: <span class="for">for</span> '
    'the prediction, <span class="against">against</span> it.</p>',
)
_NEAREST = section(
    "Nearest words",
    "<p>The vocabulary's vectors that point most nearly where the chosen token's state does "
    '(cosine).</p><div id="nearest" class="wide"></div>',
)
_GEOMETRY = section(
    "Geometry",
    '<div class="two"><div><h3>Layers (CKA)</h3><p class="faint">How alike two layers arrange '
    'these tokens, 1 for the same.</p><div id="cka"></div><h3>How far each token has come</h3>'
    '<p class="faint">Cosine of its state and its embedding.</p><div id="drift"></div></div>'
    '<div><h3>Tokens (cosine)</h3><p class="faint"><label>After <output id="depth-name"></output> '
    '<input id="depth" type="range" min="0" step="1"></label></p><div id="similarity"></div></div>'
    '<div><h3>Lengths of states</h3><p class="faint">LayerNorm keeps them alike.</p>'
    '<div id="norms"></div></div><div><h3>Lengths of embeddings</h3><p class="faint">The three '
    'that are added, and their sum before LayerNorm.</p><div id="parts"></div></div></div>',
)
