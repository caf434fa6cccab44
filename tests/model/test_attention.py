"""Pins that both ways to compute attention agree with each other and with the formula in
float64, and that biases for padding, packed rows and callers combine without NaN.

Run alone: `pytest tests/model/test_attention.py`.
"""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from bert_scratch.model.attention import (
    RowBounds,
    attention,
    combined_bias,
    has_packed_attention,
    packed_attention,
    row_of_token,
)
from bert_scratch.model.dropout import Dropout

BATCH, HEADS, LENGTH, SIZE = 2, 3, 7, 5


def draw(seed=0, dtype=torch.float32):
    generator = torch.Generator().manual_seed(seed)
    shape = (3, BATCH, HEADS, LENGTH, SIZE)
    return (2 * torch.randn(shape, generator=generator)).to(dtype).unbind(0)


def by_hand(query, key, value, bias=0.0):
    scores = query.double() @ key.double().transpose(-1, -2) / math.sqrt(query.shape[-1]) + bias
    weights = scores.exp() / scores.exp().sum(-1, keepdim=True)
    return weights @ value.double(), weights


BIAS_SHAPES = [(BATCH, 1, 1, LENGTH), (1, 1, LENGTH, LENGTH), (BATCH, HEADS, LENGTH, LENGTH)]


@pytest.mark.parametrize("backend", ["explicit", "sdpa", "auto"])
@pytest.mark.parametrize("shape", [None, *BIAS_SHAPES])
def test_attention_is_the_formula(backend, shape):
    query, key, value = draw()
    bias = None if shape is None else torch.randn(shape)
    mixed, weights = attention(query, key, value, bias, backend=backend)
    assert weights is None
    expected, _ = by_hand(query, key, value, 0.0 if bias is None else bias.double())
    torch.testing.assert_close(mixed.double(), expected, atol=1e-5, rtol=0)


@pytest.mark.parametrize("backend", ["explicit", "sdpa"])
def test_weights_are_returned_by_every_backend_when_asked(backend):
    query, key, value = draw()
    _, weights = attention(query, key, value, backend=backend, need_weights=True)
    torch.testing.assert_close(weights.double(), by_hand(query, key, value)[1], atol=1e-6, rtol=0)
    torch.testing.assert_close(weights.sum(-1), torch.ones(BATCH, HEADS, LENGTH))


class DropsAll(Dropout):
    def forward(self, values):
        return torch.zeros_like(values)


def test_returned_weights_are_those_before_dropout():
    query, key, value = draw()
    mixed, weights = attention(query, key, value, dropout=DropsAll(0.5), need_weights=True)
    assert not mixed.any()
    torch.testing.assert_close(weights.sum(-1), torch.ones(BATCH, HEADS, LENGTH))


@pytest.mark.parametrize(
    ("device", "dtype", "head_size", "has"),
    [
        ("cuda", torch.bfloat16, 64, True),
        ("cuda", torch.float16, 256, True),
        ("cpu", torch.bfloat16, 64, False),
        ("cuda", torch.float32, 64, False),
        ("cuda", torch.bfloat16, 12, False),
        ("cuda", torch.bfloat16, 264, False),
    ],
)
def test_kernels_for_packed_rows_are_for_some_devices_dtypes_and_heads(
    device, dtype, head_size, has, monkeypatch
):
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _: (8, 9))
    assert has_packed_attention(torch.device(device), dtype, head_size) is has
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _: (7, 5))
    assert not has_packed_attention(torch.device(device), dtype, head_size)


@pytest.mark.slow
def test_the_kernel_for_packed_rows_is_compiled_without_a_break():
    graphs = []

    def note(graph, inputs):
        graphs.append(str(graph.graph))
        return lambda *_: inputs[:1]  # no CPU has the kernel

    query = torch.zeros(11, HEADS, 8, dtype=torch.bfloat16)
    rows = torch.tensor([0, 4, 11], dtype=torch.int32)
    compiled = torch.compile(packed_attention, fullgraph=True, dynamic=False, backend=note)
    compiled(query, query, query, RowBounds(rows, longest_row=512))
    assert len(graphs) == 1 and "_varlen_attn" in graphs[0]


