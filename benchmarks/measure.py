"""What all benchmarks share: arms that take turns, a table, the machine, and a JSON file."""

from __future__ import annotations

import json
import platform
import resource
import statistics
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any


def interleaved(
    arms: Mapping[str, Callable[[], object]], *, rounds: int, warmup: int = 2
) -> dict[str, list[float]]:
    """Return the seconds of each arm's calls; arms take turns, so all meet the same conditions.

    Args:
        arms: name -> function to time.
        rounds: timed calls of each arm.
        warmup: calls of each arm before any is timed.
    """
    for call in arms.values():
        for _ in range(warmup):
            call()
    seconds: dict[str, list[float]] = {name: [] for name in arms}
    for _ in range(rounds):
        for name, call in arms.items():
            start = time.perf_counter()
            call()
            seconds[name].append(time.perf_counter() - start)
    return seconds


def spread(seconds: Sequence[float]) -> tuple[float, float, float]:
    """Return the median, the 5th and the 95th percentile, in milliseconds."""
    ordered = sorted(1000 * value for value in seconds)
    last = len(ordered) - 1
    return statistics.median(ordered), ordered[round(0.05 * last)], ordered[round(0.95 * last)]


def peak_memory_bytes() -> int:
    """Return the peak resident memory of this process.

    Linux's own figure is used if there is one, as ru_maxrss starts from the memory of the parent
    process.
    """
    status = Path("/proc/self/status")
    for line in status.read_text().splitlines() if status.exists() else []:
        if line.startswith("VmHWM"):
            return int(line.split()[1]) * 1024
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def machine() -> dict[str, Any]:
    """Return what is needed to interpret a figure: processor, cores, versions."""
    import torch

    return {
        "processor": _processor(),
        "threads": torch.get_num_threads(),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
    }


def _processor() -> str:
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text().splitlines() if cpuinfo.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor()


def print_table(rows: Sequence[Mapping[str, object]]) -> None:
    """Print rows with the same keys as a Markdown table."""
    header = list(rows[0])
    cells = [header, *([str(row[name]) for name in header] for row in rows)]
    widths = [max(len(line[column]) for line in cells) for column in range(len(header))]
    for number, line in enumerate(cells):
        print("| " + " | ".join(c.ljust(w) for c, w in zip(line, widths, strict=True)) + " |")
        if number == 0:
            print("|" + "|".join("-" * (width + 2) for width in widths) + "|")


def write_json(path: str | None, results: Mapping[str, Any]) -> None:
    """Write the results to the path of --output, if there is one."""
    if path is not None:
        Path(path).write_text(json.dumps(results, indent=2) + "\n", encoding="utf-8")
