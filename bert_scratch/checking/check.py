"""`check`: test a user's own component, or exercise, against ours.

Properties are tried in order, and the first that fails is named with the mistake that explains it:
one that, made in our code, gives the same numbers. Then the tiny model is trained with it in place.
"""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from bert_scratch.checking.diagnosis import TOLERANCE, difference, find_mistakes
from bert_scratch.checking.learning import Learned, compare_learning
from bert_scratch.checking.mistakes import MISTAKES
from bert_scratch.checking.parts import CONFIG, PARTS, Part, weights_of, whole_model
from bert_scratch.checking.strangers import (
    Stranger,
    as_function,
    give_weights,
    make,
    outputs_of,
)
from bert_scratch.config import InputError, Settings, check_choice
from bert_scratch.model.huggingface import config_to_hf, to_hf
from bert_scratch.testing import assert_matches_huggingface
from bert_scratch.user_code import describe_error, file_of, load_from_file

FAILED_EXIT_CODE = 1


@dataclass(frozen=True, kw_only=True)
class Checked:
    """The result of a check."""

    held: tuple[str, ...]
    """The properties that hold, in the order they were tried."""
    failed: str | None
    """The first property that does not hold; None if all hold."""
    reason: str
    """How it failed."""
    mistakes: tuple[str, ...]
    """Keys of MISTAKES that, made in our code, give the same numbers; () if none does."""
    learned: Learned | None
    """The result of training with it; None for a function, or if it could not be trained."""
    huggingface: bool
    """Whether transformers was available for comparison."""

    @property
    def passed(self) -> bool:
        """Whether every property holds and the loss falls as much as with ours."""
        return self.failed is None and (self.learned is None or self.learned.as_ours)


class _Broken(Exception):
    """A property does not hold; the message says how."""


