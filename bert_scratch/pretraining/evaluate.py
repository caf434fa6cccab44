"""Held-out losses with their reference values: the measure of every run, equal for all seeds."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from bert_scratch.batch import Batch
from bert_scratch.config import PAIR_TASKS, InputError, check_choice, check_range
from bert_scratch.data.loader import evaluation_batches
from bert_scratch.data.store import TokenStore
from bert_scratch.data.wordpiece import load_tokenizer, special_ids, unselectable_ids
from bert_scratch.model.compute_settings import ComputeSettings
from bert_scratch.model.devices import DTYPES, resolve_device, resolve_dtype
from bert_scratch.model.heads import BertForPreTraining
from bert_scratch.pretraining.corpus_facts import PAIR_CHANCE_LOSS, unigram_loss
from bert_scratch.pretraining.same_vocabulary import check_same_vocabulary
from bert_scratch.training.all_reduce import IN_ONE_PROCESS, AllReduce
from bert_scratch.training.objective import PRETRAINING
from bert_scratch.training.runtime import Runtime, set_up
from bert_scratch.training.step import evaluation_sums

INTERVAL_EXAMPLES = 1024
"""Number of examples in an evaluation during training; the last evaluation uses all."""


@dataclass(frozen=True, kw_only=True)
class EvaluateConfig(ComputeSettings):
    """Evaluate a model on the held-out part of a prepared corpus."""

    model: str
    """A model folder, a checkpoint, or a hub id."""
    data: str
    """The prepared corpus: a folder from `prepare`, or the corpus/ folder of a run."""
    max_seq_length: int | None = None
    """Tokens per example. Left out: as in the model's training, or 128 if it does not say."""
    pair_task: str | None = None
    """nsp, sop or none. Left out: what the model was trained for; nsp if it does not say."""
    eval_batch_size: int = 64
    """Examples per forward pass."""
    num_examples: int | None = None
    """Use only this many examples, the first ones. Left out: all of them."""
    dtype: str = "auto"
    """auto, float32, bfloat16 or float16."""
    json: bool = False
    """Print one JSON object instead of lines."""

    def __post_init__(self) -> None:
        """Check each value.

        Raises:
            InputError: naming the flag.
        """
        super().__post_init__()
        check_choice("--pair-task", self.pair_task, PAIR_TASKS)
        check_range("--max-seq-length", self.max_seq_length, at_least=8)
        check_range("--eval-batch-size", self.eval_batch_size, at_least=1)
        check_range("--num-examples", self.num_examples, at_least=1)


@dataclass(frozen=True, kw_only=True)
class Evaluation:
    """Held-out mean losses, in nats, and those of knowing nothing or only word frequencies."""

    mlm_loss: float
    mlm_accuracy: float
    nsp_loss: float | None
    nsp_accuracy: float | None
    unigram_loss: float
    uniform_loss: float
    num_examples: int

    def to_dict(self) -> dict[str, Any]:
        """Return the values that are not None."""
        return {name: value for name, value in vars(self).items() if value is not None}

    def __str__(self) -> str:
        gain = self.unigram_loss - self.mlm_loss
        lines = [
            f"held-out, {self.num_examples:,} examples",
            f"  masked tokens   loss {self.mlm_loss:.3f}  accuracy {self.mlm_accuracy:.3f}   "
            f"(ln V {self.uniform_loss:.3f}, unigram {self.unigram_loss:.3f}: "
            f"{abs(gain):.2f} nats {'below' if gain >= 0 else 'ABOVE'} it)",
        ]
        if self.nsp_loss is not None and self.nsp_accuracy is not None:
            lines.append(
                f"  sentence pairs  loss {self.nsp_loss:.3f}  accuracy {self.nsp_accuracy:.3f}   "
                f"(chance {PAIR_CHANCE_LOSS:.3f} and 0.500)"
            )
        return "\n".join(lines)


