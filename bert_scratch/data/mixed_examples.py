"""The examples of several components under one numbering, each made inside its own component."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np

from bert_scratch.data.examples import ExampleBatch, ExampleFacts, Integers


class ExampleSource(Protocol):
    """A source of examples: balanced or Google's pairs, joined text, or a mixture of them."""

    facts: ExampleFacts

    def batch(self, epochs: Integers, slots: Integers) -> ExampleBatch:
        """Return the example of each (epoch, slot), both [B] int64."""
        ...


class MixedExamples:
    """Components with consecutive slot ranges; all make the same kind of examples.

    Args:
        components: at least one.

    Attributes:
        component_sizes: examples per epoch of each component.
        facts: of all components together.
    """

    def __init__(self, components: Sequence[ExampleSource]) -> None:
        self._components = components
        facts = [component.facts for component in components]
        self.component_sizes = [fact.num_examples for fact in facts]
        sizes = self.component_sizes
        shares = [fact.random_next_share for fact in facts]
        self._first_slots = np.cumsum([0, *sizes])
        self.facts = ExampleFacts(
            num_examples=sum(sizes),
            num_documents=sum(fact.num_documents for fact in facts),
            num_one_sentence_documents=sum(fact.num_one_sentence_documents for fact in facts),
            random_next_share=None
            if shares[0] is None
            else float(np.average([share or 0.0 for share in shares], weights=sizes)),
        )

    def batch(self, epochs: Integers, slots: Integers) -> ExampleBatch:
        """Return the example of each (epoch of its component, slot), both [B] int64."""
        owners = np.searchsorted(self._first_slots, slots, side="right") - 1
        parts, rows = [], []
        for owner in np.unique(owners).tolist():
            own = np.flatnonzero(owners == owner)
            first = self._first_slots[owner]
            parts.append(self._components[owner].batch(epochs[own], slots[own] - first))
            rows.append(own)
        return _joined(parts).take(np.argsort(np.concatenate(rows)))


def _joined(parts: Sequence[ExampleBatch]) -> ExampleBatch:
    """Return the examples of all parts, one after the other."""
    labels = [part.labels for part in parts if part.labels is not None]
    word_starts = [part.word_starts for part in parts if part.word_starts is not None]
    return ExampleBatch(
        tokens=np.concatenate([part.tokens for part in parts]),
        segment_lengths=np.concatenate([part.segment_lengths for part in parts]),
        segments_per_row=np.concatenate([part.segments_per_row for part in parts]),
        labels=np.concatenate(labels) if labels else None,
        word_starts=np.concatenate(word_starts) if word_starts else None,
    )
