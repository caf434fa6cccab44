r"""From mask to bias, an exercise.

A mask has 1 on real tokens and 0 on padding. What is added to the scores is 0 at real keys and
very negative at padding. It
belongs to the keys, the last axis of the scores [B, H, S, S].

Shapes: mask [B, S] -> bias [B, 1, 1, S].

    bert-scratch check --as attention_mask \
        --component examples/exercises/attention_mask.py:attention_mask
"""


def attention_mask(mask):
    # your line here
    return mask[:, None, None, :].float()
