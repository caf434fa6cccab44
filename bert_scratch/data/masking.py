"""Which tokens the model must guess, and what it sees in their place.

Every choice is a function of (seed, epoch, slot, position): the neighbours in the batch, the
padding and the device change nothing. Letters: B examples, S positions, V vocabulary, N predicted.
"""

from __future__ import annotations

import math
from collections.abc import Collection

import torch
from torch import Tensor

from bert_scratch.config import check_range
from bert_scratch.data.philox import Purpose, below, philox4x32
from bert_scratch.data.wordpiece import SpecialIds

LAST_KEY = torch.iinfo(torch.int64).max


class TokenMasker:
    """Choose tokens one by one and replace them: 80 % [MASK], 10 % random, 10 % unchanged.

    Args:
        vocab_size: V.
        special_ids: of the tokenizer.
        unselectable_ids: tokens that are neither selected nor drawn as replacement: [PAD] [UNK]
            [CLS] [SEP] [MASK] and [unused*]. They count in the length all the same.
        seed: the key of all draws.
        masked_lm_prob: share of a row's tokens, [CLS] and [SEP] included, to predict.
        max_predictions: at most this many in a row; None: no limit.
        mask_special: do as Google: every token but [CLS] and [SEP] may be selected, and any id of
            the vocabulary drawn.

    Raises:
        InputError: if masked_lm_prob is not in (0, 1] or max_predictions below 1.

    Source:
        Devlin et al. 2018, section 3.1; google-research/bert create_pretraining_data.py,
        `create_masked_lm_predictions`. Deviation: special tokens are left out unless mask_special.
    """

    def __init__(
        self,
        *,
        vocab_size: int,
        special_ids: SpecialIds,
        unselectable_ids: Collection[int],
        seed: int,
        masked_lm_prob: float = 0.15,
        max_predictions: int | None = None,
        mask_special: bool = False,
    ) -> None:
        check_range("masked_lm_prob", masked_lm_prob, above=0, at_most=1)
        check_range("max_predictions", max_predictions, at_least=1)
        self.seed = seed
        self.masked_lm_prob = masked_lm_prob
        self.max_predictions = max_predictions
        self.mask_id = special_ids.mask
        excluded = {special_ids.cls, special_ids.sep} if mask_special else set(unselectable_ids)
        self._selectable = torch.ones(vocab_size, dtype=torch.bool)
        self._selectable[sorted(excluded)] = False
        drawable = torch.ones_like(self._selectable) if mask_special else self._selectable
        self._replacements = drawable.nonzero().flatten()

    def num_to_predict(self, lengths: Tensor) -> Tensor:
        """Return min(max_predictions, max(1, round(length * masked_lm_prob))), halves to even.

        Args:
            lengths: int64, tokens of each row, [CLS] and [SEP] included.

        Returns:
            int64, the same shape.
        """
        wanted = (lengths.double() * self.masked_lm_prob).round().long().clamp(min=1)
        return wanted if self.max_predictions is None else wanted.clamp(max=self.max_predictions)

    def mask(
        self, input_ids: Tensor, lengths: Tensor, example_ids: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Select tokens and replace them.

        Args:
            input_ids: [B, S] int64; beyond a row's length anything.
            lengths: [B] int64, tokens of each row.
            example_ids: [B, 2] int64, (epoch, slot).

        Returns:
            The masked [B, S] int64 ids, the [N] int64 flat positions to predict in reading order,
            and the [N] int64 tokens that stood there. A row predicts as many tokens as
            `num_to_predict` says, or all it can.
        """
        position = torch.arange(input_ids.shape[1], device=input_ids.device)
        order, action, draw = self._words(example_ids, position)
        candidate = self._selectable.to(input_ids.device)[input_ids]
        candidate &= position < lengths[:, None]
        chosen = self._smallest(order, candidate, self.num_to_predict(lengths))
        positions = chosen.flatten().nonzero().flatten()
        labels = input_ids.flatten()[positions]
        replacements = self._replacements.to(input_ids.device)
        random_ids = replacements[below(draw.flatten()[positions], len(replacements))]
        tenth = below(action.flatten()[positions], 10)
        shown = torch.where(tenth < 8, self.mask_id, torch.where(tenth < 9, random_ids, labels))
        masked_ids = input_ids.flatten().index_copy(0, positions, shown).view_as(input_ids)
        return masked_ids, positions, labels

    def _words(self, example_ids: Tensor, position: Tensor) -> list[Tensor]:
        """Return three [B, S] random words of each position."""
        counter = (example_ids[:, :1], example_ids[:, 1:], position)
        if example_ids.device.type != "cpu":
            return list(philox4x32(self.seed, (*counter, Purpose.MASK))[:3])
        # the same bits in half the time: numpy spends less on each small operation
        arrays = (part.numpy() for part in counter)
        words = philox4x32(self.seed, (*arrays, Purpose.MASK))
        return [torch.from_numpy(word) for word in words[:3]]

    def _smallest(self, order: Tensor, candidate: Tensor, count: Tensor) -> Tensor:
        """Mark in each row the `count` candidates whose (word, position) is smallest."""
        width = order.shape[1]
        position = torch.arange(width, device=order.device)
        # one integer per position: unique, so a threshold selects exactly `count` of them
        keys = torch.where(candidate, order * width + position, LAST_KEY)
        at_most = min(width, math.ceil(width * self.masked_lm_prob) + 1)
        smallest = keys.topk(at_most, dim=1, largest=False).values
        threshold = smallest.gather(1, count[:, None] - 1)
        return candidate & (keys <= threshold)
