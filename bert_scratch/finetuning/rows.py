"""Rows of a model's input with their labels, and the batches that the loop is given.

Letters: R rows, C choices, S positions, L labels.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from bert_scratch.batch import EXAMPLES_NAMED, TokenBatch
from bert_scratch.config import BertConfig, InputError, first_few
from bert_scratch.data.wordpiece import SpecialIds
from bert_scratch.model.losses import IGNORED_LABEL

Ids = npt.NDArray[np.int32]


@dataclass(frozen=True, slots=True)
class TokenSequence:
    """`[CLS] A [SEP]` or `[CLS] A [SEP] B [SEP]` as ids."""

    ids: Ids
    """[S] token ids, special tokens included."""
    num_first: int
    """How many ids have token type 0; the others, a pair's second text, have type 1."""


def token_sequence(first: Ids, second: Ids | None, special_ids: SpecialIds) -> TokenSequence:
    """Put special tokens around a text, or around both texts of a pair."""
    parts: list[npt.ArrayLike] = [[special_ids.cls], first, [special_ids.sep]]
    if second is not None:
        parts += [second, [special_ids.sep]]
    ids = np.concatenate([np.asarray(part, dtype=np.int32) for part in parts])
    return TokenSequence(ids, len(first) + 2)


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One row of the model's input; a task may add fields that its answers need."""

    sequences: tuple[TokenSequence, ...]
    """One sequence, or one for each choice."""
    example: int
    """Index of the example it was made from; a long example may make several rows."""
    place: str
    """Where the example stands, `file:line`."""
    label: int | float | Sequence[int] | Sequence[float] | None = None
    """Label of the whole row, of one type in all rows; None if it is not known."""
    token_labels: npt.NDArray[np.int64] | None = None
    """[S], the label of each token, instead of `label`; -100 does not count."""
    key: tuple[int, int] = (0, 0)
    """(epoch, index among the training rows), from which its masks are drawn."""

    @property
    def num_tokens(self) -> int:
        """Tokens in all its sequences, special tokens included."""
        return sum(len(sequence.ids) for sequence in self.sequences)


def check_token_types(rows: Iterable[Row], config: BertConfig, *, model: str) -> None:
    """Check that a model can tell the texts of a pair apart, if there are pairs.

    Args:
        rows: rows of any task.
        config: the model's configuration.
        model: the model's name in the error.

    Raises:
        InputError: naming the first pair, if the model has only one token type.
    """
    if config.type_vocab_size > 1:
        return
    for row in rows:
        if any(sequence.num_first < len(sequence.ids) for sequence in row.sequences):
            raise InputError(
                f"{row.place}: a pair of texts needs a model with two token types; "
                f"--model {model} has one (type_vocab_size)"
            )


@dataclass(frozen=True, kw_only=True)
class RowBatch(TokenBatch):
    """R rows padded to the longest; a `training.objective.StepBatch`."""

    rows: Sequence[Row]
    """The R rows."""
    labels: Tensor | None
    """[R, ...] of `Row.label`, int64 or float32; or [R, S] int64 of `Row.token_labels`, -100 after
    each row's end. None if one is not known."""
    pad_id: int
    """The id of [PAD]."""

    @classmethod
    def of(cls, rows: Sequence[Row], *, pad_id: int) -> Self:
        """Lay rows out as tensors on the CPU.

        Args:
            rows: at least one; all with the same number of sequences.
            pad_id: the id of [PAD].
        """
        sequences = [sequence for row in rows for sequence in row.sequences]
        lengths = np.array([len(sequence.ids) for sequence in sequences])
        first = np.array([sequence.num_first for sequence in sequences])
        columns = np.arange(lengths.max())
        is_token = columns < lengths[:, None]
        ids = np.full(is_token.shape, pad_id, np.int64)
        ids[is_token] = np.concatenate([sequence.ids for sequence in sequences])
        types = is_token & (columns >= first[:, None])
        choices = len(rows[0].sequences)
        shape = (len(rows), choices, len(columns)) if choices > 1 else ids.shape
        return cls(
            rows=rows,
            input_ids=torch.from_numpy(ids).view(shape),
            token_type_ids=torch.from_numpy(types.astype(np.int64)).view(shape),
            attention_mask=torch.from_numpy(is_token.astype(np.int64)).view(shape),
            labels=_labels(rows, len(columns)),
            pad_id=pad_id,
        )

    @property
    def num_tokens(self) -> int:
        """Real tokens, padding not counted."""
        return sum(row.num_tokens for row in self.rows)

    def split(self, micro_batch_size: int) -> list[Self]:
        """Cut into micro-batches of rows of similar length, the longest first.

        Args:
            micro_batch_size: rows of a micro-batch, >= 1; the last may have fewer.
        """
        if micro_batch_size >= len(self.rows):
            return [self]
        ordered = sorted(self.rows, key=lambda row: -row.num_tokens)
        starts = range(0, len(ordered), micro_batch_size)
        pieces = [ordered[start : start + micro_batch_size] for start in starts]
        return [type(self).of(piece, pad_id=self.pad_id) for piece in pieces]

    def describe_examples(self) -> str:
        """Return the places of the first few examples."""
        return f"Examples {first_few([row.place for row in self.rows], EXAMPLES_NAMED)}"


def _labels(rows: Sequence[Row], width: int) -> Tensor | None:
    of_tokens = [row.token_labels for row in rows if row.token_labels is not None]
    if len(of_tokens) == len(rows):
        labels = np.full((len(rows), width), IGNORED_LABEL, np.int64)
        for line, values in zip(labels, of_tokens, strict=True):
            line[: len(values)] = values
        return torch.from_numpy(labels)
    if any(row.label is None for row in rows):
        return None
    whole = torch.tensor([row.label for row in rows])
    return whole.float() if whole.is_floating_point() else whole
