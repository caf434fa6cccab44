"""Is a BERT pretrained by our defaults in a given time useful? Fine-tune it and three others.

    uv run benchmarks/usefulness.py --data data --language en --work-dir runs/usefulness
    uv run benchmarks/usefulness.py --data data --train-seconds 900 --max-train-rows 4000 ...

Each labelled set has four columns: the same model from random weights; the best cheap baseline
(`cheap_baselines.py`); the model that Hugging Face's pipeline pretrains in the same time
(`huggingface_pipeline.py`); and ours, `pretrain --corpus X --max-train-seconds T` with no other
flag. All but the baseline are fine-tuned by our `finetune` with its defaults, which keep the model
that is best on a tenth of the training rows; the evaluation rows choose nothing. The number that
counts is the median gain of ours over the best of the others. A finished cell is a line of
WORK_DIR/cells.jsonl, and models stay in WORK_DIR: started again, the same command resumes.
"""

from __future__ import annotations

import argparse
import functools
import json
import shutil
import statistics
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from cheap_baselines import baseline
from measure import machine, print_table, write_json
from usefulness_sets import SETS, DrawnSet, draw

from bert_scratch.data.wordpiece import TokenizerFolder, load_tokenizer
from bert_scratch.finetuning.finetune import finetune
from bert_scratch.finetuning.finetune_config import FinetuneConfig
from bert_scratch.model.heads import BertForPreTraining

CORPORA = {
    "en": "wikipedia-en/wikipedia-en-60mb.txt.gz",
    "zh": "wikipedia-zh/wikipedia-zh-20mb.txt.gz",
}
RANDOM, CHEAP, THEIRS, OURS = "random weights", "cheap baseline", "Hugging Face", "ours"
ARMS = (RANDOM, CHEAP, THEIRS, OURS)
CHINESE_ALPHABET = 6000
"""Alphabet of Hugging Face's tokenizer trainer, whose default of 1,000 is too small for Chinese."""
Cell = dict[str, Any]


def main() -> None:
    options = parse_arguments()
    work = Path(options.work_dir)
    work.mkdir(parents=True, exist_ok=True)
    cells = run_cells(options, work)
    report(options, cells)


def run_cells(options: argparse.Namespace, work: Path) -> list[Cell]:
    """Run each cell that the file of cells lacks; return all requested cells."""
    file = work / "cells.jsonl"
    models = Models(options, work)
    cells = []
    for name in options.sets:
        source = SETS[name]
        rows = work / f"sets-{options.max_train_rows}" / name
        for arm, seed in arms_and_seeds(options.seeds):
            key = {
                "train_seconds": options.train_seconds,
                "max_train_rows": options.max_train_rows,
                "set": name,
                "arm": arm,
                "seed": seed,
            }
            cell = find_cell(file, key)
            if cell is None:
                drawn = draw(source, Path(options.data), rows, options.max_train_rows)
                cell = key | {"metric": source.metric} | run_cell(drawn, arm, seed, models)
                with file.open("a", encoding="utf-8") as lines:
                    lines.write(json.dumps(cell) + "\n")
            print(f"{name:<14} {arm:<16} seed {seed}  {cell['value']:.4f}", flush=True)
            cells.append(cell)
    return cells


def arms_and_seeds(num_seeds: int) -> list[tuple[str, int]]:
    """Return the cells of a set: several seeds, except for the baselines, which draw nothing."""
    return [(arm, seed) for arm in ARMS for seed in range(1, 2 if arm == CHEAP else num_seeds + 1)]


def find_cell(file: Path, key: Mapping[str, Any]) -> Cell | None:
    """Return a cell that was run before, if any."""
    lines = file.read_text(encoding="utf-8").splitlines() if file.exists() else []
    cells = [json.loads(line) for line in lines]
    return next((cell for cell in cells if key.items() <= cell.items()), None)


def run_cell(drawn: DrawnSet, arm: str, seed: int, models: Models) -> dict[str, Any]:
    """Train one arm on a set and measure it."""
    source = drawn.source
    if arm == CHEAP:
        return baseline(source.task, source.metric, drawn.drawn, drawn.evaluate)
    run = models.folder / "finetuned" / f"{source.name}-{arm.replace(' ', '-')}-{seed}"
    settings = FinetuneConfig(
        task=source.task,
        model=str(models.of(arm)),
        train_file=str(drawn.train),
        eval_file=str(drawn.choose),
        test_file=str(drawn.evaluate),
        output_dir=str(run),
        seed=seed,
        metric=source.metric,
        device="cpu",
        num_threads=models.options.threads,
    )
    results = finetune(settings).results
    shutil.rmtree(run)
    return {"value": results["test"][source.metric], "seconds": results["elapsed_s"]}


