"""Mix several corpora in fixed shares: how large the shares are, and whose turn it is.

A component is what one `--corpus` path names. The endless line of examples is divided into blocks
of 1,024 places, and every block holds the same number of examples of each component, in its own
order. Each component goes through its own examples epoch by epoch, independently of the others, so
a small one with a large share is simply repeated more often.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from bert_scratch.config import InputError

BLOCK_PLACES = 1024
_POWER = "share^"


def check_mixture(rule: Sequence[str], num_sources: int) -> None:
    """Check the value of `--mixture`.

    Args:
        rule: empty for no mixture; `share^S` for each component's share of the text to the power
            S; else one weight per component.
        num_sources: number of components, that is of `--corpus` paths.

    Raises:
        InputError: naming the flag and what is wrong.
    """
    if not rule:
        return
    if num_sources < 2:
        raise InputError(
            f"--mixture {' '.join(rule)} needs two --corpus paths or more to mix; got {num_sources}"
        )
    if len(rule) == 1 and rule[0].startswith(_POWER):
        if not _number(rule[0].removeprefix(_POWER)) >= 0:
            raise InputError(
                f"--mixture {rule[0]}: the power must be a number of at least 0, as in share^0.7"
            )
        return
    for weight in rule:
        if not _number(weight) > 0:
            raise InputError(
                f"--mixture: weights must be numbers above 0; got {weight!r}. Give one weight per "
                "--corpus path, or share^0.7"
            )
    if len(rule) != num_sources:
        raise InputError(
            f"--mixture needs one weight per --corpus path: {num_sources} paths, {len(rule)} "
            "weights. Or give share^0.7"
        )


def mixture_shares(rule: Sequence[str], sizes: Sequence[int]) -> list[float]:
    """Return the share of each component in the examples; shares add up to 1.

    Args:
        rule: as `check_mixture` takes it, not empty.
        sizes: amount of text of each component, in any unit.

    Raises:
        InputError: as `check_mixture`, and if a component without text is given a weight.

    Source:
        Devlin et al., multilingual BERT (google-research/bert multilingual.md): share^0.7;
        Conneau and Lample 2019 (XLM), section 3.1.
    """
    check_mixture(rule, len(sizes))
    if rule[0].startswith(_POWER):
        power, total = _number(rule[0].removeprefix(_POWER)), sum(sizes)
        parts = [(size / total) ** power if size else 0.0 for size in sizes]
    else:
        parts = [_number(weight) for weight in rule]
        for weight, (number, size) in zip(rule, enumerate(sizes, 1), strict=True):
            if not size:
                raise InputError(
                    f"--mixture gives the weight {weight} to --corpus path {number}, which has no "
                    "text to train on; leave the path out"
                )
    whole = math.fsum(parts)
    return [part / whole for part in parts]


def block_counts(shares: Sequence[float]) -> list[int]:
    """Return how many of a block's 1,024 places each component has.

    Counts are rounded by largest remainder, but a share above 0 has at least one place: a small
    language is read rarely, not never.

    Args:
        shares: they add up to 1.

    Raises:
        InputError: if more components have a share than a block has places.
    """
    if sum(share > 0 for share in shares) > BLOCK_PLACES:
        raise InputError(f"--mixture: at most {BLOCK_PLACES:,} --corpus paths can be mixed")
    exact = [BLOCK_PLACES * share for share in shares]
    counts = [max(math.floor(wanted), 1 if wanted > 0 else 0) for wanted in exact]
    while left := BLOCK_PLACES - sum(counts):
        step = 1 if left > 0 else -1
        # components with a single place keep it
        choices = [i for i, count in enumerate(counts) if count > (0 if left > 0 else 1)]
        chosen = max(choices, key=lambda i: (step * (exact[i] - counts[i]), -i))
        counts[chosen] += step
    return counts


class Component(NamedTuple):
    """One component of a prepared corpus with a mixture."""

    path: str
    """The `--corpus` path that names it."""
    shards: list[int]
    places: int
    """Number of a block's 1,024 places, > 0."""
    text_share: float
    """Share of the train tokens."""


def mixture_components(manifest: Mapping[str, Any]) -> list[Component]:
    """Return the components that have a share in the examples.

    Args:
        manifest: of a store with a mixture; the slices of entry i became shard i.

    Raises:
        InputError: as `mixture_shares` and `block_counts`.
    """
    shards: dict[str, list[int]] = {source["path"]: [] for source in manifest["sources"]}
    for index, part in enumerate(manifest["slices"]):
        shards[manifest["sources"][part["source"]]["path"]].append(index)
    records = manifest["shards"]
    sizes = [sum(records[index]["train"]["tokens"] for index in own) for own in shards.values()]
    counts = block_counts(mixture_shares(manifest["mixture"], sizes))
    return [
        Component(path, own, places, size / sum(sizes))
        for (path, own), places, size in zip(shards.items(), counts, sizes, strict=True)
        if places
    ]


def _number(text: str) -> float:
    """Return the number that a text spells, NaN if it is not a finite number."""
    try:
        number = float(text)
    except ValueError:
        return math.nan
    return number if math.isfinite(number) else math.nan
