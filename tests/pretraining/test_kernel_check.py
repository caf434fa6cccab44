"""Pins that kernels for packed rows are refused where they compute anything but the formula.
Anywhere; with a GPU its own kernels: `pytest tests/pretraining/test_kernel_check.py`."""

from __future__ import annotations

import itertools
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from bert_scratch.model.attention import RowBounds, attention, has_packed_attention
from bert_scratch.pretraining import kernel_check
from bert_scratch.pretraining.kernel_check import kernels_agree
from bert_scratch.training.runtime import Runtime

Kernel = Callable[[Tensor, Tensor, Tensor, RowBounds], Tensor]
CPU = Runtime(device=torch.device("cpu"), dtype=torch.bfloat16, num_threads=1)


def row_by_row(query: Tensor, key: Tensor, value: Tensor, rows: RowBounds) -> Tensor:
    mixed = []
    for start, end in itertools.pairwise(rows.bounds.tolist()):
        parts = (part[None, start:end].transpose(1, 2) for part in (query, key, value))
        mixed.append(attention(*parts)[0][0].transpose(0, 1))
    return torch.cat(mixed)


def rows_mixed(query: Tensor, key: Tensor, value: Tensor, rows: RowBounds) -> Tensor:
    return row_by_row(query, key, value, RowBounds(rows.bounds[[0, -1]], rows.longest_row))


def two_rows_mixed(query: Tensor, key: Tensor, value: Tensor, rows: RowBounds) -> Tensor:
    bounds = torch.cat([rows.bounds[:1], rows.bounds[2:]])
    return row_by_row(query, key, value, RowBounds(bounds, rows.longest_row))


def wrong_gradient(query: Tensor, key: Tensor, value: Tensor, rows: RowBounds) -> Tensor:
    return row_by_row(query, key.detach() + 0 * key, value, rows)


def unwritten(query: Tensor, key: Tensor, value: Tensor, rows: RowBounds) -> Tensor:
    return row_by_row(query, key, value, rows).index_fill(0, rows.bounds[-1:].long() - 1, torch.nan)


@pytest.mark.parametrize(
    ("kernel", "agrees"),
    [
        (row_by_row, True),
        (rows_mixed, False),
        (two_rows_mixed, False),
        (wrong_gradient, False),
        (unwritten, False),
        (lambda query, key, value, rows: 0 * (query + key + value), False),
        (lambda query, key, value, rows: 0 * (query + key) + value, False),
    ],
)
def test_kernels_agree_only_if_rows_are_kept_apart(
    kernel: Kernel, agrees: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kernel_check, "packed_attention", kernel)
    assert kernels_agree(CPU, head_size=16, longest_row=24) is agrees


@pytest.mark.gpu
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("longest_row", [64, 128, 512])
@pytest.mark.parametrize("head_size", [32, 64])
def test_kernels_of_this_gpu_agree(dtype: torch.dtype, longest_row: int, head_size: int) -> None:
    gpu = torch.device("cuda")
    if not has_packed_attention(gpu, dtype, head_size):
        pytest.skip("this GPU has no kernels for packed rows")
    runtime = Runtime(device=gpu, dtype=dtype, num_threads=1)
    assert kernels_agree(runtime, head_size=head_size, longest_row=longest_row)
