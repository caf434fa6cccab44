"""Record or change what flows between the parts of a model while it runs.

Everything here uses torch's hooks on existing modules, so the model's code stays plain and its
weights untouched; when the block ends, the model is unchanged.

Letters: B rows, S positions, D hidden, H heads, K head size, F feed-forward, L layers.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from bert_scratch.config import InputError, check_choice, check_range
from bert_scratch.inference.embed import encoder_of
from bert_scratch.model.encoder import BertModel

Change = Callable[[Tensor], Tensor]


class Site(NamedTuple):
    """A place in the model whose values can be recorded or changed."""

    name: str
    """One of `SITES`."""
    layer: int = 0
    """Layer number, 0 to L - 1; ignored for the embeddings."""


@dataclass(frozen=True, slots=True)
class Edit:
    """A change of what flows through a site."""

    site: Site
    change: Change
    """Maps the incoming tensor to one of the same shape that is passed on."""


@dataclass(frozen=True, slots=True)
class _Place:
    """How to reach a site."""

    module: str
    """The module's name within the encoder."""
    comes_in: bool = False
    """Whether the site is the module's input, not its output."""
    num_parts: int = 0
    """For a tensor that is cut into heads, how many are side by side in it; 0: not cut."""
    part: int = 0


_ATTENTION = "layers.{}.attention"
_PLACES: Mapping[str, _Place] = {
    "embeddings": _Place("embeddings"),
    "layer_input": _Place("layers.{}", comes_in=True),
    "query": _Place(f"{_ATTENTION}.query_key_value", num_parts=3, part=0),
    "key": _Place(f"{_ATTENTION}.query_key_value", num_parts=3, part=1),
    "value": _Place(f"{_ATTENTION}.query_key_value", num_parts=3, part=2),
    "heads": _Place(f"{_ATTENTION}.output", comes_in=True, num_parts=1),
    "attention": _Place(_ATTENTION),
    "attention_norm": _Place("layers.{}.attention_layer_norm"),
    "widened": _Place("layers.{}.feed_forward.narrow", comes_in=True),
    "feed_forward": _Place("layers.{}.feed_forward"),
    "layer": _Place("layers.{}"),
}
SITES = tuple(_PLACES)
"""Site names in the order of the forward pass. query, key, value and heads are [B, S, H, K] (heads:
the output of each head, before the output projection), widened is [B, S, F] (after the activation),
the others are [B, S, D] (attention and feed_forward: before residual and LayerNorm)."""


@contextmanager
def operated(model: nn.Module, edits: Iterable[Edit]) -> Iterator[None]:
    """Apply edits to a model inside the block; several at one site act in order.

    Args:
        model: a `BertModel`, or any model around one.
        edits: your own, or from the functions below: `disable_heads(0, [1]) + skip_layer(2)`.

    Raises:
        InputError: on a site the model lacks, or a change that gives another shape.
    """
    encoder = encoder_of(model)
    with ExitStack() as attached:
        for edit in edits:
            attached.callback(_attach(encoder, edit).remove)
        yield


@contextmanager
def recorded(model: nn.Module, sites: Iterable[Site]) -> Iterator[dict[Site, Tensor]]:
    """Record what flows through some sites; the forward pass fills the mapping.

    Args:
        model: a `BertModel`, or any model around one.
        sites: any number.

    Raises:
        InputError: on a site the model lacks.
    """
    found: dict[Site, Tensor] = {}

    def keep(site: Site) -> Change:
        def change(value: Tensor) -> Tensor:
            found[site] = value
            return value

        return change

    with operated(model, [Edit(site, keep(site)) for site in sites]):
        yield found


def disable_heads(layer: int, heads: Sequence[int]) -> list[Edit]:
    """Make heads of a layer contribute nothing: their output becomes zero."""
    return [Edit(Site("heads", layer), _on_heads(heads, torch.zeros_like))]


