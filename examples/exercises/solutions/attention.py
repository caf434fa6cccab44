r"""Attention, the solution.

softmax(Q K^T / sqrt(K) + bias) V: each query's weights over the keys sum to 1.

Shapes: query, key, value [B, H, S, K], bias broadcasts to [B, H, S, S] or None -> [B, H, S, K].

    bert-scratch check --as scaled_dot_product_attention \
        --component examples/exercises/solutions/attention.py:attention
"""

import math


def attention(query, key, value, bias=None):
    scores = query @ key.transpose(-1, -2) / math.sqrt(query.shape[-1])
    if bias is not None:
        scores = scores + bias
    return scores.softmax(-1) @ value
