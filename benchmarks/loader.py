"""Measure how fast batches are built on one core, without a model, and how much is padding.

    bert-scratch prepare --corpus TEXT --output-dir STORE
    python benchmarks/loader.py --data STORE [--max-seq-length 128] [--output loader.json]

Times are CPU times of one thread, the best of several rounds in which the stages and settings take
turns. For each stage: nanoseconds a token when as many steps are built together as in
training, and in the last line tokens a second of the whole. Takes about a minute.
"""

from __future__ import annotations

import os

os.environ["OMP_NUM_THREADS"] = "1"

import argparse
import time
from collections import defaultdict
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from measure import machine, print_table, write_json

from bert_scratch.batch import Batch
from bert_scratch.data.loader import ExampleLoader
from bert_scratch.data.mask_settings import MASK_UNITS, MaskSettings
from bert_scratch.data.rows import lay_out
from bert_scratch.data.segmenter import continuing_ids
from bert_scratch.data.store import TokenStore
from bert_scratch.data.wordpiece import load_tokenizer, special_ids, unselectable_ids
from bert_scratch.data.workers import TOKENS_TOGETHER, iterate

BATCH_SIZES = (32, 256)
LENGTHS = (32, 64, 128, 256, 512)
TOKENS_A_ROUND = 1_000_000
ROUNDS = 7


class Loaders:
    """Loaders over one store."""

    def __init__(self, folder: str) -> None:
        self._store = TokenStore(folder)
        tokenizer = load_tokenizer(self._store.folder / "tokenizer")
        self.special_ids = special_ids(tokenizer)
        self._tokens = {
            "special_ids": self.special_ids,
            "unselectable_ids": unselectable_ids(tokenizer),
            "continuing_ids": continuing_ids(tokenizer),
        }

    def open(self, **choices: Any) -> ExampleLoader:
        """Return a loader with the store's tokenizer."""
        return ExampleLoader(self._store, seed=1, **self._tokens, **choices)


def stage_seconds(loaders: Loaders, loader: ExampleLoader, group: int) -> dict[str, float]:
    """Return the CPU seconds of each stage of one group of steps, and its tokens."""
    size = loader.batch_size
    num_rows = TOKENS_TOGETHER // loader.max_seq_length
    places = np.arange(group * num_rows, (group + 1) * num_rows)
    seconds: dict[str, float] = {}
    epochs, slots = _timed(seconds, "order", lambda: loader.order.at(places))
    examples = _timed(seconds, "pairs and reading", lambda: loader.source.batch(epochs, slots))
    rows = _timed(
        seconds,
        "rows",
        lambda: lay_out(examples, loaders.special_ids, loader.max_seq_length),
    )
    ids = torch.from_numpy(np.stack([epochs, slots], axis=1))
    tensors = torch.from_numpy(rows.input_ids), torch.from_numpy(rows.lengths), ids
    masked_ids, positions, labels = _timed(seconds, "masks", lambda: loader.masker.mask(*tensors))
    batch = Batch(
        input_ids=masked_ids,
        token_type_ids=torch.from_numpy(rows.token_type_ids),
        attention_mask=torch.from_numpy(rows.attention_mask),
        masked_positions=positions,
        masked_labels=labels,
        next_sentence_label=torch.from_numpy(examples.labels),
        example_ids=ids,
        num_tokens=int(rows.lengths.sum()),
    )
    _timed(
        seconds,
        "cut into steps",
        lambda: [batch.rows(start, start + size) for start in range(0, num_rows, size)],
    )
    seconds["tokens"] = batch.num_tokens
    return seconds


def _timed(seconds: dict[str, float], name: str, call: Callable[[], Any]) -> Any:
    start = time.process_time()
    result = call()
    seconds[name] = time.process_time() - start
    return result


def stages(loaders: Loaders, max_seq_length: int) -> list[dict[str, Any]]:
    """Return the nanoseconds a token of each stage, for each batch size."""
    found: dict[str, dict[str, Any]] = defaultdict(dict)
    for size in BATCH_SIZES:
        loader = loaders.open(batch_size=size, max_seq_length=max_seq_length)
        runs = [stage_seconds(loaders, loader, 2 + group) for group in range(20 * ROUNDS)]
        for name in runs[0]:
            if name != "tokens":
                best = min(run[name] / run["tokens"] for run in runs[ROUNDS:])
                found[name][f"ns/token, B={size}"] = round(1e9 * best, 1)
    return [{"stage": name} | values for name, values in found.items()]


def whole(loaders: Loaders, max_seq_length: int) -> list[dict[str, Any]]:
    """Return million tokens a second of `iterate` by mask unit and batch size, and one by one."""
    arms = {
        (unit, size): loaders.open(
            batch_size=size, max_seq_length=max_seq_length, masks=MaskSettings(unit=unit)
        )
        for unit in MASK_UNITS
        for size in BATCH_SIZES
    }
    rates: dict[tuple[str, str], list[float]] = defaultdict(list)
    for _ in range(ROUNDS):
        for (unit, size), loader in arms.items():
            steps = TOKENS_A_ROUND // (size * max_seq_length)
            name = f"M tokens/s, B={size}"
            rates[f"masks by {unit}", name].append(_rate(iterate(loader, 0, steps, 0)))
            if unit == "token":
                alone = map(loader.batch_at, range(steps))
                rates["masks by token, each step alone", name].append(_rate(alone))
    rows: dict[str, dict[str, Any]] = defaultdict(dict)
    for (row, name), values in rates.items():
        rows[row][name] = round(max(values), 1)
    return [{"whole": row} | values for row, values in rows.items()]


def _rate(batches: Any) -> float:
    start = time.process_time()
    tokens = sum(batch.num_tokens for batch in batches)
    return tokens / (time.process_time() - start) / 1e6


def padding(loaders: Loaders) -> list[dict[str, Any]]:
    """Return the share of padding in computed positions, by length and number of micro-batches."""
    rows = []
    for length in LENGTHS:
        row: dict[str, Any] = {"max_seq_length": length}
        for size, pieces in ((32, 1), (256, 1), (256, 16), (256, 32)):
            loader = loaders.open(batch_size=size, max_seq_length=length)
            row[f"{size} rows in {pieces}"] = _padding(loader, size // pieces)
        loader = loaders.open(batch_size=32, max_seq_length=length, short_seq_prob=0.0)
        row["--short-seq-prob 0"] = _padding(loader, 32)
        rows.append(row)
    return rows


def _padding(loader: ExampleLoader, micro_batch_size: int) -> str:
    steps = max(4, TOKENS_A_ROUND // (loader.batch_size * loader.max_seq_length))
    positions = tokens = 0
    for batch in iterate(loader, 0, steps, 0):
        positions += sum(p.input_ids.numel() for p in batch.split(micro_batch_size))
        tokens += batch.num_tokens
    return f"{1 - tokens / positions:.2%}"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--data", required=True, help="a prepared corpus")
    parser.add_argument("--max-seq-length", type=int, default=128)
    parser.add_argument("--output", help="write the figures to this JSON file")
    options = parser.parse_args()
    torch.set_num_threads(1)
    loaders = Loaders(options.data)
    results = {
        "stages": stages(loaders, options.max_seq_length),
        "whole": whole(loaders, options.max_seq_length),
        "padding": padding(loaders),
    }
    for rows in results.values():
        print_table(rows)
        print()
    write_json(
        options.output,
        {"machine": machine(), "max_seq_length": options.max_seq_length} | results,
    )


if __name__ == "__main__":
    main()
