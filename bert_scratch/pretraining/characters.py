"""The characters of a corpus: its alphabet, its scripts, and traces of wrong encodings."""

from __future__ import annotations

import re
import sys
import unicodedata
from collections import Counter
from dataclasses import dataclass

import numpy as np

from bert_scratch.data.normalisation import JOINERS, script_of

_MAX_EXAMPLES = 3
_BYTE_ORDER_MARK = "\ufeff"
_WHITE_SPACE_CONTROLS = "\t\n\r\x0b\x0c\x1c\x1d\x1e\x1f\x85"
# UTF-8 read as Windows-1252: a letter for the first byte, signs for the rest. Only the first bytes
# of the commonest scripts are looked for, since "ß»" and "à»" may be real German and French.
_SIGN = "[\x80-\xbf€‚ƒ„…†‡ˆ‰Š‹ŒŽ‘’“”•–—˜™š›œžŸ]"
_MOJIBAKE = re.compile(f"[ÂÃÎÐÑ]{_SIGN}|[âãäåæçèéï]{_SIGN}{{2}}")
_LONE_JOINER = re.compile(rf"(?<!\S)[{JOINERS}]|[{JOINERS}](?!\S)")


@dataclass(frozen=True, kw_only=True)
class Mojibake:
    """Characters that were decoded wrongly, and what they probably were."""

    found: str
    meant: str
    count: int


@dataclass(frozen=True, kw_only=True)
class CharacterReport:
    """The characters that a corpus is written with, not counting white space."""

    num_characters: int
    alphabet_size: int
    """Number of different characters."""
    scripts: dict[str, float]
    """Share of the letters by script, the commonest first."""
    replacement_characters: int
    """U+FFFD, which stands for bytes that could not be decoded."""
    control_characters: int
    byte_order_marks: int
    """U+FEFF, which belongs only at the beginning of a file."""
    private_or_unassigned: int
    """Characters without a meaning in Unicode."""
    lone_joiners: int
    """Zero-width joiners and non-joiners with nothing on one side."""
    mojibake: int
    """Characters that look like UTF-8 read as Windows-1252, such as "Ã©" for "é"."""
    mojibake_examples: list[Mojibake]


class CharacterTally:
    """Counts characters while text streams by."""

    def __init__(self) -> None:
        self._counts = np.zeros(sys.maxunicode + 1, np.int64)
        self._lone_joiners = 0
        self._mojibake: Counter[str] = Counter()

    def add(self, text: str) -> None:
        """Count the characters of a text; best called with some 100,000 at a time."""
        found = np.bincount(np.frombuffer(text.encode("utf-32-le"), "<u4"))
        self._counts[: len(found)] += found
        self._mojibake.update(_MOJIBAKE.findall(text))
        if any(joiner in text for joiner in JOINERS):
            self._lone_joiners += len(_LONE_JOINER.findall(text))

    def alphabet(self) -> Counter[str]:
        """Return the count of each character but white space, the commonest first."""
        seen = np.flatnonzero(self._counts)
        ranked = seen[np.argsort(-self._counts[seen], kind="stable")].tolist()
        return Counter({chr(c): int(self._counts[c]) for c in ranked if not chr(c).isspace()})

    def report(self) -> CharacterReport:
        """Return what was counted."""
        alphabet = self.alphabet()
        kinds: Counter[str] = Counter()
        for character, count in alphabet.items():
            if character not in _WHITE_SPACE_CONTROLS:
                kinds[unicodedata.category(character)] += count
        meant = ((found, _meant(found), count) for found, count in self._mojibake.items())
        wrong = sorted((w for w in meant if w[1]), key=lambda w: (-w[2], w[0]))
        return CharacterReport(
            num_characters=alphabet.total(),
            alphabet_size=len(alphabet),
            scripts=_scripts(alphabet),
            replacement_characters=alphabet["\ufffd"],
            control_characters=kinds["Cc"],
            byte_order_marks=alphabet[_BYTE_ORDER_MARK],
            private_or_unassigned=kinds["Co"] + kinds["Cn"],
            lone_joiners=self._lone_joiners,
            mojibake=sum(count for _, _, count in wrong),
            mojibake_examples=[
                Mojibake(found=found, meant=meant, count=count)
                for found, meant, count in wrong[:_MAX_EXAMPLES]
            ],
        )


def _scripts(alphabet: Counter[str]) -> dict[str, float]:
    counts: Counter[str] = Counter()
    for character, count in alphabet.items():
        if character.isalpha():
            counts[script_of(character)] += count
    ranked = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    return {script: count / counts.total() for script, count in ranked}


def _meant(found: str) -> str:
    """Return the character that was decoded wrongly, or "" if there is none."""
    try:
        encoded = b"".join(c.encode("latin-1" if c < "\u0100" else "cp1252") for c in found)
        return encoded.decode("utf-8")
    except UnicodeError:
        return ""
