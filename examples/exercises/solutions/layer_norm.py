r"""LayerNorm, the solution.

y = weight * (x - mean) / sqrt(variance + eps) + bias. Mean and variance are over the last axis;
the variance divides by D.

Shapes: x [B, S, D] -> [B, S, D]. The variance of torch divides by D - 1 unless told not to.

    bert-scratch check --as LayerNorm \
        --component examples/exercises/solutions/layer_norm.py:LayerNorm
"""

import torch
from torch import nn


class LayerNorm(nn.Module):
    def __init__(self, config):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(config.hidden_size))
        self.bias = nn.Parameter(torch.zeros(config.hidden_size))
        self.eps = config.layer_norm_eps

    def forward(self, x):
        mean = x.mean(-1, keepdim=True)
        variance = x.var(-1, correction=0, keepdim=True)
        return self.weight * (x - mean) / (variance + self.eps).sqrt() + self.bias
