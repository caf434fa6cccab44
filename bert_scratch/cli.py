"""One parser for `python pretrain.py`, `bert-scratch COMMAND` and `python -m bert_scratch`.

Flags are built from each command's dataclass: a field is a flag, its docstring is the help.
"""

from __future__ import annotations

import argparse
import ast
import dataclasses
import functools
import importlib
import inspect
import io
import os
import signal
import sys
import textwrap
import typing
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from itertools import pairwise
from types import FrameType, NoneType
from typing import Any, NoReturn

from safetensors import SafetensorError

from bert_scratch.commands import COMMANDS
from bert_scratch.config import (
    INPUT_ERROR_EXIT_CODE,
    STOPPED_EXIT_CODE,
    InputError,
    Settings,
    did_you_mean,
    exit_code_of,
    flag_of,
    read_json_object,
)
from bert_scratch.training.interruption import stop_signals

NOBODY_READS_EXIT_CODE = 128 + 13
"""Exit code that a shell shows after SIGPIPE, as in `bert-scratch ... | head`."""

_TAKE_MEMORY = (
    "micro_batch_size",
    "batch_size",
    "eval_batch_size",
    "tokens_per_batch",
    "max_seq_length",
)
"""Settings of which a smaller value makes a model's pass need less memory."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run `bert-scratch COMMAND ...` and return its exit code."""
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:  # closed by the caller, as in `bert-scratch ... >&-`
            setattr(sys, name, open(os.devnull, "w", encoding="utf-8"))
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # not a notebook's
            # as all files are written; the locale's encoding may lack characters of the texts, and
            # the name of a file may be no text at all
            stream.reconfigure(encoding="utf-8", errors="backslashreplace")
    arguments = sys.argv[1:] if arguments is None else arguments
    names = ", ".join(COMMANDS)
    if not arguments:
        print(f"error: no command given; known: {names}", file=sys.stderr)
        return INPUT_ERROR_EXIT_CODE
    name, *rest = arguments
    if name in ("-h", "--help"):
        print("usage: bert-scratch COMMAND [flags]\n")
        for known, command in COMMANDS.items():
            print(f"  {known:<18} {command.summary}")
        print("\nbert-scratch COMMAND --help lists the flags of a command, --version the versions")
        return 0
    if name == "--version":
        from bert_scratch import __version__
        from bert_scratch.training.versions import versions

        found = {"bert-scratch": __version__, **versions()}
        print(", ".join(f"{name} {number}" for name, number in found.items()))
        return 0
    if name not in COMMANDS:
        hint = did_you_mean(name, COMMANDS)
        print(f"error: unknown command {name!r}{hint}; known: {names}", file=sys.stderr)
        return INPUT_ERROR_EXIT_CODE
    return run_command(name, rest)


def run_command(name: str, arguments: Sequence[str]) -> int:
    """Parse one command's flags, run it, and turn errors into an exit code."""
    # Set before torch is imported. Its threads spin while they wait for each other, by default so
    # long that one other busy program slows a small model's step tenfold. With this it is twofold,
    # and a step that has the machine to itself is 1 % slower.
    os.environ.setdefault("GOMP_SPINCOUNT", "100000")
    # Report a lost store of several ranks in one line instead of torch's forty.
    os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")
    # torch's profiler reports to its developers, and that there is no GPU.
    os.environ.setdefault("KINETO_LOG_LEVEL", "6")
    settings = None
    try:
        with _stopped_by_signals():
            command = COMMANDS[name]
            settings = parse(_load(command.settings), arguments, prog=f"bert-scratch {name}")
            outcome = 0 if settings is None else _load(command.function)(settings)
            sys.stdout.flush()
    except KeyboardInterrupt:
        print("stopped; run the same command again to continue", file=sys.stderr)
        return STOPPED_EXIT_CODE
    except BrokenPipeError:
        # Python flushes stdout once more at exit, which must not fail again.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return NOBODY_READS_EXIT_CODE
    except (InputError, OSError, SafetensorError) as error:
        # safetensors raises its own error when the disk is full
        print(f"error: {error}", file=sys.stderr)
        return exit_code_of(error)
    except Exception as error:
        if hasattr(error, "exit_code"):
            print(f"{error}", file=sys.stderr)
        elif _is_lack_of_memory(error):
            lower = [flag_of(name) for name in _TAKE_MEMORY if hasattr(settings, name)]
            advice = f"; lower {' or '.join(lower)}" if lower else ""
            reason = str(error).partition("\n")[0].partition(". ")[0] or "out of memory"
            print(f"error: {reason}{advice}", file=sys.stderr)
        else:
            raise
        return exit_code_of(error)
    return outcome if isinstance(outcome, int) else 0


