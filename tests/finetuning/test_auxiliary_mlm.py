"""Masked tokens are learnt beside the task, by row and epoch, and leave an ordinary model.
Runs anywhere: `pytest tests/finetuning/test_auxiliary_mlm.py`."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from itertools import islice
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from bert_scratch.config import InputError
from bert_scratch.data.wordpiece import TokenizerFolder, load_tokenizer
from bert_scratch.finetuning.assemble import assemble
from bert_scratch.finetuning.finetune import finetune
from bert_scratch.finetuning.finetune_config import FinetuneConfig
from bert_scratch.finetuning.objective import TaskObjective
from bert_scratch.model.encoder import BertModel

Make = Callable[..., FinetuneConfig]


def test_the_loss_is_the_task_s_plus_the_weighted_one_of_masked_tokens(settings: Make) -> None:
    parts = assemble(settings(auxiliary_mlm=0.1, dropout=0.0))
    model, batch = parts.build_model(), next(parts.batches(0))
    objective = parts.objective()
    counts = objective.counts(batch)
    loss, sums = objective.loss(model, batch, counts)
    task, _ = TaskObjective(parts.task).loss(model, batch, counts)
    means = objective.means(sums.tolist())
    assert loss.item() == pytest.approx(task.item() + 0.1 * means["mlm_loss"], rel=1e-5)
    assert sums[-1] == counts[1] >= len(batch.rows)
    loss.backward()
    assert all(p.grad is not None for p in model.parameters())


def test_micro_batches_mask_the_same_tokens(settings: Make) -> None:
    parts = assemble(settings(auxiliary_mlm=0.5, dropout=0.0))
    model, batch = parts.build_model(), next(parts.batches(0))
    objective = parts.objective()
    counts = objective.counts(batch)
    whole, _ = objective.loss(model, batch, counts)
    pieces = torch.stack([objective.loss(model, piece, counts)[0] for piece in batch.split(3)])
    torch.testing.assert_close(pieces.sum(), whole)


def test_masks_are_drawn_on_the_host_for_another_device(settings: Make) -> None:
    parts = assemble(settings(auxiliary_mlm=0.5))
    batch, objective = next(parts.batches(0)), parts.objective()
    there = objective._masked(batch.to(torch.device("meta")))  # where nothing can be looked at
    here = objective._masked(batch)
    assert all(drawn.is_meta for drawn in there)
    assert [drawn.shape for drawn in there] == [drawn.shape for drawn in here]


def test_each_row_of_each_epoch_has_masks_of_its_own(settings: Make) -> None:
    parts = assemble(settings(auxiliary_mlm=0.1))
    batches = islice(parts.batches(0), 2 * parts.steps_per_epoch)
    keys = [row.key for batch in batches for row in batch.rows]
    assert len(set(keys)) == len(keys) == 192 and {epoch for epoch, _ in keys} == {0, 1}


def test_the_result_is_an_ordinary_model_and_the_log_has_both_losses(settings: Make) -> None:
    asked = settings(auxiliary_mlm=0.1, num_train_epochs=1, logging_steps=2)
    result = finetune(asked)
    plain = finetune(settings("plain", num_train_epochs=1))
    names = load_file(result.folder / "model.safetensors").keys()
    assert names == load_file(plain.folder / "model.safetensors").keys()
    lines = (Path(asked.output_dir) / "metrics.jsonl").read_text().splitlines()
    train = [line for line in map(json.loads, lines) if line["split"] == "train"]
    assert train and all(line["mlm_loss"] > 0 for line in train)


@pytest.mark.parametrize("adapter", ["none", "lora", "bottleneck"])
def test_it_goes_with_adapters_and_fgm(settings: Make, adapter: str) -> None:
    asked = settings(auxiliary_mlm=0.1, adapter=adapter, adversarial="fgm", num_train_epochs=1)
    assert finetune(asked).results["num_train_steps"] == 6


def test_a_model_without_the_head_is_refused(settings: Make, folder: Path, tmp_path: Path) -> None:
    encoder = BertModel.from_pretrained(folder)
    encoder.save_pretrained(tmp_path / "encoder", TokenizerFolder(load_tokenizer(folder)))
    with pytest.raises(InputError, match=r"--auxiliary-mlm 0.1: .* has no masked-token head"):
        assemble(settings(model=str(tmp_path / "encoder"), auxiliary_mlm=0.1))


def test_a_step_without_a_token_to_mask_adds_nothing(settings: Make) -> None:
    parts = assemble(settings(auxiliary_mlm=0.5, dropout=0.0))
    model, batch = parts.build_model(), next(parts.batches(0))
    special = batch.attention_mask * 0 + parts.pad_id
    empty = dataclasses.replace(batch, input_ids=special)
    objective = parts.objective()
    loss, sums = objective.loss(model, empty, objective.counts(empty))
    task, _ = TaskObjective(parts.task).loss(model, empty, objective.counts(empty))
    assert loss.item() == task.item() and sums[-1] == 0
