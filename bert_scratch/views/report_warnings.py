"""Warnings from the curves of a run: what is wrong, and what helps."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from statistics import fmean, median

from bert_scratch.training.metrics import is_split
from bert_scratch.views.report_data import PRETRAINING, Line, RunRecord, measure

PLATEAU_NATS = 0.15
"""With a masked-token loss this near the unigram line, a model knows no context."""
CHANCE_LOSS, CHANCE_ACCURACY = 0.685, 0.55
"""Limits for pairs: guessing has loss ln 2 = 0.693 and is right half of the time."""
SPIKE_NATS = 0.7
SPIKE_LINES = 5
RISE_NATS = 0.03
PADDING_SHARE = 0.25
WAIT_SHARE = 0.10
SLOWER_SHARE = 0.6
EARLY_SHARE = 0.3
"""Before this share of a run's steps a plateau is normal."""


def warnings_of(run: RunRecord) -> list[str]:
    """Return a sentence or two for each known problem that a run shows."""
    found = (check(run) for check in _CHECKS)
    return [text for text in found if text is not None]


def _failed(run: RunRecord) -> str | None:
    return f"The run failed: {run.message}" if run.state == "failed" else None


def _worse_than_guessing(run: RunRecord) -> str | None:
    uniform, loss = run.facts.get("uniform_loss"), run.last_evaluation.get("mlm_loss")
    if uniform is None or loss is None or not _is_under_way(run) or loss < uniform:
        return None
    return (
        f"The masked-token loss is {loss:.2f}, no better than guessing among all words alike (ln V "
        f"= {uniform:.2f}): training has diverged. A lower --learning-rate, a longer "
        f"--num-warmup-steps or --max-grad-norm 1 helps."
    )


def _plateau(run: RunRecord) -> str | None:
    line = run.last_evaluation.get("unigram_loss", run.facts.get("unigram_entropy"))
    uniform, loss = run.facts.get("uniform_loss"), run.last_evaluation.get("mlm_loss")
    if line is None or loss is None or uniform is None or not _is_under_way(run):
        return None
    if not line - PLATEAU_NATS <= loss < uniform:
        return None
    return (
        f"The masked-token loss is stuck at the unigram line: {loss:.2f}, where knowing only how "
        f"frequent each word is costs {line:.2f}. The model does not use context yet. It needs "
        f"more steps, a smaller model or vocabulary, or another --learning-rate; too high a rate "
        f"and too short a warm-up keep a model here for good."
    )


def _pairs_at_chance(run: RunRecord) -> str | None:
    last = run.last_evaluation
    loss, accuracy = last.get("nsp_loss"), last.get("nsp_accuracy", 0.0)
    if loss is None or not _is_under_way(run):
        return None
    if loss < CHANCE_LOSS and accuracy > CHANCE_ACCURACY:
        return None
    return (
        f"Pairs are judged no better than by chance: loss {loss:.3f} (chance 0.693), "
        f"{accuracy:.1%} right. That is learned after the words are; if those have been "
        f"learned, the sentences that follow each other in this corpus may have too little in "
        f"common: `bert-scratch corpus-report` shows how documents were cut, --pair-task none does "
        f"without."
    )


def _spikes(run: RunRecord) -> str | None:
    warmup = run.settings.get("num_warmup_steps") or 0
    curve = [point for point in run.curve("train", _main_loss(run.train)) if point[0] > warmup]
    # The first lines have no predecessors; they should not exceed the loss of knowing nothing.
    start = [run.facts.get("uniform_loss", math.inf)] * SPIKE_LINES
    losses = [*start, *(loss for _, loss in curve)]
    spikes = [
        (step, loss)
        for place, (step, loss) in enumerate(curve)
        if loss - median(losses[place : place + SPIKE_LINES]) > SPIKE_NATS
    ]
    if not spikes:
        return None
    step, loss = max(spikes, key=lambda point: point[1])
    many = "once" if len(spikes) == 1 else f"{len(spikes)} times"
    return (
        f"The training loss jumped {many}, highest at step {step:,} ({loss:.2f}). A lower "
        f"--learning-rate, a longer --num-warmup-steps or a smaller --adam-beta2 makes jumps "
        f"rarer; gradient norms by module show where they begin."
    )


def _rising(run: RunRecord) -> str | None:
    curve = run.curve("eval", _main_loss(run.held_out))
    if len(curve) < 4:
        return None
    best_step, best = min(curve, key=lambda point: point[1])
    step, last = curve[-1]
    later = [loss for at, loss in curve if at > best_step]
    if len(later) < 2 or last - best < RISE_NATS:
        return None
    return (
        f"The held-out loss has risen since step {best_step:,}, from {best:.3f} to {last:.3f} at "
        f"step {step:,}: the model is overfitting. {_result(run)}; more text, dropout "
        f"or fewer steps help."
    )


def _main_loss(lines: Sequence[Line]) -> str:
    """Return the loss that tells most: that of masked tokens if the total is split, else the total.

    Beside the loss of a task, that of masked tokens tells nothing about the task.
    """
    names = {name for line in lines for name in line}
    return "mlm_loss" if "mlm_loss" in names and is_split(names) else "loss"


def _result(run: RunRecord) -> str:
    """Tell which model of a run whose loss has risen is its result."""
    if run.kind != PRETRAINING and run.settings.get("keep") == "last":
        return "The last model is the result (--keep last)"
    metric = run.settings.get("metric") or "loss"
    if run.kind == PRETRAINING or metric == "loss":
        return "The model of the lowest loss is the result"
    return (
        f"The model of the best {measure(metric)} is the result (--metric {metric}), which may "
        f"have a higher loss"
    )


def _padding(run: RunRecord) -> str | None:
    mean = _mean(run, "padding_fraction")
    if mean is None or mean <= PADDING_SHARE:
        return None
    return (
        f"{mean:.0%} of the computed positions were padding. A smaller --max-seq-length or "
        f"--micro-batch-size (rows of like length are computed together) wastes less."
    )


def _data_wait(run: RunRecord) -> str | None:
    mean = _mean(run, "data_wait_fraction")
    if mean is None or mean <= WAIT_SHARE:
        return None
    return (
        f"{mean:.0%} of the time of steps was spent waiting for data: a higher --num-workers "
        f"builds more batches ahead in processes of their own."
    )


def _slower(run: RunRecord) -> str | None:
    speeds = [speed for _, speed in run.curve("train", "tokens_per_s")]
    quarter = len(speeds) // 4
    if quarter < 2:
        return None
    before, after = median(speeds[:quarter]), median(speeds[-quarter:])
    if after >= SLOWER_SHARE * before:
        return None
    return (
        f"Training became slower: {after:,.0f} tokens per second in the last quarter, "
        f"{before:,.0f} in the first. Another program may be at work, or the processor too hot."
    )


_CHECKS: tuple[Callable[[RunRecord], str | None], ...] = (
    _failed,
    _worse_than_guessing,
    _plateau,
    _pairs_at_chance,
    _spikes,
    _rising,
    _padding,
    _data_wait,
    _slower,
)


def _is_under_way(run: RunRecord) -> bool:
    """Tell whether a run is past its warm-up and its beginning."""
    total = run.settings.get("num_train_steps") or math.inf
    warmup = run.settings.get("num_warmup_steps") or 0
    return run.step > warmup and run.step >= EARLY_SHARE * total


def _mean(run: RunRecord, name: str) -> float | None:
    values = [value for _, value in run.curve("train", name)]
    return fmean(values) if values else None
