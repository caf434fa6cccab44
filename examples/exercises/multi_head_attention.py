r"""Several heads, an exercise.

Project to query, key and value [B, S, D]; split D into H heads of K; attend in each; put the
heads side by side; project.

Shapes: x [B, S, D], bias broadcasts to [B, H, S, S] or None -> [B, S, D].
D is H blocks of K: view(B, S, H, K), then transpose to [B, H, S, K]. Merging is the way back.

    bert-scratch check --as MultiHeadAttention \
        --component examples/exercises/multi_head_attention.py:MultiHeadAttention
"""

import math

from torch import nn


class MultiHeadAttention(nn.Module):
    def __init__(self, config):
        super().__init__()
        self.heads = config.num_attention_heads
        self.query = nn.Linear(config.hidden_size, config.hidden_size)
        self.key = nn.Linear(config.hidden_size, config.hidden_size)
        self.value = nn.Linear(config.hidden_size, config.hidden_size)
        self.output = nn.Linear(config.hidden_size, config.hidden_size)

    def split(self, x):
        batch, length, _ = x.shape
        # your line here: this one has the right shape and the wrong numbers
        return x.view(batch, self.heads, length, -1)

    def forward(self, x, bias=None):
        query, key, value = map(self.split, (self.query(x), self.key(x), self.value(x)))
        scores = query @ key.transpose(-1, -2) / math.sqrt(query.shape[-1])
        if bias is not None:
            scores = scores + bias
        mixed = scores.softmax(-1) @ value
        return self.output(mixed.transpose(1, 2).reshape(x.shape))