def _is_lack_of_memory(error: Exception) -> bool:
    """Tell whether a model's step did not fit; a command without a model needs no torch here."""
    if "torch" not in sys.modules:
        return False
    from bert_scratch.training.memory import is_lack_of_memory

    return is_lack_of_memory(error)


def parse(settings: type[Settings], arguments: Sequence[str], *, prog: str) -> Settings | None:
    """Build a command's settings from flags, on top of `--config FILE` if given.

    Args:
        settings: the command's dataclass.
        arguments: what the user typed after the command.
        prog: the command's name in the help and in errors.

    Returns:
        The settings; None after --help, which is printed.

    Raises:
        InputError: if a flag is unknown or missing, or the file or a value is wrong.
    """
    _check_are_text(arguments)
    parser = _parser(settings, prog)
    parsed, unknown = parser.parse_known_args([_with_dashes(argument) for argument in arguments])
    given = vars(parsed)
    if given.pop("help", False):
        print(parser.format_help(), end="")
        return None
    if unknown:
        what = "flag" if unknown[0].startswith("-") else "argument without a flag:"
        flag = unknown[0].partition("=")[0]
        hint = did_you_mean(flag, parser.flags())
        raise InputError(f"unknown {what} {flag}{hint}; {prog} --help lists all flags")
    path = given.pop("config", None)
    values = given if path is None else read_json_object(path) | given
    missing = [flag_of(f.name) for f in _required(settings) if f.name not in values]
    if missing:
        raise InputError(f"{prog} needs {' and '.join(missing)}")
    return settings.from_dict(values, source=prog if path is None else f"{prog} --config {path}")


def _check_are_text(arguments: Sequence[str]) -> None:
    """Refuse arguments with bytes that Python could not decode: no file we write can name them."""
    for argument in arguments:
        if any("\ud800" <= character <= "\udfff" for character in argument):
            encoding = sys.getfilesystemencoding()
            or_else = "" if encoding == "utf-8" else ", or set PYTHONUTF8=1 if it is UTF-8"
            raise InputError(
                f"{argument!r} is not {encoding} text; give the file another name{or_else}"
            )


class _Parser(argparse.ArgumentParser):
    """Raises an error instead of printing it below the usage of sixty flags."""

    def error(self, message: str) -> NoReturn:
        raise InputError(message.removeprefix("argument "))

    def flags(self) -> list[str]:
        return [flag for action in self._actions for flag in action.option_strings]


def _parser(settings: type[Settings], prog: str) -> _Parser:
    """Return the parser of a command; its result holds only the flags that were given."""
    parser = _Parser(
        prog=prog,
        usage=f"{prog} [flags]",
        description=inspect.getdoc(settings),
        add_help=False,
        allow_abbrev=False,
        argument_default=argparse.SUPPRESS,
    )
    own = parser.add_argument_group("flags")
    own.add_argument("-h", "--help", action="store_true", help="Show this help and exit.")
    own.add_argument(
        "--config",
        type=_not_empty,
        metavar="FILE",
        help="Read settings from JSON whose keys are the flags; flags given here take precedence.",
    )
    hints = typing.get_type_hints(settings)
    fields = {field.name: field for field in dataclasses.fields(settings)}
    classes: list[type] = [settings, *reversed(settings.__mro__[1:-1])]
    for cls in classes:
        sentences = _sentences(cls)
        group = own
        if sentences and cls is not settings:
            group = parser.add_argument_group((inspect.getdoc(cls) or "").partition(".")[0])
        for name, sentence in sentences.items():
            help_text = sentence.replace("%", "%%") + _default_text(fields[name])
            options = _value_options(hints[name])
            group.add_argument(flag_of(name), dest=name, help=help_text, **options)
    return parser


