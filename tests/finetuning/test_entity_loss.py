"""Pins the loss of entity taggers to a sum over every sequence of tags that fits together.
Runs anywhere: `pytest tests/finetuning/test_entity_loss.py`."""

from __future__ import annotations

import itertools
import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from bert_scratch.finetuning.entity_loss import entity_loss_sum
from bert_scratch.finetuning.tagging_schemes import iob2_labels
from bert_scratch.model.losses import IGNORED_LABEL

LABELS = iob2_labels(["LOC", "PER"])


def fits(tags: tuple[int, ...]) -> bool:
    """Tell whether every I- but the first tag's continues an entity of its kind."""
    names = [LABELS[tag] for tag in tags]
    return all(b[0] != "I" or a[2:] == b[2:] for a, b in itertools.pairwise(names))


def expected(logits: torch.Tensor, labels: torch.Tensor) -> float:
    """Add up the score of each sequence, one by one."""
    total = 0.0
    for row, right in zip(logits.double(), labels.tolist(), strict=True):
        words = [place for place, tag in enumerate(right) if tag != IGNORED_LABEL]
        score = {
            tags: sum(row[at, tag].item() for at, tag in zip(words, tags, strict=True))
            for tags in itertools.product(range(len(LABELS)), repeat=len(words))
            if fits(tags)
        }
        everything = math.log(sum(map(math.exp, score.values())))
        total += everything - score[tuple(right[place] for place in words)]
    return total


@given(st.integers(0, 2**31), st.lists(st.booleans(), min_size=1, max_size=4))
def test_loss_is_that_of_the_right_tags_among_all_that_fit(
    seed: int, are_words: list[bool]
) -> None:
    draw = torch.Generator().manual_seed(seed)
    logits = 3 * torch.randn(2, len(are_words), len(LABELS), generator=draw)
    possible = [t for t in itertools.product(range(5), repeat=sum(are_words)) if fits(t)]
    labels = torch.full((2, len(are_words)), IGNORED_LABEL)
    for row in labels:
        chosen = possible[int(torch.randint(len(possible), (), generator=draw))]
        row[torch.tensor(are_words)] = torch.tensor(chosen, dtype=torch.int64)
    assert entity_loss_sum(logits, labels).item() == pytest.approx(
        expected(logits, labels), abs=1e-4
    )


@given(st.integers(0, 2**31), st.integers(1, 6))
def test_gradient_is_that_of_the_loss(seed: int, length: int) -> None:
    draw = torch.Generator().manual_seed(seed)
    logits = 3 * torch.randn(2, length, len(LABELS), generator=draw, dtype=torch.float64)
    labels = torch.randint(-1, len(LABELS), (2, length), generator=draw)
    labels = labels.masked_fill(labels < 0, IGNORED_LABEL)
    assert torch.autograd.gradcheck(
        lambda it: 3 * entity_loss_sum(it, labels), logits.requires_grad_()
    )


def test_logits_where_no_word_begins_have_no_part_however_large() -> None:
    logits = torch.zeros(1, 3, 5)
    logits[0, 1] = 200.0
    labels = torch.tensor([[1, IGNORED_LABEL, 2]])
    leaf = logits.requires_grad_()
    entity_loss_sum(leaf, labels).backward()
    assert leaf.grad is not None
    assert leaf.grad.isfinite().all() and not leaf.grad[0, 1].any()


def test_sequence_that_is_sure_costs_nothing_and_a_row_without_words_neither() -> None:
    labels = torch.tensor([[1, 2, 0, IGNORED_LABEL], [IGNORED_LABEL] * 4])
    logits = 50.0 * torch.nn.functional.one_hot(labels.clamp(min=0), 5).float()
    assert entity_loss_sum(logits, labels).item() == pytest.approx(0, abs=1e-6)


def test_gradient_repeats_to_the_bit() -> None:
    logits = torch.randn(8, 30, 5, generator=torch.Generator().manual_seed(0))
    labels = torch.arange(240).reshape(8, 30) % 2
    gradients = []
    for _ in range(3):
        leaf = logits.clone().requires_grad_()
        entity_loss_sum(leaf, labels).backward()
        gradients.append(leaf.grad)
    assert all(torch.equal(gradients[0], other) for other in gradients[1:])  # type: ignore[arg-type]
