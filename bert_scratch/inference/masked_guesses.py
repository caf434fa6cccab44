"""Mask several tokens of each row at once, and return a model's predictions for them.

Letters: k masked positions of a row, B rows of a pass, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from tokenizers import Tokenizer

from bert_scratch.batch import passes_by_length
from bert_scratch.data.wordpiece import special_ids
from bert_scratch.inference.inputs import EncodedText, MaskedLM, answering, logits_at

_TOKENS_PER_BATCH = 4096


class MaskedRow(NamedTuple):
    """A text's tokens, and which of them are masked."""

    ids: Sequence[int]
    """Token ids without [CLS] and [SEP]; at most as many as the model has positions for."""
    masked: Sequence[int]
    """k indices into ids."""


class Answers(NamedTuple):
    """A model's predictions for the masked places of a row."""

    ids: npt.NDArray[np.int64]
    """[k] the most probable token."""
    probabilities: npt.NDArray[np.float32]
    """[k] its probability."""
    losses: npt.NDArray[np.float32]
    """[k] -ln of the probability of the original token."""


def answer_rows(
    model: MaskedLM, tokenizer: Tokenizer, rows: Sequence[MaskedRow]
) -> Iterator[tuple[list[int], list[Answers]]]:
    """Yield (indices of rows, their answers), the longest rows first.

    Args:
        model: on any device; left unchanged.
        tokenizer: the model's.
        rows: any number, each with any number of masked places.
    """
    for chosen in passes_by_length([len(row.ids) + 2 for row in rows], _TOKENS_PER_BATCH):
        yield chosen, _answer(model, tokenizer, [rows[index] for index in chosen])


def _answer(model: MaskedLM, tokenizer: Tokenizer, rows: Sequence[MaskedRow]) -> list[Answers]:
    special = special_ids(tokenizer)
    encoded = []
    for row in rows:
        ids = [special.cls, *row.ids, special.sep]
        for place in row.masked:
            ids[place + 1] = special.mask
        encoded.append(EncodedText(ids=ids, token_type_ids=[0] * len(ids)))
    with answering(model) as device:
        columns = [[place + 1 for place in row.masked] for row in rows]
        logits = logits_at(model, encoded, columns, pad_id=special.pad, device=device)
        scores = torch.log_softmax(logits.float(), dim=-1)  # [sum of k, V]
        stood = [row.ids[place] for row in rows for place in row.masked]
        targets = torch.tensor(stood, dtype=torch.int64)
        losses = -scores.gather(1, targets.to(device)[:, None]).squeeze(1)
        best = scores.max(dim=-1)
    values = [v.cpu().numpy() for v in (best.indices, best.values.exp(), losses)]
    ends = np.cumsum([len(row.masked) for row in rows])[:-1]
    return [Answers(*parts) for parts in zip(*(np.split(v, ends) for v in values), strict=True)]
