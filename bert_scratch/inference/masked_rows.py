"""A text as many rows, in each of which another token is hidden.

Letters: N rows, S positions, D hidden, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from tokenizers import Tokenizer
from torch import Tensor

from bert_scratch.data.wordpiece import special_ids
from bert_scratch.inference.inputs import EncodedText, MaskedLM
from bert_scratch.model.layers import gather_positions

_TOKENS_A_PASS = 4096


@dataclass(frozen=True, slots=True)
class MaskedRows:
    """Rows without padding; each has [MASK] at one position of its own."""

    input_ids: Tensor
    """[N, S] int64."""
    token_type_ids: Tensor
    """[N, S] int64."""
    positions: Tensor
    """[N] int64, ascending: where each row has its [MASK]."""
    labels: Tensor
    """[N] int64, the token there; that of [MASK] where the text itself has one."""

    def passes(self) -> Iterator[MaskedRows]:
        """Yield the rows a few at a time, as many as go through a model at once."""
        rows = max(1, _TOKENS_A_PASS // self.input_ids.shape[1])
        parts = (self.input_ids, self.token_type_ids, self.positions, self.labels)
        for cut in zip(*(torch.split(part, rows) for part in parts), strict=True):
            yield MaskedRows(*cut)


def hide_each_token(
    encoded: EncodedText,
    tokenizer: Tokenizer,
    *,
    positions: Sequence[int] | None = None,
    device: torch.device | str = "cpu",
) -> MaskedRows:
    """Hide one token a row behind [MASK].

    Args:
        encoded: from `encode_pair`.
        tokenizer: the model's.
        positions: which, ascending; None for all but [CLS] and [SEP].
        device: where the model is.
    """
    special = special_ids(tokenizer)
    ids = torch.tensor(encoded.ids, device=device)
    chosen = ((ids != special.cls) & (ids != special.sep)).nonzero().squeeze(1)
    if positions is not None:
        chosen = torch.tensor(positions, dtype=torch.int64, device=device)
    input_ids = ids.repeat(len(chosen), 1)
    input_ids.scatter_(1, chosen[:, None], special.mask)
    types = torch.tensor(encoded.token_type_ids, device=device)
    return MaskedRows(input_ids, types.repeat(len(chosen), 1), chosen, ids[chosen])


def mask_logits(model: MaskedLM, rows: MaskedRows, words: Tensor | None = None) -> Tensor:
    """Return [N, V], what a model says at each row's position.

    Args:
        model: on the rows' device.
        rows: as many as go through the model at once.
        words: [N, S, D] in place of the rows' word embeddings; or None.
    """
    ids = rows.input_ids if words is None else None
    states = model.bert(ids, rows.token_type_ids, inputs_embeds=words).last_hidden_state
    row = torch.arange(len(rows.positions), device=states.device)
    flat = row * states.shape[1] + rows.positions
    logits: Tensor = model.mlm_head(gather_positions(states, flat))
    return logits
