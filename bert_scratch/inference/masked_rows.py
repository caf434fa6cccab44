"""Turn a text into rows, each with a different token masked.

Letters: N rows, S positions, D hidden, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from tokenizers import Tokenizer
from torch import Tensor

from bert_scratch.data.wordpiece import special_ids
from bert_scratch.inference.inputs import EncodedText, MaskedLM, vocabulary_logits

_TOKENS_A_PASS = 4096


@dataclass(frozen=True, slots=True)
class MaskedRows:
    """Rows without padding; each has [MASK] at a different position."""

    input_ids: Tensor
    """[N, S] int64."""
    token_type_ids: Tensor
    """[N, S] int64."""
    positions: Tensor
    """[N] int64, ascending: the position of each row's [MASK]."""
    labels: Tensor
    """[N] int64, the original token there; [MASK] itself if the text has one."""

    def passes(self) -> Iterator[MaskedRows]:
        """Yield the rows in parts that go through a model at once."""
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
    """Replace one token per row by [MASK].

    Args:
        encoded: from `encode_pair`.
        tokenizer: the model's.
        positions: the positions to mask, ascending; None for all but [CLS] and [SEP].
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
    """Return [N, V], a model's logits at each row's position.

    Args:
        model: on the rows' device.
        rows: as many as go through the model at once.
        words: [N, S, D], used instead of the rows' word embeddings; or None.
    """
    num_rows, width = rows.input_ids.shape
    ids = {"input_ids": rows.input_ids} if words is None else {"inputs_embeds": words}
    starts = torch.arange(num_rows, device=rows.positions.device) * width
    inputs = {**ids, "token_type_ids": rows.token_type_ids}
    return vocabulary_logits(model, inputs, starts + rows.positions)
