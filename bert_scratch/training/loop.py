"""The training loop: batches, micro-batches, clip, update, log; evaluation and saving.

It is handed plain callables and knows neither corpus nor command line. All state that outlives a
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
"""A time-limited run fixes its number of steps after half of its warm-up and at least so many, or
when its warm-up ends if that is sooner: until then the learning rate does not depend on where the
run ends."""


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What the loop does when; resolved before the first step, or at the latest in the warm-up."""

    num_train_steps: int | None
    """None until a time-limited run has fixed its horizon."""
    num_warmup_steps: int
    learning_rate: float
    lr_schedule: str
    logging_steps: int
    eval_steps: int
    save_steps: int
    lr_decay_share: float = DECAY_SHARE
    """Of a wsd schedule."""
    skip_non_finite: int = 0
    """How many updates of the run may be left out because they were not finite."""

    @property
    def calibration_steps(self) -> int:
        """Steps after which a time-limited run fixes its horizon."""
        enough = max(CALIBRATION_STEPS, self.num_warmup_steps // 2)
        return max(1, min(enough, self.num_warmup_steps))

    def learning_rate_at(self, step: int) -> float:
        """Return the learning rate of the update the step makes."""
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
        """Updates after which a wsd run's learning rate falls: a longer run goes on from there."""
        if self.lr_schedule != "wsd" or self.num_train_steps is None:
            return None
        return decay_start(self.num_warmup_steps, self.num_train_steps, self.lr_decay_share)

    def logs_after(self, step: int) -> bool:
        """Tell whether a train line is due after so many updates."""
        return step % self.logging_steps == 0 or step == self.num_train_steps

    def pauses_after(self, step: int) -> bool:
        """Tell whether something between two updates must know of all that were made."""
        return (
            self.logs_after(step)
            or self.saves_after(step)
            or step % self.eval_steps == 0
            or (self.num_train_steps is None and step == self.calibration_steps)
        )

    def saves_after(self, step: int) -> bool:
        """Tell whether a checkpoint is due after so many updates."""
        return step % self.save_steps == 0 or step == self.stable_step


@dataclass
class Progress:
    """How far a run is; a checkpoint carries it."""

    step: int = 0
    """Updates made, those included that were left out because they were not finite."""
    skipped: int = 0
    """Updates left out."""
    overflows: int = 0
    """Updates left out because float16 could not hold the gradients; they cost nothing else."""
    tokens: int = 0
    """Real tokens seen, [CLS] and [SEP] included."""
    elapsed_s: float = 0.0
    """Training time over all resumes, evaluation and saving included."""
    window: LogWindow = field(default_factory=LogWindow)

    def to_state(self) -> dict[str, Any]:
        """Return what a checkpoint's `state.json` says of it, as plain JSON values."""
        return asdict(self)

    @classmethod
    def from_state(cls, state: Mapping[str, Any]) -> Progress:
        """Return what `to_state` returned, from a `state.json` that may hold more than that."""
        names = {each.name for each in fields(cls)}  # those of an older checkpoint may be fewer
        counters = {name: value for name, value in state.items() if name in names}
        return cls(**counters | {"window": LogWindow(**state["window"])})


@dataclass(frozen=True, kw_only=True)
class Hooks(Generic[BatchT]):
    """What the loop calls; each is a plain function of what it is given."""

    batches: Callable[[int], Generator[BatchT, None, None]]
    """first step -> the batches of it and every later step."""
    evaluate: Callable[[nn.Module], dict[str, float]]
    """model, in evaluation mode -> losses and metrics over held-out examples."""
    on_evaluated: Callable[[Progress, dict[str, float]], bool]
    """(progress, what evaluate returned) -> whether to go on; False ends training early."""
    save: Callable[[Progress], None]
    fix_horizon: Callable[[Progress, float], Plan]
    """(progress, seconds of a step) -> the plan with its number of steps."""


def train(
    updater: Updater[BatchT],
    *,
    plan: Plan,
    progress: Progress,
    hooks: Hooks[BatchT],
    log: MetricsLog,
    display: Display,
    stop: StopRequest,
    token_s_at_peak: float,
) -> None:
    """Train from `progress.step` to the plan's last step, or until a stop is asked for.

    Args:
        updater: with the model, and moments and loss scale restored when resuming.
        plan: the schedule; replaced once when a time-limited run fixes its horizon.
        progress: counters, updated in place.
        hooks: data, evaluation and saving.
        log: receives a train line every `logging_steps` and an eval line every `eval_steps`.
        display: what the person at the terminal sees.
        stop: polled between steps; with several ranks the one of the updater's `all_reduce`.
        token_s_at_peak: seconds of a token if all of it were matrix products at the machine's
            peak, for `mfu`.

    Raises:
        NonFinite: when a loss or gradient is not finite; the update was not made.
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
        num_may_wait = updater.runtime.reads_late and not plan.pauses_after(progress.step)
        while len(unread) > num_may_wait:
            grad_norms = _count(unread.popleft(), progress, plan, display) or grad_norms
        progress.window.data_wait_s += data_wait_s
        step_s = time.perf_counter() - step_start
        progress.window.step_s += step_s
        progress.elapsed_s = resumed_s + time.perf_counter() - started
        display.advance(progress.step, plan.num_train_steps)

        if plan.num_train_steps is None:
            step_seconds.append(step_s)
            if progress.step == plan.calibration_steps:
                plan = hooks.fix_horizon(progress, settled_step_s(step_seconds))
        last = progress.step == plan.num_train_steps
        if plan.logs_after(progress.step) and progress.window.steps:
            values = updater.objective.means(progress.window.sums)
            values |= {"learning_rate": learning_rate} | grad_norms | module_norms.of_weights()
            values = _log_window(progress, plan, log, values, token_s_at_peak)
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
    while unread:  # a stop came before the last was read
        _count(unread.popleft(), progress, plan, display)
    batches.close()


def settled_step_s(seconds: Sequence[float]) -> float:
    """Return the mean of the later half of the steps, without the slowest of every twenty.

    The first steps are slower, and one that compiled a new shape took as long as a thousand.
    """
    settled = sorted(seconds[len(seconds) // 2 :])
    return fmean(settled[: len(settled) - len(settled) // 20])


def _count(
    made: PendingUpdate, progress: Progress, plan: Plan, display: Display
) -> dict[str, float]:
    """Add what an update left behind to the progress; return its gradient norms, if it has any.

    Raises:
        NonFinite: if it was not finite, and one more than may be left out.
    """
    try:
        result = made.result()
    except NonFinite as error:
        if progress.skipped >= plan.skip_non_finite:
            progress.step = made.step
            raise
        progress.skipped += 1
        progress.tokens += error.num_tokens
        display.line(f"skipped    {progress.skipped} of {plan.skip_non_finite}: {error}")
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
    token_s_at_peak: float,
) -> dict[str, float]:
    """Write a train line of values averaged since the previous one, and start a new window."""
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
        mfu=values["tokens_per_s"] * token_s_at_peak,
    )
    if plan.num_train_steps is not None and window.steps:
        remaining = plan.num_train_steps - progress.step
        values["eta_s"] = remaining * window.step_s / window.steps
    progress.window = LogWindow()
    return values
