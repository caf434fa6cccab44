r"""The pooler below next sentence prediction, the solution.

tanh(W h + b) of the first position, [CLS], alone. The next sentence head is a linear layer on it.

Shapes: hidden [B, S, D] -> [B, D].

    bert-scratch check --as Pooler \
        --component examples/exercises/solutions/pooler.py:Pooler
"""

import torch
from torch import nn


class Pooler(nn.Module):
    def __init__(self, config):
        super().__init__()
        self.dense = nn.Linear(config.hidden_size, config.hidden_size)

    def forward(self, hidden):
        return torch.tanh(self.dense(hidden[:, 0]))
