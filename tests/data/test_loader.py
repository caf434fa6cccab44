"""Pins the batches: layout of a row, every slot once an epoch, the same bits for any starting
step, evaluation that no seed changes.

Run alone: pytest tests/data/test_loader.py.
"""

from __future__ import annotations

import dataclasses
import hashlib
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from bert_scratch.batch import Batch
from bert_scratch.config import InputError
from bert_scratch.data.loader import ExampleLoader, evaluation_batches
from bert_scratch.data.mask_settings import MaskSettings
from bert_scratch.data.wordpiece import special_ids, unselectable_ids
from bert_scratch.data.workers import iterate

V = 1000
SPECIAL = SimpleNamespace(pad=0, unk=1, cls=2, sep=3, mask=4)


def memory_store(num_documents: int = 60, num_shards: int = 2) -> SimpleNamespace:
    """A store of ordinary random tokens, the same text for both splits."""
    rng = np.random.default_rng(0)
    shards = []
    for _ in range(num_shards):
        documents = [rng.integers(1, 30, rng.integers(1, 20)) for _ in range(num_documents)]
        lengths = np.concatenate(documents)
        tokens = rng.integers(5, V, lengths.sum()).astype(np.uint16)
        shards.append(
            SimpleNamespace(
                num_tokens=len(tokens),
                num_documents=num_documents,
                num_one_sentence_documents=sum(len(d) == 1 for d in documents),
                sentences=np.cumsum(lengths).astype(np.uint32),
                documents=np.cumsum([len(d) for d in documents]).astype(np.uint32),
                read=lambda start, end, tokens=tokens: tokens[start:end],
            )
        )
    return SimpleNamespace(
        shards=lambda split: shards, vocab_size=V, manifest={}, has_word_starts=False
    )


MEMORY_STORE = memory_store()


def loader_of(store=MEMORY_STORE, **choices) -> ExampleLoader:
    fixed = {
        "batch_size": 8,
        "max_seq_length": 61,
        "seed": 7,
        "special_ids": SPECIAL,
        "unselectable_ids": range(5),
    }
    return ExampleLoader(store, **fixed | choices)


def content(batch: Batch) -> list:
    return [
        value.tolist() if isinstance(value, torch.Tensor) else value
        for value in dataclasses.asdict(batch).values()
        if value is not None
    ]


def unmasked(batch: Batch) -> torch.Tensor:
    input_ids = batch.input_ids.flatten().clone()
    input_ids[batch.masked_positions] = batch.masked_labels
    return input_ids.view_as(batch.input_ids)


@pytest.mark.parametrize("pair_task", ["nsp", "sop"])
@pytest.mark.parametrize("step", [0, 5, 1000])
def test_rows_are_cls_a_sep_b_sep(pair_task: str, step: int) -> None:
    batch = loader_of(pair_task=pair_task).batch_at(step)
    for row, types, mask in zip(
        unmasked(batch), batch.token_type_ids, batch.attention_mask, strict=True
    ):
        length = int(mask.sum())
        assert row[0] == SPECIAL.cls
        separators = (row == SPECIAL.sep).nonzero().flatten().tolist()
        assert len(separators) == 2 and 1 < separators[0] and separators[1] == length - 1
        assert separators[0] + 1 < separators[1]
        first = separators[0] + 1
        assert types.tolist() == [0] * first + [1] * (length - first) + [0] * (len(row) - length)
        assert (row[length:] == SPECIAL.pad).all() and (mask[:length] == 1).all()


def test_rows_without_pairs_have_one_token_type_and_no_label() -> None:
    batch = loader_of(pair_task="none").batch_at(3)
    assert batch.next_sentence_label is None
    assert not batch.token_type_ids.any()
    assert ((unmasked(batch) == SPECIAL.sep).sum(1) > 1).any()


