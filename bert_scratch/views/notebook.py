"""Pages and tables as objects that a notebook displays by itself."""

from __future__ import annotations

from dataclasses import dataclass
from html import escape
from pathlib import Path

import torch
from tokenizers import Tokenizer

from bert_scratch import durable
from bert_scratch.config import InputError, check_range
from bert_scratch.inference.embed import encoder_of
from bert_scratch.inference.score import Score, ScoreConfig
from bert_scratch.inference.score import score as score_models
from bert_scratch.inference.whole_model import WholeModel
from bert_scratch.output_places import make_place_for
from bert_scratch.views.explain import explain_page
from bert_scratch.views.explain_data import explanation
from bert_scratch.views.report import report_page
from bert_scratch.views.report_data import read_runs
from bert_scratch.views.score_table import score_html, screen

_HEIGHT_PIXELS = 720


@dataclass(frozen=True, repr=False)
class Page:
    """A single-file page; a notebook shows it in a separate frame."""

    title: str
    html: str

    def save(self, path: str | Path) -> Path:
        """Write the page as a file that any browser opens, and return its path.

        Raises:
            InputError: if it cannot be written there.
        """
        place = Path(path)
        make_place_for(place, flag="path")
        durable.write_text(place, self.html)
        return place

    def __repr__(self) -> str:
        return f"<page {self.title!r}, {len(self.html) / 1e6:.2f} MB; save(path) writes it>"

    def _repr_html_(self) -> str:
        # The frame has no origin: the page's script reaches neither the notebook nor its server.
        return (
            f'<iframe title="{escape(self.title)}" sandbox="allow-scripts" '
            f'style="width: 100%; height: {_HEIGHT_PIXELS}px; border: 1px solid #8886" '
            f'srcdoc="{escape(self.html)}"></iframe>'
        )


def explain(
    model: WholeModel,
    tokenizer: Tokenizer,
    text: str,
    text_pair: str | None = None,
    *,
    attribution_steps: int = 16,
) -> Page:
    """Return what the command `explain` writes.

    Args:
        model: a `BertForPreTraining`, `BertForMaskedLM` or `BertModel` in float32; left unchanged.
        tokenizer: the model's.
        text: at most 128 tokens; "[MASK]" in it is the mask token.
        text_pair: a second text after the first.
        attribution_steps: steps of integrated gradients, 1 to 256.

    Raises:
        InputError: if the text or the model cannot be used, or the number of steps is out of
            range.
    """
    check_range("attribution_steps", attribution_steps, at_least=1, at_most=256)
    dtype = encoder_of(model).embeddings.word_embeddings.weight.dtype
    if dtype != torch.float32:
        raise InputError(f"explain needs a model in float32; got {dtype}: give model.float()")
    values = explanation(model, tokenizer, text, text_pair, num_steps=attribution_steps)
    return Page(text, explain_page(type(model).__name__, values))


def report(*runs: str | Path) -> Page:
    """Return what the command `report` writes for one run, or for several side by side.

    Args:
        runs: run folders of pretrain or finetune, at least one.

    Raises:
        InputError: if none is given, or one holds no run.
    """
    if not runs:
        raise InputError("report needs at least one run folder")
    found = read_runs([Path(run) for run in runs])
    return Page(", ".join(run.name for run in found), report_page(found))


@dataclass(frozen=True, repr=False)
class ScoreTable:
    """What the command `score` prints."""

    score: Score
    """The results."""

    def __repr__(self) -> str:
        return screen(self.score)

    def _repr_html_(self) -> str:
        return score_html(self.score)


def score(config: ScoreConfig) -> ScoreTable:
    """Return what the command `score` prints.

    Raises:
        InputError: if a model or the text cannot be used.
    """
    return ScoreTable(score_models(config))
