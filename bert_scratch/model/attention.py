"""Scaled dot-product attention: two implementations, and one more for packed rows.

Letters: B batch, S sequence, H heads, K head size, T packed tokens, R packed rows.
"""

from __future__ import annotations

import math
from typing import NamedTuple, cast

import torch
import torch.nn.functional as F
from torch import Tensor

from bert_scratch.model.dropout import Dropout

BACKENDS = ("auto", "explicit", "sdpa")


def attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    bias: Tensor | None = None,
    *,
    backend: str = "auto",
    dropout: Dropout | None = None,
    need_weights: bool = False,
) -> tuple[Tensor, Tensor | None]:
    """Mix the values of every position, weighted by how well its key answers each query.

    `explicit` is the formula of the paper and the fast path on a CPU; `sdpa` is torch's fused
    kernel, the fast path on a GPU, which never holds the weights. `auto` chooses between them.

    Args:
        query: [B, H, S, K] floating point.
        key: [B, H, S, K], as query.
        value: [B, H, S, K], as query.
        bias: added to the scaled scores before the softmax; broadcasts to [B, H, S, S] and has
            the query's dtype; None adds nothing.
        backend: auto, explicit or sdpa; need_weights forces explicit.
        dropout: of the weights; `sdpa` draws its own bits at the same rate. None for no dropout.
        need_weights: also return the weights.

    Returns:
        [B, H, S, K] in the query's dtype, and the weights [B, H, S, S] before dropout (rows sum
        to 1) or None.

    Source:
        Vaswani et al. 2017, section 3.2.1: softmax(Q K^T / sqrt(d_k)) V.
    """
    if backend == "auto":
        backend = "sdpa" if query.is_cuda else "explicit"
    if backend == "sdpa" and not need_weights:
        rate = dropout.p if dropout is not None and dropout.training else 0.0
        mixed = F.scaled_dot_product_attention(query, key, value, attn_mask=bias, dropout_p=rate)
        return mixed, None
    weights = _scores(query, key, bias).softmax(dim=-1)
    kept = weights if dropout is None else dropout(weights)
    return torch.matmul(kept, value), weights if need_weights else None


class RowBounds(NamedTuple):
    """Where the rows packed into T tokens begin and end."""

    bounds: Tensor
    """[R+1] int32 from 0 to T: row r is the tokens from bounds[r] up to bounds[r+1]."""
    longest_row: int
    """No row has more tokens."""


def has_packed_attention(device: torch.device, dtype: torch.dtype, head_size: int) -> bool:
    """Tell whether `packed_attention` runs on a device, for a dtype and size of the heads."""
    return (
        device.type == "cuda"
        and dtype in (torch.float16, torch.bfloat16)
        and head_size % 8 == 0
        and head_size <= 256
        and _is_ampere_or_newer(device.index)
    )


@torch.compiler.assume_constant_result  # type: ignore[untyped-decorator]
def _is_ampere_or_newer(index: int | None) -> bool:
    return torch.cuda.get_device_capability(index) >= (8, 0)


def packed_attention(query: Tensor, key: Tensor, value: Tensor, rows: RowBounds) -> Tensor:
    """Compute `attention`, without bias or dropout, within each of the rows of T tokens.

    Uses torch's variable-length kernels (cuDNN's or Flash's, as torch prefers for the GPU); needs
    `has_packed_attention`.

    Args:
        query: [T, H, K] float16 or bfloat16.
        key: [T, H, K], as query.
        value: [T, H, K], as query.
        rows: every token belongs to one of them.

    Returns:
        [T, H, K] in the query's dtype.
    """
    from torch.nn.attention.varlen import varlen_attn  # takes 2 s, and a CPU never needs it

    bounds, longest = rows
    return cast(Tensor, varlen_attn(query, key, value, bounds, bounds, longest, longest))


def _scores(query: Tensor, key: Tensor, bias: Tensor | None) -> Tensor:
    """Return Q K^T / sqrt(K) + bias: [B, H, S, S]."""
    batch, heads, length, size = query.shape
    scale = 1.0 / math.sqrt(size)
    if bias is None:
        return torch.matmul(query, key.transpose(-1, -2)) * scale
    # One kernel for product, scale and bias. A bias on keys only stays [B*H, 1, S].
    rows = bias.expand(batch, heads, -1, -1).reshape(batch * heads, bias.shape[-2], length)
    scores = torch.baddbmm(
        rows,
        query.reshape(-1, length, size),
        key.reshape(-1, length, size).transpose(1, 2),
        alpha=scale,
    )
    return scores.view(batch, heads, length, length)


def combined_bias(
    attention_mask: Tensor | None,
    attention_bias: Tensor | None,
    row_starts: Tensor | None,
    *,
    num_tokens: int,
    dtype: torch.dtype,
) -> Tensor | None:
    """Combine everything that keeps one position from attending to another into one bias.

    Forbidden keys get half the lowest finite number: their weight is exactly zero, and a row
    without any real key (whose result is meaningless) stays finite instead of becoming NaN.

    Args:
        attention_mask: [B, S], 1 (or True) on real tokens, 0 on padding; or None.
        attention_bias: [B or 1, H or 1, S, S] floating point, added to the scores; -inf is
            allowed; or None.
        row_starts: [R+1] int, where each packed row starts in [1, T], and T; or None.
        num_tokens: S, or T when packed.
        dtype: of the scores.

    Returns:
        [B or 1, H or 1, 1 or S, S] in dtype, or None when nothing is forbidden.
    """
    lowest = torch.finfo(dtype).min / 2
    bias: Tensor | None = None
    if attention_mask is not None:
        bias = torch.zeros(attention_mask.shape, dtype=dtype, device=attention_mask.device)
        bias = bias.masked_fill_(attention_mask == 0, lowest)[:, None, None, :]
    if row_starts is not None:
        row = row_of_token(row_starts, num_tokens)
        apart = (row[:, None] != row[None, :])[None, None]
        packed = torch.zeros(apart.shape, dtype=dtype, device=row.device)
        packed = packed.masked_fill_(apart, lowest)
        bias = packed if bias is None else bias + packed
    if attention_bias is not None:
        given = attention_bias.clamp(min=lowest).to(dtype)
        bias = given if bias is None else bias + given
    return None if bias is None else bias.clamp(min=lowest)


def row_of_token(row_starts: Tensor, num_tokens: int) -> Tensor:
    """Return [T] int64, the packed row each token belongs to; R for tokens after the last row."""
    tokens = torch.arange(num_tokens, device=row_starts.device, dtype=row_starts.dtype)
    return torch.searchsorted(row_starts[1:].contiguous(), tokens, right=True)
