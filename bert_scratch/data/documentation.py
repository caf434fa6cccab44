"""The built-in corpus: English prose from the docstrings of this Python installation.

The standard library, torch and numpy are on every machine that can run this package, and their
docstrings hold several megabytes of English. They are read with `ast`, so nothing is imported or
run. Code, doctests, tables, formulas and parameter types are dropped; sentences stay in order, one
per line. A blank line ends a document: one module, or several small ones of the same folder.
"""

from __future__ import annotations

import ast
import importlib.metadata
import importlib.util
import inspect
import os
import platform
import re
import sysconfig
import warnings
from collections.abc import Iterator
from pathlib import Path

from bert_scratch import durable
from bert_scratch.config import InputError
from bert_scratch.data.sentences import split_sentences

# Part of the file's name: a new number rebuilds what older versions of these rules wrote.
FORMAT = 1
SMALL_DOCUMENT_BYTES = 1_500
_SKIPPED_FOLDER = re.compile(
    r"tests?|testing|idle_test|site-packages|dist-packages|__pycache__|test_.*"
)
_SKIPPED_FILE = re.compile(r"(test_.*|.*_test|conftest)\.py")


def build_documentation_corpus(folder: Path) -> Path:
    """Write the documentation corpus of this Python installation, unless it is cached.

    Args:
        folder: where to cache it, under a name with the versions it was made from.

    Returns:
        The path of a UTF-8 text file: one sentence per line, a blank line between documents.

    Raises:
        InputError: if the installation holds no docstrings, or the folder cannot be written.
    """
    packages = _packages()
    versions = "-".join(f"{name}{version}" for name, version, _ in packages)
    path = folder / f"documentation{FORMAT}-{versions}.txt"
    if path.exists():
        return path
    seen: set[str] = set()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with (
            durable.durable_path(path) as unfinished,
            unfinished.open("w", encoding="utf-8", newline="\n") as out,
        ):
            for _, _, root in packages:
                for document in _documents(root, seen):
                    out.write("\n".join(document) + "\n\n")
            if not seen:
                raise InputError(
                    "this Python installation holds no docstrings to train on; give a text of "
                    "your own with --corpus"
                )
    except OSError as error:
        raise InputError(f"{folder}: cannot write the built-in corpus: {error}") from error
    return path


def _packages() -> list[tuple[str, str, Path]]:
    """Return (name, version, folder) of the packages to read, without importing any."""
    found = [("python", platform.python_version(), Path(sysconfig.get_paths()["stdlib"]))]
    for name in ("torch", "numpy"):
        spec = importlib.util.find_spec(name)
        if spec is not None and spec.origin is not None:
            found.append((name, importlib.metadata.version(name), Path(spec.origin).parent))
    return found


def _documents(root: Path, seen: set[str]) -> Iterator[list[str]]:
    """Yield documents of sentences: modules in path order, small neighbours joined.

    Args:
        root: the package's folder.
        seen: sentences written so far; grows, so that no sentence comes twice.
    """
    document: list[str] = []
    folder = None
    for path in _modules(root):
        for docstrings in _parts(path):
            # A module too small to be a document joins the next one of its folder.
            if path.parent != folder or sum(map(len, document)) >= SMALL_DOCUMENT_BYTES:
                if len(document) >= 2:
                    yield document
                document = []
            folder = path.parent
            for docstring in docstrings:
                for sentence in prose(docstring):
                    if sentence not in seen:
                        seen.add(sentence)
                        document.append(sentence)
    if len(document) >= 2:
        yield document


def _modules(root: Path) -> list[Path]:
    """Return the package's source files without tests, in path order."""
    found = []
    for parent, folders, names in os.walk(root):
        folders[:] = [name for name in folders if not _SKIPPED_FOLDER.fullmatch(name)]
        found += [
            Path(parent, name).relative_to(root).as_posix()
            for name in names
            if name.endswith(".py") and not _SKIPPED_FILE.fullmatch(name)
        ]
    return [root / path for path in sorted(found)]