def uniform_attention(layer: int, heads: Sequence[int] | None = None) -> list[Edit]:
    """Make heads attend to all positions equally: a zero query scores all keys the same.

    Args:
        layer: 0 to L - 1.
        heads: the heads to change; None for all.
    """
    change = torch.zeros_like if heads is None else _on_heads(heads, torch.zeros_like)
    return [Edit(Site("query", layer), change)]


def skip_layer(layer: int) -> list[Edit]:
    """Make a layer return its input unchanged."""
    given: list[Tensor] = []

    def keep(value: Tensor) -> Tensor:
        given.append(value)
        return value

    return [
        Edit(Site("layer_input", layer), keep),
        Edit(Site("layer", layer), lambda _: given.pop()),
    ]


def patch(
    site: Site,
    source: Tensor,
    *,
    positions: Sequence[int] | None = None,
    heads: Sequence[int] | None = None,
) -> list[Edit]:
    """Patch in what flowed through a site in another run.

    Args:
        site: where to patch.
        source: what `recorded` found there, of the same shape, or one row for all.
        positions: positions to patch; None for all.
        heads: heads to patch, at a site with heads; None for all.
    """

    def change(value: Tensor) -> Tensor:
        where = _chosen("position", value.shape[1], positions, value.device)
        where = where.view(-1, *[1] * (value.dim() - 2))
        if heads is not None:
            where = where & _chosen("head", value.shape[2], heads, value.device)[:, None]
        return torch.where(where, source, value)

    return [Edit(site, change)]


def _on_heads(heads: Sequence[int], change: Change) -> Change:
    """Return the change applied to some heads of [B, S, H, K], leaving the others unchanged."""

    def changed(value: Tensor) -> Tensor:
        chosen = _chosen("head", value.shape[2], heads, value.device)[:, None]
        return torch.where(chosen, change(value), value)

    return changed


def _chosen(what: str, size: int, indices: Sequence[int] | None, device: torch.device) -> Tensor:
    """Return [size] bool, True at the indices, or everywhere for None."""
    if indices is None:
        return torch.ones(size, dtype=torch.bool, device=device)
    for index in indices:
        check_range(what, index, at_least=0, below=size)
    chosen = torch.zeros(size, dtype=torch.bool, device=device)
    chosen[list(indices)] = True
    return chosen


def _attach(encoder: BertModel, edit: Edit) -> RemovableHandle:
    """Attach an edit to the encoder."""
    check_choice("site", edit.site.name, SITES)
    check_range("layer", edit.site.layer, at_least=0, below=len(encoder.layers))
    place = _PLACES[edit.site.name]
    module = encoder.get_submodule(place.module.format(edit.site.layer))
    num_heads = encoder.config.num_attention_heads

    def changed(value: Tensor) -> Tensor:
        if not place.num_parts:
            return _same_shape(edit, value)
        batch, length, size = value.shape
        split = value.view(batch, length, place.num_parts, num_heads, -1)
        parts = list(split.unbind(2))
        parts[place.part] = _same_shape(edit, parts[place.part])
        return torch.stack(parts, dim=2).view(batch, length, size)

    def before(_: nn.Module, given: tuple[Any, ...]) -> tuple[Any, ...]:
        return (changed(given[0]), *given[1:])

    def after(_: nn.Module, __: tuple[Any, ...], output: Any) -> Any:
        # A layer that also returns attention weights returns a pair.
        if isinstance(output, tuple):
            return (changed(output[0]), *output[1:])
        return changed(output)

    if place.comes_in:
        return module.register_forward_pre_hook(before)
    return module.register_forward_hook(after)


def _same_shape(edit: Edit, value: Tensor) -> Tensor:
    changed = edit.change(value)
    if changed.shape != value.shape:
        raise InputError(
            f"an edit at {edit.site.name} of layer {edit.site.layer} must give "
            f"{list(value.shape)} as it got; it gave {list(changed.shape)}"
        )
    return changed
