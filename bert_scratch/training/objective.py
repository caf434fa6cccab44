"""What is minimised: masked-token and next-sentence cross-entropy over global counts."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from bert_scratch.batch import Batch
from bert_scratch.model.losses import IGNORED_LABEL, cross_entropy_sum

# The columns of the vector every step leaves behind; sums, so windows and ranks just add up.
SUMS = ("mlm_loss", "mlm_correct", "mlm_count", "nsp_loss", "nsp_correct", "nsp_count")


def pretraining_loss(
    model: nn.Module, batch: Batch, *, num_predictions: int, num_pairs: int
) -> tuple[Tensor, Tensor]:
    """Return the part of the step's loss that this micro-batch adds, and its sums for the log.

    The sums are divided by the counts of the whole step, not of the micro-batch, so that k
    micro-batches give the gradients of one batch even when their prediction counts differ.

    Args:
        model: a `BertForPreTraining` (or any model with its forward and two logits).
        batch: one micro-batch, on the model's device.
        num_predictions: predicted positions of the whole step, at least 1.
        num_pairs: labelled pairs of the whole step; 0 trains without pairs.

    Returns:
        [] float32 with gradient, and [6] float32 without, in the order of `SUMS`.

    Source:
        Devlin et al. 2018, section 3.1: the plain sum of both mean losses.
    """
    output = model(
        batch.input_ids,
        batch.token_type_ids,
        batch.attention_mask,
        masked_positions=batch.masked_positions,
    )
    logits, labels = output.prediction_logits, batch.masked_labels
    mlm_loss, mlm_correct = cross_entropy_sum(logits, labels)
    loss = mlm_loss / num_predictions
    zero = torch.zeros((), device=logits.device)
    nsp_loss, nsp_correct, pairs = zero, zero, 0
    if batch.next_sentence_label is not None and num_pairs:
        pairs = batch.next_sentence_label.shape[0]
        scores = output.seq_relationship_logits
        nsp_loss, nsp_correct = cross_entropy_sum(scores, batch.next_sentence_label)
        loss = loss + nsp_loss / num_pairs
    counted = (labels != IGNORED_LABEL).sum()
    parts = (mlm_loss, mlm_correct, counted, nsp_loss, nsp_correct, zero + pairs)
    return loss, torch.stack([part.detach().float() for part in parts])
