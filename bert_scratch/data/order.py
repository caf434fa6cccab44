"""Which example stands at each place of the endless line that steps take their batches from."""

from __future__ import annotations

import functools
from collections.abc import Sequence

import numpy as np

from bert_scratch.data.examples import Integers
from bert_scratch.data.mixture import BLOCK_PLACES
from bert_scratch.data.philox import Purpose, permuted, philox4x32


class EpochOrder:
    """Epoch after epoch, each with all examples once in its own order.

    Args:
        num_examples: examples in an epoch.
        seed: the key of the order.
    """

    def __init__(self, num_examples: int, seed: int) -> None:
        self._num_examples = num_examples
        self._seed = seed

    def at(self, places: Integers) -> tuple[Integers, Integers]:
        """Return the epoch and the slot at each place, [B] int64."""
        epochs, positions = places // self._num_examples, places % self._num_examples
        slots = np.empty_like(positions)
        for epoch in np.unique(epochs).tolist():
            within = epochs == epoch
            slots[within] = permuted(positions[within], self._num_examples, self._seed, epoch)
        return epochs, slots


class MixedOrder:
    """Several components interleaved, with exact shares of each block of places.

    A component's examples come in the same order as they would alone: none repeats before all
    were seen. Its slots follow those of the components before it.

    Args:
        sizes: examples per epoch of each component.
        counts: places of each component in a block, from `block_counts`.
        seed: the key of the order.
    """

    def __init__(self, sizes: Sequence[int], counts: Sequence[int], seed: int) -> None:
        self._orders = [
            EpochOrder(size, component_seed(seed, number)) for number, size in enumerate(sizes)
        ]
        self._first_slots = np.cumsum([0, *sizes])
        self._counts = np.array(counts)
        self._seed = _derived_seed(seed, (0, 1))
        self._block = functools.lru_cache(maxsize=64)(self._block_of)

    def at(self, places: Integers) -> tuple[Integers, Integers]:
        """Return the component's epoch and the slot at each place, [B] int64."""
        components, numbers = np.empty_like(places), np.empty_like(places)
        blocks, within = np.divmod(places, BLOCK_PLACES)
        for block in np.unique(blocks).tolist():
            rows = blocks == block
            components[rows], numbers[rows] = (part[within[rows]] for part in self._block(block))
        epochs, slots = np.empty_like(places), np.empty_like(places)
        for component in np.unique(components).tolist():
            rows = components == component
            epochs[rows], slots[rows] = self._orders[component].at(numbers[rows])
        return epochs, slots + self._first_slots[components]

    def _block_of(self, block: int) -> tuple[Integers, Integers]:
        """Return the component of each place of a block, and its place in that component's line."""
        shuffled = permuted(np.arange(BLOCK_PLACES), BLOCK_PLACES, self._seed, block)
        ends = np.cumsum(self._counts)
        components = np.searchsorted(ends, shuffled, side="right")
        numbers = np.empty(BLOCK_PLACES, np.int64)
        # number the places, sorted by component
        numbers[np.argsort(components, kind="stable")] = np.arange(BLOCK_PLACES)
        numbers += block * self._counts[components] - (ends - self._counts)[components]
        return components, numbers


def component_seed(seed: int, component: int) -> int:
    """Return the key of a component's order and pairs, different for each component."""
    return _derived_seed(seed, (component, 0))


def _derived_seed(seed: int, name: tuple[int, int]) -> int:
    high, low, *_ = philox4x32(seed, (*name, 0, Purpose.MIXTURE))
    return int(high) << 32 | int(low)
