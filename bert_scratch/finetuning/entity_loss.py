"""The loss of an entity tagger, over whole tag sequences of which only valid ones count."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from bert_scratch.model.losses import IGNORED_LABEL


def entity_loss_sum(logits: Tensor, labels: Tensor) -> Tensor:
    """Return [], the cross-entropy of each row's right tags among all valid sequences, summed.

    A sequence is valid if every I- continues its entity; its score is the sum of its tags' logits.
    With a cross-entropy per word, a small model would spend most of its capacity on telling B- from
    I-, which the previous tag decides.

    Args:
        logits: [R, S, L] float32, for O, then B- and I- of the first kind, of the next, ...
        labels: [R, S] int64, indices of tags; `IGNORED_LABEL` where no word begins.

    Source:
        Lafferty et al. 2001, "Conditional random fields", with transitions that are 0 or
        impossible, so that the model has only the parameters that transformers' has. A row may
        begin inside an entity, as the second window of a long text can.
    """
    is_word = labels != IGNORED_LABEL  # [R, S]
    nothing = logits.new_full((*logits.shape[:2], 1), -torch.inf)  # O has no I-
    scores = torch.cat([logits[..., :1], nothing, logits[..., 1:]], dim=-1)
    scores = scores.reshape(*logits.shape[:2], -1, 2)  # [R, S, K, 2], B- and I- of each kind
    before = torch.zeros_like(scores[:, 0])  # [R, K, 2], all sequences that a tag here can follow
    for position in range(logits.shape[1]):
        of_kind = (before + scores[:, position]).logsumexp(dim=-1)  # [R, K], what I- follows
        of_all = of_kind.logsumexp(dim=-1, keepdim=True).expand_as(of_kind)  # what O and B- follow
        after = torch.stack([of_all, of_kind], dim=-1)
        before = torch.where(is_word[:, position, None, None], after, before)
    right = F.one_hot(labels.clamp(min=0), logits.shape[-1]) * is_word[..., None]
    return before[:, 0, 0].sum() - (logits * right).sum()
