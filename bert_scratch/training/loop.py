"""The training loop: batches, micro-batches, clip, update, log; evaluation and saving.

It takes plain callables and knows neither corpus nor command line. The only state that outlives a
step is the model, the optimizer's moments and one `Progress`; data order, masks, dropout and
learning rate are functions of (seed, step), so nothing else needs saving.
"""

from __future__ import annotations

import math
import time
from collections import deque
from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from statistics import fmean
from typing import Any, Generic

from torch import nn

from bert_scratch.training import metrics
from bert_scratch.training.interruption import StopRequest
from bert_scratch.training.metrics import Display, LogWindow, MetricsLog
from bert_scratch.training.module_norms import ModuleNorms
from bert_scratch.training.objective import BatchT
from bert_scratch.training.schedule import DECAY_SHARE, decay_start, learning_rate_at
from bert_scratch.training.step import NonFinite, PendingUpdate, Updater

CALIBRATION_STEPS = 50
"""A time-limited run fixes its number of steps after half of its warm-up but at least this many
steps, or when its warm-up ends if that is sooner. Until then the learning rate does not depend on
where the run ends."""


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What the loop does and when; resolved before the first step, or by the end of the warm-up."""

    num_train_steps: int | None
    """None until a time-limited run has fixed its horizon."""
    num_warmup_steps: int
    learning_rate: float
    lr_schedule: str
    logging_steps: int
    eval_steps: int
    save_steps: int
    lr_decay_share: float = DECAY_SHARE
    """Share of a wsd schedule's steps in which the learning rate falls."""
    skip_non_finite: int = 0
    """How many updates of the run may be skipped because they were not finite."""

    @property
    def calibration_steps(self) -> int:
        """Steps after which a time-limited run fixes its horizon."""
        enough = max(CALIBRATION_STEPS, self.num_warmup_steps // 2)
        return max(1, min(enough, self.num_warmup_steps))

    def learning_rate_at(self, step: int) -> float:
        """Return the learning rate of the update made at a step."""
        return learning_rate_at(
            step,
            peak=self.learning_rate,
            num_warmup_steps=self.num_warmup_steps,
            num_train_steps=self.num_train_steps,
            schedule=self.lr_schedule,
            decay_share=self.lr_decay_share,
        )

    @property
    def stable_step(self) -> int | None:
        """Updates after which a wsd run's learning rate falls; a longer run resumes from there."""
        if self.lr_schedule != "wsd" or self.num_train_steps is None:
            return None
        return decay_start(self.num_warmup_steps, self.num_train_steps, self.lr_decay_share)

    def logs_after(self, step: int) -> bool:
        """Tell whether a train line is due after this many updates."""
        return step % self.logging_steps == 0 or step == self.num_train_steps

    def pauses_after(self, step: int) -> bool:
        """Tell whether something due after this many updates needs the results of all of them."""
        return (
            self.logs_after(step)
            or self.saves_after(step)
            or step % self.eval_steps == 0
            or (self.num_train_steps is None and step == self.calibration_steps)
        )

    def saves_after(self, step: int) -> bool:
        """Tell whether a checkpoint is due after this many updates."""
        return step % self.save_steps == 0 or step == self.stable_step


@dataclass
class Progress:
    """How far a run has come; saved in checkpoints."""

    step: int = 0
    """Updates made, including those skipped because they were not finite."""
    skipped: int = 0
    """Updates skipped because they were not finite."""
    overflows: int = 0
    """Updates skipped because gradients overflowed float16; these are harmless."""
    tokens: int = 0
    """Real tokens seen, [CLS] and [SEP] included."""
    elapsed_s: float = 0.0
    """Training time over all resumes, evaluation and saving included."""
    window: LogWindow = field(default_factory=LogWindow)

    def to_state(self) -> dict[str, Any]:
        """Return the progress as plain JSON values for a checkpoint's `state.json`."""
        return asdict(self)

    @classmethod
    def from_state(cls, state: Mapping[str, Any]) -> Progress:
        """Rebuild the progress from a `state.json`, which may hold other keys too."""
        names = {each.name for each in fields(cls)}  # an older checkpoint may have fewer
        counters = {name: value for name, value in state.items() if name in names}
        return cls(**counters | {"window": LogWindow(**state["window"])})


@dataclass(frozen=True, kw_only=True)
class Hooks(Generic[BatchT]):
    """What the loop calls; each is a plain function of its arguments."""

    batches: Callable[[int], Generator[BatchT, None, None]]
    """first step -> the batches of that and every later step."""
    evaluate: Callable[[nn.Module], dict[str, float]]
    """model in evaluation mode -> losses and metrics over held-out examples."""
    on_evaluated: Callable[[Progress, dict[str, float]], bool]
    """(progress, result of evaluate) -> whether to continue; False ends training early."""
    save: Callable[[Progress], None]
    fix_horizon: Callable[[Progress, float], Plan] | None = None
    """(progress, seconds per step) -> the plan with its number of steps; needed if the plan that
    the loop starts with has none."""


def train(
    updater: Updater[BatchT],
    *,
    plan: Plan,
    progress: Progress,
    hooks: Hooks[BatchT],
    log: MetricsLog,
    display: Display,
    stop: StopRequest,
    peak_tokens_per_s: float,
) -> None:
    """Train from `progress.step` to the plan's last step, or until a stop is requested.

    Args:
        updater: holds the model; moments and loss scale are restored when resuming.
        plan: the schedule; replaced once when a time-limited run fixes its horizon.
        progress: counters, updated in place.
        hooks: data, evaluation and saving.
        log: receives a train line every `logging_steps` and an eval line every `eval_steps`.
        display: what the person at the terminal sees.
        stop: polled between steps; with several ranks, that of the updater's `all_reduce`.
        peak_tokens_per_s: tokens per second if all computation ran at the machine's peak, for
            `mfu`.

    Raises:
        NonFinite: if a loss or gradient is not finite; the update was not made.
        PeerEnded: if another rank has ended.
    """
    model = updater.model
    step_seconds: list[float] = []
    unread: deque[PendingUpdate] = deque()
    module_norms, grad_norms = ModuleNorms(model), {"grad_norm": math.nan}
    batches = hooks.batches(progress.step)
    model.train()
    resumed_s, started = progress.elapsed_s, time.perf_counter()
    while not stop and progress.step != plan.num_train_steps:
        step_start = time.perf_counter()
        batch = next(batches)
        data_wait_s = time.perf_counter() - step_start
        learning_rate = plan.learning_rate_at(progress.step)
        made = updater.update(
            batch,
            step=progress.step,
            learning_rate=learning_rate,
            module_norms=module_norms if plan.logs_after(progress.step + 1) else None,
        )
        progress.step += 1
        unread.append(made)
        # A GPU computes this update while the host reads the one before.
        reads_late = updater.runtime.reads_late and not plan.pauses_after(progress.step)
        num_left_unread = 1 if reads_late else 0
        while len(unread) > num_left_unread:
            grad_norms = _read_result(unread.popleft(), progress, plan, display) or grad_norms
        progress.window.data_wait_s += data_wait_s
        step_s = time.perf_counter() - step_start
        progress.window.step_s += step_s
        progress.elapsed_s = resumed_s + time.perf_counter() - started
        display.advance(progress.step, plan.num_train_steps)

        if plan.num_train_steps is None:
            step_seconds.append(step_s)
            if progress.step == plan.calibration_steps:
                assert hooks.fix_horizon is not None
                plan = hooks.fix_horizon(progress, settled_step_s(step_seconds))
        last = progress.step == plan.num_train_steps
        if plan.logs_after(progress.step) and progress.window.steps:
            values = updater.objective.means(progress.window.sums)
            values |= {"learning_rate": learning_rate} | grad_norms | module_norms.of_weights()
            values = _log_window(progress, plan, log, values, peak_tokens_per_s)
            display.line(metrics.describe(progress.step, plan.num_train_steps, values))
        if progress.step % plan.eval_steps == 0 and not last:
            model.eval()
            last = not hooks.on_evaluated(progress, hooks.evaluate(model))
            model.train()
        progress.elapsed_s = resumed_s + time.perf_counter() - started
        if plan.saves_after(progress.step) or last:
            hooks.save(progress)
        if last:
            break
    while unread:  # a stop came before the last result was read
        _read_result(unread.popleft(), progress, plan, display)
    batches.close()


def settled_step_s(seconds: Sequence[float]) -> float:
    """Return the mean time of the later half of the steps, without the slowest twentieth.

    The first steps are slower, and one that compiles a new shape can take as long as a thousand.
    """
    settled = sorted(seconds[len(seconds) // 2 :])
    return fmean(settled[: len(settled) - len(settled) // 20])


def _read_result(
    made: PendingUpdate, progress: Progress, plan: Plan, display: Display
) -> dict[str, float]:
    """Add the result of an update to the progress; return its gradient norms, if any.

    Raises:
        NonFinite: if it was not finite and no more updates may be skipped.
    """
    try:
        result = made.result()
    except NonFinite as error:
        if progress.skipped >= plan.skip_non_finite:
            progress.step = made.step
            raise
        progress.skipped += 1
        progress.tokens += error.num_tokens
        display.line(
            f"skipped    {progress.skipped} of at most {plan.skip_non_finite} updates: {error}"
        )
        return {}
    progress.window.add(result.sums)
    progress.window.tokens += result.num_tokens
    progress.tokens += result.num_tokens
    progress.window.positions += result.num_positions
    progress.overflows += result.overflowed
    if result.overflowed:
        return {}
    return {"grad_norm": result.grad_norm, **result.module_grad_norms}


def _log_window(
    progress: Progress,
    plan: Plan,
    log: MetricsLog,
    values: dict[str, float],
    peak_tokens_per_s: float,
) -> dict[str, float]:
    """Write a train line of values averaged since the last one, and start a new window."""
    window = progress.window
    values["tokens_per_s"] = window.tokens / max(window.step_s, 1e-9)
    values["data_wait_fraction"] = window.data_wait_s / max(window.step_s, 1e-9)
    values["padding_fraction"] = window.padding_fraction
    log.append(
        step=progress.step,
        split="train",
        **values,
        tokens=progress.tokens,
        elapsed_s=progress.elapsed_s,
        mfu=values["tokens_per_s"] / peak_tokens_per_s,
    )
    if plan.num_train_steps is not None and window.steps:
        remaining = plan.num_train_steps - progress.step
        values["eta_s"] = remaining * window.step_s / window.steps
    progress.window = LogWindow()
    return values
