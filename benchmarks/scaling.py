"""Measure how the held-out loss falls with a model's size and the tokens it sees, and fit a law.

    uv run benchmarks/scaling.py --data DIR --points tiny:4e6,tiny:16e6,mini:4e6 --output grid.jsonl
    uv run benchmarks/scaling.py --fit grid.jsonl

A point is a whole run of `pretrain` with a fixed number of steps, so a busy machine changes its
time and not its loss. Each adds one line to the file; points that are there already are skipped,
so a grid that was stopped goes on.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from bert_scratch.config import BertConfig
from bert_scratch.pretraining.corpus_facts import CorpusFacts
from bert_scratch.pretraining.pretrain import pretrain
from bert_scratch.pretraining.pretrain_config import PretrainConfig

TOKENS_PER_STEP = 2048


def main() -> None:
    options = parse_arguments()
    run_points(options)


def run_points(options: argparse.Namespace) -> None:
    """Run what the file does not hold yet."""
    output = Path(options.output)
    for name in options.points.split(","):
        model, _, tokens = name.partition(":")
        point = {
            "data": options.data,
            "model": model,
            "num_train_steps": round(float(tokens) / TOKENS_PER_STEP),
            "max_seq_length": options.max_seq_length,
            "dropout": options.dropout,
            "learning_rate": options.learning_rate,
            "seed": options.seed,
        }
        if all(point != {key: line.get(key) for key in point} for line in lines_of(output)):
            with output.open("a", encoding="utf-8") as file:
                file.write(json.dumps({**point, **run_point(point, options.num_threads)}) + "\n")


def run_point(point: dict[str, Any], num_threads: int) -> dict[str, Any]:
    """Pretrain as the point says; return its sizes, its losses and its seconds of CPU time."""
    before = time.process_time()
    with tempfile.TemporaryDirectory() as folder:
        config = PretrainConfig(
            data=point["data"],
            **shape_of(point["model"]),
            max_seq_length=point["max_seq_length"],
            train_batch_size=TOKENS_PER_STEP // point["max_seq_length"],
            num_train_steps=point["num_train_steps"],
            hidden_dropout_prob=point["dropout"],
            attention_probs_dropout_prob=point["dropout"],
            learning_rate=point["learning_rate"],
            seed=point["seed"],
            num_threads=num_threads,
            save_steps=point["num_train_steps"],
            output_dir=folder,
        )
        pretrain(config)
        facts = CorpusFacts.from_json_file(Path(folder, "corpus.json"))
        evaluations = [
            line for line in lines_of(Path(folder, "metrics.jsonl")) if line["split"] == "eval"
        ]
        layers, width = json_of(folder)
    last = evaluations[-1]
    return {
        "layers": layers,
        "width": width,
        "vocab_size": facts.vocab_size,
        "tokens": last["tokens"],
        "distinct_tokens": facts.train_tokens,
        "unigram_entropy": facts.unigram_entropy,
        "mlm_loss": last["mlm_loss"],
        "nsp_accuracy": last.get("nsp_accuracy"),
        "curve": [(line["step"], round(line["mlm_loss"], 4)) for line in evaluations],
        "cpu_s": time.process_time() - before,
    }


def json_of(folder: str) -> tuple[int, int]:
    shape = json.loads(Path(folder, "model", "config.json").read_text())
    return shape["num_hidden_layers"], shape["hidden_size"]


def shape_of(model: str) -> dict[str, Any]:
    """Return the settings of a preset's name, or of 4x256: layers by width."""
    if model in BertConfig.PRESETS:
        return {"preset": model}
    layers, width = map(int, model.split("x"))
    return {"preset": "tiny", "num_hidden_layers": layers, "hidden_size": width}


def lines_of(path: Path) -> Iterator[dict[str, Any]]:
    if path.exists():
        yield from map(json.loads, path.read_text(encoding="utf-8").splitlines())


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", help="a corpus prepared by `bert-scratch prepare`")
    parser.add_argument("--points", help="MODEL:TOKENS,...; a model is a preset or LAYERSxWIDTH")
    parser.add_argument("--max-seq-length", type=int, default=64)
    parser.add_argument("--dropout", type=float, default=0.0)
    parser.add_argument("--learning-rate", type=float, help="left out: as pretrain chooses")
    parser.add_argument("--num-threads", type=int, default=1)
    parser.add_argument("--seed", type=int, default=42)
    parser.add_argument("--output", help="one JSON line for each point")
    return parser.parse_args()


if __name__ == "__main__":
    main()
