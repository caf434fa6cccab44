"""Random numbers as a function of (seed, epoch, slot, ...), without state or order of draws.

Every function accepts Python ints, int64 numpy arrays or int64 torch tensors (CPU or CUDA), and
returns the same kind with the same bits. Only `*`, `+`, `^`, `&`, `>>` and `%` are used, so one
implementation serves all three; 64-bit products wrap in arrays but not in ints, and the bits above
the word are masked away in both.
"""

from __future__ import annotations

import enum
import functools
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

Words = Any
"""Integers in [0, 2**32): an int, or an array or tensor of int64."""

WORD = 0xFFFFFFFF
MAX_SLOTS = 1 << 32


class Purpose(enum.IntEnum):
    """What a draw is for: part of the last counter word, so no two uses share bits."""

    MASK = 0
    PAIR = 1
    PHASE = 2
    ORDER = 3
    PLAN = 4
    TARGET = 5
    MIXTURE = 6


def philox4x32(key: int, counter: Sequence[Words]) -> tuple[Words, Words, Words, Words]:
    """Return the four random words that belong to a counter under a key.

    Args:
        key: the seed; its low 64 bits are used.
        counter: four words, ints or arrays of one kind that broadcast against each other.

    Returns:
        Four words, broadcast to the common shape.

    Source:
        Salmon et al. 2011, "Parallel random numbers: as easy as 1, 2, 3"; Random123 Philox4x32-10.
    """
    arrays = [word for word in counter if not isinstance(word, int)]
    if arrays:
        # a Python int beside arrays would grow past 64 bits, where arrays wrap
        zero = arrays[0].reshape(-1)[:1] * 0
        counter = [word + zero if isinstance(word, int) else word for word in counter]
    word0, word1, word2, word3 = counter
    key0, key1 = key & WORD, key >> 32 & WORD
    for _ in range(10):
        product0, product1 = word0 * 0xD2511F53, word2 * 0xCD9E8D57
        # word1 and word3 carry high bits along until the xor that uses them is masked
        word0, word1 = ((product1 >> 32) ^ word1 ^ key0) & WORD, product1
        word2, word3 = ((product0 >> 32) ^ word3 ^ key1) & WORD, product0
        key0, key1 = key0 + 0x9E3779B9 & WORD, key1 + 0xBB67AE85 & WORD
    return word0, word1 & WORD, word2, word3 & WORD


def below(word: Words, limit: Words) -> Words:
    """Return a random integer in [0, limit) from a random word by multiply-high.

    Args:
        word: a random word.
        limit: at least 1 and, for arrays, below 2**31.
    """
    return word * limit >> 32


def below64(high: Words, low: Words, limit: Words) -> Words:
    """Return a random integer in [0, limit) from two random words by multiply-high.

    Args:
        high: a random word.
        low: another.
        limit: at least 1 and below 2**62.
    """
    limit_high, limit_low = limit >> 32, limit & WORD
    # arrays wrap at 64 bits: what is shifted down is masked, as in philox4x32
    crossed = high * limit_low
    middle = (low * limit_low >> 32 & WORD) + low * limit_high + (crossed & WORD)
    return high * limit_high + (crossed >> 32 & WORD) + (middle >> 32)


def permuted(positions: npt.NDArray[np.int64], size: int, seed: int, epoch: int) -> Any:
    """Return the image of each position under a keyed permutation of [0, size), in constant time.

    It is a Feistel network over pairs (left, right) of digits whose bases multiply to at least
    `size`; the few results beyond `size` are permuted again until they fall inside.

    Args:
        positions: [B] int64 in [0, size).
        size: at most 2**32.
        seed: the run's seed.
        epoch: each epoch has its own permutation.

    Returns:
        [B] int64 in [0, size), different for each position.

    Source:
        Black and Rogaway 2002, "Ciphers with arbitrary finite domains".
    """
    left_base = math.isqrt(size - 1) + 1
    right_base = -(-size // left_base)
    keys = _round_keys(seed, epoch)
    slots = positions
    outside = np.ones(len(positions), bool)
    while outside.any():
        left, right = slots // right_base, slots % right_base
        for key0, key1 in keys:
            left = (left + below(_mixed(right ^ key0), left_base)) % left_base
            right = (right + below(_mixed(left ^ key1), right_base)) % right_base
        slots = np.where(outside, left * right_base + right, slots)
        outside = slots >= size
    return slots


@functools.lru_cache(maxsize=64)
def _round_keys(seed: int, epoch: int) -> list[tuple[int, int]]:
    """Return the words that key the three double rounds of one epoch's permutation."""
    words = [w for block in (0, 1) for w in philox4x32(seed, (epoch, 0, block, Purpose.ORDER))]
    return [(words[0], words[1]), (words[2], words[3]), (words[4], words[5])]


def _mixed(word: Words) -> Words:
    """Mix a word so that every bit depends on every input bit (MurmurHash3's finaliser)."""
    word = ((word >> 16) ^ word) * 0x85EBCA6B & WORD
    word = ((word >> 13) ^ word) * 0xC2B2AE35 & WORD
    return (word >> 16) ^ word
