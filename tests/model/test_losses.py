"""Pins cross-entropy against the formula in float64 and against torch, gradients too, for blocks of
any size, extreme scores and nothing to predict.

Run alone: `pytest tests/model/test_losses.py`.
"""

from __future__ import annotations

import pytest
import torch

from bert_scratch.model import losses
from bert_scratch.model.losses import cross_entropy_mean, cross_entropy_sum


def cross_entropy_by_hand(logits, labels):
    kept = labels != -100
    scores = logits.double()[kept]
    normalizer = scores.exp().sum(-1).log()
    return (normalizer - scores[torch.arange(len(scores)), labels[kept]]).sum()


@pytest.mark.parametrize("block", [1, 100, 2**17])
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-5), (torch.bfloat16, 1e-2)])
def test_cross_entropy_sum_is_the_formula_and_so_is_its_gradient(
    block, dtype, tolerance, monkeypatch
):
    monkeypatch.setattr(losses._CrossEntropySum, "BLOCK_VALUES", block)
    generator = torch.Generator().manual_seed(0)
    logits = (3 * torch.randn(23, 37, generator=generator)).to(dtype).requires_grad_()
    labels = torch.randint(0, 37, (23,), generator=generator)
    labels[[0, 7, 22]] = -100
    loss, correct = cross_entropy_sum(logits, labels)
    (loss / 3).backward()
    reference = logits.detach().double().requires_grad_()
    expected = cross_entropy_by_hand(reference, labels)
    (expected / 3).backward()
    assert loss.dtype == torch.float32
    torch.testing.assert_close(loss.double(), expected, atol=1e-3, rtol=1e-6)
    torch.testing.assert_close(logits.grad.double(), reference.grad, atol=tolerance, rtol=0)
    kept = labels != -100
    assert int(correct) == int((reference.argmax(1) == labels)[kept].sum())


def test_cross_entropy_survives_extreme_scores():
    logits = torch.tensor([[1e4, -1e4], [-1e4, 1e4]], requires_grad=True)
    loss, correct = cross_entropy_sum(logits, torch.tensor([0, 0]))
    loss.backward()
    assert loss.item() == 2e4
    assert logits.grad.tolist() == [[0.0, 0.0], [-1.0, 1.0]]
    assert int(correct) == 1


def test_cross_entropy_equals_torchs():
    logits = torch.randn(11, 1009)
    labels = torch.randint(0, 1009, (11,))
    expected = torch.nn.functional.cross_entropy(logits, labels)
    torch.testing.assert_close(cross_entropy_mean(logits, labels), expected)


@pytest.mark.parametrize("rows", [0, 4])
def test_nothing_to_predict_gives_zero_and_zero_gradient(rows):
    logits = torch.randn(rows, 7, requires_grad=True)
    loss = cross_entropy_mean(logits, torch.full((rows,), -100))
    loss.backward()
    assert loss.item() == 0.0
    assert not logits.grad.any()


def test_backward_can_run_twice():
    logits = torch.randn(4, 7, requires_grad=True)
    loss, _ = cross_entropy_sum(logits, torch.tensor([1, 2, 3, -100]))
    loss.backward(retain_graph=True)
    once = logits.grad.clone()
    loss.backward()
    torch.testing.assert_close(logits.grad, 2 * once)


def test_filler_slots_are_never_right_in_one_kernel(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.compiler, "is_compiling", lambda: True)
    logits = torch.tensor([[9.0, 0.0], [0.0, 9.0]])
    _, correct = cross_entropy_sum(logits, torch.tensor([losses.IGNORED_LABEL, 1]))
    assert correct.item() == 1
