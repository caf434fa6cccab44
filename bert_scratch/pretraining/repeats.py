"""Count texts that occur more than once, in bounded memory."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TypeVar

MAX_FOLLOWED = 1 << 20
SHOWN_CHARACTERS = 80
SHOWN_TEXTS = 5

T = TypeVar("T")


@dataclass(frozen=True, kw_only=True)
class Repeated:
    """A text that occurs more than once."""

    count: int
    text: str
    """The beginning of the text."""


@dataclass(frozen=True, kw_only=True)
class RepeatReport:
    """How much of a corpus is repeated."""

    share: float
    """Share of texts that repeat an earlier one."""
    byte_share: float
    """Share of bytes in such texts."""
    one_followed_in: int
    """1 if all texts are counted; k if one in k different texts is, as a sample of all."""
    most_frequent: list[Repeated]


def _beginning(text: str) -> str:
    return text if len(text) <= SHOWN_CHARACTERS else f"{text[:SHOWN_CHARACTERS]}…"


class Repeats:
    """How often texts recur, by 64-bit hash.

    Only texts whose hash is a multiple of a stride are followed; the stride doubles when there are
    too many. They are a fair sample of the different texts, and each is counted to the end.
    """

    def __init__(self, max_followed: int = MAX_FOLLOWED) -> None:
        self._stride = 1
        self._max_followed = max_followed
        self._counts: dict[int, int] = {}
        self._repeated: dict[int, tuple[str, int]] = {}

    def add(self, text: str) -> None:
        """Count a text."""
        encoded = text.encode()
        number = int.from_bytes(hashlib.blake2b(encoded, digest_size=8).digest(), "big")
        if number % self._stride:
            return
        count = self._counts.get(number, 0) + 1
        self._counts[number] = count
        if count == 2:
            self._repeated[number] = (_beginning(text), len(encoded))
        if len(self._counts) > self._max_followed:
            self._stride *= 2
            self._counts = self._thinned(self._counts)
            self._repeated = self._thinned(self._repeated)

    def _thinned(self, numbers: dict[int, T]) -> dict[int, T]:
        return {number: kept for number, kept in numbers.items() if number % self._stride == 0}

    def report(self, total_bytes: int) -> RepeatReport:
        """Return what was counted.

        Args:
            total_bytes: bytes of all texts.
        """
        total = sum(self._counts.values())
        extra = ((self._counts[n] - 1) * size for n, (_, size) in self._repeated.items())
        found = [
            Repeated(count=self._counts[n], text=text) for n, (text, _) in self._repeated.items()
        ]
        found.sort(key=lambda repeated: (-repeated.count, repeated.text))
        return RepeatReport(
            share=(total - len(self._counts)) / max(1, total),
            byte_share=min(1.0, self._stride * sum(extra) / max(1, total_bytes)),
            one_followed_in=self._stride,
            most_frequent=found[:SHOWN_TEXTS],
        )
