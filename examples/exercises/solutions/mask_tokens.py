r"""The 80/10/10 rule, the solution.

Of the chosen tokens 80 % become [MASK] (draw < 0.8), 10 % a random token (draw < 0.9), 10 % stay.
All the chosen are predicted:
their label is the token that stood there; elsewhere it is -100.

Shapes: input_ids, random_ids [B, S] int64, chosen [B, S] bool, draw [B, S] in [0, 1), mask_id int
-> two of [B, S].

    bert-scratch check --as mask_tokens \
        --component examples/exercises/solutions/mask_tokens.py:mask_tokens
"""

import torch


def mask_tokens(input_ids, chosen, draw, random_ids, mask_id):
    labels = input_ids.masked_fill(~chosen, -100)
    masked = torch.where(chosen & (draw < 0.8), mask_id, input_ids)
    masked = torch.where(chosen & (draw >= 0.8) & (draw < 0.9), random_ids, masked)
    return masked, labels