def test_batch_has_the_contracts_types_and_counts() -> None:
    batch = loader_of().batch_at(2)
    for field in dataclasses.fields(batch):
        value = getattr(batch, field.name)
        if field.name in ("row_starts", "longest_row"):
            assert value is None  # no rows are packed yet
        else:
            assert field.name == "num_tokens" or value.dtype == torch.int64
    assert batch.num_tokens == int(batch.attention_mask.sum())
    assert batch.input_ids.shape == batch.token_type_ids.shape == batch.attention_mask.shape
    assert batch.next_sentence_label.shape == (8,) and batch.example_ids.shape == (8, 2)
    assert (batch.masked_positions.diff() > 0).all()


def test_rows_are_padded_to_the_longest_rounded_up_but_not_beyond_the_limit() -> None:
    widths = {}
    for short_seq_prob in (0.0, 1.0):
        loader = loader_of(short_seq_prob=short_seq_prob, batch_size=2)
        for step in range(200):
            batch = loader.batch_at(step)
            longest, width = int(batch.attention_mask.sum(1).max()), batch.input_ids.shape[1]
            assert width == min(-(-longest // 8) * 8, 61)
            widths[width] = True
    assert {24, 61} <= widths.keys()


@pytest.mark.parametrize("choices", [{}, {"pair_task": "none"}, {"pair_sampling": "google"}])
def test_an_epoch_has_every_slot_once(choices: dict[str, str]) -> None:
    loader = loader_of(**choices)
    num_steps = -(-3 * loader.num_examples // 8)
    ids = torch.cat([loader.batch_at(step).example_ids for step in range(num_steps)])
    for epoch in range(3):
        slots = ids[ids[:, 0] == epoch, 1]
        assert sorted(slots.tolist()) == list(range(loader.num_examples))


def test_a_batch_may_straddle_epochs() -> None:
    loader = loader_of()
    step = loader.num_examples // 8
    assert loader.num_examples % 8
    assert loader.batch_at(step).example_ids[:, 0].unique().tolist() == [0, 1]


def test_a_batch_may_hold_several_epochs() -> None:
    loader = loader_of(memory_store(2, 1), batch_size=64)
    assert loader.num_examples < 20
    ids = loader.batch_at(0).example_ids
    assert torch.equal(ids[:, 0], torch.arange(64) // loader.num_examples)


@pytest.mark.parametrize("pair_sampling", ["balanced", "google"])
def test_examples_do_not_depend_on_the_batch_size(pair_sampling: str) -> None:
    large = loader_of(batch_size=24, pair_sampling=pair_sampling).batch_at(9)
    small = [
        loader_of(batch_size=8, pair_sampling=pair_sampling).batch_at(step) for step in (27, 28, 29)
    ]
    rows = [row[row != 0].tolist() for batch in small for row in batch.input_ids]
    assert [row[row != 0].tolist() for row in large.input_ids] == rows
    assert large.masked_labels.tolist() == torch.cat([b.masked_labels for b in small]).tolist()
    assert torch.equal(large.example_ids, torch.cat([batch.example_ids for batch in small]))


@pytest.mark.parametrize("pair_sampling", ["balanced", "google"])
def test_any_starting_step_gives_the_same_batches(pair_sampling: str) -> None:
    whole = [content(b) for b in iterate(loader_of(pair_sampling=pair_sampling), 0, 120, 0)]
    for start in (1, 77, 119):
        resumed = iterate(loader_of(pair_sampling=pair_sampling), start, 120, 0)
        assert [content(batch) for batch in resumed] == whole[start:]


def test_steps_made_together_are_the_steps_made_alone() -> None:
    loader = loader_of()
    together = [content(batch) for batch in loader.batches(range(40, 75))]
    assert together == [content(loader.batch_at(step)) for step in range(40, 75)]


def test_seeds_give_other_batches() -> None:
    one, other = (loader_of(seed=seed).batch_at(0) for seed in (7, 8))
    assert not torch.equal(one.example_ids, other.example_ids)


def test_evaluation_takes_each_example_once(store, tokenizer) -> None:
    batches = list(evaluate(store, tokenizer, max_examples=None))
    ids = torch.cat([batch.example_ids for batch in batches])
    assert (ids[:, 0] == 0).all()
    assert sorted(ids[:, 1].tolist()) == list(range(len(ids)))
    assert all(len(batch.input_ids) == 4 for batch in batches[:-1])


def test_evaluation_limit_takes_the_first_of_the_same_examples(store, tokenizer) -> None:
    whole = torch.cat([b.example_ids for b in evaluate(store, tokenizer, max_examples=None)])
    limited = torch.cat([b.example_ids for b in evaluate(store, tokenizer, max_examples=3)])
    assert torch.equal(limited, whole[:3])


def test_evaluation_repeats_itself(store, tokenizer) -> None:
    runs = [[content(batch) for batch in evaluate(store, tokenizer)] for _ in range(2)]
    assert runs[0] == runs[1]


def evaluate(store, tokenizer, max_examples: int | None = 1024):
    return evaluation_batches(
        store,
        batch_size=4,
        max_seq_length=32,
        special_ids=special_ids(tokenizer),
        unselectable_ids=unselectable_ids(tokenizer),
        max_examples=max_examples,
    )


def test_one_token_corpora_give_a_finite_loss() -> None:
    lengths = np.ones(200, np.uint32)
    shard = SimpleNamespace(
        num_tokens=200,
        num_documents=100,
        num_one_sentence_documents=0,
        sentences=np.cumsum(lengths),
        documents=np.arange(2, 201, 2).astype(np.uint32),
        read=lambda start, end: np.full(end - start, 1 if start % 3 else 9, np.uint16),
    )
    store = SimpleNamespace(
        shards=lambda split: [shard], vocab_size=V, manifest={}, has_word_starts=False
    )
    num_empty = 0
    for batch in iterate(loader_of(store, batch_size=1), 0, 500, 0):
        maskable = int((unmasked(batch) == 9).sum())
        assert len(batch.masked_labels) == min(1, maskable)
        num_empty += not maskable
    assert 0 < num_empty < 500


@pytest.mark.parametrize(
    ("choices", "flag"),
    [
        ({"batch_size": 0}, "train_batch_size"),
        ({"max_seq_length": 4}, "--max-seq-length"),
        ({"pair_task": "nps"}, "--pair-task.*did you mean 'nsp'"),
        ({"pair_sampling": "even"}, "--pair-sampling"),
        ({"short_seq_prob": 1.5}, "short_seq_prob"),
    ],
)
def test_wrong_settings_are_refused(choices: dict, flag: str) -> None:
    with pytest.raises(InputError, match=flag):
        loader_of(**choices)


def test_batch_bits_have_not_changed() -> None:
    digest = hashlib.sha256()
    for batch in iterate(loader_of(), 100, 130, 0):
        digest.update(repr(content(batch)).encode())
    assert digest.hexdigest()[:16] == GOLDEN


GOLDEN = "fdea9faa0d0a399a"


def test_mask_settings_reach_the_masks() -> None:
    def shown_and_labels(**choices: object) -> tuple[torch.Tensor, torch.Tensor]:
        batch = loader_of(batch_size=512, masks=MaskSettings(**choices)).batch_at(0)
        return batch.input_ids.flatten()[batch.masked_positions], batch.masked_labels

    shown, labels = shown_and_labels(mask_token_prob=0.0, random_token_prob=0.0)
    assert torch.equal(shown, labels)
    shown, labels = shown_and_labels(mask_token_prob=0.0, random_token_prob=1.0)
    assert (shown != labels).double().mean() > 0.9 and (shown > 4).all()
    shown, _ = shown_and_labels(mask_token_prob=0.0, random_token_prob=1.0, mask_special=True)
    assert (shown <= 4).any()


def test_evaluation_limit_beyond_the_text_takes_each_example_once(store, tokenizer) -> None:
    ids = torch.cat([b.example_ids for b in evaluate(store, tokenizer, max_examples=300)])
    assert (ids[:, 0] == 0).all() and len(ids[:, 1].unique()) == len(ids)
