"""Score rows with a model, without gradients: logits, and the loss if there are labels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from bert_scratch.batch import passes_by_length
from bert_scratch.finetuning.rows import Row, RowBatch
from bert_scratch.finetuning.task import Task
from bert_scratch.inference.inputs import answering
from bert_scratch.model.pretrained_model import PretrainedModel
from bert_scratch.training.interruption import StopRequest
from bert_scratch.training.runtime import Runtime

TOKENS_PER_BATCH = 8192
"""Most positions in a forward pass, padding included; a single row may exceed it."""


@dataclass(frozen=True)
class Scores:
    """A model's scores of rows."""

    logits: list[Tensor]
    """Logits of each row, [...] float32 on the CPU."""
    loss: float | None
    """Mean over the labels; None without labels."""


def score_rows(
    model: PretrainedModel,
    task: Task[Any, Any],
    rows: Sequence[Row],
    *,
    runtime: Runtime,
    pad_id: int,
    stop: StopRequest | None = None,
) -> Scores:
    """Run rows through a model, the longest first, so that there is little padding.

    Args:
        model: the model, on the runtime's device; left as it was.
        task: the task whose head it has.
        rows: at least one, labelled or not.
        runtime: device and dtype.
        pad_id: the id of [PAD].
        stop: polled between passes; after a stop the returned scores are of no use.
    """
    logits: dict[int, Tensor] = {}
    total = weight = 0.0
    with answering(model):
        for chosen in passes_by_length([row.num_tokens for row in rows], TOKENS_PER_BATCH):
            if stop:
                break
            batch = RowBatch.of([rows[index] for index in chosen], pad_id=pad_id)
            batch = batch.to(runtime.device, non_blocking=True)
            with runtime.autocast():
                scores = task.logits(model, batch).float()
            if batch.labels is not None:
                total += float(task.loss(scores, batch))
                weight += task.loss_weight(batch)
            logits.update(zip(chosen, scores.cpu(), strict=True))
    return Scores(
        [logits[index] for index in range(len(logits))], total / weight if weight else None
    )
