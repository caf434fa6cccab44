"""From settings to the parts of a run: task, examples, rows, model, optimizer, plan."""

from __future__ import annotations

import dataclasses
import functools
import math
from collections import defaultdict
from collections.abc import Generator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tokenizers import Tokenizer

from bert_scratch.config import BertConfig, InputError, check_choice, counted
from bert_scratch.data.masking import Masker
from bert_scratch.data.philox import permuted
from bert_scratch.data.wordpiece import (
    TokenizerFolder,
    check_vocabulary_fits,
    load_tokenizer,
    special_ids,
    unselectable_ids,
    vocab_size_of,
)
from bert_scratch.finetuning.adapters import add_adapters, is_adapted, load_weights
from bert_scratch.finetuning.adversarial import AdversarialObjective
from bert_scratch.finetuning.auxiliary_mlm import AuxiliaryObjective, add_mlm_head, has_mlm_head
from bert_scratch.finetuning.choices import (
    adversarial_for,
    learning_rate_for,
    micro_batch_for,
    num_epochs_for,
    row_length_for,
)
from bert_scratch.finetuning.classification import Classification
from bert_scratch.finetuning.depth import freeze, lr_scale_of
from bert_scratch.finetuning.finetune_config import FinetuneConfig
from bert_scratch.finetuning.fresh_head import draw_head, why_fresh
from bert_scratch.finetuning.objective import TaskObjective
from bert_scratch.finetuning.rows import Row, RowBatch, check_token_types
from bert_scratch.finetuning.task import Example, Task, load_task
from bert_scratch.model.devices import DTYPES, resolve_device, resolve_dtype
from bert_scratch.model.folder import read_config
from bert_scratch.model.pretrained_model import PretrainedModel
from bert_scratch.model.weight_files import WEIGHTS, find_folder
from bert_scratch.training.loop import Plan
from bert_scratch.training.optimizer import build_optimizer
from bert_scratch.training.runtime import Runtime, seed_for
from bert_scratch.training.step import Updater

DROPOUT = 0.1


@dataclass(frozen=True)
class Examples:
    """The examples of a file, and the rows made from them."""

    examples: list[Any]
    rows: list[Row]
    labelled: bool
    """Whether every example has a label."""


