"""The cost of safety: the checks of a step, and a checkpoint with and without fsync and SHA-256.

python benchmarks/safety.py --presets mini base --folder /somewhere/on/the/disk
"""

from __future__ import annotations

import argparse
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from unittest.mock import patch

import torch
from measure import interleaved, machine, print_table, spread, write_json

from bert_scratch import durable
from bert_scratch.batch import Batch
from bert_scratch.config import BertConfig
from bert_scratch.model.heads import BertForPreTraining
from bert_scratch.training import checkpoint
from bert_scratch.training.checkpoint import save_checkpoint
from bert_scratch.training.interruption import StopRequest
from bert_scratch.training.objective import PRETRAINING
from bert_scratch.training.optimizer import build_optimizer, load_moments
from bert_scratch.training.runtime import Runtime
from bert_scratch.training.step import Updater
from bert_scratch.training.watchdog import Watchdog


class NoTokenizer:
    """A stand-in for a tokenizer, of negligible size."""

    def save_pretrained(self, folder: Path) -> None:
        """Write one file."""
        (folder / "tokenizer.json").write_text("{}", encoding="utf-8")


def trained(preset: str, vocab_size: int) -> tuple[BertForPreTraining, torch.optim.Optimizer]:
    """Return a model and an optimizer with moments."""
    model = BertForPreTraining(BertConfig.preset(preset, vocab_size=vocab_size)).train()
    optimizer = build_optimizer(
        model, learning_rate=1e-4, weight_decay=0.1, betas=(0.9, 0.98), epsilon=1e-6,
        bias_correction=True,
    )  # fmt: skip
    values = {name: torch.zeros_like(p) for name, p in model.named_parameters()}
    load_moments(model, optimizer, {"exp_avg": values, "exp_avg_sq": values}, num_updates=1)
    return model, optimizer


@contextmanager
def without_safety() -> Iterator[None]:
    """Within the block, neither wait for the disk nor read back what was written."""
    with (
        patch.object(durable, "fsync", lambda _: None),
        patch.object(durable, "file_digest", lambda _: {}),
        patch.object(checkpoint, "problem_with", lambda _: None),
    ):
        yield


def time_checkpoints(preset: str, folder: Path, rounds: int) -> dict[str, object]:
    """Save repeatedly, with and without safety in turn."""
    model, optimizer = trained(preset, 30522)

    def save() -> None:
        shutil.rmtree(folder / "checkpoints", ignore_errors=True)
        save_checkpoint(
            folder / "checkpoints", step=1, model=model, optimizer=optimizer,
            tokenizer=NoTokenizer(), state={}, keep=1,
        )  # fmt: skip

    def save_bare() -> None:
        with without_safety():
            save()

    seconds = interleaved({"safe": save, "bare": save_bare}, rounds=rounds, warmup=1)
    safe, bare = (spread(seconds[name])[0] / 1000 for name in ("safe", "bare"))
    parameters = sum(p.numel() for p in model.parameters())
    return {
        "preset": preset,
        "parameters": f"{parameters / 1e6:.1f} M",
        "checkpoint": f"{12 * parameters / 1e6:,.0f} MB",
        "with fsync and SHA-256": f"{safe:.2f} s",
        "without": f"{bare:.2f} s",
        "of a quarter of an hour": f"{safe / 900:.2%}",
    }


def time_checks(rounds: int) -> dict[str, object]:
    """Time an update of the smallest preset, and the part of it that is only safety checks."""
    model, optimizer = trained("tiny", 8192)
    torch.manual_seed(0)
    ids = torch.randint(5, 8192, (32, 64))
    positions = torch.arange(0, ids.numel(), 7)
    batch = Batch(
        input_ids=ids,
        token_type_ids=torch.zeros_like(ids),
        attention_mask=torch.ones_like(ids),
        masked_positions=positions,
        masked_labels=ids.flatten()[positions],
        next_sentence_label=torch.zeros(len(ids), dtype=torch.int64),
        example_ids=torch.zeros(len(ids), 2, dtype=torch.int64),
        num_tokens=ids.numel(),
    )
    runtime = Runtime(
        device=torch.device("cpu"), dtype=torch.float32, num_threads=torch.get_num_threads()
    )
    updater = Updater(
        model=model, optimizer=optimizer, objective=PRETRAINING, runtime=runtime,
        seed=1, micro_batch_size=32, max_grad_norm=1.0,
    )  # fmt: skip

    def one_update() -> None:
        updater.update(batch, step=1, learning_rate=0.0)

    update_s = spread(interleaved({"update": one_update}, rounds=rounds)["update"])[0] / 1000
    stop, watchdog, norm, sums = StopRequest(), Watchdog(1800), torch.tensor(1.0), [1.0] * 7
    count = 10_000
    start = time.perf_counter()
    for _ in range(count):
        (~torch.isfinite(norm)).float()  # gates the update
        assert all(value - value == 0.0 for value in sums)
        watchdog.alive()
        watchdog.alive()
        assert not stop
    checks_s = (time.perf_counter() - start) / count
    watchdog.close()
    return {
        "update": f"{update_s * 1e3:.1f} ms",
        "its checks": f"{checks_s * 1e6:.1f} us",
        "share": f"{checks_s / update_s:.3%}",
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--presets", nargs="+", default=["mini"])
    parser.add_argument("--folder", help="on the disk to measure")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--output", help="JSON file")
    asked = parser.parse_args()
    checks = time_checks(4 * asked.rounds)
    print_table([checks])
    with tempfile.TemporaryDirectory(dir=asked.folder) as folder:
        saves = [time_checkpoints(preset, Path(folder), asked.rounds) for preset in asked.presets]
    print_table(saves)
    write_json(asked.output, {"machine": machine(), "checks": checks, "checkpoints": saves})


if __name__ == "__main__":
    main()
