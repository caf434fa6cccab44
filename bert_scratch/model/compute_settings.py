"""The flags that say where a model computes; free of torch, so a misspelt flag fails fast."""

from __future__ import annotations

import os
from dataclasses import dataclass

from bert_scratch.config import Settings, check_range


@dataclass(frozen=True, kw_only=True)
class ComputeSettings(Settings):
    """Where the model computes."""

    device: str = "auto"
    """auto, cpu, cuda or cuda:N."""
    num_threads: int | None = None
    """CPU threads of the model. Left out: one for each core this process may use."""

    def __post_init__(self) -> None:
        """Check the number of threads.

        Raises:
            InputError: naming the flag.
        """
        check_range("--num-threads", self.num_threads, at_least=1)

    @property
    def threads(self) -> int:
        """CPU threads: as requested, or one per core."""
        return self.num_threads or default_num_threads()


def default_num_threads() -> int:
    """Return the number of CPU cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
