"""The settings of a fine-tuning run: every field is a flag and a key of `--config FILE`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from bert_scratch.config import InputError, Settings, check_choice, check_range, flag_of
from bert_scratch.data.records import STANDARD_INPUT
from bert_scratch.durable import is_stream
from bert_scratch.finetuning.adapter_settings import AdapterSettings
from bert_scratch.finetuning.task_settings import TaskSettings
from bert_scratch.model.compute_settings import ComputeSettings

KEEP = ("best", "last")
ADVERSARIAL = ("none", "fgm")
FREEZE = ("none", "embeddings", "all")

MAY_CHANGE_ON_RESUME = frozenset({"logging_steps", "output_dir", "num_threads"})
"""Settings that may change when a run is resumed. With another number of threads the last bits
may differ, so when left out it stays as it was."""


@dataclass(frozen=True, kw_only=True)
class FileSettings(Settings):
    """Files and folders that are read and written."""

    model: str
    """The pretrained model: a folder or a hub id."""
    train_file: str
    """Labelled examples to learn from: .tsv, .csv, .jsonl, or a folder for each label."""
    eval_file: str
    """Labelled examples to evaluate on, and to choose the best model by."""
    test_file: str | None = None
    """Examples to answer at the end: test_predictions.jsonl, and metrics where they have labels."""
    output_dir: str
    """Where results.json, model/ and metrics.jsonl go."""


@dataclass(frozen=True, kw_only=True)
class LearningSettings(Settings):
    """How the model learns."""

    num_train_epochs: float | None = None
    """Passes over the training file. Left out: 3, for entities 6, more for a small file."""
    num_train_steps: int | None = None
    """Total number of updates, instead of --num-train-epochs."""
    learning_rate: float | None = None
    """The peak learning rate. Left out: chosen by the model's width."""
    train_batch_size: int = 32
    """Rows per update."""
    micro_batch_size: int | None = None
    """Rows per forward pass: fewer need less memory. Left out: all, on a CPU half of them."""
    warmup_fraction: float = 0.1
    """Share of the updates over which the learning rate climbs; then it falls to 0."""
    weight_decay: float = 0.01
    """Decoupled weight decay; biases and LayerNorm have none."""
    adam_epsilon: float = 1e-8
    """Added to the root of Adam's second moment."""
    max_grad_norm: float = 1.0
    """The norm above which gradients are scaled down; 0 never scales."""
    dropout: float | None = None
    """Dropout on hidden states and attention probabilities. Left out: 0.1."""
    layer_wise_lr_decay: float = 1.0
    """Each layer's learning rate is that of the layer above times this; 1 is the same for all."""
    freeze_layers: str = "none"
    """Keep as pretrained: none, embeddings, a number (embeddings and that many layers) or all."""
    auxiliary_mlm: float = 0.0
    """Also learn to guess masked tokens of the same texts: the weight of that loss, for example 0.1; 0 turns it off."""  # noqa: E501
    adversarial: str | None = None
    """fgm: learn from each row also with its embeddings moved where the loss grows fastest, in twice the time; or none. Left out: fgm for entities, below width 768."""  # noqa: E501
    adversarial_epsilon: float = 0.2
    """How far a row's embeddings are moved (norm over all of them) with --adversarial fgm."""
    few_shot: int | None = None
    """Learn from only this many examples of each label, drawn by the seed."""


@dataclass(frozen=True, kw_only=True)
class RunSettings(ComputeSettings):
    """When to evaluate, which model to keep, and in which precision."""

    seed: int = 1
    """Seed of the new weights, the order of examples and dropout."""
    seeds: tuple[int, ...] = ()
    """Run with each of these: results.json has mean and standard deviation, model/ the best."""
    metric: str | None = None
    """What the best model is chosen by. Left out: the task's first, for example accuracy."""
    eval_steps: int | None = None
    """Updates between evaluations. Left out: one pass over the training file."""
    keep: str = "best"
    """Which model is the result: best (of all evaluations, by --metric) or last."""
    early_stopping_patience: int | None = None
    """Stop after this many evaluations in a row without a better --metric."""
    logging_steps: int = 50
    """Updates between lines of the log."""
    dtype: str = "auto"
    """Dtype of matrix products: auto (bfloat16 where the hardware has it), float32 or bfloat16."""
    deterministic: bool = False
    """The same bits on a GPU, too, at some cost in speed; on a CPU they always are."""


@dataclass(frozen=True, kw_only=True)
class FinetuneConfig(RunSettings, AdapterSettings, LearningSettings, TaskSettings, FileSettings):
    """Fine-tune a pretrained model on labelled examples; if stopped, the same command resumes."""

    def __post_init__(self) -> None:
        """Check values against their ranges, and flags against each other.

        Raises:
            InputError: naming the flag.
        """
        TaskSettings.__post_init__(self)
        self.check_effects()
        AdapterSettings.__post_init__(self)
        ComputeSettings.__post_init__(self)
        for name in ("train_file", "eval_file", "test_file"):
            file = getattr(self, name)
            if file is not None and (file == STANDARD_INPUT or is_stream(Path(file))):
                raise InputError(
                    f"{flag_of(name)} {file}: must be a file, since a run that resumes, or the "
                    f"next of --seeds, reads it again; standard input or a pipe can be read only "
                    f"once"
                )
        if self.num_train_epochs is not None and self.num_train_steps is not None:
            raise InputError("give --num-train-epochs or --num-train-steps, not both")
        check_choice("--keep", self.keep, KEEP)
        check_range("--num-train-epochs", self.num_train_epochs, above=0)
        check_range("--learning-rate", self.learning_rate, above=0)
        check_range("--warmup-fraction", self.warmup_fraction, at_least=0, at_most=1)
        check_range("--weight-decay", self.weight_decay, at_least=0)
        check_range("--adam-epsilon", self.adam_epsilon, above=0)
        check_range("--max-grad-norm", self.max_grad_norm, at_least=0)
        check_range("--dropout", self.dropout, at_least=0, below=1)
        check_range("--layer-wise-lr-decay", self.layer_wise_lr_decay, above=0, at_most=1)
        if not self.freeze_layers.isdecimal():
            check_choice("--freeze-layers", self.freeze_layers, FREEZE)
        if self.adapter != "none" and self.freeze_layers != LearningSettings.freeze_layers:
            raise InputError(
                f"--freeze-layers {self.freeze_layers} has no effect with --adapter "
                f"{self.adapter}, which keeps all layers as pretrained; leave one of them out"
            )
        check_choice("--adversarial", self.adversarial, ADVERSARIAL)
        check_range("--auxiliary-mlm", self.auxiliary_mlm, at_least=0)
        check_range("--adversarial-epsilon", self.adversarial_epsilon, above=0)
        if len(set(self.seeds)) < len(self.seeds):
            raise InputError(f"--seeds must differ; got {' '.join(map(str, self.seeds))}")
        if self.seeds and self.seed != RunSettings.seed:
            raise InputError("give --seed or --seeds, not both")
        is_moved = self.adversarial != "none" and (
            self.adversarial == "fgm" or self.task == "token-classification"
        )
        if not is_moved and self.adversarial_epsilon != LearningSettings.adversarial_epsilon:
            raise InputError("--adversarial-epsilon has no effect without --adversarial fgm")
        for name in (
            *("num_train_steps", "train_batch_size", "micro_batch_size", "eval_steps"),
            *("logging_steps", "early_stopping_patience", "few_shot"),
        ):
            check_range(flag_of(name), getattr(self, name), at_least=1)
