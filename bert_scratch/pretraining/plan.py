"""The command `plan`: what `pretrain` would do with a corpus, and the expected result."""

from __future__ import annotations

import functools
import json
import shlex
import shutil
from collections.abc import Callable
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import torch

from bert_scratch.config import BertConfig, InputError, check_range, flag_of
from bert_scratch.model.compute_settings import ComputeSettings
from bert_scratch.model.devices import DTYPES, resolve_device, resolve_dtype
from bert_scratch.model.heads import BertForPreTraining
from bert_scratch.pretraining.checkpoint_space import disk_bytes
from bert_scratch.pretraining.choices import (
    Budget,
    expected_tokens,
    loss_by_default,
    preset_shape,
    timed_shape,
)
from bert_scratch.pretraining.corpus_expectation import examples_of_pass
from bert_scratch.pretraining.corpus_facts import CorpusFacts
from bert_scratch.pretraining.corpus_report import CorpusReport, CorpusReportConfig, corpus_report
from bert_scratch.pretraining.corpus_settings import CorpusSettings
from bert_scratch.pretraining.plan_outlook import (
    Outlook,
    describe_bytes,
    describe_outlook,
    describe_start,
    outlook_on,
)
from bert_scratch.pretraining.pretrain_config import PretrainConfig
from bert_scratch.pretraining.resolve import (
    Resolved,
    filled,
    micro_batch_size,
    resolve,
    step_memory,
)
from bert_scratch.pretraining.run_length import expected_steps, resolve_length
from bert_scratch.pretraining.step_probe import does_not_fit, measure_tokens_per_s
from bert_scratch.training.memory import free_bytes
from bert_scratch.training.metrics import duration
from bert_scratch.training.runtime import Runtime, set_up

EXISTING_MODELS = {"Han": "google-bert/bert-base-chinese"}
MULTILINGUAL_MODEL = "google-bert/bert-base-multilingual-cased"
"""Models to continue from with a small corpus, by script; one for its language is better."""


@dataclass(frozen=True, kw_only=True)
class PlanConfig(ComputeSettings, CorpusSettings):
    """Say what pretrain would do with a corpus: sizes, time, disk, expected loss, and a verdict."""

    max_train_seconds: float | None = None
    """The time to plan for. Left out: 40 passes over the corpus, however long they take."""
    json: bool = False
    """Print one JSON object instead of lines."""

    def __post_init__(self) -> None:
        """Check each value.

        Raises:
            InputError: naming the flag.
        """
        CorpusSettings.__post_init__(self)
        ComputeSettings.__post_init__(self)
        if not self.corpus:
            raise InputError("plan needs --corpus: files, folders or globs of text")
        check_range("--max-train-seconds", self.max_train_seconds, above=0)


@dataclass(frozen=True, kw_only=True)
class Candidate:
    """A preset, timed on this machine."""

    preset: str
    tokens_per_s: float
    tokens: float
    """Tokens seen in the time, or in all passes."""
    duration_s: float
    expected_loss: float
    """Held-out loss of masked tokens, in nats."""


