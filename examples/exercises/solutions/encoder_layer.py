r"""One layer, the solution.

h = LayerNorm(x + Attention(x, bias)); y = LayerNorm(h + FeedForward(h)). BERT normalises after
the residual (post-norm).

Shapes: x [B, S, D], bias or None -> [B, S, D].

    bert-scratch check --as EncoderLayer \
        --component examples/exercises/solutions/encoder_layer.py:EncoderLayer
"""

from torch import nn

from bert_scratch.model.layers import FeedForward, LayerNorm, MultiHeadAttention


class EncoderLayer(nn.Module):
    def __init__(self, config):
        super().__init__()
        self.attention = MultiHeadAttention(config)
        self.attention_layer_norm = LayerNorm(config)
        self.feed_forward = FeedForward(config)
        self.feed_forward_layer_norm = LayerNorm(config)

    def forward(self, x, bias=None):
        hidden = self.attention_layer_norm(x + self.attention(x, bias))
        return self.feed_forward_layer_norm(hidden + self.feed_forward(hidden))