def _parts(path: Path) -> Iterator[list[str]]:
    """Yield the documentation strings of each document in a module, in source order."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            tree = ast.parse(path.read_bytes())
    except (SyntaxError, ValueError, RecursionError, OSError):
        return
    if path.parts[-2:] == ("pydoc_data", "topics.py"):
        # The language reference as help() prints it, one topic per string.
        yield from ([topic] for topic in _strings(tree))
    else:
        yield list(_docstrings(tree))


_DOCUMENTED = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)


def _docstrings(node: ast.AST) -> Iterator[str]:
    """Yield the docstrings below a node, and those its calls attach to C functions."""
    if isinstance(node, _DOCUMENTED):
        docstring = ast.get_docstring(node, clean=False)
        if docstring:
            yield docstring
    for field in ("body", "orelse", "finalbody", "handlers"):
        children = getattr(node, field, None)
        for child in children if isinstance(children, list) else ():
            if isinstance(child, ast.Expr) and isinstance(child.value, ast.Call):
                function = child.value.func
                name = getattr(function, "id", getattr(function, "attr", ""))
                if "add_docstr" in name or "add_newdoc" in name:
                    yield from _strings(child.value)
            else:
                yield from _docstrings(child)


def _strings(node: ast.AST) -> Iterator[str]:
    """Yield the string constants in an expression that are long enough to be documentation."""
    for part in ast.walk(node):
        if isinstance(part, ast.Constant) and isinstance(part.value, str) and len(part.value) > 40:
            yield part.value


def prose(docstring: str) -> list[str]:
    """Return a docstring's English sentences without code, tables, formulas or markup.

    Args:
        docstring: as in the source, indented, in reStructuredText, numpydoc or Google style.
    """
    sentences = []
    for paragraph in _paragraphs(inspect.cleandoc(docstring).split("\n")):
        for sentence in split_sentences(_plain(paragraph)):
            if _is_prose(sentence):
                sentences.append(sentence)
    return sentences


_BULLET = re.compile(r"(?:[-*+•]|\(?(?:\d{1,2}|[a-zA-Z#])[.)])\s+(?=\S)")
# The head of an entry in a list of parameters: "name (type): ", ":param name: ", "@param x:".
_ENTRY = re.compile(
    r"(?::\w+[^:`]*:|@\w+ [^:]*:"
    r"|[`*]*\w[\w.]*(?:, ?\*{0,2}\w+)*[`*]*\s*(?:\([^)]*\))?\s*:)\s+(?=\S)"
)
_TYPED = re.compile(r"[\w*`'\".\[\], {}|()]+ : \S")
_HEADING = re.compile(
    r"(?:args?|arguments|kwargs|keyword arg\w*|params?|parameters|other parameters|returns?|yields?"
    r"|raises|examples?|notes?|see also|references|attributes|shape|inputs?|outputs?|warnings?"
    r"|usage|methods|todo|warns|variables|supported types|type args|constraints?)\s*:{0,2}",
    re.IGNORECASE,
)
_KEPT_DIRECTIVES = (
    "note",
    "warning",
    "tip",
    "important",
    "caution",
    "attention",
    "hint",
    "seealso",
)
_DIRECTIVE = re.compile(r"\.\. +([\w:-]+?):: *(.*)")
_RULE = re.compile(r"[-=~^\"'`#*+_.:<>|\s]{3,}")


def _paragraphs(lines: list[str]) -> Iterator[str]:
    """Yield the text paragraphs of a docstring; code, doctests and tables are skipped."""
    paragraph: list[str] = []
    indent = 0
    skip_above = -1  # skip lines indented deeper than this
    in_doctest = in_fence = False
    for number, line in enumerate([*lines, ""]):
        text = line.strip()
        depth = len(line) - len(line.lstrip())
        after = lines[number + 1].strip() if number + 1 < len(lines) else ""
        if text.startswith("```"):
            in_fence, text = not in_fence, ""
        elif in_fence:
            continue
        elif text and skip_above >= 0 and depth > skip_above:
            continue
        elif text:
            skip_above = -1
        in_doctest = bool(text) and (in_doctest or text.startswith((">>>", "...", "In [", "$ ")))
        underlined = len(after) >= 3 and _RULE.fullmatch(after) is not None
        directive = _DIRECTIVE.match(text)
        is_item = _BULLET.match(text) is not None or _ENTRY.match(text) is not None
        starts = depth != indent and len(paragraph) != 1
        if not text or in_doctest or underlined or directive or is_item or starts:
            if paragraph:
                yield " ".join(paragraph)
            paragraph, indent = [], depth
        if directive:
            if directive[1] not in _KEPT_DIRECTIVES:
                skip_above = depth
                continue
            text = directive[2]
        if text.endswith("::"):
            skip_above = depth
            text = text[:-1]
        if not text or in_doctest or underlined or _is_structure(text):
            continue
        paragraph.append(text)
        if len(paragraph) == 2:
            indent = depth


def _is_structure(text: str) -> bool:
    """Tell lines that hold no prose: rules, tables, section names, numpydoc's "x : int"."""
    return bool(
        _RULE.fullmatch(text)
        or _HEADING.fullmatch(text)
        or _TYPED.match(text)
        or text.startswith(("|", "+-", ".. ", "@", "#"))
        or text.count("  ") > 1
    )