@dataclass(frozen=True, kw_only=True)
class Parts:
    """What a run is built from; everything here is a function of settings, files and machine."""

    config: FinetuneConfig
    bert_config: BertConfig
    task: Task[Any, Any]
    tokenizer: TokenizerFolder
    pad_id: int
    runtime: Runtime
    train: Examples
    eval: Examples
    test: Examples | None
    has_fresh_head: bool
    """Whether the model's classifier was trained for something else, so the head is drawn anew."""
    reasons: list[str]
    """One line for each value that was chosen for the user."""

    @property
    def steps_per_epoch(self) -> int:
        """Updates in one pass over the training file; the last may have fewer rows."""
        return -(-len(self.train.rows) // self.config.train_batch_size)

    @property
    def num_train_steps(self) -> int:
        """Total number of updates."""
        if self.config.num_train_steps is not None:
            return self.config.num_train_steps
        assert self.config.num_train_epochs is not None
        return max(1, math.ceil(self.config.num_train_epochs * self.steps_per_epoch))

    def batches(self, first_step: int) -> Generator[RowBatch, None, None]:
        """Yield the batches from a step on; each is a function of (seed, step)."""
        size, num_rows = self.config.train_batch_size, len(self.train.rows)
        step = first_step
        while True:
            epoch, number = divmod(step, self.steps_per_epoch)
            places = np.arange(number * size, min((number + 1) * size, num_rows))
            chosen = permuted(places, num_rows, self.config.seed, epoch).tolist()
            rows = [
                dataclasses.replace(self.train.rows[index], key=(epoch, index)) for index in chosen
            ]
            yield RowBatch.of(rows, pad_id=self.pad_id)
            step += 1

    def build_model(self, checkpoint: Path | None = None) -> PretrainedModel:
        """Return the pretrained model with a new task head, or the model of a checkpoint."""
        torch.manual_seed(seed_for("weights", self.config.seed))
        config = self.config
        has_adapters = config.adapter != "none"
        is_new = checkpoint is None or has_adapters
        source = config.model if is_new else str(checkpoint)
        model = self.task.load_model(
            source,
            new_head=is_new,
            hidden_dropout_prob=config.dropout,
            attention_probs_dropout_prob=config.dropout,
            trained_seq_length=config.row_length,
        )
        if is_new and self.has_fresh_head:
            draw_head(model)
        if config.auxiliary_mlm:
            add_mlm_head(model, source)
        freeze(model, config.freeze_layers)
        if has_adapters:
            add_adapters(model, config)
            if checkpoint is not None:
                load_weights(model, checkpoint / WEIGHTS)
        return model.to(self.runtime.device)

    def build_optimizer(self, model: PretrainedModel) -> torch.optim.Optimizer:
        """Return AdamW over the model's parameters."""
        config = self.config
        assert config.learning_rate is not None
        return build_optimizer(
            model,
            learning_rate=config.learning_rate,
            weight_decay=config.weight_decay,
            betas=(0.9, 0.999),
            epsilon=config.adam_epsilon,
            bias_correction=True,
            lr_scale=functools.partial(
                lr_scale_of,
                num_layers=model.config.num_hidden_layers,
                decay=config.layer_wise_lr_decay,
            ),
        )

    def objective(self) -> TaskObjective | AuxiliaryObjective:
        """Return the objective to minimise."""
        config, tokenizer = self.config, self.tokenizer.tokenizer
        objective = (
            AdversarialObjective(self.task, config.adversarial_epsilon)
            if config.adversarial == "fgm"
            else TaskObjective(self.task)
        )
        if not config.auxiliary_mlm:
            return objective
        masker = Masker(
            vocab_size=vocab_size_of(tokenizer),
            special_ids=special_ids(tokenizer),
            unselectable_ids=unselectable_ids(tokenizer),
            seed=config.seed,
        )
        return AuxiliaryObjective(objective, masker, config.auxiliary_mlm)

    def build_updater(self, model: PretrainedModel) -> Updater[RowBatch]:
        """Return the updater of the model, with a new optimizer."""
        config = self.config
        assert config.micro_batch_size is not None
        return Updater(
            model=model,
            optimizer=self.build_optimizer(model),
            objective=self.objective(),
            runtime=self.runtime,
            seed=config.seed,
            micro_batch_size=config.micro_batch_size,
            max_grad_norm=config.max_grad_norm,
        )

    def plan(self) -> Plan:
        """Return the loop's plan: how many steps, and when to log, evaluate and save."""
        config = self.config
        assert config.learning_rate is not None
        return Plan(
            num_train_steps=self.num_train_steps,
            num_warmup_steps=math.ceil(config.warmup_fraction * self.num_train_steps),
            learning_rate=config.learning_rate,
            lr_schedule="linear",
            logging_steps=config.logging_steps,
            eval_steps=config.eval_steps or self.steps_per_epoch,
            save_steps=config.eval_steps or self.steps_per_epoch,
        )


def assemble(config: FinetuneConfig) -> Parts:
    """Read the files and fill in what the user left out.

    Args:
        config: as the user gave it, or as an earlier start of the same run resolved it.

    Raises:
        InputError: if model, files or settings cannot be used together.
    """
    folder = find_folder(config.model)
    bert_config, tokenizer = read_config(folder), load_tokenizer(folder)
    if config.max_seq_length is None:
        config = config.replace(max_seq_length=row_length_for(bert_config))
    _check_model(config, folder, bert_config, tokenizer)
    task = load_task(config)
    train = _examples_to_learn_from(config, task)
    task.learn(train)
    held_out = task.read(config.eval_file, labels_needed=True)
    test = None if config.test_file is None else task.read(config.test_file, labels_needed=False)
    task.check_run(config, held_out, test)
    if config.metric is not None:
        check_choice("--metric", config.metric, (*task.metric_names, "loss"))
    device = resolve_device(config.device)
    dtype, dtype_reason = resolve_dtype(config.dtype, device)
    if dtype == "float16":
        if config.dtype == dtype:
            raise InputError(
                "--dtype float16 is not supported in fine-tuning; use bfloat16 or float32"
            )
        dtype, dtype_reason = "float32", f"{dtype_reason} has no bfloat16"
    num_threads = config.threads
    fresh = why_fresh(folder, bert_config, task)
    parts = Parts(
        config=config.replace(num_threads=num_threads, dtype=dtype),
        bert_config=bert_config,
        task=task,
        tokenizer=TokenizerFolder(tokenizer, model_max_length=bert_config.max_position_embeddings),
        pad_id=special_ids(tokenizer).pad,
        runtime=Runtime(device=device, dtype=DTYPES[dtype], num_threads=num_threads),
        train=_encoded(task, train, tokenizer),
        eval=_encoded(task, held_out, tokenizer),
        test=None if test is None else _encoded(task, test, tokenizer),
        has_fresh_head=fresh is not None,
        reasons=[
            *(
                []
                if fresh is None
                else [f"a new head, because the one in {config.model} was trained for {fresh}"]
            ),
            f"--dtype {dtype}: {dtype_reason}",
        ],
    )
    for part in filter(None, (parts.train, parts.eval, parts.test)):
        check_token_types(part.rows, bert_config, model=config.model)
    _check_learnable(parts)
    return _resolved(parts)


def _check_learnable(parts: Parts) -> None:
    """Refuse training rows that have nothing to learn from, as if no row shows an answer whole."""
    for row in parts.train.rows:
        if parts.task.loss_weight(RowBatch.of([row], pad_id=parts.pad_id)) > 0:
            return
    raise InputError(
        f"--train-file {parts.config.train_file}: no row of --max-seq-length "
        f"{parts.config.row_length} shows anything to learn from; raise it"
    )


def _examples_to_learn_from(config: FinetuneConfig, task: Task[Any, Any]) -> list[Any]:
    """Read the training file; with --few-shot, return only a few examples of each label."""
    if config.few_shot is None:
        return list(task.read(config.train_file, labels_needed=True))
    if not isinstance(task, Classification):
        raise InputError(
            f"--few-shot {config.few_shot}: is for classification, where a few labels have "
            f"many examples each; leave it out with --task {config.task}"
        )
    examples = task.read(config.train_file, labels_needed=True)
    return few_of_each_label(examples, config.few_shot, seed=config.seed)


def _resolved(parts: Parts) -> Parts:
    """Choose the settings that the user left out, such as learning rate, dropout and passes."""
    config, reasons = parts.config, list(parts.reasons)
    if config.learning_rate is None:
        width = parts.bert_config.hidden_size
        config = config.replace(learning_rate=learning_rate_for(width))
        reasons.append(f"--learning-rate {config.learning_rate:g}: for a width of {width}")
    if config.num_train_epochs is None and config.num_train_steps is None:
        epochs = num_epochs_for(parts.steps_per_epoch, config.task)
        config = config.replace(num_train_epochs=float(epochs))
        reasons.append(
            f"--num-train-epochs {epochs}: {counted(parts.steps_per_epoch, 'update')} each"
        )
    if config.dropout is None:
        config = config.replace(dropout=DROPOUT)
    if config.adversarial is None:
        adversarial = adversarial_for(config.task, parts.bert_config.hidden_size)
        config = config.replace(adversarial=adversarial)
        if adversarial != "none":
            reasons.append(
                f"--adversarial {adversarial}: narrow models find more entities with it, in up to "
                f"twice the time"
            )
    if config.micro_batch_size is None:
        size = config.train_batch_size
        if parts.runtime.device.type == "cpu" and parts.task.may_cut_batches:
            size = min(size, micro_batch_for(size))
        config = config.replace(micro_batch_size=size)
    if config.metric is None:
        config = config.replace(metric=parts.task.metric_names[0])
    return dataclasses.replace(parts, config=config, reasons=reasons)


def few_of_each_label(examples: Sequence[Any], count: int, *, seed: int) -> list[Any]:
    """Return `count` examples of each label, drawn by the seed, in the order of the file.

    Raises:
        InputError: if an example does not have a single label, or a label has too few examples.
    """
    of_label = defaultdict(list)
    for number, example in enumerate(examples):
        label = getattr(example, "label", None)
        if not isinstance(label, str):
            raise InputError(
                f"--few-shot needs exactly one class label per example; {example.place} has none "
                f"or several"
            )
        of_label[label].append(number)
    kept: list[int] = []
    for label, numbers in of_label.items():
        if len(numbers) < count:
            raise InputError(
                f"--few-shot {count}: label {label!r} has only "
                f"{counted(len(numbers), 'training example')}"
            )
        places = permuted(np.arange(count), len(numbers), seed, 0)
        kept += [numbers[place] for place in places.tolist()]
    return [examples[number] for number in sorted(kept)]


def _encoded(task: Task[Any, Any], examples: Sequence[Example], tokenizer: Tokenizer) -> Examples:
    labelled = all(task.is_labelled(example) for example in examples)
    return Examples(list(examples), task.encode(examples, tokenizer), labelled)


def _check_model(
    config: FinetuneConfig, folder: Path, bert_config: BertConfig, tokenizer: Tokenizer
) -> None:
    if is_adapted(folder):
        raise InputError(
            f"--model {config.model}: has adapters that cannot be merged; fine-tune the model "
            f"that it was made from"
        )
    if config.auxiliary_mlm and not has_mlm_head(folder):
        raise InputError(
            f"--auxiliary-mlm {config.auxiliary_mlm:g}: --model {config.model} has no masked-token "
            f"head (cls.predictions); use the pretrained model, or --auxiliary-mlm 0"
        )
    longest = bert_config.max_position_embeddings
    if config.row_length > longest:
        raise InputError(
            f"--max-seq-length {config.row_length}: --model {config.model} takes at most "
            f"{longest} tokens (max_position_embeddings)"
        )
    check_vocabulary_fits(tokenizer, bert_config.vocab_size, model=f"--model {config.model}")
