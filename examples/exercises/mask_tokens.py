r"""The 80/10/10 rule, an exercise.

Of the chosen tokens 80 % become [MASK] (draw < 0.8), 10 % a random token (draw < 0.9), 10 % stay.
All the chosen are predicted:
their label is the token that stood there; elsewhere it is -100.

Shapes: input_ids, random_ids [B, S] int64, chosen [B, S] bool, draw [B, S] in [0, 1), mask_id int
-> two of [B, S].

    bert-scratch check --as mask_tokens \
        --component examples/exercises/mask_tokens.py:mask_tokens
"""

import torch


def mask_tokens(input_ids, chosen, draw, random_ids, mask_id):
    # your lines here: this masks them all
    labels = input_ids.masked_fill(~chosen, -100)
    return torch.where(chosen, mask_id, input_ids), labels