def _value_options(annotation: Any) -> dict[str, Any]:
    """Return the argparse options for a field's type."""
    kinds = [kind for kind in typing.get_args(annotation) if kind not in (NoneType, Ellipsis)]
    kind = kinds[0] if kinds else annotation
    if kind is bool:
        return {"action": argparse.BooleanOptionalAction}
    options = {"type": _not_empty if kind is str else kind, "metavar": _METAVARS[kind]}
    if typing.get_origin(annotation) is tuple:
        options |= {"nargs": "+", "action": "extend"}
    words = [word for k in kinds if typing.get_origin(k) is typing.Literal for word in k.__args__]
    if words:
        options = {"type": _int_or(*words), "metavar": "|".join((*words, "INT"))}
    return options


_METAVARS = {str: "TEXT", int: "INT", float: "FLOAT"}


def _int_or(*words: str) -> Callable[[str], int | str]:
    """Return a function that reads an integer or one of the words."""

    def read(text: str) -> int | str:
        return text if text in words else int(text)

    read.__name__ = " or ".join((*words, "int"))  # argparse shows it
    return read


def _not_empty(text: str) -> str:
    """Refuse an empty value, as an unset shell variable leaves behind."""
    if not text:
        raise argparse.ArgumentTypeError("the value is empty")
    return text


def _default_text(field: dataclasses.Field[Any]) -> str:
    if field.default is dataclasses.MISSING:
        return " Required."
    value = field.default
    if value is None or value is False or value == ():
        return ""
    return f" Default: {' '.join(map(str, value)) if isinstance(value, tuple) else value}."


def _required(settings: type[Settings]) -> list[dataclasses.Field[Any]]:
    return [f for f in dataclasses.fields(settings) if f.default is dataclasses.MISSING]


@functools.cache
def _sentences(cls: type) -> dict[str, str]:
    """Return each field that a class itself defines, with its docstring."""
    definition = ast.parse(textwrap.dedent(inspect.getsource(cls))).body[0]
    assert isinstance(definition, ast.ClassDef)
    return {
        field.target.id: inspect.cleandoc(str(below.value.value))
        for field, below in pairwise(definition.body)
        if isinstance(field, ast.AnnAssign) and isinstance(field.target, ast.Name)
        if isinstance(below, ast.Expr) and isinstance(below.value, ast.Constant)
    }


def _with_dashes(argument: str) -> str:
    """Turn --max_seq_length=64 into --max-seq-length=64; values are unchanged."""
    name, equals, value = argument.partition("=")
    return flag_of(name[2:]) + equals + value if name.startswith("--") else argument


def _load(place: str) -> Any:
    module, _, name = place.partition(":")
    return getattr(importlib.import_module(f"bert_scratch.{module}"), name)


class _Stopped(KeyboardInterrupt):
    """A KeyboardInterrupt that does not make Python die of SIGINT at exit.

    An instance of exactly that class that passes through `exec` or `eval` of a string, as in any
    import that makes a dataclass, makes Python die of SIGINT at exit even if it was caught.
    """


@contextmanager
def _stopped_by_signals() -> Iterator[None]:
    """Treat SIGTERM and SIGHUP like Ctrl-C: unwind, remove temporary files, keep finished work.

    A second signal ends the process at once.
    """
    signals: list[int] = []

    def interrupt(number: int, _frame: FrameType | None) -> None:
        signals.append(number)
        if len(signals) > 1:
            os._exit(128 + number)
        raise _Stopped

    previous = {number: signal.signal(number, interrupt) for number in stop_signals()}
    try:
        yield
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
