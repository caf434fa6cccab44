"""Values of annotated fields as plain JSON, and back: what may stand there, and what it becomes."""

from __future__ import annotations

import types
import typing
from collections.abc import Mapping
from pathlib import Path
from typing import Any


def plain(value: Any) -> Any:
    """Return a value as plain JSON: paths become strings, tuples lists."""
    if isinstance(value, Path):
        return str(value)
    if isinstance(value, (tuple, list)):
        return [plain(item) for item in value]
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    return value


def matches(value: Any, annotation: Any) -> bool:
    """Tell whether a plain JSON value is valid for the annotated type."""
    origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
    if origin in (typing.Union, types.UnionType):
        return any(matches(value, argument) for argument in arguments)
    if origin is typing.Literal:
        return value in arguments
    if origin is tuple:
        return isinstance(value, (list, tuple)) and all(matches(v, arguments[0]) for v in value)
    if origin is dict:
        return isinstance(value, Mapping) and all(
            _is_key(key, arguments[0]) and matches(item, arguments[1])
            for key, item in value.items()
        )
    if annotation in (None, type(None)):
        return value is None
    if annotation is bool or isinstance(value, bool):
        return annotation is bool and isinstance(value, bool)
    if annotation is float:
        return isinstance(value, (int, float))
    if annotation is Path:
        return isinstance(value, (str, Path))
    return isinstance(value, annotation)


def _is_key(key: Any, annotation: Any) -> bool:
    """Tell whether a JSON object's key, always a string, is valid for the annotated type."""
    if annotation is int and isinstance(key, str):
        return key.isascii() and key.isdigit()
    return isinstance(key, annotation)


def typed(value: Any, annotation: Any) -> Any:
    """Convert a plain JSON value that matches the annotation to the field's type."""
    origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
    if origin in (typing.Union, types.UnionType):
        chosen = next(argument for argument in arguments if matches(value, argument))
        return typed(value, chosen)
    if origin is tuple:
        return tuple(typed(item, arguments[0]) for item in value)
    if origin is dict:
        return {arguments[0](key): item for key, item in value.items()}
    if annotation in (float, Path):
        return annotation(value)
    return value


def type_name(annotation: Any) -> str:
    """Return how an error calls the annotated type."""
    return getattr(annotation, "__name__", str(annotation)).replace("NoneType", "null")