@settings(max_examples=25, derandomize=True)
@given(
    batch=st.integers(1, 3),
    heads=st.integers(1, 4),
    length=st.integers(1, 9),
    size=st.integers(1, 8),
    real=st.integers(1, 9),
    seed=st.integers(0, 1000),
)
def test_explicit_and_sdpa_agree_in_values_and_gradients(batch, heads, length, size, real, seed):
    generator = torch.Generator().manual_seed(seed)
    given_shape = (3, batch, heads, length, size)
    projections = torch.randn(given_shape, generator=generator)
    mask = (torch.arange(length) < real).long().expand(batch, -1)
    bias = combined_bias(mask, None, None, num_tokens=length, dtype=torch.float32)
    results = []
    for backend in ("explicit", "sdpa"):
        leaf = projections.clone().requires_grad_()
        query, key, value = leaf.unbind(0)
        mixed, _ = attention(query, key, value, bias, backend=backend)
        mixed.square().sum().backward()
        results.append((mixed, leaf.grad))
    torch.testing.assert_close(results[0][0], results[1][0], atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(results[0][1], results[1][1], atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("backend", ["explicit", "sdpa"])
def test_a_row_of_nothing_but_padding_is_finite(dtype, backend):
    query, key, value = (4 * part for part in draw(dtype=dtype))
    mask = torch.zeros(BATCH, LENGTH)
    bias = combined_bias(mask, None, None, num_tokens=LENGTH, dtype=dtype)
    mixed, _ = attention(query, key, value, bias, backend=backend)
    assert mixed.isfinite().all()
    if dtype != torch.float16:  # whose range is too small to absorb the scores
        expected = value.double().mean(2, keepdim=True).expand(-1, -1, LENGTH, -1)
        torch.testing.assert_close(mixed.double(), expected, atol=0.1, rtol=0)


def test_padding_gets_exactly_no_weight():
    query, key, value = draw()
    mask = torch.ones(BATCH, LENGTH, dtype=torch.int64)
    mask[0, 4:] = 0
    bias = combined_bias(mask, None, None, num_tokens=LENGTH, dtype=torch.float32)
    _, weights = attention(query, key, value, bias, need_weights=True)
    assert not weights[0, :, :, 4:].any()
    assert bool((weights[1] > 0).all())


def test_nothing_forbidden_needs_no_bias():
    assert combined_bias(None, None, None, num_tokens=LENGTH, dtype=torch.float32) is None


def test_boolean_and_integer_masks_mean_the_same():
    mask = torch.tensor([[1, 1, 0]])
    one = combined_bias(mask, None, None, num_tokens=3, dtype=torch.float32)
    other = combined_bias(mask.bool(), None, None, num_tokens=3, dtype=torch.float32)
    assert torch.equal(one, other)


def test_minus_infinity_from_the_caller_stays_finite():
    query, key, value = draw()
    forbidden = torch.full((1, 1, LENGTH, LENGTH), -torch.inf)
    forbidden[..., 0, :2] = 0.0
    mask = torch.ones(BATCH, LENGTH)
    mask[1, 1:] = 0
    bias = combined_bias(mask, forbidden, None, num_tokens=LENGTH, dtype=torch.float32)
    mixed, weights = attention(query, key, value, bias, need_weights=True)
    assert mixed.isfinite().all()
    assert not weights[:, :, 0, 2:].any()
    torch.testing.assert_close(weights[1, :, 0, 0], torch.ones(HEADS))


def test_packed_rows_see_only_themselves():
    starts = torch.tensor([0, 3, 4], dtype=torch.int32)
    assert row_of_token(starts, LENGTH).tolist() == [0, 0, 0, 1, 2, 2, 2]
    bias = combined_bias(None, None, starts, num_tokens=LENGTH, dtype=torch.float32)
    allowed = (bias[0, 0] == 0).long().tolist()
    assert allowed[0] == [1, 1, 1, 0, 0, 0, 0]
    assert allowed[3] == [0, 0, 0, 1, 0, 0, 0]
    assert allowed[6] == [0, 0, 0, 0, 1, 1, 1]


@pytest.mark.gpu
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_backends_agree_on_a_gpu(dtype):
    query, key, value = (part.cuda() for part in draw(dtype=dtype))
    bias = torch.zeros(BATCH, 1, 1, LENGTH, device="cuda", dtype=dtype)
    bias[0, ..., 4:] = torch.finfo(dtype).min / 2
    explicit, _ = attention(query, key, value, bias, backend="explicit")
    fused, _ = attention(query, key, value, bias, backend="auto")
    tolerance = 1e-5 if dtype == torch.float32 else 5e-2
    torch.testing.assert_close(explicit, fused, atol=tolerance, rtol=0)


def test_all_that_forbids_together_stays_finite() -> None:
    mask, starts = torch.zeros(1, 4), torch.tensor([0, 2, 4], dtype=torch.int32)
    forbidden = torch.full((1, 1, 4, 4), -torch.inf)
    bias = combined_bias(mask, forbidden, starts, num_tokens=4, dtype=torch.float32)
    assert bias is not None and bias.isfinite().all()