class _Subject:
    """A user's component with our weights, ours with the same weights, and their outputs."""

    def __init__(self, thing: Any, part: Part) -> None:
        self.part = part
        self.weights: dict[str, Tensor] = {}
        self.names: dict[str, str] = {}
        self.call: Callable[..., Any] = thing
        self.theirs: list[tuple[Tensor, ...]] = []
        if part.component is None:
            self.ours: Callable[..., Any] = lambda *a: part.formula({}, a, ())
            return
        self.whole = whole_model(part)
        component = self.whole.get_submodule(part.place)
        self.ours = component
        self.weights = weights_of(component, part)
        self.stranger = make(thing, part).eval()
        self.names = give_weights(self.stranger, self.weights, part)
        self.call = self.stranger

    def returns(self) -> None:
        """Call it on every case."""
        for number, case in enumerate(self.part.cases):
            expected = self.expected(case)
            try:
                with torch.no_grad():
                    outputs = as_function(self.call, case)
            except Exception as error:  # whatever the user's code raises is its failure
                shapes = [list(a.shape) for a in case if isinstance(a, Tensor)]
                raise _Broken(f"{type(error).__name__} on inputs {shapes}: {error}") from error
            self.theirs.append(outputs)
            shapes = [list(output.shape) for output in outputs]
            wanted = [list(output.shape) for output in expected]
            viewed = difference(expected, outputs, self.part) < torch.inf
            if len(shapes) < len(wanted) or (shapes[: len(wanted)] != wanted and not viewed):
                raise _Broken(f"case {number + 1} returns {shapes or 'no tensor'}; wanted {wanted}")

    def is_finite(self) -> None:
        """Look for NaN and infinity; a bias may have infinities."""
        looked = [self.part.look(output) for outputs in self.theirs for output in outputs[:1]]
        if not all(bool(output.isfinite().all()) for output in looked):
            raise _Broken("there are NaN or infinite values")

    def is_repeatable(self) -> None:
        """Call it again."""
        for case, before in zip(self.part.cases, self.theirs, strict=True):
            if difference(before, self.again(case), self.part) > 0:
                raise _Broken("a second call, in evaluation mode, gives other numbers")

    def keeps_rows_apart(self) -> None:
        """Call it on one row of the batch."""
        for case, before in zip(self.part.cases, self.theirs, strict=True):
            alone = tuple(a[:1] if isinstance(a, Tensor) else a for a in case)
            gap = difference([before[0][:1]], self.again(alone)[:1], self.part)
            if gap > TOLERANCE:
                raise _Broken(f"a row alone differs by {gap:.2g} from the same row in a batch")

    def ignores_padding(self) -> None:
        """Change the inputs at forbidden positions."""
        assert self.part.padded is not None
        case = self.part.cases[self.part.padded]
        real = PARTS["attention_mask"].cases[0][0] == 1
        first = case[0].clone()
        first[~real] = first[~real].flip(0) + (1 if first.dtype == torch.int64 else 0.5)
        changed = self.again((first.clamp(max=CONFIG.vocab_size - 1), *case[1:]))[0]
        gap = (changed - self.theirs[self.part.padded][0])[real].abs().max().item()
        if not gap <= TOLERANCE:
            raise _Broken(f"values at forbidden positions change the others by {gap:.2g}")

    def knows_no_order(self) -> None:
        """Reverse the sequence."""
        case = self.part.cases[-1]
        turned = self.again((case[0].flip(1), *case[1:]))[0].flip(1)
        gap = (turned - self.theirs[-1][0]).abs().max().item()
        if not gap <= 10 * TOLERANCE:
            raise _Broken(f"positions in another order give other numbers, by {gap:.2g}")

    def equals_ours(self) -> None:
        """Compare with ours on every case."""
        for number, (case, outputs) in enumerate(zip(self.part.cases, self.theirs, strict=True)):
            gap = difference(self.expected(case), outputs, self.part)
            if gap > TOLERANCE:
                raise _Broken(f"differs by {gap:.2g} from ours, case {number + 1}")

    def has_our_gradients(self) -> None:
        """Compare the gradient of a random projection of the output for every parameter."""
        case = self.part.cases[0]
        own = dict(self.stranger.named_parameters())
        loss = _projection(outputs_of(self.stranger(*case))[0])
        if not loss.requires_grad:
            raise _Broken("it cannot be trained: the output has no gradient")
        found = torch.autograd.grad(loss, list(own.values()), allow_unused=True)
        ours = {n: w.clone().requires_grad_() for n, w in self.weights.items()}
        loss = _projection(outputs_of(self.part.formula(ours, case, ()))[0])
        used = [name for name in ours if name in set(self.names.values())]
        wanted = dict(
            zip(
                used,
                torch.autograd.grad(loss, [ours[n] for n in used], allow_unused=True),
                strict=True,
            )
        )
        for (name, _), gradient in zip(own.items(), found, strict=True):
            reference = wanted.get(self.names[name])
            if reference is None:
                continue
            if gradient is None:
                raise _Broken(f"{name} gets no gradient")
            gap = (gradient - reference).abs().max() / max(1.0, reference.abs().max().item())
            if not gap <= 10 * TOLERANCE:
                raise _Broken(f"the gradient of {name} differs by {gap:.2g} from ours")

    def equals_huggingface(self) -> None:
        """Compare with transformers on every case."""
        import transformers

        name = type(self.whole).__name__
        shape = transformers.BertConfig(**config_to_hf(CONFIG, name))
        shape._attn_implementation = "eager"
        theirs = getattr(transformers, name)(shape)
        theirs.load_state_dict(to_hf(self.whole.state_dict(), CONFIG), strict=False)
        for case in self.part.cases:
            named = {n: a for n, a in zip(self.part.names, case, strict=False)}
            try:
                assert_matches_huggingface(
                    Stranger(self.stranger, self.part),
                    theirs.get_submodule(self.part.huggingface),
                    named,
                    atol=10 * TOLERANCE,
                    kind=self.part.component,
                )
            except AssertionError as error:
                raise _Broken(str(error)) from error

    def expected(self, case: tuple[Any, ...]) -> tuple[Tensor, ...]:
        """Return our output."""
        with torch.no_grad():
            return as_function(self.ours, case)

    def again(self, case: tuple[Any, ...]) -> tuple[Tensor, ...]:
        """Return the user's output."""
        with torch.no_grad():
            return as_function(self.call, case)


def _projection(output: Tensor) -> Tensor:
    """Return one number to take gradients of."""
    draw = torch.Generator().manual_seed(17)
    return (output * torch.randn(output.shape, generator=draw)).sum()


