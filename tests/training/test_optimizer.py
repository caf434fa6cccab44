"""Pins decay groups, both AdamW forms against references, clipping, and the gate that keeps a
non-finite gradient out. CPU only: `pytest tests/training/test_optimizer.py`."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from bert_scratch.training.optimizer import (
    build_optimizer,
    clip_and_step,
    decays,
    load_moments,
    moments,
    parameter_groups,
)


class Small(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.dense = nn.Linear(5, 3)
        self.layer_norm = nn.Linear(3, 3, bias=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.layer_norm(self.dense(x))


class TwoLayers(nn.Module):
    """Names as in an encoder, so that Muon finds its matrices, and one that is not in a layer."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.embedding = nn.Embedding(7, 8)
        self.layers = nn.ModuleList(
            nn.ModuleDict(
                {
                    "query_key_value": nn.Linear(8, 24),
                    "output": nn.Linear(8, 8),
                    "widen": nn.Linear(8, 20),
                    "narrow": nn.Linear(20, 8),
                }
            )
            for _ in range(2)
        )


RULES = ("adamw", "google", "muon")


def optimizer_of(model: nn.Module, rule: str = "adamw") -> torch.optim.Optimizer:
    return build_optimizer(
        model,
        learning_rate=0.1,
        weight_decay=0.01,
        betas=(0.9, 0.999),
        epsilon=1e-6,
        bias_correction=rule != "google",
        muon_dtype=torch.float32 if rule == "muon" else None,
    )


def give_gradients(model: nn.Module, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    for p in model.parameters():
        p.grad = torch.randn(p.shape, generator=generator)


@pytest.mark.parametrize(
    ("name", "decayed"),
    [
        ("bert.embeddings.word_embeddings.weight", True),
        ("encoder.0.attention.output.weight", True),
        ("encoder.0.attention.output.bias", False),
        ("encoder.0.attention_layer_norm.weight", False),
        ("bert.embeddings.LayerNorm.weight", False),
        ("mlm_head.bias", False),
        ("cls.predictions.output_bias", False),
    ],
)
def test_decay_spares_biases_and_layer_norm(name: str, decayed: bool) -> None:
    assert decays(name) is decayed


def test_groups_hold_every_parameter_once() -> None:
    model = Small()
    groups = parameter_groups(model, 0.01)
    held = [id(p) for group in groups for p in group["params"]]
    assert sorted(held) == sorted(id(p) for p in model.parameters())
    assert [group["weight_decay"] for group in groups] == [0.01, 0.0]


def test_corrected_equals_torch_adamw() -> None:
    ours, theirs = Small(), Small()
    optimizer = optimizer_of(ours)
    reference = torch.optim.AdamW(
        parameter_groups(theirs, 0.01), lr=0.1, betas=(0.9, 0.999), eps=1e-6, foreach=False
    )
    for seed in range(5):
        give_gradients(ours, seed)
        give_gradients(theirs, seed)
        clip_and_step(optimizer, learning_rate=0.1, max_grad_norm=1.0)
        nn.utils.clip_grad_norm_(theirs.parameters(), 1.0)
        reference.step()
    for mine, other in zip(ours.parameters(), theirs.parameters(), strict=True):
        torch.testing.assert_close(mine, other, atol=1e-6, rtol=0)


def test_google_equals_its_formula_in_float64() -> None:
    model = Small()
    optimizer = optimizer_of(model, "google")
    weight = model.dense.weight.detach().double().clone()
    m, v = torch.zeros_like(weight), torch.zeros_like(weight)
    for seed in range(5):
        give_gradients(model, seed)
        g = model.dense.weight.grad.double()  # type: ignore[union-attr]
        m, v = 0.9 * m + 0.1 * g, 0.999 * v + 0.001 * g * g
        weight -= 0.1 * (m / (v.sqrt() + 1e-6) + 0.01 * weight)
        clip_and_step(optimizer, learning_rate=0.1, max_grad_norm=0)
    # without correction the first updates are 1 / sqrt(0.001) times as large, so is the error
    torch.testing.assert_close(model.dense.weight.double(), weight, atol=1e-5, rtol=1e-5)


def test_clipping_scales_to_the_global_norm() -> None:
    model = Small()
    give_gradients(model, 1)
    expected = torch.cat([p.grad.flatten() for p in model.parameters()]).norm()  # type: ignore[union-attr]
    norm = clip_and_step(optimizer_of(model), learning_rate=0.0, max_grad_norm=0.5)
    after = torch.cat([p.grad.flatten() for p in model.parameters()]).norm()  # type: ignore[union-attr]
    torch.testing.assert_close(norm, expected)
    torch.testing.assert_close(after, torch.tensor(0.5), atol=1e-5, rtol=0)


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_non_finite_gradient_changes_nothing(rule: str, bad: float) -> None:
    model = TwoLayers()
    optimizer = optimizer_of(model, rule)
    give_gradients(model, 0)
    clip_and_step(optimizer, learning_rate=0.1, max_grad_norm=1.0)
    weights = [p.detach().clone() for p in model.parameters()]
    before = {
        kind: {k: t.clone() for k, t in ts.items()}
        for kind, ts in moments(model, optimizer).items()
    }
    give_gradients(model, 1)
    model.layers[0]["output"].weight.grad[0] = bad  # type: ignore[index]
    norm = clip_and_step(optimizer, learning_rate=0.1, max_grad_norm=1.0)
    assert not torch.isfinite(norm)
    for p, old in zip(model.parameters(), weights, strict=True):
        assert torch.equal(p, old)
    for kind, tensors in moments(model, optimizer).items():
        for name, tensor in tensors.items():
            assert torch.equal(tensor, before[kind][name])


@pytest.mark.parametrize("rule", RULES)
def test_one_more_step_after_loading_moments_is_bit_identical(rule: str) -> None:
    through, resumed = TwoLayers(), TwoLayers()
    optimizer = optimizer_of(through, rule)
    for seed in range(3):
        give_gradients(through, seed)
        clip_and_step(optimizer, learning_rate=0.1, max_grad_norm=1.0)
    resumed.load_state_dict(through.state_dict())
    fresh = optimizer_of(resumed, rule)
    load_moments(resumed, fresh, moments(through, optimizer), num_updates=3)
    for model, used in ((through, optimizer), (resumed, fresh)):
        give_gradients(model, 9)
        clip_and_step(used, learning_rate=0.1, max_grad_norm=1.0)
    for a, b in zip(through.parameters(), resumed.parameters(), strict=True):
        assert torch.equal(a, b)


def test_a_group_learns_at_its_share_of_the_learning_rate() -> None:
    model = nn.Linear(3, 2, bias=True)
    groups = parameter_groups(model, 0.0, lambda name: 0.5 if name == "bias" else 1.0)
    optimizer = torch.optim.AdamW(groups, lr=0.0, fused=True)
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    for parameter in model.parameters():
        parameter.grad = torch.ones_like(parameter)
    clip_and_step(optimizer, learning_rate=0.1, max_grad_norm=0.0)
    moved = {name: (before[name] - p).mean().item() for name, p in model.named_parameters()}
    assert moved["weight"] == pytest.approx(0.1, rel=1e-4)
    assert moved["bias"] == pytest.approx(0.05, rel=1e-4)