def evaluate(config: EvaluateConfig) -> Evaluation:
    """Evaluate a saved model on a prepared corpus.

    Raises:
        InputError: if model or corpus cannot be used, or do not belong together.
    """
    device = resolve_device(config.device)
    dtype, _ = resolve_dtype(config.dtype, device)
    runtime = Runtime(device=device, dtype=DTYPES[dtype], num_threads=config.threads)
    set_up(runtime, deterministic=False)
    store = TokenStore(Path(config.data))
    model = BertForPreTraining.from_pretrained(config.model).to(device).eval()
    if model.config.vocab_size < store.vocab_size:
        raise InputError(
            f"--model {config.model} has {model.config.vocab_size} tokens, --data {config.data} "
            f"was prepared with {store.vocab_size}; use the model's own corpus folder"
        )
    check_same_vocabulary("--model", config.model, store)
    longest = model.config.max_position_embeddings
    max_seq_length = config.max_seq_length or model.config.trained_seq_length or longest
    if max_seq_length > longest:
        raise InputError(
            f"--max-seq-length {max_seq_length} is longer than the model's {longest} positions"
        )
    tokenizer = load_tokenizer(store.folder / "tokenizer")
    batches = evaluation_batches(
        store,
        batch_size=config.eval_batch_size,
        max_seq_length=max_seq_length,
        special_ids=special_ids(tokenizer),
        unselectable_ids=unselectable_ids(tokenizer),
        pair_task=_pair_task(config, model),
        max_examples=config.num_examples,
    )
    return evaluate_model(model, batches, store=store, runtime=runtime)


def _pair_task(config: EvaluateConfig, model: BertForPreTraining) -> str:
    """Return the pair task to measure: the one that the model's pair head was trained for."""
    trained, asked = model.config.pair_task, config.pair_task
    if asked is None:
        return trained or "nsp"
    if trained is not None and asked not in (trained, "none"):
        raise InputError(
            f"--pair-task {asked}: --model {config.model} was trained with {trained}, so its pair "
            f"head says nothing about {asked}; leave --pair-task out"
        )
    return asked


def evaluate_model(
    model: BertForPreTraining,
    batches: Iterator[Batch],
    *,
    store: TokenStore,
    runtime: Runtime,
    all_reduce: AllReduce = IN_ONE_PROCESS,
) -> Evaluation:
    """Evaluate a model on batches of held-out examples.

    Args:
        model: in evaluation mode, on the runtime's device.
        batches: each example once, on one of the ranks.
        store: its train counts give the unigram reference.
        runtime: device and dtype.
        all_reduce: sums over the ranks, which all get the same evaluation.
    """
    targets: list[np.ndarray[Any, np.dtype[np.int64]]] = []
    num_examples = 0

    def noted() -> Iterator[Batch]:
        nonlocal num_examples
        for batch in batches:
            targets.append(batch.masked_labels[batch.masked_labels >= 0].numpy())
            num_examples += batch.input_ids.shape[0]
            yield batch

    sums = evaluation_sums(
        model,
        noted(),
        objective=PRETRAINING,
        runtime=runtime,
        all_reduce=all_reduce,
    )
    values = PRETRAINING.means(sums)
    seen = np.concatenate([np.empty(0, np.int64), *targets])
    unigram_sum = len(seen) * unigram_loss(store.token_counts, seen) if len(seen) else 0.0
    parts = torch.tensor([unigram_sum, len(seen), num_examples], dtype=torch.float64)
    unigram_sum, num_targets, all_examples = all_reduce.totals(parts.to(runtime.device)).read()
    return Evaluation(
        mlm_loss=values["mlm_loss"],
        mlm_accuracy=values["mlm_accuracy"],
        nsp_loss=values.get("nsp_loss"),
        nsp_accuracy=values.get("nsp_accuracy"),
        unigram_loss=unigram_sum / max(1.0, num_targets),
        uniform_loss=float(np.log(store.vocab_size)),
        num_examples=int(all_examples),
    )


def run_evaluate(config: EvaluateConfig) -> None:
    """Evaluate and print."""
    evaluation = evaluate(config)
    print(json.dumps(evaluation.to_dict()) if config.json else evaluation)
