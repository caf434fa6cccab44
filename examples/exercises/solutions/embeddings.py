r"""Embeddings, the solution.

hidden = LayerNorm(word[id] + type[token type] + position[0, 1, 2, ...]). Without token types
every token has type 0, and
its row is added too.

Shapes: input_ids [B, S], token_type_ids [B, S] or None -> [B, S, D].

    bert-scratch check --as Embeddings \
        --component examples/exercises/solutions/embeddings.py:Embeddings
"""

import torch
from torch import nn


class Embeddings(nn.Module):
    def __init__(self, config):
        super().__init__()
        self.word = nn.Embedding(config.vocab_size, config.hidden_size)
        self.position = nn.Embedding(config.max_position_embeddings, config.hidden_size)
        self.token_type = nn.Embedding(config.type_vocab_size, config.hidden_size)
        self.norm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)

    def forward(self, input_ids, token_type_ids=None):
        if token_type_ids is None:
            token_type_ids = torch.zeros_like(input_ids)
        positions = torch.arange(input_ids.shape[1])
        return self.norm(
            self.word(input_ids) + self.token_type(token_type_ids) + self.position(positions)
        )
