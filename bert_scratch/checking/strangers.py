"""Handle a user's class: create it with our configuration, call it like ours, copy our weights."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from bert_scratch.checking.parts import CONFIG, UNTIED, Arguments, Part
from bert_scratch.config import InputError
from bert_scratch.user_code import describe_error, file_of

# Words that distinguish parameters of the same shape, by our names.
_WORDS = {
    "query": {"query", "queries", "q", "wq"},
    "key": {"key", "keys", "k", "wk"},
    "value": {"value", "values", "v", "wv"},
    "output": {"output", "out", "o", "wo"},
}


class Stranger(nn.Module):
    """Stands in for our component; passes arguments on, leaving out None and False.

    Args:
        module: the user's component, or ours.
        part: the part it is checked as.
    """

    def __init__(self, module: nn.Module, part: Part) -> None:
        super().__init__()
        self.module = module
        self.pack = part.pack

    def forward(self, *arguments: Any, **named: Any) -> Any:
        """Call it with positional arguments, and return what the surrounding model expects."""
        said = [value for value in named.values() if value is not None and value is not False]
        return self.pack(outputs_of(self.module(*arguments, *said)))


def outputs_of(returned: Any) -> tuple[Tensor, ...]:
    """Return the tensors in a component's output: a tensor, a tuple, or named fields."""
    if isinstance(returned, Tensor):
        return (returned,)
    if isinstance(returned, tuple | list):
        return tuple(value for value in returned if isinstance(value, Tensor))
    names = ("last_hidden_state", "pooler_output", "logits", "prediction_logits")
    found = (getattr(returned, name, None) for name in names)
    return tuple(value for value in found if isinstance(value, Tensor))


def make(thing: type[nn.Module], part: Part) -> nn.Module:
    """Create a component with our configuration.

    Raises:
        InputError: if it takes neither a configuration nor arguments named like its fields, or
            raises an error.
    """
    fields = CONFIG.to_dict()
    wanted = [
        name
        for name, parameter in inspect.signature(thing).parameters.items()
        if parameter.default is parameter.empty and parameter.kind is not parameter.VAR_KEYWORD
    ]
    named = {name: fields[name] for name in wanted if name in fields}
    try:
        if len(named) == len(wanted):
            return thing(**named)
        if len(wanted) == 1:
            return thing(CONFIG)
    except Exception as error:  # whatever the user's code raises
        raise InputError(
            f"{thing.__name__} cannot be made: {describe_error(error, file_of(thing))}; correct it"
        ) from error
    raise InputError(
        f"{thing.__name__} takes {', '.join(wanted)}; a {part.name} is made with one BertConfig, "
        f"or with arguments named as its fields ({', '.join(fields)})"
    )


def layouts(weights: Mapping[str, Tensor]) -> list[dict[str, Tensor]]:
    """Return our weights in both usual layouts: query, key and value as one matrix or three."""
    separate: dict[str, Tensor] = {}
    for name, tensor in weights.items():
        before, fused, kind = name.partition("query_key_value")
        if fused:
            pieces = zip(("query", "key", "value"), tensor.chunk(3), strict=True)
            separate |= {f"{before}{part}{kind}": piece for part, piece in pieces}
        else:
            separate[name] = tensor
    return [dict(weights), separate]


def give_weights(module: nn.Module, weights: Mapping[str, Tensor], part: Part) -> dict[str, str]:
    """Copy our weights into the parameters of a user's component.

    They are matched by name first; then by shapes (LayerNorms and biases apart) that only one
    parameter has; then by words like q, key or out; then by the order of definition.

    Returns:
        The user's names -> ours.

    Raises:
        InputError: if they cannot be matched, with the expected names and shapes.
    """
    own = dict(module.named_parameters())
    for layout in layouts({name: w for name, w in weights.items() if name != UNTIED}):
        tied = {name: w for name, w in layout.items() if not _is_tied(name, layout)}
        for expected in (tied, tied | {UNTIED: weights.get(UNTIED, torch.empty(0))}):
            matched = _match(own, expected)
            if matched is not None:
                with torch.no_grad():
                    for name, ours in matched.items():
                        own[name].copy_(expected[ours])
                return matched
    wanted = [
        f"{name} {list(tensor.shape)}"
        for name, tensor in layouts(weights)[1].items()
        if name != UNTIED
    ]
    held = [f"{name} {list(tensor.shape)}" for name, tensor in own.items()]
    raise InputError(
        f"the parameters of {type(module).__name__} are not those of a {part.name} (linear layers "
        f"as torch's nn.Linear, [out, in]).\n  expected: {', '.join(wanted)}\n  it has: "
        f"{', '.join(held) or 'none'}"
    )


def _is_tied(name: str, layout: Mapping[str, Tensor]) -> bool:
    """Tell whether this is a whole model's decoder matrix, tied to the word embedding."""
    return name == "mlm_head.decoder.weight" and "bert.embeddings.word_embeddings.weight" in layout


def _match(own: Mapping[str, Tensor], ours: Mapping[str, Tensor]) -> dict[str, str] | None:
    """Return own name -> our name, or None if the shapes do not match."""
    if {name: tensor.shape for name, tensor in own.items()} == {
        name: tensor.shape for name, tensor in ours.items()
    }:
        return {name: name for name in own}
    mine, given = _by_kind(own), _by_kind(ours)
    if {kind: len(names) for kind, names in mine.items()} != {
        kind: len(names) for kind, names in given.items()
    }:
        return None
    matched: dict[str, str] = {}
    for kind, names in mine.items():
        by_word = {name: _by_word(name, given[kind]) for name in names}
        claims = list(by_word.values())
        sure = {n: ours for n, ours in by_word.items() if ours and claims.count(ours) == 1}
        rest = [ours for ours in given[kind] if ours not in sure.values()]
        others = (name for name in names if name not in sure)
        matched |= sure | dict(zip(others, rest, strict=True))
    return {name: matched[name] for name in own}


def _by_kind(tensors: Mapping[str, Tensor]) -> dict[tuple[Any, ...], list[str]]:
    """Group names by shape, by whether they belong to a LayerNorm, and whether they are a bias."""
    flat: dict[str, bool] = {}
    for name, tensor in tensors.items():
        module = name.rpartition(".")[0]
        flat[module] = flat.get(module, True) and tensor.ndim == 1
    groups: dict[tuple[Any, ...], list[str]] = {}
    for name, tensor in tensors.items():
        module, _, kind = name.rpartition(".")
        named = not flat[module] or "bias" in kind or kind in ("beta", "b", "shift")
        is_bias = tensor.ndim == 1 and named
        groups.setdefault((tuple(tensor.shape), flat[module], is_bias), []).append(name)
    return groups


def _by_word(name: str, candidates: list[str]) -> str | None:
    """Return the only candidate whose word is in the user's name; None for none or several."""
    words = set(name.lower().replace("_", ".").split("."))
    layer = [part for part in name.split(".") if part.isdigit()]
    found = [
        ours
        for ours in candidates
        if layer == [part for part in ours.split(".") if part.isdigit()]
        and words & _WORDS.get(ours.split(".")[-2:][0], set())
    ]
    return found[0] if len(found) == 1 else None


def as_function(thing: Callable[..., Any] | nn.Module, arguments: Arguments) -> tuple[Tensor, ...]:
    """Call with copies of the arguments, so that in-place changes do no harm."""
    copies = (value.clone() if isinstance(value, Tensor) else value for value in arguments)
    return outputs_of(thing(*copies))
