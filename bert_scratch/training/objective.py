"""The training objective as the loop sees it, and that of pretraining.

A loss is a sum over labels divided by their count in the whole step, so k micro-batches, or k
ranks, give the gradients of one batch even if they have different numbers of labels.
"""

from __future__ import annotations

from typing import Any, Protocol, Self, TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from bert_scratch.batch import PREDICTION_MULTIPLE, Batch
from bert_scratch.model.losses import IGNORED_LABEL, cross_entropy_sum


class StepBatch(Protocol):
    """What the loop needs to know of the examples of a step."""

    @property
    def num_tokens(self) -> int:
        """Real tokens, padding not counted."""

    @property
    def num_positions(self) -> int:
        """Positions that are computed, padding included."""

    def split(self, micro_batch_size: int) -> list[Self]:
        """Split into micro-batches of at most this many examples."""

    def pin_memory(self) -> Self:
        """Return the batch in page-locked memory, so that copies to a GPU do not block."""

    def to(self, device: torch.device, *, non_blocking: bool = False) -> Self:
        """Return the batch on the device."""

    def describe_examples(self) -> str:
        """Name a few of the examples, so that a user can look at them."""


BatchT = TypeVar("BatchT", bound=StepBatch)
BatchT_contra = TypeVar("BatchT_contra", bound=StepBatch, contravariant=True)


class Objective(Protocol[BatchT_contra]):
    """A loss and what is logged of it; immutable, without state."""

    @property
    def sum_names(self) -> tuple[str, ...]:
        """Names of the sums that a step returns, which add up over steps and ranks."""

    def counts(self, batch: BatchT_contra) -> Tensor:
        """Return [C] float32, the label counts of a batch; losses are divided by a step's total."""

    def loss(
        self, model: nn.Module, micro_batch: BatchT_contra, counts: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Return a micro-batch's part of the step's loss, and its sums for the log.

        Args:
            model: in training or evaluation mode.
            micro_batch: on the model's device.
            counts: [C] float32 of the whole step, each at least 1, on the model's device.

        Returns:
            [] float32 with gradient, and [len(sum_names)] float32 without.
        """

    def means(self, sums: list[float]) -> dict[str, float]:
        """Turn sums into the losses and accuracies of the log, including `loss`."""


class PretrainingObjective:
    """Masked-token cross-entropy, plus that of sentence pairs if a batch has pairs.

    Source:
        Devlin et al. 2018, section 3.1: the plain sum of both mean losses.
    """

    sum_names = ("mlm_loss", "mlm_correct", "mlm_count", "nsp_loss", "nsp_correct", "nsp_count")

    def counts(self, batch: Batch) -> Tensor:
        """Return [2] float32: predicted positions and labelled pairs."""
        predictions = (batch.masked_labels != IGNORED_LABEL).sum()
        pairs = torch.zeros_like(predictions)
        if batch.next_sentence_label is not None:
            pairs = (batch.next_sentence_label != IGNORED_LABEL).sum()
        return torch.stack([predictions, pairs]).float()

    def loss(self, model: nn.Module, micro_batch: Batch, counts: Tensor) -> tuple[Tensor, Tensor]:
        """Return [] float32 with gradient and [6] float32 without, in the order of `sum_names`.

        Args:
            model: a `BertForPreTraining` (or any model with the same forward and outputs).
            micro_batch: on the model's device.
            counts: [2] of the whole step.
        """
        spare = (0, -len(micro_batch.masked_labels) % PREDICTION_MULTIPLE)
        labels = F.pad(micro_batch.masked_labels, spare, value=IGNORED_LABEL)
        output = model(
            micro_batch.input_ids,
            micro_batch.token_type_ids,
            None if micro_batch.row_starts is not None else micro_batch.attention_mask,
            masked_positions=F.pad(micro_batch.masked_positions, spare),
            row_starts=micro_batch.row_starts,
            longest_row=micro_batch.longest_row,
        )
        mlm_loss, mlm_correct = cross_entropy_sum(output.prediction_logits, labels)
        loss = mlm_loss / counts[0]
        zero = torch.zeros((), device=labels.device)
        nsp_loss, nsp_correct, num_pairs = zero, zero, zero
        pairs = micro_batch.next_sentence_label
        if pairs is not None:
            num_pairs = (pairs != IGNORED_LABEL).sum()
            nsp_loss, nsp_correct = cross_entropy_sum(output.seq_relationship_logits, pairs)
            loss = loss + nsp_loss / counts[1]
        counted = (labels != IGNORED_LABEL).sum()
        parts = (mlm_loss, mlm_correct, counted, nsp_loss, nsp_correct, num_pairs)
        return loss, torch.stack([part.detach().float() for part in parts])

    def means(self, sums: list[float]) -> dict[str, float]:
        """Return loss, mlm_loss, mlm_accuracy and, with pairs, nsp_loss and nsp_accuracy.

        Args:
            sums: in the order of `sum_names`; means are over predicted positions and over pairs.
        """
        total = dict(zip(self.sum_names, sums, strict=True))
        mlm_count = max(1.0, total["mlm_count"])
        mlm_loss = total["mlm_loss"] / mlm_count
        values = {"loss": mlm_loss, "mlm_loss": mlm_loss}
        values["mlm_accuracy"] = total["mlm_correct"] / mlm_count
        if total["nsp_count"]:
            values["nsp_loss"] = total["nsp_loss"] / total["nsp_count"]
            values["loss"] += values["nsp_loss"]
            values["nsp_accuracy"] = total["nsp_correct"] / total["nsp_count"]
        return values


PRETRAINING: Objective[Any] = PretrainingObjective()