_MARKUP = [
    (re.compile(r":math:`([\w .,+-]*)`"), r"\1"),
    (re.compile(r":math:`[^`]*`|\$[^$]+\$"), "\0"),
    (re.compile(r"(?::[\w-]+)*:`~(?:[\w.]*\.)?([^`]+)`"), r"\1"),
    (re.compile(r"(?::[\w-]+)*:`([^`<]+?)\s*<[^`]*>`"), r"\1"),
    (re.compile(r"(?::[\w-]+)+:`!?([^`]+)`"), r"\1"),
    (re.compile(r"`([^`<]+?)\s*<[^`>]*>`__?"), r"\1"),
    (re.compile(r"\s*\[[#\w*]{1,12}\]_"), ""),
    (re.compile(r"``([^`]*)``|`([^`]*)`_{0,2}"), r"\1\2"),
    (re.compile(r"(?<![\w*])\*{1,2}([^\s*](?:[^*]*[^\s*])?)\*{1,2}(?![\w*])"), r"\1"),
    (re.compile(r"\|[\w ]+\||\{\w*\}"), "\0"),
    (re.compile(r"\\ ?"), ""),
    (re.compile(r"\s+"), " "),
    (re.compile(r" (?=[,.;:!?](?:\s|$))"), ""),
]


def _plain(paragraph: str) -> str:
    """Return a paragraph without list marker, entry head or inline markup.

    What has no plain text (formulas, substitutions) becomes NUL, and its sentence is dropped.
    """
    text = _BULLET.sub("", paragraph, count=1) if _BULLET.match(paragraph) else paragraph
    entry = _ENTRY.match(text)
    if entry:
        text = text[entry.end() :]
    for pattern, replacement in _MARKUP:
        text = pattern.sub(replacement, text)
    text = text.strip()
    if entry and text[:1].islower():
        text = text[0].upper() + text[1:]
    return text if text.endswith((".", "!", "?", ":", ".)", '."')) else f"{text}."


_WORD = re.compile(r"[A-Za-z]+(?:['’-][A-Za-z]+)*[.,;:!?)\"']*$")
_FUNCTION_WORDS = frozenset(
    "the a an of to is are in for and or if by with this that be it as on from not when which can "
    "will was has have all each any its at no but than must should may does do you we they".split()
)


def _is_prose(sentence: str) -> bool:
    """Tell an English sentence from a fragment, a signature or a line of code."""
    if not sentence[0].isupper() or sentence[-1] not in ".!?:)\"'" or "\0" in sentence:
        return False
    words = sentence.split()
    if not 5 <= len(words) <= 100:
        return False
    num_plain = sum(_WORD.match(word.lstrip("(\"'")) is not None for word in words)
    num_function = sum(word.lower() in _FUNCTION_WORDS for word in words)
    return num_plain >= 0.75 * len(words) and num_function >= 0.1 * len(words)
