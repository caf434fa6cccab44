"""Pins that Google's Adam takes a part of the weights at a time; and Muon: what the iteration does
to singular values, each matrix of a stack against torch's own Muon, everything else against AdamW.
Gating and resuming: test_optimizer.py. CPU only: `pytest tests/training/test_update_rules.py`."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from bert_scratch.config import BertConfig
from bert_scratch.model.heads import BertForPreTraining
from bert_scratch.training import update_rules
from bert_scratch.training.optimizer import encoder_matrices, parameter_groups
from bert_scratch.training.update_rules import MOMENTUM, GoogleAdamW, Muon, orthogonalised

ADAM = {"lr": 0.01, "betas": (0.9, 0.98), "eps": 1e-6}


def give_gradients(model: nn.Module, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    for p in model.parameters():
        p.grad = torch.randn(p.shape, generator=generator)


def muon_of(model: nn.Module, arithmetic: torch.dtype = torch.float32) -> Muon:
    return Muon(
        parameter_groups(model, 0.1),
        num_stacked=encoder_matrices(model),
        arithmetic=arithmetic,
        **ADAM,
    )


def test_googles_adam_holds_values_for_only_a_part_of_the_weights_at_a_time(
    model: BertForPreTraining, monkeypatch: pytest.MonkeyPatch
) -> None:
    sizes, take_roots = [], torch._foreach_sqrt

    def noting(values: list[torch.Tensor]) -> tuple[torch.Tensor, ...]:
        sizes.append(sum(value.numel() for value in values))
        return take_roots(values)

    monkeypatch.setattr(torch, "_foreach_sqrt", noting)
    at_once = max(p.numel() for p in model.parameters())
    found = []
    for limit in (2**40, at_once):
        monkeypatch.setattr(update_rules, "VALUES_AT_ONCE", limit)
        copied = copy.deepcopy(model)
        optimizer = GoogleAdamW(parameter_groups(copied, 0.1), **ADAM)
        for step in range(2):
            give_gradients(copied, step)
            sizes.clear()
            optimizer.step()
        found.append(list(copied.parameters()))
    assert len(sizes) > 2 and max(sizes) <= at_once
    assert sum(sizes) == sum(p.numel() for p in model.parameters())
    assert all(map(torch.equal, *found))


@pytest.mark.parametrize("shape", [(3, 8, 8), (2, 8, 32), (2, 32, 8), (1, 1, 5)])
def test_orthogonalised_keeps_singular_vectors_and_levels_the_values(
    shape: tuple[int, int, int],
) -> None:
    matrices = torch.randn(shape, generator=torch.Generator().manual_seed(1))
    result = orthogonalised(matrices)
    left, values, right = torch.linalg.svd(matrices, full_matrices=False)
    new_values = left.mT @ result @ right.mT
    off_diagonal = new_values - torch.diag_embed(new_values.diagonal(dim1=1, dim2=2))
    torch.testing.assert_close(off_diagonal, torch.zeros_like(off_diagonal), atol=1e-4, rtol=0)
    clear = values > 0.05 * values.amax(dim=1, keepdim=True)
    levelled = new_values.diagonal(dim1=1, dim2=2)[clear]
    assert 0.65 < levelled.min() and levelled.max() < 1.25


def test_orthogonalised_leaves_a_zero_matrix_at_zero() -> None:
    assert not orthogonalised(torch.zeros(2, 3, 4)).any()


def test_the_matrices_of_the_layers_are_moved_by_muon_and_no_others(
    model: BertForPreTraining,
) -> None:
    names = {p: name for name, p in model.named_parameters()}
    found = {names[p]: count for p, count in encoder_matrices(model).items()}
    parts = {
        "attention.query_key_value": 3,
        "attention.output": 1,
        "feed_forward.widen": 1,
        "feed_forward.narrow": 1,
    }
    assert found == {
        f"bert.layers.{layer}.{part}.weight": count
        for layer in range(2)
        for part, count in parts.items()
    }


def test_each_matrix_moves_as_by_the_muon_of_torch(model: BertForPreTraining) -> None:
    ours = muon_of(model, torch.bfloat16)  # torch's iterates in bfloat16 always
    theirs = {
        p: [nn.Parameter(part.detach().clone()) for part in p.chunk(count)]
        for p, count in encoder_matrices(model).items()
    }
    reference = torch.optim.Muon(
        [part for parts in theirs.values() for part in parts],
        lr=ADAM["lr"],
        weight_decay=0.1,
        momentum=MOMENTUM,
        adjust_lr_fn="match_rms_adamw",
    )
    before = {p: p.detach().clone() for p in theirs}
    for seed in range(3):
        give_gradients(model, seed)
        for p, parts in theirs.items():
            assert p.grad is not None
            for part, gradient in zip(parts, p.grad.chunk(len(parts)), strict=True):
                part.grad = gradient.clone()
        ours.step()
        reference.step()
    for p, parts in theirs.items():
        moved, expected = p - before[p], torch.cat(parts) - before[p]
        error = torch.linalg.vector_norm(moved - expected) / torch.linalg.vector_norm(expected)
        assert error < 0.02


def test_all_else_moves_as_by_adamw(model: BertForPreTraining) -> None:
    other = copy.deepcopy(model)
    ours, adamw = (
        muon_of(model),
        torch.optim.AdamW(parameter_groups(other, 0.1), fused=True, **ADAM),
    )
    for seed in range(2):
        for of, optimizer in ((model, ours), (other, adamw)):
            give_gradients(of, seed)
            optimizer.step()
    matrices = encoder_matrices(model)
    for mine, theirs in zip(model.parameters(), other.parameters(), strict=True):
        assert torch.equal(mine, theirs) is (mine not in matrices)


def test_float16_runs_iterate_in_float32(bert_config: BertConfig) -> None:
    model = BertForPreTraining(bert_config)
    assert muon_of(model, torch.float16).arithmetic is torch.float32
