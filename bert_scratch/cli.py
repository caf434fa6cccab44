"""One parser for `python pretrain.py`, `bert-scratch COMMAND` and `python -m bert_scratch`.

Flags are built from each command's dataclass: a field is a flag, the sentence under it the help.
"""

from __future__ import annotations

import importlib
import signal
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from types import FrameType
from typing import Any

from bert_scratch.config import InputError, Settings, did_you_mean

INPUT_ERROR_EXIT_CODE = 2


@dataclass(frozen=True)
class Command:
    """Where a command's settings and function live; imported when it is called."""

    module: str
    settings: str
    function: str

    def load(self) -> tuple[type[Settings], Callable[[Any], object]]:
        """Import the command and return its dataclass and its function."""
        module = importlib.import_module(f"bert_scratch.{self.module}")
        return getattr(module, self.settings), getattr(module, self.function)


COMMANDS = {
    "prepare": Command("pretraining.prepare", "PrepareConfig", "run_prepare"),
    "pretrain": Command("pretraining.pretrain", "PretrainConfig", "pretrain"),
    "evaluate": Command("pretraining.evaluate", "EvaluateConfig", "run_evaluate"),
    "fill-mask": Command("inference.fill_mask", "FillMaskConfig", "run_fill_mask"),
    "next-sentence": Command("inference.next_sentence", "NextSentenceConfig", "run_next_sentence"),
    "convert": Command("inference.convert", "ConvertConfig", "run_convert"),
    "compare-hf": Command("testing", "CompareConfig", "run_compare"),
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run `bert-scratch COMMAND ...` and return its exit code."""
    arguments = sys.argv[1:] if arguments is None else arguments
    names = ", ".join(COMMANDS)
    if not arguments or arguments[0] in ("-h", "--help"):
        print(f"usage: bert-scratch COMMAND [flags]\n\ncommands: {names}\n")
        print("bert-scratch COMMAND --help lists the flags of a command")
        return 0 if arguments else INPUT_ERROR_EXIT_CODE
    name, *rest = arguments
    if name not in COMMANDS:
        hint = did_you_mean(name, COMMANDS)
        print(f"error: unknown command {name!r}{hint}; known: {names}", file=sys.stderr)
        return INPUT_ERROR_EXIT_CODE
    return run_command(name, rest)


def run_command(name: str, arguments: Sequence[str]) -> int:
    """Parse one command's flags, run it, and turn what goes wrong into an exit code."""
    settings, function = COMMANDS[name].load()
    signal.signal(signal.SIGTERM, _interrupt)
    try:
        outcome = function(parse(settings, arguments, prog=f"bert-scratch {name}"))
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        return INPUT_ERROR_EXIT_CODE
    except KeyboardInterrupt:
        print("stopped; the same command goes on with what is finished", file=sys.stderr)
        return 75
    except Exception as error:
        code = getattr(error, "exit_code", None)
        if code is None:
            raise
        print(f"{error}", file=sys.stderr)
        return int(code)
    return outcome if isinstance(outcome, int) else 0


def parse(settings: type[Settings], arguments: Sequence[str], *, prog: str) -> Settings:
    """Build a command's settings from flags, on top of `--config FILE` when it is given.

    Raises:
        InputError: if the file or a value is wrong.
        SystemExit: with code 2 on an unknown flag, with a suggestion; 0 after --help.
    """
    import tyro

    default: Any = None
    arguments = list(arguments)
    for index, argument in enumerate(arguments):
        if argument == "--config" or argument.startswith("--config="):
            inline = argument.partition("=")[2]
            if not inline and index + 1 == len(arguments):
                raise InputError("--config needs a file")
            path = inline or arguments[index + 1]
            default = settings.from_json_file(path)
            del arguments[index : index + (1 if inline else 2)]
            break
    description = (settings.__doc__ or "").strip()
    extra = "--config FILE reads saved settings (JSON) first; flags come on top."
    parsed: Settings = tyro.cli(
        settings,
        prog=prog,
        args=arguments,
        default=default,
        description=f"{description}\n\n{extra}",
    )
    return parsed


def _interrupt(_number: int, _frame: FrameType | None) -> None:
    """Treat SIGTERM like Ctrl-C: unwind, so that temporary files go and finished work stays."""
    raise KeyboardInterrupt
