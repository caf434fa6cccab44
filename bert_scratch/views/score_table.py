"""The command `score`, and its results as a table for a terminal."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from html import escape

from tqdm import tqdm

from bert_scratch.inference.estimate import Estimate
from bert_scratch.inference.score import Score, ScoreConfig, score
from bert_scratch.inference.score_answers import ModelScore, ReportProgress
from bert_scratch.views.page import table

_NONE = "-"

Row = tuple[str, list[str], str]
"""A figure's name, its value for each model, and the baselines to compare with."""


def run_score(config: ScoreConfig) -> None:
    """Score the models, with a progress bar on a terminal, and print.

    Raises:
        InputError: as `score`.
    """
    with _bar() as progress:
        found = score(config, progress)
    print(json.dumps(found.to_dict(), indent=2) if config.json else screen(found))


@contextmanager
def _bar() -> Iterator[Callable[[int], ReportProgress]]:
    """Yield a function that starts a progress bar for a number of sentences."""
    with tqdm(unit=" sentences", leave=False, disable=not sys.stderr.isatty()) as bar:

        def start(total: int) -> ReportProgress:
            bar.reset(total)
            return step

        def step(what: str, num_sentences: int) -> None:
            bar.set_description(what, refresh=False)
            bar.update(num_sentences)

        yield start


def screen(found: Score) -> str:
    """Return the table, the meaning of each figure, and the verdict."""
    rows = list(_rows(found))
    names = _names(found)
    widths = [
        max(len(name), *(len(values[column]) for _, values, _ in rows))
        for column, name in enumerate(names)
    ]
    first = max(len(name) for name, _, _ in rows)

    def line(name: str, values: Sequence[str], beside: str) -> str:
        cells = (value.rjust(width) for value, width in zip(values, widths, strict=True))
        return f"{name.ljust(first)}  {'  '.join(cells)}  {beside}".rstrip()

    listed = [f"{name}: {m.model}" for name, m in zip(names, found.models, strict=True)]
    lines = [line("", names, "beside it"), *(line(*row) for row in rows)]
    return "\n".join(
        [_asked(found), *listed, "", *lines, "", *_meanings(found), "", *found.verdicts]
    )


def score_html(found: Score) -> str:
    """Return the table and the verdict for a notebook."""
    names = _names(found)
    heads = [f"{name}: {m.model}" for name, m in zip(names, found.models, strict=True)]
    rows = [[name.strip(), *values, beside] for name, values, beside in _rows(found)]
    said = "".join(f"<p>{escape(text)}</p>" for text in (_asked(found), *found.verdicts))
    return table(["", *heads, "beside it"], rows) + said


def _names(found: Score) -> list[str]:
    if len(found.models) == 1:
        return ["model"]
    return [f"model {number}" for number in range(1, len(found.models) + 1)]


def _asked(found: Score) -> str:
    return (
        f"{found.num_sentences:,} sentences of {found.text}: the same characters for every model; "
        f"reference lines have read {found.num_other_characters:,} other characters of it"
    )


def _rows(found: Score) -> Iterator[Row]:
    references, models = found.references, found.models
    yield "parameters", [f"{m.num_parameters / 1e6:,.1f} M" for m in models], ""
    yield "vocabulary", [f"{m.vocab_size:,}" for m in models], ""
    yield (
        "bits per character",
        [_bits(m) for m in models],
        f"blind {references.uniform_bits:.2f}, character counts "
        f"{references.character_count_bits:.2f}, xz {references.compressed_bits:.2f}",
    )
    yield "  of them for [UNK]", [_part(m, "unread") for m in models], ""
    yield "  to restore case, accents", [_part(m, "restoring") for m in models], ""
    yield "pieces per word", [f"{m.pieces_per_word:.2f}" for m in models], ""
    yield "words with [UNK]", [f"{m.unknown_words:.1%}" for m in models], ""
    yield (
        "masked words",
        [_share(m.masked_words) for m in models],
        f"most frequent word {references.most_frequent_word.mean:.1%}, two neighbours "
        f"{references.two_neighbours.mean:.1%}",
    )
    yield (
        "words out of place",
        [f"{_share(m.displaced_words[m.best_layer])}, layer {m.best_layer}" for m in models],
        "chance 50 %; without context "
        + ", ".join(f"{m.displaced_words[0].mean:.1%}" for m in models),
    )
    yield (
        "next sentence",
        [_share(m.next_sentence) for m in models],
        f"chance 50 %, shared words {_share(references.next_sentence)}",
    )
    yield (
        "nearest sentence",
        [_share(m.nearest_sentence) for m in models],
        f"chance 50 %, shared words {_share(references.nearest_sentence)}",
    )


def _bits(model: ModelScore) -> str:
    if model.bits is None:
        return _NONE
    estimate = model.bits.per_character()
    return f"{estimate.mean:.2f} +- {estimate.standard_error:.2f}{'*' if model.loses else ' '}"


def _part(model: ModelScore, name: str) -> str:
    if model.bits is None:
        return _NONE
    return f"{getattr(model.bits, name).sum() / model.bits.characters.sum():.2f}"


def _share(estimate: Estimate | None) -> str:
    if estimate is None:
        return _NONE
    return f"{estimate.mean:.1%} +- {100 * estimate.standard_error:.1f}"


def _meanings(found: Score) -> list[str]:
    lines = [
        f"bits per character: surprise, less is better, on {found.num_characters:,} characters "
        "without white space. Each token masked in turn, words from left to right, the rest of "
        "the sentence seen; an [UNK] pays for its characters as if drawn blindly.",
        f"masked words: of {found.num_masked_words:,}, hidden with all their pieces; right when "
        "spelt alike, case and accents apart.",
        "words out of place: words changed places; a linear probe of the best layer tells which.",
        f"next sentence: of {found.num_pairs:,} pairs, half of which follow each other."
        if found.num_pairs
        else "next sentence: the text has too few sentences that follow each other, or only one "
        "document.",
        "nearest sentence: how many others are farther away than the one behind it, by the mean "
        "of the last layer's vectors.",
        "+-: one standard error; differences below two of them are chance.",
    ]
    if any(model.loses for model in found.models):
        lines.append(
            "*: the vocabulary merges letters; what telling them apart costs by counts is included."
        )
    return lines
