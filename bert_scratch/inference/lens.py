"""What a layer's states would predict if the model ended there.

Letters: N states, S positions, L layers, D hidden, V vocabulary, k guesses.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from bert_scratch.inference.embed import encoder_of
from bert_scratch.inference.inputs import answering
from bert_scratch.inference.masked_rows import MaskedRows
from bert_scratch.model.heads import MaskedLMHead
from bert_scratch.model.pretrained_model import PretrainedModel

_STATES_A_PASS = 256


class Guesses(NamedTuple):
    """The best tokens for each state; leading dimensions are those of the states."""

    ids: Tensor
    """[..., k] int64, the best first."""
    scores: Tensor
    """[..., k] float32: probabilities, or cosines."""


class Ranked(NamedTuple):
    """How a state ranks one token; dimensions are those of the states without D."""

    probability: Tensor
    """Probability of the token, float32."""
    rank: Tensor
    """Rank of the token, int64, 1 for the most probable."""


def layer_states(model: PretrainedModel, input_ids: Tensor, token_type_ids: Tensor) -> Tensor:
    """Return [L + 1, S, D] float32 on the CPU: a row's states after the embeddings and each layer.

    Args:
        model: a `BertModel`, or any model around one; left unchanged.
        input_ids: [1, S] int64.
        token_type_ids: [1, S] int64.
    """
    with answering(model) as device:
        output = encoder_of(model)(
            input_ids.to(device), token_type_ids.to(device), output_hidden_states=True
        )
        assert output.hidden_states is not None
        return torch.cat(output.hidden_states).float().cpu()


def hidden_states(model: PretrainedModel, rows: MaskedRows) -> Tensor:
    """Return [N, L + 1, D] float32 on the CPU: the states at each row's [MASK].

    Args:
        model: a `BertModel`, or any model around one, on the rows' device; left unchanged.
        rows: from `hide_each_token`.
    """
    encoder = encoder_of(model)
    found = [torch.empty(0, encoder.config.num_hidden_layers + 1, encoder.config.hidden_size)]
    with answering(model):
        for part in rows.passes():
            output = encoder(part.input_ids, part.token_type_ids, output_hidden_states=True)
            assert output.hidden_states is not None
            row = torch.arange(len(part.positions))
            at_masks = [states[row, part.positions] for states in output.hidden_states]
            found.append(torch.stack(at_masks, dim=1).float().cpu())
    return torch.cat(found)


def logit_lens(
    head: MaskedLMHead, states: Tensor, top_k: int, labels: Tensor
) -> tuple[Guesses, Ranked]:
    """Apply the masked language model's head to states of any layer.

    Args:
        head: the model's, in evaluation mode.
        states: [..., D], of any layers.
        top_k: guesses for each, at most V.
        labels: [...] int64, a token to look up for each state.

    Source:
        nostalgebraist 2020, "interpreting GPT: the logit lens", with BERT's own head, which has a
        dense layer and LayerNorm before the vocabulary.
    """
    device = head.decoder.weight.device
    guesses, ranked = [], []
    flat = zip(
        torch.split(states.flatten(0, -2), _STATES_A_PASS),
        torch.split(labels.flatten(), _STATES_A_PASS),
        strict=True,
    )
    with torch.inference_mode():
        for part, wanted in flat:
            probabilities = torch.softmax(head(part.to(device)).float(), dim=-1).cpu()
            best = probabilities.topk(top_k)
            own = probabilities.gather(1, wanted[:, None])
            guesses.append((best.indices, best.values))
            ranked.append((own[:, 0], (probabilities > own).sum(dim=1) + 1))
    ids, scores = (torch.cat(part) for part in zip(*guesses, strict=True))
    probability, rank = (torch.cat(part) for part in zip(*ranked, strict=True))
    shape = states.shape[:-1]
    return (
        Guesses(ids.view(*shape, top_k), scores.view(*shape, top_k)),
        Ranked(probability.view(shape), rank.view(shape)),
    )


def nearest_words(word_embeddings: Tensor, states: Tensor, top_k: int) -> Guesses:
    """Find the tokens whose embedding is closest in direction to a state.

    Args:
        word_embeddings: [V, D].
        states: [..., D] of any layers.
        top_k: tokens for each, at most V.
    """
    device = word_embeddings.device
    directions = torch.nn.functional.normalize(word_embeddings.detach().float(), dim=-1)
    found = []
    for part in torch.split(states.flatten(0, -2), _STATES_A_PASS):
        unit = torch.nn.functional.normalize(part.to(device).float(), dim=-1)
        best = (unit @ directions.T).topk(top_k)
        found.append((best.indices.cpu(), best.values.cpu()))
    ids, scores = (torch.cat(part) for part in zip(*found, strict=True))
    shape = (*states.shape[:-1], top_k)
    return Guesses(ids.view(shape), scores.view(shape))
