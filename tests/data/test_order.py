"""Pins the line of examples: every slot once an epoch, and in a mixture exact shares of each block,
each component in epochs of its own.

Run alone: pytest tests/data/test_order.py.
"""

from __future__ import annotations

import numpy as np
import pytest

from bert_scratch.data.mixture import BLOCK_PLACES
from bert_scratch.data.order import EpochOrder, MixedOrder

SIZES = [700, 30, 5000]
COUNTS = [512, 100, 412]
FIRST_SLOTS = np.array([0, 700, 730, 5730])


def line(order: EpochOrder | MixedOrder, num_blocks: int) -> tuple[np.ndarray, np.ndarray]:
    return order.at(np.arange(num_blocks * BLOCK_PLACES))


def owners(slots: np.ndarray) -> np.ndarray:
    return np.searchsorted(FIRST_SLOTS, slots, side="right") - 1


def test_an_epoch_is_every_slot_once_in_its_own_order() -> None:
    epochs, slots = EpochOrder(300, 7).at(np.arange(900))
    assert epochs.tolist() == [0] * 300 + [1] * 300 + [2] * 300
    for start in (0, 300, 600):
        assert sorted(slots[start : start + 300]) == list(range(300))
    assert slots[:300].tolist() != slots[300:600].tolist()


def test_every_block_has_the_exact_counts_in_an_order_of_its_own() -> None:
    _, slots = line(MixedOrder(SIZES, COUNTS, 7), 12)
    blocks = owners(slots).reshape(12, BLOCK_PLACES)
    assert all(np.bincount(block).tolist() == COUNTS for block in blocks)
    assert len({block.tobytes() for block in blocks}) == 12


def test_components_are_spread_over_the_block() -> None:
    _, slots = line(MixedOrder(SIZES, COUNTS, 7), 200)
    first_half = owners(slots).reshape(200, BLOCK_PLACES)[:, : BLOCK_PLACES // 2]
    counts = np.bincount(first_half.ravel(), minlength=3)
    expected = np.array(COUNTS) * 100
    spread = np.sqrt(expected * (1 - np.array(COUNTS) / BLOCK_PLACES) / 2)
    assert (np.abs(counts - expected) < 4 * spread).all()


def test_each_component_sees_all_its_examples_before_any_again() -> None:
    epochs, slots = line(MixedOrder(SIZES, COUNTS, 7), 40)
    for component, size in enumerate(SIZES):
        own = owners(slots) == component
        numbers = slots[own] - FIRST_SLOTS[component]
        assert epochs[own].tolist() == (np.arange(own.sum()) // size).tolist()
        for start in range(0, len(numbers) - size + 1, size):
            assert len(np.unique(numbers[start : start + size])) == size


def test_no_example_comes_twice_and_components_do_not_move_alike() -> None:
    epochs, slots = line(MixedOrder([600, 600], [512, 512], 7), 20)
    assert len(set(zip(epochs.tolist(), slots.tolist(), strict=True))) == len(slots)
    first, second = (slots[slots // 600 == component] % 600 for component in (0, 1))
    assert first[:100].tolist() != second[:100].tolist()


@pytest.mark.parametrize("order", [EpochOrder(300, 7), MixedOrder(SIZES, COUNTS, 7)])
def test_any_places_give_what_the_whole_line_gives(order: EpochOrder | MixedOrder) -> None:
    whole = np.stack(line(order, 8))
    places = np.random.default_rng(0).integers(0, 8 * BLOCK_PLACES, 500)
    assert (np.stack(order.at(places)) == whole[:, places]).all()


def test_far_places_cost_no_more() -> None:
    order = MixedOrder(SIZES, COUNTS, 7)
    epochs, slots = order.at(np.arange(10**12, 10**12 + 8))
    assert (slots < 5730).all() and (epochs > 10**7).all()


def test_seeds_give_other_orders() -> None:
    one, other = (line(MixedOrder(SIZES, COUNTS, seed), 1)[1] for seed in (7, 8))
    assert one.tolist() != other.tolist()


def test_order_bits_have_not_changed() -> None:
    epochs, slots = MixedOrder(SIZES, COUNTS, 7).at(np.array([0, 1, 1023, 1024, 10**6]))
    assert list(zip(epochs.tolist(), slots.tolist(), strict=True)) == GOLDEN


GOLDEN = [(0, 560), (0, 254), (0, 2007), (0, 698), (3255, 729)]