@dataclass(frozen=True, kw_only=True)
class PretrainPlan:
    """What `pretrain` would do with a corpus, and the expected result."""

    report: CorpusReport
    config: PretrainConfig
    """Resolved settings, with nothing left out."""
    shape: BertConfig
    reasons: list[str]
    candidates: list[Candidate]
    parameters: int
    outlook: Outlook
    memory_bytes: int
    """Memory of an update, computed from shapes, on top of the program itself."""
    disk_bytes: int
    command: str
    """The command to run."""

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON values."""
        facts, config = self.report.expectation.facts, self.config
        return {
            "corpus": list(config.corpus),
            "facts": facts.to_dict(),
            "warnings": self.warnings,
            "candidates": [asdict(candidate) for candidate in self.candidates],
            "preset": config.preset,
            "parameters": self.parameters,
            "settings": config.to_dict(),
            "reasons": self.reasons,
            **asdict(self.outlook),
            "hours": self.outlook.duration_s / 3600,
            "memory_bytes": self.memory_bytes,
            "disk_bytes": self.disk_bytes,
            "command": self.command,
        }

    @property
    def warnings(self) -> list[str]:
        """What looks wrong with the text, apart from the verdict."""
        known = {*self.outlook.verdict, *self.report.expectation.verdict}
        return [line for line in self.report.warnings if line not in known]


def run_plan(config: PlanConfig) -> None:
    """Print the plan.

    Raises:
        InputError: if the corpus cannot be used.
    """
    made = plan(config)
    print(json.dumps(made.to_dict(), indent=2) if config.json else "\n".join(describe_plan(made)))


def plan(config: PlanConfig) -> PretrainPlan:
    """Read a corpus, time presets, and choose as `pretrain` does.

    Raises:
        InputError: if the corpus cannot be used.
    """
    corpus = {field.name: getattr(config, field.name) for field in fields(CorpusSettings)}
    report = corpus_report(CorpusReportConfig(**corpus))
    facts = report.expectation.facts
    asked = PretrainConfig(
        **corpus,
        max_train_seconds=config.max_train_seconds,
        device=config.device,
        num_threads=config.num_threads,
    )
    runtime, dtype_reason = _runtime(asked)
    tokens_per_s = functools.cache(functools.partial(measure_tokens_per_s, runtime=runtime))
    resolved = resolve(
        asked,
        facts=facts,
        runtime=runtime,
        tokens_per_s=tokens_per_s,
        pad_token_id=0,
        initial=None,
        world_size=1,
        free_bytes=free_bytes(runtime.device),
    )
    settings, shape = resolved.config, resolved.bert_config
    candidates = _candidates(asked, filled(settings.preset), facts, tokens_per_s)
    tokens_per_step, step_s = _step(resolved, report, runtime)
    num_examples = examples_of_pass(
        facts,
        max_seq_length=filled(settings.max_seq_length),
        pair_task=filled(settings.pair_task),
    )
    settings, length_reasons = resolve_length(settings, num_examples=num_examples, step_s=step_s)
    with torch.device("meta"):
        parameters = sum(p.numel() for p in BertForPreTraining(shape).parameters())
    outlook = outlook_on(
        settings,
        shape,
        facts,
        num_train_steps=expected_steps(settings, step_s),
        num_examples=num_examples,
        tokens_per_step=tokens_per_step,
        step_s=step_s,
    )
    memory = step_memory(settings, shape, runtime)
    return PretrainPlan(
        report=report,
        config=settings,
        shape=shape,
        reasons=[*resolved.reasons, f"--dtype {settings.dtype}: {dtype_reason}", *length_reasons],
        candidates=candidates,
        parameters=parameters,
        outlook=outlook,
        memory_bytes=memory.predicted_peak_bytes(micro_batch_size(settings)),
        disk_bytes=disk_bytes(settings, parameters),
        command=_command(config, report, outlook, filled(settings.pair_task)),
    )


def _runtime(asked: PretrainConfig) -> tuple[Runtime, str]:
    """Set up this process as for a run; also return why its dtype was chosen."""
    device = resolve_device(asked.device)
    dtype, reason = resolve_dtype(asked.dtype, device)
    runtime = Runtime(device=device, dtype=DTYPES[dtype], num_threads=asked.threads)
    set_up(runtime, deterministic=asked.deterministic)
    return runtime, reason


def _candidates(
    asked: PretrainConfig,
    chosen: str,
    facts: CorpusFacts,
    tokens_per_s: Callable[[BertConfig], float],
) -> list[Candidate]:
    """Return the presets up to the chosen one, and the next larger one."""
    budget = Budget(
        num_train_steps=None, max_train_seconds=asked.max_train_seconds, tokens_per_s=tokens_per_s
    )
    names = list(BertConfig.PRESETS)
    candidates = []
    for name in names[: names.index(chosen) + 2]:
        shape = preset_shape(name, facts)
        tokens = expected_tokens(budget, facts, shape)
        speed = tokens_per_s(timed_shape(shape))
        if not speed:
            break  # the GPU has too little memory
        candidates.append(
            Candidate(
                preset=name,
                tokens_per_s=speed,
                tokens=tokens,
                duration_s=tokens / speed,
                expected_loss=loss_by_default(shape, tokens=tokens, facts=facts),
            )
        )
    return candidates


def _step(resolved: Resolved, report: CorpusReport, runtime: Runtime) -> tuple[int, float]:
    """Return the tokens and seconds of an update, timed with the run's micro-batches."""
    config = resolved.config
    seq_length, batch_size = filled(config.max_seq_length), filled(config.train_batch_size)
    padding = report.expectation.padding[str(seq_length)]
    tokens = round(batch_size * seq_length * (1 - padding))
    rows = micro_batch_size(config)
    speed = measure_tokens_per_s(
        resolved.bert_config, runtime=runtime, rows=rows, seq_length=seq_length
    )
    if not speed:
        raise does_not_fit(rows, runtime.device)
    return tokens, tokens / speed


def _command(config: PlanConfig, report: CorpusReport, made: Outlook, pair_task: str) -> str:
    """Return the command that does what the verdict says."""
    words = ["bert-scratch", "pretrain"]
    drop = {"json"}
    too_small = any(line.startswith("too small") for line in made.verdict)
    if too_small:
        drop |= {"tokenizer", "vocab_size", "lowercase", "strip_accents"}
    for field in fields(config):
        value, flag = getattr(config, field.name), flag_of(field.name)
        if value == field.default or field.name in drop:
            continue
        if isinstance(value, bool):
            words.append(flag if value else f"--no-{flag[2:]}")
        else:
            words += [flag, *map(_word, value if isinstance(value, tuple) else (value,))]
    if too_small:
        script = next(iter(report.characters.scripts), "")
        words += ["--init-checkpoint", EXISTING_MODELS.get(script, MULTILINGUAL_MODEL)]
    if pair_task == "none":
        words += ["--pair-task", "none"]
    return shlex.join(words)


def describe_plan(made: PretrainPlan) -> list[str]:
    """Return the lines to print: those that `pretrain` announces, and what they are based on."""
    facts, device = made.report.expectation.facts, made.config.device or ""
    lines = [f"warning    {line}" for line in made.warnings]
    lines += [
        f"timed      {c.preset}: {c.tokens_per_s:,.0f} tokens/s, {c.tokens / 1e6:,.1f} M tokens in "
        f"{duration(c.duration_s)}, expected loss {c.expected_loss:.2f}"
        for c in made.candidates
    ]
    lines += describe_start(facts, made.shape, made.parameters, made.reasons)
    lines += describe_outlook(made.outlook, device)
    free = shutil.disk_usage(Path.cwd()).free
    return [
        *lines,
        f"needs      {describe_bytes(made.memory_bytes)} of memory on top of the program itself "
        f"(computed from shapes), {describe_bytes(made.disk_bytes)} on disk for checkpoints and "
        f"models ({describe_bytes(free)} free)",
        f"command    {made.command}",
    ]


def _word(value: object) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)
