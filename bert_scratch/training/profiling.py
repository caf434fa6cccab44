"""Show where a step's time goes: some steps under torch's profiler, a trace and a table."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.profiler import ProfilerActivity, profile, record_function

from bert_scratch.config import counted
from bert_scratch.model.encoder import Pooler
from bert_scratch.model.heads import MaskedLMHead, NextSentenceHead
from bert_scratch.model.layers import Embeddings, FeedForward, MultiHeadAttention
from bert_scratch.training.objective import BatchT
from bert_scratch.training.step import BACKWARD, FORWARD, UPDATE

WARMUP_STEPS = 5
_NOTHING = (
    f"profile    nothing was profiled: the first {WARMUP_STEPS} updates only warm up, and the run "
    "made no more; give it more updates"
)
DATA, REST = "data", "log and all else"
FORWARD_REST = f"{FORWARD}: residuals, LayerNorm, loss"
_PARTS: dict[type[nn.Module], str] = {
    Embeddings: f"{FORWARD}: embeddings",
    MultiHeadAttention: f"{FORWARD}: attention",
    FeedForward: f"{FORWARD}: feed-forward",
    Pooler: f"{FORWARD}: heads",
    MaskedLMHead: f"{FORWARD}: heads",
    NextSentenceHead: f"{FORWARD}: heads",
}


def profiled(
    batches: Iterator[BatchT],
    model: nn.Module,
    *,
    num_steps: int,
    trace: Path,
    device: torch.device,
    say: Callable[[str], None],
) -> Iterator[BatchT]:
    """Yield the batches of a run, and profile the steps made with some of them.

    The loop asks for a batch when it is done with the previous one, so a generator sees all of a
    step, and an unprofiled run needs no code for it. Profiling changes no bits; a run that ends
    early is profiled as far as it got.

    Args:
        batches: of the run.
        model: the model being trained.
        num_steps: steps to profile, after a few to warm up.
        trace: file for the events, readable by Chrome's `chrome://tracing` and Perfetto; its
            name ends in .json.gz.
        device: the device whose time is measured.
        say: prints a line.
    """
    try:
        for _, batch in zip(range(WARMUP_STEPS), batches, strict=False):
            yield batch
    except GeneratorExit:  # the run ended
        say(_NOTHING)
        raise
    on_gpu = [ProfilerActivity.CUDA] if device.type == "cuda" else []
    profiler = profile(activities=[ProfilerActivity.CPU, *on_gpu])
    num_done = 0
    profiler.start()
    start = time.perf_counter()
    try:
        with _named_parts(model):
            for _ in range(num_steps):
                with record_function(DATA):
                    found = next(batches, None)
                if found is None:
                    break
                num_done += 1  # before the yield: the run may end with this step
                yield found
    finally:
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        wall_us = 1e6 * (time.perf_counter() - start)
        profiler.stop()
        if num_done:
            profiler.export_chrome_trace(str(trace))
            events: Sequence[Any] = profiler.events()  # type: ignore[no-untyped-call]
            spent = _spent(events, on_gpu=device.type == "cuda")
            for line in _table(spent, num_steps=num_done, wall_us=wall_us):
                say(f"profile    {line}")
        of_these = f"every event of {counted(num_done, 'update')} is in {trace}"
        say(f"profile    {of_these}" if num_done else _NOTHING)
    yield from batches


@contextmanager
def _named_parts(model: nn.Module) -> Iterator[None]:
    """Name the parts of the forward pass in the profile, inside the block."""
    entered: list[Any] = []

    def enter(name: str) -> None:
        if torch.compiler.is_compiling():  # the compiler neither accepts nor needs these names
            return
        entered.append(record_function(name))
        entered[-1].__enter__()

    def leave() -> None:
        if torch.compiler.is_compiling():
            return
        entered.pop().__exit__(None, None, None)

    handles = []
    for part in model.modules():
        if type(part) in _PARTS:
            name = _PARTS[type(part)]
            handles += [
                part.register_forward_pre_hook(lambda *_, name=name: enter(name)),
                # always_call: recomputing a layer stops in the middle of it
                part.register_forward_hook(lambda *_: leave(), always_call=True),
            ]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _spent(events: Sequence[Any], *, on_gpu: bool) -> dict[str, float]:
    """Return the microseconds of each part, counting only forward passes of updates.

    Recomputation counts as backward pass, and evaluations in between are left out.
    """
    named = {DATA, FORWARD, BACKWARD, UPDATE, *_PARTS.values()}
    found = [e for e in events if e.name in named and e.device_type.name == "CPU"]
    forward, backward = (
        [e.time_range for e in found if e.name == name] for name in (FORWARD, BACKWARD)
    )
    spent = dict.fromkeys((DATA, *dict.fromkeys(_PARTS.values()), FORWARD, BACKWARD, UPDATE), 0.0)
    for event in found:
        start = event.time_range.start
        is_part = event.name in _PARTS.values()
        if not is_part or any(r.start <= start < r.end for r in forward):
            of_gpu = on_gpu and event.name != DATA
            spent[event.name] += event.device_time_total if of_gpu else event.cpu_time_total
    if on_gpu:  # autograd launches the kernels of the backward pass from its own thread
        spent[BACKWARD] = sum(
            kernel.duration
            for event in events
            if event.device_type.name == "CPU"
            and any(r.start <= event.time_range.start < r.end for r in backward)
            for kernel in event.kernels
        )
    return spent


def _table(spent: dict[str, float], *, num_steps: int, wall_us: float) -> Iterator[str]:
    """Yield the lines of the table: a part, its milliseconds per step, its share of the step."""
    parts = dict(spent)
    parts[REST] = wall_us - sum(parts[name] for name in (DATA, FORWARD, BACKWARD, UPDATE))
    whole = parts.pop(FORWARD)
    inside = sum(us for name, us in parts.items() if name in _PARTS.values())
    within = dict.fromkeys(_PARTS.values()) if inside else ()  # a compiled pass has no parts
    order = [DATA, *within, FORWARD_REST, BACKWARD, UPDATE, REST]
    parts[FORWARD_REST] = whole - inside
    yield f"{'part of a step':<40} {'ms':>9} {'share':>7}"
    for name in order:
        yield f"{name:<40} {parts[name] / num_steps / 1e3:>9.2f} {parts[name] / wall_us:>7.1%}"
    yield f"{'a step':<40} {wall_us / num_steps / 1e3:>9.2f} {1:>7.1%}"
