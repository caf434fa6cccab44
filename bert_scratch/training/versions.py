"""The versions of the libraries that a run's bits depend on."""

from __future__ import annotations

import platform
from importlib.metadata import version

PACKAGES = ("torch", "numpy", "tokenizers", "safetensors")


def versions(*others: str) -> dict[str, str]:
    """Return the versions that determine a run's bits, Python's first.

    Args:
        others: further packages, such as the benchmark's.
    """
    packages = (*PACKAGES, *others)
    return {"python": platform.python_version(), **{name: version(name) for name in packages}}
