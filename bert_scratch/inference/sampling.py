"""Draw tokens from the predictions of a masked language model.

Letters: R positions, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from tokenizers import Tokenizer
from torch import Tensor

from bert_scratch.data.wordpiece import unselectable_ids


def drawable_tokens(
    tokenizer: Tokenizer, vocab_size: int, keep: Callable[[str], bool] = lambda _: True
) -> Tensor:
    """Return [V] bool, the tokens that may be drawn: neither special nor unused, and kept.

    Args:
        tokenizer: the model's.
        vocab_size: V, of the model; rows the tokenizer has no token for are never drawn.
        keep: tells whether a token may be drawn.
    """
    drawable = torch.zeros(vocab_size, dtype=torch.bool)
    excluded = set(unselectable_ids(tokenizer))
    for token, number in tokenizer.get_vocab().items():
        if number < vocab_size:
            drawable[number] = number not in excluded and keep(token)
    return drawable


def draw(
    logits: Tensor,
    drawable: Tensor,
    *,
    top_k: int,
    temperature: float,
    generator: torch.Generator,
) -> Tensor:
    """Draw a token at each position from its most probable ones.

    Args:
        logits: [R, V], on any device.
        drawable: [V] or [R, V] bool, on the CPU.
        top_k: tokens to choose from.
        temperature: above 0; divides the logits, so lower values favour the most probable.
        generator: on the CPU, so that draws do not depend on the device.

    Returns:
        [R] int64 on the CPU.
    """
    scores = logits.float().cpu().masked_fill(~drawable, -torch.inf)
    best = scores.topk(min(top_k, scores.shape[1]))
    probabilities = torch.softmax(best.values / temperature, dim=-1)
    places = torch.multinomial(probabilities, 1, generator=generator)
    return best.indices.gather(1, places)[:, 0]
