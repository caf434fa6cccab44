"""What the parts of a model do: its loss without each head, and which states carry a fact.

Letters: N rows, S positions, L layers, H heads, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from tokenizers import Tokenizer
from torch import Tensor
from torch.nn.functional import cross_entropy

from bert_scratch.config import InputError
from bert_scratch.data.wordpiece import special_ids
from bert_scratch.inference.inputs import MASK, MaskedLM, answering, encode_pair
from bert_scratch.inference.masked_rows import MaskedRows, hide_each_token, mask_logits
from bert_scratch.inference.surgery import (
    Edit,
    Site,
    disable_heads,
    operated,
    patch,
    recorded,
)


def masked_loss(
    model: MaskedLM,
    tokenizer: Tokenizer,
    text: str,
    edits: Sequence[Edit] = (),
) -> float:
    """Return the mean loss in nats over a text's tokens, each masked in a separate row.

    Args:
        model: on any device; left unchanged.
        tokenizer: the model's.
        text: at least one token long; special tokens spelt out in it are text.
        edits: changes to the model for this loss, from `surgery`.

    Raises:
        InputError: if the text has no token or is too long, or an edit does not fit.

    Source:
        Salazar et al. 2020, "Masked Language Model Scoring" (pseudo-log-likelihood).
    """
    encoded = encode_pair(tokenizer, text, config=model.config)
    total, count = 0.0, 0
    with answering(model) as device, operated(model, edits):
        for rows in hide_each_token(encoded, tokenizer, device=device).passes():
            logits = mask_logits(model, rows).float()
            total += float(cross_entropy(logits, rows.labels, reduction="sum"))
            count += len(rows.labels)
    if not count:
        raise InputError(f"the text needs at least one token; got {text[:60]!r}")
    return total / count


def loss_without_heads(model: MaskedLM, tokenizer: Tokenizer, text: str) -> Tensor:
    """Return [L, H] float32, `masked_loss` with each head disabled in turn.

    Args:
        model: on any device; left unchanged.
        tokenizer: the model's.
        text: at least one token long.

    Raises:
        InputError: as `masked_loss`.

    Source:
        Michel et al. 2019, "Are Sixteen Heads Really Better than One?".
    """
    shape = (model.config.num_hidden_layers, model.config.num_attention_heads)
    losses = torch.empty(shape)
    for layer in range(shape[0]):
        for head in range(shape[1]):
            edits = disable_heads(layer, [head])
            losses[layer, head] = masked_loss(model, tokenizer, text, edits)
    return losses


@dataclass(frozen=True, slots=True, kw_only=True)
class CausalTrace:
    """How much of an answer is restored by one state of the clean run."""

    tokens: list[str]
    """S tokens of the corrupted text."""
    clean: float
    """Probability of the answer in the clean text."""
    corrupted: float
    """Probability of the answer in the corrupted text."""
    restored: Tensor
    """[L + 1, S] float32, probability of the answer in the corrupted text with the clean state of
    one position put in after the embeddings (row 0) or after a layer."""


def causal_trace(
    model: MaskedLM,
    tokenizer: Tokenizer,
    clean: str,
    corrupted: str,
    answer: str,
) -> CausalTrace:
    """Find the states that carry an answer, by patching each from one text into another.

    Args:
        model: on any device; left unchanged.
        tokenizer: the model's.
        clean: a text with one [MASK], for which the model should predict the answer.
        corrupted: the same with other words, but the same number of tokens.
        answer: a token of the vocabulary.

    Raises:
        InputError: if the texts do not match, or the answer is not one token.

    Source:
        Meng et al. 2022, "Locating and Editing Factual Associations in GPT", section 2.1, with
        other words instead of noise.
    """
    answer_id = tokenizer.token_to_id(answer)
    if answer_id is None:
        raise InputError(f"the answer must be one token of the vocabulary; got {answer!r}")
    sites = [Site("embeddings"), *(Site("layer", n) for n in range(model.config.num_hidden_layers))]
    with answering(model) as device:
        clean_row = _with_one_mask(model, tokenizer, clean, device)
        row = _with_one_mask(model, tokenizer, corrupted, device)
        length, mask = row.input_ids.shape[1], int(row.positions)
        if (length, mask) != (clean_row.input_ids.shape[1], int(clean_row.positions)):
            raise InputError(
                f"both texts need the same number of tokens and the {MASK} in the same place; got "
                f"{clean_row.input_ids.shape[1]} with it at {int(clean_row.positions)} and "
                f"{length} with it at {mask}"
            )
        with recorded(model, sites) as states:
            clean_probability = _probability(model, clean_row, answer_id)
        restored = torch.empty(len(sites), length)
        for index, site in enumerate(sites):
            for position in range(length):
                with operated(model, patch(site, states[site], positions=[position])):
                    restored[index, position] = _probability(model, row, answer_id)
        return CausalTrace(
            tokens=[tokenizer.id_to_token(token) or "" for token in row.input_ids[0].tolist()],
            clean=clean_probability,
            corrupted=_probability(model, row, answer_id),
            restored=restored,
        )


def _probability(model: MaskedLM, row: MaskedRows, token_id: int) -> float:
    return float(torch.softmax(mask_logits(model, row)[0].float(), dim=-1)[token_id])


def _with_one_mask(
    model: MaskedLM, tokenizer: Tokenizer, text: str, device: torch.device
) -> MaskedRows:
    """Return the row of a text with one [MASK]."""
    encoded = encode_pair(tokenizer, text, config=model.config, with_masks=True)
    mask_id = special_ids(tokenizer).mask
    ids = torch.tensor([encoded.ids], device=device)
    positions = (ids[0] == mask_id).nonzero().squeeze(1)
    if len(positions) != 1:
        raise InputError(f"each text needs one {MASK}; got {text[:60]!r}")
    types = torch.tensor([encoded.token_type_ids], device=device)
    return MaskedRows(ids, types, positions, ids[0, positions])
