r"""GELU: x * Phi(x), the solution.

gelu(x) = x * Phi(x), Phi(x) = (1 + erf(x / sqrt(2))) / 2: the share of a normal distribution
below x.

Shapes: x [...] -> [...]. Use: torch.erf.

    bert-scratch check --as gelu \
        --component examples/exercises/solutions/gelu.py:gelu
"""

import math

import torch


def gelu(x):
    return x * 0.5 * (1 + torch.erf(x / math.sqrt(2)))