def check_component(thing: Any, part: Part) -> Checked:
    """Try every property of a part on a user's class or function.

    Args:
        thing: a class derived from nn.Module, or a function.
        part: the part it is meant to be.

    Raises:
        InputError: if it cannot be created, or its parameters do not match the part's.
    """
    subject = _Subject(thing, part)
    file = file_of(thing)
    huggingface = importlib.util.find_spec("transformers") is not None
    held: list[str] = []
    failed, reason = None, ""
    for title, test in _properties(subject, huggingface=huggingface):
        try:
            test()
        except _Broken as broken:
            failed, reason = title, str(broken)
            break
        except Exception as error:  # whatever the user's code raises is its failure
            failed, reason = title, describe_error(error, file)
            break
        held.append(title)
    mistakes: tuple[str, ...] = ()
    if failed is not None and len(subject.theirs) == len(part.cases):
        mistakes = find_mistakes(part, subject.weights, subject.theirs)
    learned = None
    if part.component is not None and held:
        try:
            learned = compare_learning(thing, part)
        except Exception as error:  # the first failure is the one to name
            if failed is None:
                failed, reason = "can be trained in its place", describe_error(error, file)
    return Checked(
        held=tuple(held),
        failed=failed,
        reason=reason,
        mistakes=mistakes,
        learned=learned,
        huggingface=huggingface,
    )


def _properties(
    subject: _Subject, *, huggingface: bool
) -> Sequence[tuple[str, Callable[[], None]]]:
    """Return the properties that must hold, the simplest first."""
    part = subject.part
    wanted = [
        ("runs and returns the right shapes", subject.returns),
        ("returns finite numbers", subject.is_finite),
        ("gives the same twice", subject.is_repeatable),
    ]
    if part.component is not None:
        wanted.append(("keeps the rows of a batch apart", subject.keeps_rows_apart))
    if part.padded is not None:
        wanted.append(("lets padding change nothing", subject.ignores_padding))
    if part.reordered:
        wanted.append(("knows no order of positions", subject.knows_no_order))
    wanted.append(("gives our numbers with our weights", subject.equals_ours))
    if part.component is not None:
        wanted.append(("gives our gradients", subject.has_our_gradients))
        if huggingface:
            wanted.append(("gives Hugging Face's numbers", subject.equals_huggingface))
    return wanted


@dataclass(frozen=True, kw_only=True)
class CheckConfig(Settings):
    """Compare a component of your own with ours and Hugging Face's, and train with it in place."""

    component: str
    """FILE.py:NAME, a class derived from torch's nn.Module, or a function. The file is run."""
    as_: str
    """Which part it is meant to be: a component such as MultiHeadAttention, or a function."""
    json: bool = False
    """Print one JSON object."""

    def __post_init__(self) -> None:
        """Check the part's name.

        Raises:
            InputError: if there is no part of that name.
        """
        check_choice("--as", self.as_, tuple(PARTS))


def run_check(config: CheckConfig) -> int:
    """Print what holds and what does not; return 0 when everything holds, else 1.

    Raises:
        InputError: if the file, the class, or its parameters are not as expected.
    """
    part = PARTS[config.as_]
    thing = load_from_file(config.component, flag="--component")
    is_class = isinstance(thing, type) and issubclass(thing, nn.Module)
    if is_class != (part.component is not None) or not callable(thing):
        kind = "a class derived from nn.Module" if part.component else "a function"
        raise InputError(f"--component {config.component}: --as {part.name} wants {kind}")
    found = check_component(thing, part)
    if config.json:
        learned = None if found.learned is None else vars(found.learned)
        print(json.dumps({**vars(found), "learned": learned, "passed": found.passed}))
    else:
        print(describe(found, f"{config.component} as {part.name}", part))
    return 0 if found.passed else FAILED_EXIT_CODE


def describe(found: Checked, title: str, part: Part) -> str:
    """Return the result of a check, one line per property."""
    lines = [title, *(f"  ok      {name}" for name in found.held)]
    if found.failed is not None:
        lines.append(f"  FAILED  {found.failed}: {found.reason}")
        for key in found.mistakes:
            lines.append(f"  cause   {MISTAKES[key]}")
        if found.mistakes:
            both = "these two mistakes" if len(found.mistakes) > 1 else "that mistake"
            lines.append(f"          (confirmed: ours with {both} gives the same numbers)")
        else:
            lines.append(f"  cause   none of the {len(set(part.mistakes))} known mistakes")
    if part.component is not None and not found.huggingface:
        lines.append("  not compared with Hugging Face: transformers is not installed")
    if found.learned is not None:
        word = "ok    " if found.learned.as_ours else "FAILED"
        lines.append(f"  {word}  trained in its place: {found.learned}")
    lines.append("everything holds" if found.passed else "not yet")
    return "\n".join(lines)
