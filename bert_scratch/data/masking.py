"""Which tokens the model must predict, and what it sees in their place.

Every choice is a function of (seed, epoch, slot, position), independent of the rest of the batch,
padding and device. Letters: B examples, S positions, V vocabulary, N predicted.
"""

from __future__ import annotations

import math
from collections.abc import Collection

import numpy as np
import torch
from torch import Tensor

from bert_scratch.config import check_range
from bert_scratch.data.mask_settings import USUAL_MASKS, MaskSettings
from bert_scratch.data.mask_units import LAST_KEY, POSITION_BITS, spans, whole_words
from bert_scratch.data.philox import Purpose, below, philox4x32
from bert_scratch.data.wordpiece import SpecialIds


class Masker:
    """Choose tokens, words or spans of words, and replace their tokens.

    Args:
        vocab_size: V.
        special_ids: of the tokenizer.
        unselectable_ids: tokens that are neither selected nor drawn as replacement: [PAD], [UNK],
            [CLS], [SEP], [MASK] and [unused*]. They still count towards the length.
        seed: the key of all draws.
        settings: what is masked and shown in its place.
        max_predictions: at most this many per row, as Google's program has it; None: no limit.

    Raises:
        InputError: if max_predictions is below 1.

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
        settings: MaskSettings = USUAL_MASKS,
        max_predictions: int | None = None,
    ) -> None:
        check_range("max_predictions", max_predictions, at_least=1)
        self.seed = seed
        self.settings = settings
        self.max_predictions = max_predictions
        self.mask_id = special_ids.mask
        # bits below the first bound show [MASK], below the second a random token
        self._mask_below = math.ceil(settings.mask_token_prob * 2**32)
        changed = settings.mask_token_prob + settings.random_token_prob
        self._random_below = math.ceil(changed * 2**32)
        excluded = set(unselectable_ids)
        if settings.mask_special:
            excluded = {special_ids.cls, special_ids.sep}
        self._selectable = torch.ones(vocab_size, dtype=torch.bool)
        self._selectable[sorted(excluded)] = False
        drawable = self._selectable
        if settings.mask_special:
            drawable = torch.ones_like(self._selectable)
        self._replacements = drawable.nonzero().flatten()

    def num_to_predict(self, lengths: Tensor) -> Tensor:
        """Return min(max_predictions, max(1, round(length * masked_lm_prob))), halves to even.

        Args:
            lengths: int64, tokens of each row, [CLS] and [SEP] included.

        Returns:
            int64, the same shape.
        """
        wanted = (lengths.double() * self.settings.masked_lm_prob).round().long().clamp(min=1)
        return wanted if self.max_predictions is None else wanted.clamp(max=self.max_predictions)

    def mask(
        self,
        input_ids: Tensor,
        lengths: Tensor,
        example_ids: Tensor,
        word_starts: Tensor | None = None,
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Select tokens and replace them.

        Args:
            input_ids: [B, S] int64; ignored beyond a row's length.
            lengths: [B] int64, tokens of each row.
            example_ids: [B, 2] int64, (epoch, slot).
            word_starts: [B, S] bool, where words start; needed for units word and span, which
                work on the CPU only.

        Returns:
            The masked [B, S] int64 ids, the [N] int64 flat positions to predict in reading order,
            and the [N] int64 original tokens there. A row predicts as many tokens as
            `num_to_predict` says, or all it can; with whole words, as many as fit.
        """
        width = input_ids.shape[1]
        position = torch.arange(width, device=input_ids.device)
        order, action, draw, length = self._random_bits(example_ids, position)
        flat_ids = input_ids.flatten()
        selectable = self._selectable.to(input_ids.device)
        candidate = selectable.index_select(0, flat_ids).view_as(input_ids)
        candidate &= position < lengths[:, None]
        # one integer per position, in the order of (random bits, position): no two are equal
        keys = torch.where(candidate, order << POSITION_BITS | position, LAST_KEY)
        budgets = self.num_to_predict(lengths)
        if self.settings.unit == "token":
            last = _sorted(keys).gather(1, budgets[:, None] - 1)
            chosen = candidate & (keys <= last)
        else:
            assert word_starts is not None
            arrays = (keys.numpy(), word_starts.numpy(), budgets.numpy())
            chosen = torch.from_numpy(
                whole_words(*arrays)
                if self.settings.unit == "word"
                else spans(*arrays, length.numpy())
            )
        positions = chosen.flatten().nonzero().flatten()
        labels = flat_ids[positions]
        deciding = positions if self.settings.unit != "span" else _first_of_run(positions)
        shown = self._shown(labels, action.flatten()[deciding], draw.flatten()[positions])
        return flat_ids.index_copy(0, positions, shown).view_as(input_ids), positions, labels

    def _shown(self, labels: Tensor, action: Tensor, draw: Tensor) -> Tensor:
        """Return what replaces the chosen tokens, decided by two 32-bit draws each."""
        replacements = self._replacements.to(labels.device)
        random_ids = replacements[below(draw, len(replacements))]
        changed = torch.where(action < self._random_below, random_ids, labels)
        return torch.where(action < self._mask_below, self.mask_id, changed)

    def _random_bits(self, example_ids: Tensor, position: Tensor) -> list[Tensor]:
        """Return four [B, S] tensors of 32 random bits per position."""
        counter = (example_ids[:, :1], example_ids[:, 1:], position)
        if example_ids.device.type != "cpu":
            return list(philox4x32(self.seed, (*counter, Purpose.MASK)))
        # the same bits in half the time: numpy has less overhead per small operation
        arrays = (part.numpy() for part in counter)
        drawn = philox4x32(self.seed, (*arrays, Purpose.MASK))
        return [torch.from_numpy(bits) for bits in drawn]


def _sorted(keys: Tensor) -> Tensor:
    """Return each row in ascending order."""
    if keys.device.type != "cpu":
        return keys.sort(dim=1).values
    # ten times as fast as torch's
    return torch.from_numpy(np.sort(keys.numpy(), axis=1))


def _first_of_run(positions: Tensor) -> Tensor:
    """Return for each position the first of its run of consecutive positions.

    A run never spans two rows, because a row starts with [CLS], which is never chosen.
    """
    starts = torch.ones(len(positions), dtype=torch.bool)
    starts[1:] = positions.diff() > 1
    return positions[starts][starts.cumsum(0) - 1]
