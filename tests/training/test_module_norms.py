"""Pins which parameters count to which module, and the norms against the plain formula.
CPU only: `pytest tests/training/test_module_norms.py`."""

from __future__ import annotations

import pytest
import torch

from bert_scratch.model.heads import BertForPreTraining
from bert_scratch.training.module_norms import ModuleNorms, module_of


@pytest.mark.parametrize(
    ("parameter", "module"),
    [
        ("bert.embeddings.layer_norm.weight", "embeddings"),
        ("bert.layers.11.attention.query_key_value.bias", "layers.11.attention"),
        ("bert.layers.0.attention_layer_norm.weight", "layers.0.attention"),
        ("bert.layers.0.feed_forward.widen.weight", "layers.0.feed_forward"),
        ("bert.pooler.dense.bias", "pooler"),
        ("mlm_head.decoder.bias", "mlm_head"),
        ("classifier.weight", "classifier"),
    ],
)
def test_parameters_count_to_the_module_they_are_part_of(parameter: str, module: str) -> None:
    assert module_of(parameter) == module


def test_norms_are_those_of_all_numbers_of_a_module_together(model: BertForPreTraining) -> None:
    for parameter in model.parameters():
        parameter.grad = torch.randn_like(parameter)
    norms = ModuleNorms(model)
    gradients, weights = norms.of_gradients(), norms.of_weights()
    assert list(gradients) == [name.replace("weight_norm", "grad_norm") for name in weights]
    feed_forward = [
        p for n, p in model.named_parameters() if n.startswith("bert.layers.1.feed_forward")
    ]
    for name, tensors in (
        ("weight_norm/layers.1.feed_forward", feed_forward),
        ("grad_norm/layers.1.feed_forward", [p.grad for p in feed_forward]),
    ):
        flat = torch.cat([t.detach().flatten() for t in tensors if t is not None])
        assert (gradients | weights)[name] == pytest.approx(flat.norm().item(), rel=1e-5)


def test_modules_together_have_the_norm_of_the_whole_model(model: BertForPreTraining) -> None:
    whole = torch.cat([p.detach().flatten() for p in model.parameters()]).norm().item()
    squares = sum(norm**2 for norm in ModuleNorms(model).of_weights().values())
    assert squares**0.5 == pytest.approx(whole, rel=1e-5)


def test_frozen_modules_have_no_gradient_norm(model: BertForPreTraining) -> None:
    model.bert.embeddings.requires_grad_(False)
    for parameter in model.parameters():
        parameter.grad = torch.ones_like(parameter) if parameter.requires_grad else None
    assert "grad_norm/embeddings" not in ModuleNorms(model).of_gradients()
    assert "grad_norm/pooler" in ModuleNorms(model).of_gradients()
