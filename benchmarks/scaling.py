"""Measure how the held-out loss falls with a model's size and the tokens it sees, and fit a law.

    uv run benchmarks/scaling.py --data prepared --points tiny:4e6,mini:8e6 --output grid.jsonl
    uv run benchmarks/scaling.py --fit benchmarks/scaling.jsonl
    uv run benchmarks/scaling.py --fit benchmarks/scaling.jsonl --leave-out wikipedia-en-60mb

A point is a whole run of `pretrain` with a fixed number of steps and otherwise defaults, so a busy
machine changes its time but not its loss. Each point adds one line to the file; points already
there are skipped, so a stopped grid resumes. The law is that of
`bert_scratch.pretraining.plan_loss`, whose constants --fit prints; a corpus left out of the fit
shows what they are worth. `scaling.jsonl` holds the runs that the package's constants were fitted
to, gathered from single runs and from such grids.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from measure import print_table

from bert_scratch.config import BertConfig, read_json_object
from bert_scratch.pretraining.choices import CORPUS_VECTORS
from bert_scratch.pretraining.corpus_facts import CorpusFacts
from bert_scratch.pretraining.plan_loss import (
    FLOOR,
    HEAD_START,
    POWER,
    SEEN,
    effective_vocabulary,
    tokens_learned,
)
from bert_scratch.pretraining.pretrain import pretrain
from bert_scratch.pretraining.pretrain_config import PretrainConfig

TOKENS_PER_STEP = 2048
HEAD_STARTS = np.arange(0, 20.25e6, 0.25e6)
"""Candidate head starts in tokens, of which the best is chosen."""


def main() -> None:
    options = parse_arguments()
    if options.fit is None:
        run_points(options)
        return
    points = list(lines_of(Path(options.fit)))
    corpora = {point["data"] for point in points}
    if not corpora:
        sys.exit(f"error: --fit {options.fit}: holds no points")
    if options.leave_out not in (None, *corpora):
        sys.exit(f"error: --leave-out {options.leave_out}: have {', '.join(sorted(corpora))}")
    fitted = [point for point in points if point["data"] != options.leave_out]
    report(points, fit(fitted))


def run_points(options: argparse.Namespace) -> None:
    """Run the points that the file does not hold yet."""
    output = Path(options.output)
    for name in options.points.split(","):
        model, _, tokens = name.partition(":")
        point = {
            "data": options.data,
            "model": model,
            "num_train_steps": round(float(tokens) / TOKENS_PER_STEP),
            "max_seq_length": options.max_seq_length,
            "dropout": options.dropout,
            "seed": options.seed,
        }
        if all(point != {key: line.get(key) for key in point} for line in lines_of(output)):
            with output.open("a", encoding="utf-8") as file:
                file.write(json.dumps({**point, **run_point(point, options.num_threads)}) + "\n")


def run_point(point: dict[str, Any], num_threads: int) -> dict[str, Any]:
    """Pretrain as the point says; return its sizes, losses and seconds of CPU time."""
    before = time.process_time()
    with tempfile.TemporaryDirectory() as folder:
        pretrain(
            PretrainConfig(
                data=point["data"],
                **settings_of(point["model"]),
                max_seq_length=point["max_seq_length"],
                train_batch_size=TOKENS_PER_STEP // point["max_seq_length"],
                num_train_steps=point["num_train_steps"],
                hidden_dropout_prob=point["dropout"],
                attention_probs_dropout_prob=point["dropout"],
                seed=point["seed"],
                num_threads=num_threads,
                save_steps=point["num_train_steps"],
                output_dir=folder,
            )
        )
        facts = CorpusFacts.from_json_file(Path(folder, "corpus.json"))
        shape = read_json_object(Path(folder, "model", "config.json"))
        resolved = read_json_object(Path(folder, "pretrain_config.json"))
        metrics = lines_of(Path(folder, "metrics.jsonl"))
        evaluations = [line for line in metrics if line["split"] == "eval"]
    return {
        "layers": shape["num_hidden_layers"],
        "width": shape["hidden_size"],
        "vocab_size": facts.vocab_size,
        "masked_lm_prob": resolved["masked_lm_prob"],
        "init_word_vectors": resolved["init_word_vectors"],
        "tokens": evaluations[-1]["tokens"],
        "distinct_tokens": facts.train_tokens,
        "unigram_entropy": facts.unigram_entropy,
        "ideograph_share": facts.ideograph_share,
        "mlm_loss": evaluations[-1]["mlm_loss"],
        "nsp_accuracy": evaluations[-1].get("nsp_accuracy"),
        "curve": [(line["step"], round(line["mlm_loss"], 4)) for line in evaluations],
        "cpu_s": time.process_time() - before,
    }


def settings_of(model: str) -> dict[str, Any]:
    """Return the settings for the name of a preset, or for layers by width, as in 4x384."""
    if model in BertConfig.PRESETS:
        return {"preset": model}
    layers, width = map(int, model.split("x"))
    return {"preset": "tiny", "num_hidden_layers": layers, "hidden_size": width}


def fit(points: Sequence[dict[str, Any]]) -> Law:
    """Print the constants of the law that best fits the points, by least squares."""
    missed, law = min(
        (fit_with(points, head_start) for head_start in HEAD_STARTS), key=lambda each: each[0]
    )
    print(f"FLOOR, SEEN = {law.floor:.4g}, {law.seen:.4g}; HEAD_START = {law.head_start:.3g}")
    print(
        f"from {len(points)} points, which the law misses by {missed:.3f} nats (root mean square)\n"
    )
    return law


def fit_with(points: Sequence[dict[str, Any]], head_start: float) -> tuple[float, Law]:
    """Return the root mean square error of the best law with a given head start, and the law."""
    entropy = np.array([point["unigram_entropy"] for point in points])
    loss = np.array([point["mlm_loss"] for point in points])
    shares = np.array([learned(point, head_start) ** -POWER for point in points])
    terms = np.stack([entropy, entropy * shares], axis=1)
    (floor, seen), *_ = np.linalg.lstsq(terms, loss, rcond=None)
    missed = terms @ np.array([floor, seen]) - loss
    return float(np.sqrt(np.mean(missed**2))), Law(float(floor), float(seen), head_start)


@dataclass(frozen=True)
class Law:
    """The fitted constants of `plan_loss`."""

    floor: float
    seen: float
    head_start: float

    def loss(self, point: dict[str, Any]) -> float:
        """Return the loss that the law predicts for a run, in nats."""
        share = self.floor + self.seen * learned(point, self.head_start) ** -POWER
        return float(point["unigram_entropy"] * share)


def learned(point: dict[str, Any], head_start: float) -> float:
    counted = point.get("init_word_vectors") == CORPUS_VECTORS
    return tokens_learned(
        BertConfig.preset("tiny", num_hidden_layers=point["layers"], hidden_size=point["width"]),
        tokens=point["tokens"],
        distinct_tokens=point["distinct_tokens"],
        vocabulary=effective_vocabulary(point["vocab_size"], point.get("ideograph_share", 0.0)),
        masked_lm_prob=point["masked_lm_prob"],
        head_start=head_start if counted else 0.0,
    )


def report(points: Sequence[dict[str, Any]], law: Law) -> None:
    """Print each point with the predictions of the fitted law and of the package's law."""
    rows = []
    for point in points:
        rows.append(
            {
                "corpus": Path(point["data"]).name,
                "model": point["model"],
                "vocabulary": f"{point['vocab_size']:,}",
                "tokens, M": f"{point['tokens'] / 1e6:.1f}",
                "passes": f"{point['tokens'] / point['distinct_tokens']:.1f}",
                "predicted": f"{point['masked_lm_prob']:.0%}",
                "vectors": point.get("init_word_vectors", "none"),
                "unigram": f"{point['unigram_entropy']:.2f}",
                "loss": f"{point['mlm_loss']:.3f}",
                "fitted": f"{law.loss(point):.3f}",
                "package": f"{Law(FLOOR, SEEN, HEAD_START).loss(point):.3f}",
            }
        )
    print_table(rows)


def lines_of(path: Path) -> Iterator[dict[str, Any]]:
    if path.exists():
        yield from map(json.loads, path.read_text(encoding="utf-8").splitlines())


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", help="a corpus prepared by `bert-scratch prepare`")
    parser.add_argument("--points", help="MODEL:TOKENS,...; a preset, or layers by width as 4x384")
    parser.add_argument("--max-seq-length", type=int, default=64)
    parser.add_argument("--dropout", type=float, default=0.0)
    parser.add_argument("--num-threads", type=int, default=1)
    parser.add_argument("--seed", type=int, default=42)
    parser.add_argument("--output", help="one JSON line for each point")
    parser.add_argument("--fit", help="such a file: fit the law and show what it misses")
    parser.add_argument("--leave-out", help="a corpus, as --data named it, to fit without")
    return parser.parse_args()


if __name__ == "__main__":
    main()
