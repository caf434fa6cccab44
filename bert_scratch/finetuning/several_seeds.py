"""Fine-tuning with several seeds: the mean of the metrics, their deviation, and the best model."""

from __future__ import annotations

import shutil
import statistics
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from bert_scratch import durable
from bert_scratch.config import InputError
from bert_scratch.finetuning.finetune_config import FinetuneConfig
from bert_scratch.finetuning.task import LOWER_IS_BETTER

RESULTS = "results.json"
RESOLVED = "finetune_config.json"
"""The resolved settings of one run."""


def run_seeds(
    asked: FinetuneConfig, run: Callable[[FinetuneConfig], Mapping[str, Any]]
) -> dict[str, Any]:
    """Run each seed in a folder of its own, and write a summary to the output folder.

    Args:
        asked: settings with --seeds.
        run: starts or resumes a run of one seed, and returns the content of its results.json.

    Returns:
        Means under the metrics' names, `std` (over the sample, 0 for one seed), and each seed's
        values.

    Raises:
        InputError: if the output folder holds a run of one seed.
    """
    out = Path(asked.output_dir)
    if (out / RESOLVED).exists():
        raise InputError(f"{out} holds a run of one seed; give --seeds another --output-dir")
    of_seed = {
        seed: run(asked.replace(seed=seed, seeds=(), output_dir=str(out / f"seed-{seed}")))
        for seed in asked.seeds
    }
    runs = list(of_seed.values())
    metric = runs[0]["metric"]
    names = [name for name in runs[0]["evaluations"][0] if name != "step"]
    held_out = {seed: {name: r[name] for name in names} for seed, r in of_seed.items()}
    sign = -1.0 if metric in LOWER_IS_BETTER else 1.0
    best = max(held_out, key=lambda seed: sign * held_out[seed][metric])
    means, deviations = _mean(list(held_out.values())), _std(list(held_out.values()))
    results: dict[str, Any] = {
        **means,
        "std": deviations,
        "metric": metric,
        "best_seed": best,
        "seeds": {str(seed): values for seed, values in held_out.items()},
    }
    if all("test" in values for values in runs):
        results["test"] = _mean([values["test"] for values in runs])
        results["test_std"] = _std([values["test"] for values in runs])
    durable.remove_leftovers(out)
    with durable.durable_folder(out / "model") as model:
        shutil.copytree(out / f"seed-{best}" / "model", model, dirs_exist_ok=True)
    durable.write_json(out / RESULTS, results)
    print(f"seeds      {' '.join(map(str, held_out))}: mean +- standard deviation")
    for name, mean in means.items():
        print(f"           {name} {mean:.4f} +- {deviations[name]:.4f}")
    return results


def _mean(values: Sequence[Mapping[str, float]]) -> dict[str, float]:
    return {name: statistics.fmean(v[name] for v in values) for name in values[0]}


def _std(values: Sequence[Mapping[str, float]]) -> dict[str, float]:
    return {
        name: statistics.stdev(v[name] for v in values) if len(values) > 1 else 0.0
        for name in values[0]
    }
