"""Fine-tune one checkpoint with our code and transformers' Trainer: scores and time per epoch.

    uv run benchmarks/finetune.py --model runs/wiki/model --train-file train.tsv --eval-file dev.tsv

Both sides have the same rows, batch, epochs, learning rate with its warm-up, AdamW, clipping,
dropout, dtype and threads, pad each batch to its longest row, and measure accuracy after each
epoch. Seeds alternate between the sides, so that both meet the same conditions. An epoch's time is
that from one evaluation to the next: processor time, or wall-clock time with a GPU.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers
from measure import machine, print_table, write_json

from bert_scratch.finetuning.finetune import finetune
from bert_scratch.finetuning.finetune_config import FinetuneConfig
from bert_scratch.finetuning.labelled_rows import LabelledText, read_labelled_texts
from bert_scratch.finetuning.task_settings import TaskSettings

WARMUP, WEIGHT_DECAY, EPSILON, DROPOUT = 0.1, 0.01, 1e-8, 0.1
Result = dict[str, float]


def main() -> None:
    options = parse_arguments()
    torch.set_num_threads(options.num_threads)
    arms: dict[str, list[Result]] = {"ours": [], "transformers": []}
    for seed in range(1, options.seeds + 1):
        for name, arm in (("ours", ours), ("transformers", theirs)):
            arms[name].append(timed(arm, options, seed))
            print(f"{name:<13} seed {seed}  {arms[name][-1]}", flush=True)
    report(options, arms)


def timed(
    arm: Callable[[argparse.Namespace, int, str, Callable[[], None]], float],
    options: argparse.Namespace,
    seed: int,
) -> Result:
    """Run an arm; return its accuracy and the seconds from one evaluation to the next."""
    clock = time.perf_counter if torch.cuda.is_available() else time.process_time
    evaluated_at: list[float] = []
    with tempfile.TemporaryDirectory() as folder:
        score = arm(options, seed, folder, lambda: evaluated_at.append(clock()))
    epochs = [after - before for before, after in pairwise(evaluated_at[: options.epochs])]
    return {"accuracy": score, "epoch_s": statistics.median(epochs)}


def ours(
    options: argparse.Namespace, seed: int, folder: str, on_evaluated: Callable[[], None]
) -> float:
    """Run our command; return the accuracy after the last epoch."""
    settings = FinetuneConfig(
        task="classification",
        model=options.model,
        train_file=options.train_file,
        eval_file=options.eval_file,
        output_dir=folder,
        num_train_epochs=options.epochs,
        learning_rate=options.learning_rate,
        train_batch_size=options.batch_size,
        max_seq_length=options.max_seq_length,
        warmup_fraction=WARMUP,
        weight_decay=WEIGHT_DECAY,
        adam_epsilon=EPSILON,
        dropout=DROPOUT,
        seed=seed,
        keep="last",
        dtype=options.dtype,
        num_threads=options.num_threads,
    )
    result = finetune(settings, on_change=lambda _folder: on_evaluated())
    return float(result.results["accuracy"])


class OnEvaluated(transformers.TrainerCallback):
    """Reports when an evaluation has ended."""

    def __init__(self, say: Callable[[], None]) -> None:
        self.say = say

    def on_evaluate(self, *_: Any, **__: Any) -> None:
        """Report the end of an evaluation."""
        self.say()


def theirs(
    options: argparse.Namespace, seed: int, folder: str, on_evaluated: Callable[[], None]
) -> float:
    """Run Trainer; return the accuracy after the last epoch."""
    # ours computes deterministically; theirs need not
    torch.use_deterministic_algorithms(False)
    tokenizer = transformers.AutoTokenizer.from_pretrained(options.model)
    train, held_out = (read(file) for file in (options.train_file, options.eval_file))
    labels = sorted({str(row.label) for row in train})
    transformers.set_seed(seed)
    model = transformers.AutoModelForSequenceClassification.from_pretrained(
        options.model,
        num_labels=len(labels),
        hidden_dropout_prob=DROPOUT,
        attention_probs_dropout_prob=DROPOUT,
    )
    trainer = transformers.Trainer(
        model=model,
        args=transformers.TrainingArguments(
            output_dir=folder,
            num_train_epochs=options.epochs,
            learning_rate=options.learning_rate,
            per_device_train_batch_size=options.batch_size,
            per_device_eval_batch_size=64,
            warmup_steps=WARMUP,
            weight_decay=WEIGHT_DECAY,
            adam_epsilon=EPSILON,
            bf16=options.dtype == "bfloat16",
            eval_strategy="epoch",
            save_strategy="no",
            report_to="none",
            disable_tqdm=True,
            use_cpu=not torch.cuda.is_available(),
            seed=seed,
        ),
        data_collator=transformers.DataCollatorWithPadding(tokenizer),
        train_dataset=encoded(train, labels, tokenizer, options.max_seq_length),
        eval_dataset=encoded(held_out, labels, tokenizer, options.max_seq_length),
        compute_metrics=accuracy,
        callbacks=[OnEvaluated(on_evaluated)],
    )
    trainer.train()
    evaluations = [line for line in trainer.state.log_history if "eval_accuracy" in line]
    return float(evaluations[-1]["eval_accuracy"])


def read(file: str) -> list[LabelledText]:
    return read_labelled_texts(file, TaskSettings(task="classification"), labels_needed=True)


def encoded(
    rows: list[LabelledText], labels: list[str], tokenizer: Any, max_seq_length: int
) -> list[dict[str, Any]]:
    """Return rows in the form that Trainer takes."""
    return [
        dict(tokenizer(row.text, row.text_pair, truncation=True, max_length=max_seq_length))
        | {"labels": labels.index(str(row.label))}
        for row in rows
    ]


def accuracy(answers: Any) -> dict[str, float]:
    right = np.argmax(answers.predictions, axis=1) == answers.label_ids
    return {"accuracy": float(right.mean())}


def report(options: argparse.Namespace, arms: dict[str, list[Result]]) -> None:
    rows = []
    for name, results in arms.items():
        scores = [100 * result["accuracy"] for result in results]
        deviation = statistics.stdev(scores) if len(scores) > 1 else 0.0
        rows.append(
            {
                "arm": name,
                "accuracy": f"{statistics.fmean(scores):.1f} ± {deviation:.1f}",
                "seconds an epoch": f"{statistics.median(r['epoch_s'] for r in results):.2f}",
            }
        )
    pairs = zip(arms["transformers"], arms["ours"], strict=True)
    ratio = statistics.median(theirs["epoch_s"] / ours["epoch_s"] for theirs, ours in pairs)
    print(f"\n{Path(options.train_file).name}, {options.dtype}, {options.num_threads} thread(s)\n")
    print_table(rows)
    print(f"\nours is {ratio:.2f} times as fast")
    write_json(
        options.json,
        {"machine": machine(), "options": vars(options), "ratio": ratio, "arms": arms},
    )


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", required=True, help="a pretrained model's folder")
    parser.add_argument("--train-file", required=True, help="texts or pairs with labels")
    parser.add_argument("--eval-file", required=True)
    parser.add_argument("--epochs", type=int, default=3, help="2 or more")
    parser.add_argument("--learning-rate", type=float, default=7e-4)
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--max-seq-length", type=int, default=128)
    parser.add_argument("--dtype", default="float32", choices=["float32", "bfloat16"])
    parser.add_argument("--num-threads", type=int, default=1)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--json", help="JSON file")
    return parser.parse_args()


if __name__ == "__main__":
    main()
