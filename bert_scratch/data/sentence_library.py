"""Split documents into sentences with a library the user has installed: pysbd, or any function.

The library is imported on first use, once per process, and its result is checked: the sentences
must hold the text's characters in order, or labels and masks would belong to different text.
"""

from __future__ import annotations

import functools
import importlib
import importlib.util
import warnings
from collections.abc import Callable
from typing import Any

from bert_scratch.config import InputError, did_you_mean

_LONGEST_QUOTE = 60


def is_library(name: str) -> bool:
    """Tell whether a value of --sentences names a library: pysbd[:LANGUAGE], MODULE:FUNCTION."""
    module, colon, function = name.partition(":")
    if not colon:
        return name == "pysbd"
    return all(part.isidentifier() for part in module.split(".")) and function.isidentifier()


def check_library(name: str) -> None:
    """Check that a library is installed, without importing it.

    Raises:
        InputError: if it is not, with the command that installs pysbd.
    """
    package = name.partition(":")[0].partition(".")[0]
    if importlib.util.find_spec(package) is not None:
        return
    if package == "pysbd":
        raise InputError(f'--sentences {name} needs pysbd: pip install "bert-scratch[sentences]"')
    raise InputError(
        f"--sentences {name}: there is no module {package!r} to import; install it, or add its "
        "folder to PYTHONPATH"
    )


def split_by_library(paragraph: str, name: str) -> list[str]:
    """Split one paragraph by a library.

    Args:
        paragraph: text.
        name: pysbd, pysbd:LANGUAGE or MODULE:FUNCTION.

    Returns:
        The sentences, stripped, non-empty, in order; joined they hold every non-space character.

    Raises:
        InputError: naming the library, if it cannot be used, fails, or changes the text.
    """
    split = _open_library(name)
    start = paragraph[:_LONGEST_QUOTE]
    try:
        found = split(paragraph)
    except Exception as error:
        kind = type(error).__name__
        raise InputError(f"--sentences {name}: failed on {start!r}: {kind}: {error}") from error
    if not isinstance(found, list) or not all(isinstance(sentence, str) for sentence in found):
        raise InputError(f"--sentences {name}: must return a list of str; got {found!r:.60}")
    if "".join("".join(found).split()) != "".join(paragraph.split()):
        raise InputError(
            f"--sentences {name}: its sentences are not the characters of the text in order, in "
            f"the paragraph {start!r}; use --sentences rules"
        )
    return [sentence.strip() for sentence in found if sentence.strip()]


@functools.cache
def _open_library(name: str) -> Callable[[str], Any]:
    """Import a library and return its function: text -> sentences."""
    check_library(name)
    module_name, _, function_name = name.partition(":")
    with warnings.catch_warnings():
        # pysbd's patterns have invalid escapes, which Python warns about on first compilation.
        warnings.simplefilter("ignore", SyntaxWarning)
        warnings.simplefilter("ignore", DeprecationWarning)
        try:
            module = importlib.import_module(module_name)
        except Exception as error:  # importing runs the user's code, which may raise anything
            kind = type(error).__name__
            raise InputError(f"--sentences {name}: cannot be imported: {kind}: {error}") from error
    if module_name == "pysbd":
        return _open_pysbd(module, name, function_name or "en")
    function: Callable[[str], Any] | None = getattr(module, function_name, None)
    if function is None or not callable(function):
        names = [key for key, value in vars(module).items() if callable(value)]
        hint = did_you_mean(function_name, names)
        raise InputError(
            f"--sentences {name}: {module_name} has no function {function_name!r}{hint}"
        )
    return function


def _open_pysbd(pysbd: Any, name: str, language: str) -> Callable[[str], Any]:
    known = sorted(pysbd.languages.LANGUAGE_CODES)
    if language not in known:
        raise InputError(
            f"--sentences {name}: pysbd knows the languages {', '.join(known)}; got {language!r}"
        )
    segment: Callable[[str], Any] = pysbd.Segmenter(language=language, clean=False).segment
    return segment