class Models:
    """The pretrained model of each arm, made when first asked for and kept."""

    def __init__(self, options: argparse.Namespace, work: Path) -> None:
        self.options = options
        self.folder = work / f"{options.language}-{options.train_seconds:g}s"
        self.corpus = str(Path(options.data) / CORPORA[options.language])
        self.of = functools.cache(self._of)

    def _of(self, arm: str) -> Path:
        run = self._pretrain()
        if arm == OURS:
            return run / "model"
        return self._pretrain_theirs(run) if arm == THEIRS else self._draw_weights(run)

    def _pretrain(self) -> Path:
        """Run our command, unless it has been run already."""
        run = self.folder / "ours"
        flags = ["--corpus", self.corpus, "--max-train-seconds", str(self.options.train_seconds)]
        machine_flags = ["--device", "cpu", "--num-threads", str(self.options.threads)]
        command = [sys.executable, "-m", "bert_scratch", "pretrain", *flags, *machine_flags]
        subprocess.run([*command, "--output-dir", str(run)], check=True)
        return run

    def _pretrain_theirs(self, run: Path) -> Path:
        out = self.folder / "hugging-face"
        if not (out / "training.json").exists():
            script = Path(__file__).with_name("huggingface_pipeline.py")
            flags = ["--corpus", self.corpus, "--like", str(run), "--output-dir", str(out)]
            if self.options.language == "zh":
                flags += ["--limit-alphabet", str(CHINESE_ALPHABET)]
            seconds = ["--seconds", str(self.options.train_seconds)]
            subprocess.run([sys.executable, str(script), *flags, *seconds], check=True)
        return out

    def _draw_weights(self, run: Path) -> Path:
        """Write a model of our shape whose weights are all drawn, word embeddings too."""
        out = self.folder / "random"
        if not out.exists():
            config = BertForPreTraining.from_pretrained(run / "model").config
            settings = json.loads((run / "pretrain_config.json").read_text())
            torch.manual_seed(settings["seed"])
            model = BertForPreTraining(config, initializer=settings["initializer"])
            model.save_pretrained(out, TokenizerFolder(load_tokenizer(run / "model")))
        return out


def table(cells: Sequence[Cell]) -> list[dict[str, Any]]:
    """Return a row for each set: each arm's mean and standard deviation in points, and our gain."""
    rows = []
    for name in dict.fromkeys(cell["set"] for cell in cells):
        of_set = [cell for cell in cells if cell["set"] == name]
        values = {
            arm: [100 * cell["value"] for cell in of_set if cell["arm"] == arm] for arm in ARMS
        }
        means = {arm: statistics.fmean(found) for arm, found in values.items()}
        best = max(means[arm] for arm in ARMS if arm != OURS)
        rows.append(
            {"set": name, "metric": of_set[0]["metric"]}
            | {arm: described(values[arm]) for arm in ARMS}
            | {"gain": means[OURS] - best}
        )
    return rows


def described(values: Sequence[float]) -> str:
    """Return 71.2 +- 0.4 with the sample deviation; a single value has no deviation."""
    mean = f"{statistics.fmean(values):.1f}"
    return mean if len(values) == 1 else f"{mean} ± {statistics.stdev(values):.1f}"


def report(options: argparse.Namespace, cells: Sequence[Cell]) -> None:
    rows = table(cells)
    gains = [row["gain"] for row in rows]
    print(
        f"\n{options.train_seconds:g} s of pretraining on {CORPORA[options.language]}, "
        f"{options.threads} thread(s); at most {options.max_train_rows:,} training rows; "
        f"{options.seeds} seeds; in points\n"
    )
    print_table([row | {"gain": f"{row['gain']:+.1f}"} for row in rows])
    losses = [f"{row['set']} by {-row['gain']:.1f}" for row in rows if row["gain"] < 0]
    print(
        f"\nmedian gain of ours over the best of the three others: {statistics.median(gains):+.1f}"
    )
    print(f"lost: {', '.join(losses) or 'none'}")
    results = {"machine": machine(), "options": vars(options), "table": rows, "cells": list(cells)}
    write_json(options.json, results)


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", required=True, help="the folder of corpora and labelled sets")
    parser.add_argument("--work-dir", required=True, help="of models and finished cells")
    parser.add_argument("--train-seconds", type=float, default=3600.0, help="of pretraining")
    parser.add_argument("--language", default="en", choices=list(CORPORA))
    parser.add_argument("--sets", nargs="+", choices=list(SETS), help="left out: the language's")
    parser.add_argument("--seeds", type=int, default=3, help="of fine-tuning, from 1")
    parser.add_argument("--max-train-rows", type=int, default=10_000)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--json", help="JSON file")
    options = parser.parse_args()
    if options.sets is None:
        options.sets = [name for name, each in SETS.items() if each.language == options.language]
    return options


if __name__ == "__main__":
    main()
