r"""From mask to bias, the solution.

A mask has 1 on real tokens and 0 on padding. What is added to the scores is 0 at real keys and
very negative at padding. It
belongs to the keys, the last axis of the scores [B, H, S, S].

Shapes: mask [B, S] -> bias [B, 1, 1, S].

    bert-scratch check --as attention_mask \
        --component examples/exercises/solutions/attention_mask.py:attention_mask
"""


def attention_mask(mask):
    return (1.0 - mask[:, None, None, :]) * -1e9
