"""Time our training step against Hugging Face's, with arms taking turns in one run.

    uv run benchmarks/train.py                                  # mini, 32 rows of 128, bfloat16
    uv run benchmarks/train.py --preset tiny --vocab-size 8192 --max-seq-length 64
    uv run benchmarks/train.py --preset base --dtype float32 --arms ours,eager
    uv run benchmarks/train.py --device cuda --dropout 0 --arms ours,ours-packed-compiled,sdpa

Every arm has the same weights, batch, masks, dropout, AdamW, clipping and dtype; before anything
is timed, all must give the same loss on the same batch without dropout. Each arm has a process of
its own, so our allocator settings are not theirs, and its peak memory is its own.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import torch
import transformers
from measure import machine, peak_memory_bytes, print_table, spread, write_json
from torch import Tensor, nn

from bert_scratch.batch import Batch
from bert_scratch.config import BertConfig
from bert_scratch.model.compute_settings import default_num_threads
from bert_scratch.model.devices import DTYPES
from bert_scratch.model.heads import BertForPreTraining
from bert_scratch.model.huggingface import config_to_hf, to_hf
from bert_scratch.training.compiled import Compiled
from bert_scratch.training.loss_scale import LossScale
from bert_scratch.training.objective import PRETRAINING
from bert_scratch.training.optimizer import build_optimizer, parameter_groups
from bert_scratch.training.packing import PackedRows
from bert_scratch.training.runtime import (
    Runtime,
    measure_peak_flops_per_s,
    set_up,
    train_flops_per_token,
)
from bert_scratch.training.step import Updater

ARMS = ("ours", "eager", "sdpa", "compiled", "compiled-sdpa")
GPU_ARMS = ("ours-compiled", "ours-packed", "ours-packed-compiled")
"""Variants that `pretrain` tries on a GPU and uses if they are faster."""
LOSS_TOLERANCE = {"bfloat16": 2e-2, "float16": 2e-2, "float32": 1e-4}
LEARNING_RATE, WEIGHT_DECAY, BETAS, EPSILON, MAX_GRAD_NORM = 1e-4, 0.01, (0.9, 0.999), 1e-6, 1.0
MASKED_SHARE = 0.15


@dataclass(frozen=True)
class Arm:
    """One implementation, ready to be timed."""

    step: Callable[[], object]
    loss: Callable[[], float]
    """Returns the loss on the batch, without dropout, before any step."""


def main() -> None:
    options = parse_arguments()
    if options.serve is not None:
        serve(options, options.serve)
        return
    names = options.arms.split(",")
    with ExitStack() as stack:
        processes = {name: stack.enter_context(ArmProcess(name)) for name in names}
        losses = {name: process.ask("loss") for name, process in processes.items()}
        check_equal(losses, LOSS_TOLERANCE[options.dtype])
        peaks = [processes[names[0]].ask("peak")]
        seconds = {name: [] for name in names}
        for turn in range(options.warmup + options.rounds):
            for name, process in processes.items():
                taken = process.ask("step")
                if turn >= options.warmup:
                    seconds[name].append(taken)
        peaks.append(processes[names[0]].ask("peak"))
        memory = {name: process.ask("memory") for name, process in processes.items()}
    report(options, losses, seconds, memory, max(peaks))


class ArmProcess:
    """An arm in a process of its own, so that each has its own allocator and settings.

    The arms take turns, one step each; while one computes, the others wait for input.
    """

    def __init__(self, name: str) -> None:
        command = [sys.executable, *sys.argv, "--serve", name]
        self.process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def ask(self, question: str) -> float:
        """Send one line and return the number that comes back."""
        assert self.process.stdin is not None and self.process.stdout is not None
        self.process.stdin.write(question + "\n")
        self.process.stdin.flush()
        return float(self.process.stdout.readline())

    def __enter__(self) -> ArmProcess:
        return self

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        self.process.wait()


def serve(options: argparse.Namespace, name: str) -> None:
    """Answer each line on standard input: loss, step (its seconds), memory (bytes), peak."""
    runtime = Runtime(
        device=torch.device(options.device),
        dtype=DTYPES[options.dtype],
        num_threads=options.num_threads,
    )
    torch.set_num_threads(options.num_threads)
    if name.startswith("ours"):
        set_up(runtime, deterministic=False)
    config = shape(options)
    arm = build(name, config, make_batch(options, config.vocab_size), runtime)

    def step() -> float:
        start = time.perf_counter()
        arm.step()
        if runtime.device.type == "cuda":
            torch.cuda.synchronize(runtime.device)
        return time.perf_counter() - start

    answers: dict[str, Callable[[], float]] = {
        "loss": arm.loss,
        "step": step,
        "memory": lambda: peak_memory(runtime),
        "peak": lambda: measure_peak_flops_per_s(runtime, budget_s=2.0),
    }
    for question in sys.stdin:
        print(answers[question.strip()](), flush=True)


def shape(options: argparse.Namespace) -> BertConfig:
    return BertConfig.preset(
        options.preset,
        vocab_size=options.vocab_size,
        hidden_dropout_prob=options.dropout,
        attention_probs_dropout_prob=options.dropout,
    )


def report(
    options: argparse.Namespace,
    losses: Mapping[str, float],
    seconds: Mapping[str, list[float]],
    memory: Mapping[str, float],
    peak_flops_per_s: float,
) -> None:
    """Print the table and write the JSON beside it."""
    config = shape(options)
    flops = train_flops_per_token(
        config, seq_length=options.max_seq_length, masked_lm_prob=MASKED_SHARE
    )
    num_tokens = options.train_batch_size * options.max_seq_length
    rows = [
        row(
            name,
            seconds[name],
            num_tokens,
            flops / peak_flops_per_s,
            memory[name] / 1e6,
            losses[name],
        )
        for name in seconds
    ]
    add_ratios(rows)
    print(
        f"{options.preset}, V={config.vocab_size}, {options.train_batch_size} rows of "
        f"{options.max_seq_length}, {options.dtype}, dropout {options.dropout}, "
        f"{options.num_threads} threads; matrix products at most "
        f"{peak_flops_per_s / 1e9:,.0f} GFLOP/s\n"
    )
    print_table(rows)
    write_json(
        options.output,
        {
            "machine": machine(),
            "options": vars(options),
            "peak_flops_per_s": peak_flops_per_s,
            "arms": rows,
        },
    )


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--preset", default="mini", choices=list(BertConfig.PRESETS))
    parser.add_argument("--vocab-size", type=int, default=30522)
    parser.add_argument("--max-seq-length", type=int, default=128)
    parser.add_argument("--train-batch-size", type=int, default=32)
    parser.add_argument("--dtype", default="bfloat16", choices=list(DTYPES))
    parser.add_argument("--dropout", type=float, default=0.1)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--num-threads", type=int, default=default_num_threads())
    parser.add_argument(
        "--arms", default=",".join(ARMS), help=f"of {', '.join(ARMS)}, {', '.join(GPU_ARMS)}"
    )
    parser.add_argument("--rounds", type=int, default=20, help="timed steps of each arm")
    parser.add_argument("--warmup", type=int, default=3, help="steps of each arm before those")
    parser.add_argument("--output", help="JSON file")
    parser.add_argument("--serve", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if "packed" in options.arms and (options.dropout or options.dtype == "float32"):
        parser.error("kernels for packed rows take neither --dropout nor --dtype float32")
    return options


def make_batch(options: argparse.Namespace, vocab_size: int) -> Batch:
    """Return full rows of random tokens, 15 % of each to predict, with random pair labels."""
    generator = torch.Generator().manual_seed(0)
    rows, width = options.train_batch_size, options.max_seq_length
    ids = torch.randint(5, vocab_size, (rows, width), generator=generator)
    per_row = round(MASKED_SHARE * width)
    order = torch.rand(rows, width, generator=generator).argsort(dim=1)
    columns = order[:, :per_row].sort(dim=1).values
    positions = (columns + width * torch.arange(rows)[:, None]).flatten()
    return Batch(
        input_ids=ids,
        token_type_ids=(torch.arange(width) >= width // 2).long().repeat(rows, 1),
        attention_mask=torch.ones_like(ids),
        masked_positions=positions,
        masked_labels=ids.flatten()[positions],
        next_sentence_label=torch.randint(0, 2, (rows,), generator=generator),
        example_ids=torch.zeros(rows, 2, dtype=torch.int64),
        num_tokens=rows * width,
    )


def build(name: str, config: BertConfig, batch: Batch, runtime: Runtime) -> Arm:
    torch.manual_seed(0)
    model = BertForPreTraining(config).to(runtime.device)
    if name.startswith("ours"):
        return ours(name, model, batch, runtime)
    weights = to_hf(model.state_dict(), config)
    return huggingface(name, config, weights, batch.to(runtime.device), runtime)


def ours(name: str, model: BertForPreTraining, batch: Batch, runtime: Runtime) -> Arm:
    optimizer = build_optimizer(
        model,
        learning_rate=LEARNING_RATE,
        weight_decay=WEIGHT_DECAY,
        betas=BETAS,
        epsilon=EPSILON,
        bias_correction=True,
    )
    num_rows, width = batch.input_ids.shape
    packing = PackedRows(
        max_seq_length=width, masked_lm_prob=MASKED_SHARE, for_compiler="compiled" in name
    )
    updater = Updater(
        model=model.train(),
        optimizer=optimizer,
        objective=Compiled(PRETRAINING) if "compiled" in name else PRETRAINING,
        runtime=runtime,
        seed=0,
        micro_batch_size=num_rows,
        max_grad_norm=MAX_GRAD_NORM,
        arrange=packing if "packed" in name else None,
        loss_scale=LossScale(runtime.device) if runtime.dtype == torch.float16 else None,
    )

    def loss() -> float:
        model.eval()
        arranged = batch if updater.arrange is None else updater.arrange(batch)
        there, counts = arranged.to(runtime.device), PRETRAINING.counts(batch).to(runtime.device)
        with torch.no_grad(), runtime.autocast():
            total, _ = PRETRAINING.loss(model, there, counts)
        model.train()
        return float(total)

    def step() -> None:
        updater.update(batch, step=0, learning_rate=LEARNING_RATE)

    return Arm(step=step, loss=loss)


def huggingface(
    name: str, config: BertConfig, weights: Mapping[str, Tensor], batch: Batch, runtime: Runtime
) -> Arm:
    """Return transformers' model as its Trainer would run it, with torch's fused AdamW."""
    attention = "sdpa" if "sdpa" in name else "eager"
    model = transformers.BertForPreTraining(
        transformers.BertConfig(
            **config_to_hf(config, "BertForPreTraining"), attn_implementation=attention
        )
    ).to(runtime.device)
    model.load_state_dict({k: v.clone() for k, v in weights.items()}, strict=False)
    model.tie_weights()
    model.train()
    optimizer = torch.optim.AdamW(
        parameter_groups(model, WEIGHT_DECAY),
        lr=LEARNING_RATE,
        betas=BETAS,
        eps=EPSILON,
        fused=True,
    )
    labels = torch.full_like(batch.input_ids.flatten(), -100)
    labels[batch.masked_positions] = batch.masked_labels
    inputs = {
        "input_ids": batch.input_ids,
        "token_type_ids": batch.token_type_ids,
        "attention_mask": batch.attention_mask,
        "labels": labels.view_as(batch.input_ids),
        "next_sentence_label": batch.next_sentence_label,
    }
    forward: nn.Module = torch.compile(model) if "compiled" in name else model  # type: ignore[assignment]

    scaler = torch.amp.GradScaler(runtime.device.type, enabled=runtime.dtype == torch.float16)

    def step() -> None:
        with runtime.autocast():
            loss = forward(**inputs).loss
        scaler.scale(loss).backward()
        scaler.unscale_(optimizer)
        torch.nn.utils.clip_grad_norm_(model.parameters(), MAX_GRAD_NORM)
        scaler.step(optimizer)
        scaler.update()
        optimizer.zero_grad()
        loss.item()

    def loss() -> float:
        model.eval()
        with torch.no_grad(), runtime.autocast():
            value = float(model(**inputs).loss)
        model.train()
        return value

    return Arm(step=step, loss=loss)


def check_equal(losses: Mapping[str, float], tolerance: float) -> None:
    """Refuse to time arms that do not compute the same thing."""
    if max(losses.values()) - min(losses.values()) > tolerance:
        sys.exit(f"error: the arms' losses differ by more than {tolerance}: {losses}")


def peak_memory(runtime: Runtime) -> int:
    if runtime.device.type == "cuda":
        return torch.cuda.max_memory_allocated(runtime.device)
    return peak_memory_bytes()


def row(
    name: str,
    seconds: list[float],
    num_tokens: int,
    seconds_at_peak: float,
    memory: float,
    loss: float,
) -> dict[str, Any]:
    median, fast, slow = spread(seconds)
    tokens_per_s = 1000 * num_tokens / median
    return {
        "arm": name,
        "tokens/s": f"{tokens_per_s:,.0f}",
        "ms (median)": f"{median:.1f}",
        "p5": f"{fast:.1f}",
        "p95": f"{slow:.1f}",
        "share of peak": f"{tokens_per_s * seconds_at_peak:.1%}",
        "peak MB": f"{memory:,.0f}",
        "loss": f"{loss:.4f}",
    }


def add_ratios(rows: list[dict[str, Any]]) -> None:
    """Add how many times faster ours is than each arm; the smallest ratio counts."""
    own = next((float(r["ms (median)"]) for r in rows if r["arm"] == "ours"), None)
    for line in rows:
        line["ours is"] = "" if own is None else f"{float(line['ms (median)']) / own:.2f}x"


if __name__ == "__main__":
    main()
