"""Attribute a prediction to input tokens, by gradients.

Letters: N rows, S positions, D hidden.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from tokenizers import Tokenizer
from torch import Tensor

from bert_scratch.data.wordpiece import special_ids
from bert_scratch.inference.inputs import MaskedLM
from bert_scratch.inference.masked_rows import MaskedRows, mask_logits


@dataclass(frozen=True, slots=True, kw_only=True)
class PathAttribution:
    """The share of each token in a row's prediction of its target."""

    shares: Tensor
    """[N, S] float32, in nats; they add up to log_probability - baseline, up to the error of the
    sum."""
    log_probability: Tensor
    """[N] float32, log-probability of the target in the row."""
    baseline: Tensor
    """[N] float32, log-probability of the target with every word hidden by [MASK]."""


def gradient_x_input(model: MaskedLM, rows: MaskedRows, targets: Tensor) -> Tensor:
    """Multiply each token's embedding by the gradient of the target's log-probability.

    Args:
        model: on the rows' device; its own gradients are not touched.
        rows: from `hide_each_token`.
        targets: [N] int64, the token to explain at each row's [MASK].

    Returns:
        [N, S] float32 on the CPU, in nats.

    Source:
        Shrikumar et al. 2017, "Learning Important Features", section 2.2.
    """
    words = model.bert.embeddings.word_embeddings(rows.input_ids).detach()
    _, gradients = _log_probabilities(model, words, rows, targets)
    products: Tensor = (gradients * words).sum(dim=-1)
    return products.float().cpu()


def integrated_gradients(
    model: MaskedLM, rows: MaskedRows, targets: Tensor, tokenizer: Tokenizer, num_steps: int
) -> PathAttribution:
    """Integrate the gradient along the way from a text of [MASK]s to the text.

    The baseline keeps [CLS] and [SEP] and masks every other token, BERT's own way of not knowing.
    The integral is a Gauss-Legendre sum.

    Args:
        model: on the rows' device; its own gradients are not touched.
        rows: from `hide_each_token`.
        targets: [N] int64, the token asked about at each row's [MASK].
        tokenizer: the model's.
        num_steps: number of points along the way.

    Source:
        Sundararajan et al. 2017, "Axiomatic Attribution for Deep Networks", section 3.
    """
    special = special_ids(tokenizer)
    embed = model.bert.embeddings.word_embeddings
    nodes, weights = np.polynomial.legendre.leggauss(num_steps)
    ids = rows.input_ids
    kept = (ids == special.cls) | (ids == special.sep)
    text = embed(ids).detach()
    hidden = embed(torch.where(kept, ids, special.mask)).detach()
    total = torch.zeros_like(text)
    for node, weight in zip(nodes.tolist(), weights.tolist(), strict=True):
        point = torch.lerp(hidden, text, (node + 1) / 2)
        _, gradients = _log_probabilities(model, point, rows, targets)
        total += weight / 2 * gradients
    return PathAttribution(
        shares=(total * (text - hidden)).sum(dim=-1).float().cpu(),
        log_probability=_log_probabilities(model, text, rows, targets)[0].float().cpu(),
        baseline=_log_probabilities(model, hidden, rows, targets)[0].float().cpu(),
    )


def _log_probabilities(
    model: MaskedLM, words: Tensor, rows: MaskedRows, targets: Tensor
) -> tuple[Tensor, Tensor]:
    """Return each row's log-probability of its target, [N], and its gradient, [N, S, D].

    Args:
        model: left unchanged.
        words: [N, S, D], used instead of the rows' word embeddings.
        rows: N rows; their token types and positions are used.
        targets: [N] int64.
    """
    was_training = model.training
    model.eval()
    values, gradients = [], []
    start = 0
    for part in rows.passes():
        cut = slice(start, start + len(part.positions))
        start = cut.stop
        given = words[cut].clone().requires_grad_()
        logits = mask_logits(model, part, given)
        wanted = targets[cut].to(words.device)[:, None]
        value = torch.log_softmax(logits.float(), dim=-1).gather(1, wanted)[:, 0]
        (gradient,) = torch.autograd.grad(value.sum(), given)
        values.append(value.detach())
        gradients.append(gradient)
    model.train(was_training)
    if not values:
        return words.new_zeros(0), torch.zeros_like(words)
    return torch.cat(values), torch.cat(gradients)
