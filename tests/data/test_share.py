"""Pins a rank's share of a step: each example once over all ranks, equal work, the same masks.
Runs anywhere: `pytest tests/data/test_share.py`."""

from __future__ import annotations

import time
import tracemalloc
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bert_scratch.batch import Batch
from bert_scratch.config import InputError
from bert_scratch.data.examples import ExampleBatch
from bert_scratch.data.loader import ExampleLoader, evaluation_batches
from bert_scratch.data.order import EpochOrder
from bert_scratch.data.share import examples_of_rank
from bert_scratch.data.wordpiece import special_ids, unselectable_ids

WORLD_SIZES = [1, 2, 3, 4, 7, 8]


@pytest.fixture
def loader_of(store, tokenizer) -> Callable[..., ExampleLoader]:
    def build(**choices) -> ExampleLoader:
        fixed = {
            "batch_size": 8,
            "max_seq_length": 32,
            "seed": 7,
            "special_ids": special_ids(tokenizer),
            "unselectable_ids": unselectable_ids(tokenizer),
        }
        return ExampleLoader(store, **{**fixed, **choices})

    return build


def rows(batches: list[Batch]) -> list[tuple]:
    """Return what each row is, whatever it is padded to: id, tokens, what is predicted, label."""
    found = []
    for batch in batches:
        width = batch.input_ids.shape[1]
        for row, length in enumerate(batch.attention_mask.sum(dim=1).tolist()):
            mine = batch.masked_positions // width == row
            labels = batch.next_sentence_label
            found.append(
                (
                    tuple(batch.example_ids[row].tolist()),
                    tuple(batch.input_ids[row, :length].tolist()),
                    tuple((batch.masked_positions[mine] % width).tolist()),
                    tuple(batch.masked_labels[mine].tolist()),
                    tuple(batch.token_type_ids[row, :length].tolist()),
                    None if labels is None else int(labels[row]),
                )
            )
    return sorted(found)


@pytest.mark.parametrize("world_size", WORLD_SIZES)
@pytest.mark.parametrize("pair_task", ["nsp", "none"])
def test_ranks_together_have_the_batch_of_one(loader_of, world_size: int, pair_task: str) -> None:
    whole = loader_of(pair_task=pair_task)
    ranks = [
        loader_of(pair_task=pair_task, rank=rank, world_size=world_size)
        for rank in range(world_size)
    ]
    for step in (0, 5):
        shares = [rank.batch_at(step) for rank in ranks]
        assert rows(shares) == rows([whole.batch_at(step)])
        assert sum(share.num_tokens for share in shares) == whole.batch_at(step).num_tokens


def test_steps_made_together_are_the_shares_made_alone(loader_of) -> None:
    loader = loader_of(rank=1, world_size=3)
    together = loader.batches(range(2, 6))
    assert [rows([batch]) for batch in together] == [
        rows([loader.batch_at(s)]) for s in range(2, 6)
    ]


@settings(deadline=None)
@given(st.integers(0, 2**32), st.integers(1, 60), st.integers(1, 60))
def test_shares_are_of_equal_size_and_length(seed: int, batch_size: int, world_size: int) -> None:
    world_size = min(world_size, batch_size)
    lengths = np.random.default_rng(seed).integers(1, 500, batch_size).tolist()
    examples = ExampleBatch(
        tokens=np.repeat(np.arange(len(lengths)), lengths).astype(np.int32),
        segment_lengths=np.array(lengths),
        segments_per_row=np.ones(len(lengths), np.int64),
        labels=None,
    )
    ids = np.stack([np.zeros(len(lengths), np.int64), np.arange(len(lengths))], axis=1)
    sizes, work, seen = [], [], []
    for rank in range(world_size):
        share, share_ids = examples_of_rank(
            examples, ids, num_steps=1, rank=rank, world_size=world_size
        )
        sizes.append(len(share_ids))
        work.append(int(share.segment_lengths.sum()))
        seen.extend(share_ids[:, 1].tolist())
        assert share.tokens.tolist() == np.repeat(share_ids[:, 1], share.segment_lengths).tolist()
    assert sorted(seen) == list(range(len(lengths)))
    assert max(sizes) - min(sizes) <= 1
    if len(lengths) % world_size == 0:
        assert max(work) - min(work) <= max(lengths)


def test_more_ranks_than_examples_are_refused(loader_of) -> None:
    with pytest.raises(InputError, match="--train-batch-size 8 .* 9; start at most 8 ranks"):
        loader_of(world_size=9)


def test_ranks_share_the_held_out_examples(store, tokenizer) -> None:
    fixed = {
        "batch_size": 8,
        "max_seq_length": 32,
        "special_ids": special_ids(tokenizer),
        "unselectable_ids": unselectable_ids(tokenizer),
        "max_examples": 30,
    }
    whole = rows(list(evaluation_batches(store, **fixed)))
    shares = [list(evaluation_batches(store, **fixed, rank=r, world_size=3)) for r in range(3)]
    assert rows([batch for share in shares for batch in share]) == whole


RANKS, EXAMPLES_EACH = 4096, 8


def cost(num_examples: int) -> tuple[float, int]:
    """Return seconds and peak bytes of placing a step of 4,096 ranks, late in a long run."""
    order = EpochOrder(num_examples, 7)
    size = RANKS * EXAMPLES_EACH
    places = np.arange(10**9 * size, (10**9 + 1) * size)
    seconds = []
    for _ in range(5):
        start = time.process_time()
        order.at(places)
        seconds.append(time.process_time() - start)
    tracemalloc.start()
    order.at(places)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return min(seconds), peak


def test_ten_billion_examples_cost_a_rank_what_a_million_do() -> None:
    (few_s, few_bytes), (many_s, many_bytes) = cost(10**6), cost(10**10)
    assert many_s < 5 * few_s
    assert many_bytes < 2 * few_bytes < 100e6


def test_ranks_of_a_huge_job_have_no_example_twice() -> None:
    order = EpochOrder(10**10, 7)
    last_step = (10**10 - 1) // (RANKS * EXAMPLES_EACH)  # it straddles two epochs
    first = last_step * RANKS * EXAMPLES_EACH
    epochs, slots = order.at(np.arange(first, first + RANKS * EXAMPLES_EACH))
    assert set(epochs.tolist()) == {0, 1}
    assert len(set(zip(epochs.tolist(), slots.tolist(), strict=True))) == RANKS * EXAMPLES_EACH
    assert slots.min() >= 0 and slots.max() < 10**10
    # each rank's own part of the step, asked for alone, is the same
    alone = order.at(np.arange(first + 5000, first + 5000 + EXAMPLES_EACH))
    assert alone[1].tolist() == slots[5000 : 5000 + EXAMPLES_EACH].tolist()
