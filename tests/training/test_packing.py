"""Pins that packing changes no loss, gradient or sum, that its sizes are few, and, on a GPU, that
the kernels keep rows apart. `pytest tests/training/test_packing.py`."""

from __future__ import annotations

import itertools

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from bert_scratch.batch import Batch
from bert_scratch.model.heads import BertForPreTraining
from bert_scratch.training.objective import PRETRAINING
from bert_scratch.training.packing import NUM_SIZES, PackedRows

PACKED = PackedRows(max_seq_length=16, masked_lm_prob=0.2)


def learned(model: BertForPreTraining, batch: Batch, counts: Tensor) -> tuple[Tensor, list[Tensor]]:
    """Return the sums and gradients of a micro-batch."""
    model.zero_grad()
    device = next(model.parameters()).device
    loss, sums = PRETRAINING.loss(model, batch.to(device), counts.to(device))
    loss.backward()
    return sums, [p.grad.clone() for p in model.parameters() if p.grad is not None]


def made_up(lengths: list[int], *, width: int, pairs: bool = True) -> Batch:
    """Return rows of different tokens, each fifth of which is predicted."""
    size = torch.tensor(lengths)
    mask = (torch.arange(width) < size[:, None]).long()
    ids = torch.arange(5, 5 + mask.numel()).view(mask.shape) * mask
    positions = mask.flatten().nonzero()[::5, 0]
    return Batch(
        input_ids=ids,
        token_type_ids=(torch.arange(width) >= 2).long() * mask,
        attention_mask=mask,
        masked_positions=positions,
        masked_labels=ids.flatten()[positions],
        next_sentence_label=torch.arange(len(lengths)) % 2 if pairs else None,
        example_ids=torch.zeros(len(lengths), 2, dtype=torch.int64),
        num_tokens=int(size.sum()),
    )


@pytest.mark.parametrize("micro_batch_size", [6, 4])
def test_packing_changes_neither_sums_nor_gradients(
    micro_batch_size: int, model: BertForPreTraining, batch: Batch
) -> None:
    counts = PRETRAINING.counts(batch)
    for piece in batch.split(micro_batch_size):
        packed = PACKED(piece)
        assert packed.input_ids.shape[0] == 1 and packed.num_tokens == piece.num_tokens
        sums, gradients = learned(model, piece, counts)
        packed_sums, packed_gradients = learned(model, packed, counts)
        torch.testing.assert_close(packed_sums, sums)
        for mine, theirs in zip(packed_gradients, gradients, strict=True):
            torch.testing.assert_close(mine, theirs, atol=1e-6, rtol=1e-5)


@given(lengths=st.lists(st.integers(3, 16), min_size=1, max_size=70), pairs=st.booleans())
def test_packed_rows_follow_each_other_and_end_in_rows_of_filler(
    lengths: list[int], pairs: bool
) -> None:
    batch = made_up(lengths, width=16, pairs=pairs)
    packed = PACKED(batch)
    assert packed.row_starts is not None and packed.row_starts.dtype == torch.int32
    starts = packed.row_starts.tolist()
    assert starts[: len(lengths) + 1] == [0, *torch.tensor(lengths).cumsum(0).tolist()]
    bounds = [*starts, packed.num_positions]
    fillers = [b - a for a, b in itertools.pairwise(bounds)][len(lengths) :]
    assert all(1 <= filler <= 16 for filler in fillers)
    assert torch.equal(
        packed.input_ids[0, : batch.num_tokens], batch.input_ids[batch.input_ids > 0]
    )
    assert not packed.input_ids[0, batch.num_tokens :].any()
    counted = packed.masked_labels != -100
    assert torch.equal(packed.masked_labels[counted], batch.masked_labels)
    read = packed.input_ids[0, packed.masked_positions]
    assert torch.equal(read[counted], batch.masked_labels)
    if pairs:
        assert packed.next_sentence_label is not None
        assert len(packed.next_sentence_label) == len(starts) - 1
        assert (packed.next_sentence_label != -100).sum() == len(lengths)
    else:
        assert packed.next_sentence_label is None


def test_packed_batches_have_few_sizes_and_little_filler() -> None:
    shapes = set()
    generator = torch.Generator().manual_seed(0)
    for _ in range(200):
        lengths = torch.randint(3, 129, (64,), generator=generator).tolist()
        batch = made_up(lengths, width=128)
        packed = PackedRows(max_seq_length=128, masked_lm_prob=0.2)(batch)
        assert packed.row_starts is not None
        shapes.add((packed.num_positions, len(packed.masked_positions), len(packed.row_starts)))
        assert packed.num_positions - batch.num_tokens <= 64 * 128 / NUM_SIZES + 3
    assert len(shapes) == len({size for size, _, _ in shapes}) <= NUM_SIZES


@pytest.mark.gpu
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_kernels_for_packed_rows_learn_what_padded_rows_do(
    dtype: torch.dtype, model: BertForPreTraining, batch: Batch
) -> None:
    model, counts = model.cuda(), PRETRAINING.counts(batch)
    assert model.config.hidden_size // model.config.num_attention_heads == 8
    with torch.autocast("cuda", dtype=dtype):
        sums, gradients = learned(model, batch, counts)
        packed_sums, packed_gradients = learned(model, PACKED(batch), counts)
    torch.testing.assert_close(packed_sums, sums, atol=0.05, rtol=0.02)
    for mine, theirs in zip(packed_gradients, gradients, strict=True):
        torch.testing.assert_close(mine, theirs, atol=5e-3, rtol=0.1)
