"""One rank of a run, as its tests start it: notes what each step was, and may end at one.

Usage: one_rank.py NOTES ENDING RANK STEP CONFIG. ENDING is nothing, or what the rank does in that
step when it is started for the first time: kill (itself), terminate (itself), infinite (a loss);
or apart: it begins with other weights, as a CPU that rounds otherwise would count them.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch

from bert_scratch.cli import main
from bert_scratch.model.heads import BertForPreTraining
from bert_scratch.pretraining import assemble, run
from bert_scratch.pretraining.assemble import Parts
from bert_scratch.training.distributed import rank_and_world_size, times_restarted
from bert_scratch.training.loop import train
from bert_scratch.training.step import Updater

NOTES, ENDING, ENDING_RANK, ENDING_STEP, CONFIG = sys.argv[1:]
RANK, _ = rank_and_world_size()


class InfiniteLoss:
    """An objective whose loss is infinite on this rank."""

    def __init__(self, objective: Any) -> None:
        self.sum_names, self.counts, self._loss = (
            objective.sum_names,
            objective.counts,
            objective.loss,
        )

    def loss(self, *arguments: Any) -> Any:
        loss, sums = self._loss(*arguments)
        return loss * torch.inf, sums * torch.inf


def noting_update(updater: Updater[Any], batch: Any, *, step: int, **named: Any) -> Any:
    if (
        ENDING not in ("", "apart")
        and (RANK, step) == (int(ENDING_RANK), int(ENDING_STEP))
        and not times_restarted()
    ):
        if ENDING == "infinite":
            updater = replace(updater, objective=InfiniteLoss(updater.objective))
        else:
            os.kill(os.getpid(), {"kill": signal.SIGKILL, "terminate": signal.SIGTERM}[ENDING])
    made = updater.update(batch, step=step, **named)

    def noted_result() -> Any:
        result = made.result()
        note = {"step": step, "examples": batch.example_ids.tolist(), "sums": result.sums}
        with (Path(NOTES) / f"{RANK}.jsonl").open("a") as file:
            file.write(json.dumps(note) + "\n")
        return result

    return SimpleNamespace(step=made.step, result=noted_result)


def noting_train(updater: Updater[Any], **options: Any) -> None:
    noting = SimpleNamespace(
        model=updater.model,
        objective=updater.objective,
        runtime=updater.runtime,
        update=partial(noting_update, updater),
    )
    train(noting, **options)


class WeightsApart(Parts):
    """Parts whose model starts with other weights on one rank."""

    def build_model(self, checkpoint: Path | None = None) -> BertForPreTraining:
        model = super().build_model(checkpoint)
        if RANK == int(ENDING_RANK):
            with torch.no_grad():
                model.bert.embeddings.word_embeddings.weight.mul_(1.5)
        return model


if ENDING == "apart":
    assemble.Parts = WeightsApart
run.train = noting_train
sys.exit(main(["pretrain", "--config", CONFIG]))
