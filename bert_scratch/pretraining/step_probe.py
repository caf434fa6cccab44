"""Time a real training step before the run, on a model that is then discarded."""

from __future__ import annotations

import time
from dataclasses import dataclass, replace

import torch

from bert_scratch.batch import Batch
from bert_scratch.config import BertConfig, InputError
from bert_scratch.model.heads import BertForPreTraining
from bert_scratch.pretraining.choices import choose_masked_lm_prob
from bert_scratch.training.loss_scale import LossScale
from bert_scratch.training.memory import within_memory
from bert_scratch.training.objective import PRETRAINING
from bert_scratch.training.optimizer import build_optimizer
from bert_scratch.training.rehearsal import Rehearsal
from bert_scratch.training.runtime import Runtime
from bert_scratch.training.step import StepResult, Updater

MIN_UPDATES, MAX_UPDATES, PROBE_S = 3, 20, 1.0
"""Number of updates and seconds; the fastest of many short updates is the least disturbed."""
PROBE_SCALE = 2.0**10
"""Loss scale for float16: small gradients survive, and those of fresh weights do not overflow."""


@dataclass(frozen=True, kw_only=True)
class StepProbe:
    """The cost of a step of the run on this machine."""

    step_s: float
    first_s: float
    """Seconds of the first step, including any compilation."""
    sums: list[float]
    """The step's sums, in the order of `PretrainingObjective.sum_names`."""
    grad_norm: float
    """Gradient norm of the first step, before clipping."""


@dataclass(frozen=True, kw_only=True)
class Trial:
    """The cost of all parts of a run on this machine, each tried once before it starts."""

    step: StepProbe
    checkpoint: Rehearsal
    peak_memory_bytes: int
    """Peak memory of the process on a CPU, of the allocator on a GPU, over updates, an evaluation
    batch and a checkpoint."""


def probe_step(updater: Updater[Batch], batch: Batch) -> StepProbe:
    """Make updates for about a second, at least three, and report the fastest after the first.

    Args:
        updater: with a new model, which is not usable afterwards.
        batch: a full batch of the run.
    """
    updater.model.train()
    if updater.runtime.dtype == torch.float16:
        scale = LossScale(updater.runtime.device, initial=PROBE_SCALE)
        updater = replace(updater, loss_scale=scale)
    seconds = []
    made: list[StepResult] = []
    began = time.perf_counter()
    for step in range(MAX_UPDATES):
        start = time.perf_counter()
        result = updater.update(batch, step=step, learning_rate=0.0).result()
        made.append(result)
        seconds.append(time.perf_counter() - start)
        if len(seconds) >= MIN_UPDATES and time.perf_counter() - began > PROBE_S:
            break
    return StepProbe(
        step_s=min(seconds[1:]),
        first_s=seconds[0],
        sums=made[0].sums,
        grad_norm=made[0].grad_norm,
    )


def measure_tokens_per_s(
    config: BertConfig, *, runtime: Runtime, rows: int = 32, seq_length: int = 64
) -> float:
    """Measure how fast a model of a shape trains, on a synthetic batch; 0 if it exceeds GPU memory.

    Args:
        config: the shape.
        runtime: of the run.
        rows: examples in the batch, all in one forward pass.
        seq_length: tokens of each example, capped at what the model takes.
    """
    width = min(seq_length, config.max_position_embeddings)
    torch.manual_seed(0)
    ids = torch.randint(config.vocab_size, (rows, width))
    share = float(choose_masked_lm_prob(config.hidden_size).value)
    positions = torch.arange(0, rows * width, round(1 / share))
    batch = Batch(
        input_ids=ids,
        token_type_ids=torch.zeros_like(ids),
        attention_mask=torch.ones_like(ids),
        masked_positions=positions,
        masked_labels=ids.flatten()[positions],
        next_sentence_label=torch.zeros(rows, dtype=torch.int64),
        example_ids=torch.zeros(rows, 2, dtype=torch.int64),
        num_tokens=rows * width,
    )
    probe = within_memory(lambda: _probe_made_up(config, batch, runtime))
    return 0.0 if probe is None else batch.num_tokens / probe.step_s


def _probe_made_up(config: BertConfig, batch: Batch, runtime: Runtime) -> StepProbe:
    model = BertForPreTraining(config).to(runtime.device)
    optimizer = build_optimizer(
        model,
        learning_rate=0.0,
        weight_decay=0.0,
        betas=(0.9, 0.999),
        epsilon=1e-6,
        bias_correction=True,
    )
    updater = Updater(
        model=model,
        optimizer=optimizer,
        objective=PRETRAINING,
        runtime=runtime,
        seed=0,
        micro_batch_size=len(batch.input_ids),
        max_grad_norm=1.0,
    )
    return probe_step(updater, batch)


def does_not_fit(micro_batch_size: int, device: torch.device) -> InputError:
    """Return the error for a forward pass too large for a GPU, saying what to do."""
    return InputError(
        f"--micro-batch-size {micro_batch_size} does not fit in the memory of {device}; "
        f"lower it, --max-seq-length or the model's size, or use --activation-checkpointing"
    )
