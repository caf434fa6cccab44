r"""Attention, an exercise.

softmax(Q K^T / sqrt(K) + bias) V: each query's weights over the keys sum to 1.

Shapes: query, key, value [B, H, S, K], bias broadcasts to [B, H, S, S] or None -> [B, H, S, K].

    bert-scratch check --as scaled_dot_product_attention \
        --component examples/exercises/attention.py:attention
"""


def attention(query, key, value, bias=None):
    # your lines here: scores [B, H, S, S], scale, bias, softmax, then mix the values
    return value
