"""Pins the random bits: Philox4x32-10 against Random123's known answers, the same in Python ints,
numpy and torch; the keyed permutation as a bijection without memory.

Run alone: pytest tests/data/test_philox.py. The CUDA case needs a device (marker gpu).
"""

from __future__ import annotations

import numpy as np
import pytest
import torch

from bert_scratch.data.philox import Purpose, below, below64, permuted, philox4x32

# counter, key, answer: kat_vectors of Random123
KNOWN_ANSWERS = [
    (
        (0, 0, 0, 0),
        (0, 0),
        (0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8),
    ),
    (
        (0xFFFFFFFF,) * 4,
        (0xFFFFFFFF, 0xFFFFFFFF),
        (0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD),
    ),
    (
        (0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344),
        (0xA4093822, 0x299F31D0),
        (0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1),
    ),
]


@pytest.mark.parametrize(("counter", "key", "answer"), KNOWN_ANSWERS)
def test_philox_gives_known_answers(counter, key, answer) -> None:
    seed = key[0] | key[1] << 32
    assert philox4x32(seed, counter) == answer
    arrays = philox4x32(seed, tuple(np.array([word]) for word in counter))
    assert tuple(int(word[0]) for word in arrays) == answer
    tensors = philox4x32(seed, tuple(torch.tensor([word]) for word in counter))
    assert tuple(int(word) for word in tensors) == answer


def test_philox_kinds_agree_on_broadcast_counters() -> None:
    slot, position = np.arange(2**32 - 7, 2**32)[:, None], np.arange(11)
    arrays = philox4x32(2**64 - 3, (5, slot, position, Purpose.MASK))
    tensors = philox4x32(
        2**64 - 3, (5, torch.from_numpy(slot), torch.from_numpy(position), Purpose.MASK)
    )
    for array, tensor in zip(arrays, tensors, strict=True):
        assert array.shape == (7, 11)
        assert (array == tensor.numpy()).all()
    assert int(arrays[2][6, 10]) == philox4x32(2**64 - 3, (5, 2**32 - 1, 10, Purpose.MASK))[2]


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_philox_gives_the_same_bits_on_cuda() -> None:
    counter = (torch.arange(64)[:, None], torch.arange(128), 3, 0)
    on_device = tuple(part.cuda() if torch.is_tensor(part) else part for part in counter)
    for cpu, cuda in zip(philox4x32(9, counter), philox4x32(9, on_device), strict=True):
        assert torch.equal(cpu, cuda.cpu())


def test_below_stays_inside_and_is_uniform() -> None:
    words = philox4x32(1, (np.arange(100_000), 0, 0, 0))[0]
    counts = np.bincount(below(words, 10), minlength=10)
    assert len(counts) == 10
    assert (np.abs(counts - 10_000) < 4 * np.sqrt(100_000 * 0.1 * 0.9)).all()
    assert below(0xFFFFFFFF, 7) == 6


@pytest.mark.parametrize("limit", [1, 7, 2**32 - 1, 2**32, 2**41 + 12345, 2**62 - 1])
def test_below64_is_the_high_half_of_the_product(limit: int) -> None:
    words = [0, 1, 2**31, 2**32 - 1, *philox4x32(1, (0, 0, 0, 0))]
    high, low = (word.ravel() for word in np.meshgrid(words, words))
    exact = [(h << 32 | w) * limit >> 64 for h, w in zip(high.tolist(), low.tolist(), strict=True)]
    assert below64(high, low, limit).tolist() == exact
    assert [below64(h, w, limit) for h, w in zip(high.tolist(), low.tolist(), strict=True)] == exact


@pytest.mark.parametrize("size", [1, 2, 3, 4, 7, 10, 97, 1000, 4096, 65_537])
def test_permuted_visits_every_slot_once(size: int) -> None:
    for epoch in range(3):
        slots = permuted(np.arange(size), size, 11, epoch)
        assert (np.sort(slots) == np.arange(size)).all()


def test_permuted_is_the_same_for_any_company() -> None:
    whole = permuted(np.arange(1000), 1000, 3, 2)
    for position in (0, 1, 500, 999):
        assert permuted(np.array([position]), 1000, 3, 2)[0] == whole[position]


def test_permuted_handles_the_largest_size() -> None:
    slots = permuted(np.array([0, 1, 2**32 - 1]), 2**32, 3, 0)
    assert len(set(slots.tolist())) == 3
    assert 0 <= slots.min() and slots.max() < 2**32


def test_permuted_spreads_each_position_over_all_slots() -> None:
    size, epochs = 10, 4000
    counts = np.zeros((size, size))
    for epoch in range(epochs):
        counts[np.arange(size), permuted(np.arange(size), size, 7, epoch)] += 1
    expected = epochs / size
    chi_square = ((counts - expected) ** 2 / expected).sum()
    degrees = (size - 1) ** 2
    assert abs(chi_square - degrees) < 4 * np.sqrt(2 * degrees)


def test_permuted_neighbours_do_not_stay_neighbours() -> None:
    slots = permuted(np.arange(10_000), 10_000, 5, 0)
    assert abs(np.corrcoef(slots[:-1], slots[1:])[0, 1]) < 0.04
    assert abs(np.corrcoef(slots, np.arange(10_000))[0, 1]) < 0.04


def test_permuted_differs_by_seed_and_epoch() -> None:
    base = permuted(np.arange(1000), 1000, 1, 0)
    assert (permuted(np.arange(1000), 1000, 1, 1) == base).mean() < 0.01
    assert (permuted(np.arange(1000), 1000, 2, 0) == base).mean() < 0.01


def test_permuted_bits_have_not_changed() -> None:
    assert permuted(np.arange(8), 1000, 42, 3).tolist() == GOLDEN_SLOTS


GOLDEN_SLOTS = [133, 277, 413, 978, 157, 710, 233, 923]
