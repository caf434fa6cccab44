"""Masked tokens beside the task: a model that keeps predicting them forgets less of its language.

Letters: R rows, S positions, N predicted positions.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import torch
from torch import Tensor, nn

from bert_scratch.data.masking import Masker
from bert_scratch.finetuning.objective import TaskObjective
from bert_scratch.finetuning.rows import RowBatch
from bert_scratch.model.encoder import BertModel
from bert_scratch.model.heads import BertForMaskedLM
from bert_scratch.model.layers import gather_positions
from bert_scratch.model.losses import cross_entropy_sum
from bert_scratch.model.pretrained_model import PretrainedModel
from bert_scratch.model.weight_files import read_weights

_HEAD = "mlm_head"


def has_mlm_head(folder: Path) -> bool:
    """Tell whether the model of a folder can predict masked tokens."""
    return any(name.startswith("cls.predictions.") for name in read_weights(folder))


def add_mlm_head(model: PretrainedModel, source: str | Path) -> None:
    """Give a model the masked-token head of its pretrained folder, with the same weight tying.

    Args:
        model: a model of any task; changed in place.
        source: the folder or hub id that it was loaded from.
    """
    head = BertForMaskedLM.from_pretrained(source).mlm_head
    head.decoder.weight = model.get_submodule("bert").get_parameter(
        "embeddings.word_embeddings.weight"
    )
    model.add_module(_HEAD, head)


class AuxiliaryObjective:
    """A task's loss, plus the weighted loss of predicting masked tokens of the same rows.

    Args:
        task: the objective of the task.
        masker: chooses the masked tokens by each row's key.
        weight: weight of the mean loss over masked tokens.

    Source:
        Radford et al. 2018, "Improving language understanding by generative pre-training",
        section 3.2, with BERT's own objective as the auxiliary one.
    """

    sum_names = (*TaskObjective.sum_names, "mlm_loss", "mlm_count")

    def __init__(self, task: TaskObjective, masker: Masker, weight: float) -> None:
        self._task, self._masker, self._weight = task, masker, weight

    def counts(self, batch: RowBatch) -> Tensor:
        """Return [2] float32: the divisor of the task's summed loss, and the masked tokens.

        If no text has anything that can be masked, they count as one token, whose loss is 0.
        """
        _, positions, _ = self._masked(batch)
        return torch.cat([self._task.counts(batch), torch.tensor([max(1.0, len(positions))])])

    def loss(
        self, model: nn.Module, micro_batch: RowBatch, counts: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Return a micro-batch's part of the step's loss, and its sums for the log."""
        loss, sums = self._task.loss(model, micro_batch, counts)
        ids, positions, labels = self._masked(micro_batch)
        encoder = model.get_submodule("bert")
        assert isinstance(encoder, BertModel)
        encoded = encoder(
            ids,
            micro_batch.token_type_ids.flatten(0, -2),
            micro_batch.attention_mask.flatten(0, -2),
        )
        states = gather_positions(encoded.last_hidden_state, positions)
        total, _ = cross_entropy_sum(model.get_submodule(_HEAD)(states), labels)
        counted = torch.full_like(total, len(positions))
        own = torch.stack([total.detach(), counted])
        return loss + self._weight * total / counts[1], torch.cat([sums, own])

    def means(self, sums: list[float]) -> dict[str, float]:
        """Return the mean loss of the task and that of masked tokens."""
        *task, total, count = sums
        return {**self._task.means(task), "mlm_loss": total / max(count, 1.0)}

    def _masked(self, batch: RowBatch) -> tuple[Tensor, Tensor, Tensor]:
        """Return the masked [R, S] ids, the [N] flat masked positions and the [N] original ids.

        Each choice is a row of its own. Masks are drawn on the host, so it need not wait for a
        GPU.
        """
        device = batch.input_ids.device
        if device.type != "cpu":
            batch = RowBatch.of(batch.rows, pad_id=batch.pad_id)
        ids = batch.input_ids.flatten(0, -2)
        choices = len(ids) // len(batch.rows)
        keys = torch.tensor(
            [
                (epoch, number * choices + choice)
                for epoch, number in (row.key for row in batch.rows)
                for choice in range(choices)
            ]
        )
        lengths = batch.attention_mask.flatten(0, -2).sum(dim=-1)
        drawn: Iterable[Tensor] = self._masker.mask(ids, lengths, keys)
        if device.type == "cuda":
            drawn = map(Tensor.pin_memory, drawn)  # otherwise the copy would wait for the device
        ids, positions, labels = (each.to(device, non_blocking=True) for each in drawn)
        return ids, positions, labels
