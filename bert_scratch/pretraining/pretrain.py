"""The main job: text in, a pretrained BERT out; killed at any moment, the same command goes on."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from torch import nn

from bert_scratch import durable
from bert_scratch.batch import Batch
from bert_scratch.data.workers import iterate
from bert_scratch.pretraining.announce import announce, announce_dry_run
from bert_scratch.pretraining.assemble import Parts, assemble, fix_length, prepared_corpus
from bert_scratch.pretraining.built_in import default_output_dir, with_built_in_corpus
from bert_scratch.pretraining.evaluate import INTERVAL_EXAMPLES, Evaluation, evaluate_model
from bert_scratch.pretraining.model_card import model_card, versions
from bert_scratch.pretraining.pretrain_config import PretrainConfig
from bert_scratch.pretraining.resolve import with_intervals
from bert_scratch.pretraining.resume import (
    check_corpus_unchanged,
    newest_checkpoint,
    progress_of,
    stored_run,
    with_run_settings,
)
from bert_scratch.pretraining.run_folder import RunFolder
from bert_scratch.pretraining.show import show_fill_ins
from bert_scratch.pretraining.together import ending_together, ranks_of_run
from bert_scratch.training.all_reduce import AllReduce, open_all_reduce
from bert_scratch.training.checkpoint import load_optimizer, save_checkpoint
from bert_scratch.training.distributed import Ranks
from bert_scratch.training.interruption import (
    Interrupted,
    stop_on_signals,
)
from bert_scratch.training.loop import Hooks, Plan, Progress, train
from bert_scratch.training.metrics import Display, MetricsLog, describe
from bert_scratch.training.model_folder import write_model_folder
from bert_scratch.training.objective import PRETRAINING
from bert_scratch.training.step import NonFinite, sums_of


@dataclass(frozen=True, kw_only=True)
class PretrainResult:
    """What a finished run left behind."""

    folder: Path
    """The model folder."""
    num_train_steps: int
    evaluation: Evaluation | None
    """Over all held-out text; None when the run had been finished before."""


def pretrain(asked: PretrainConfig) -> PretrainResult | None:
    """Run, or go on with, the pretraining that the settings describe; None after a dry run.

    Raises:
        InputError: if settings, corpus or folder cannot be used; nothing is lost.
        Interrupted: after SIGTERM or SIGINT, once what could be saved is saved.
        NonFinite: if a loss or gradient is not finite; the last checkpoint is finite.
    """
    with ranks_of_run() as ranks:
        if not asked.corpus and asked.data is None:
            asked = with_built_in_corpus(asked)
        folder = RunFolder(Path(asked.output_dir or default_output_dir(asked)))
        if not ranks.is_first:
            with ending_together(folder, ranks):
                return _follow_in(folder, asked, ranks)
        folder.create()
        with folder.locked(), ending_together(folder, ranks):
            return _pretrain_in(folder, asked, ranks)


def _pretrain_in(folder: RunFolder, asked: PretrainConfig, ranks: Ranks) -> PretrainResult | None:
    """Do what `pretrain` does, in a folder that no process but the other ranks is using."""
    stored = stored_run(folder, asked)
    if stored is not None and folder.is_done():
        check_corpus_unchanged(asked, folder)
        ranks.tell("start", _NOTHING)
        print(f"{folder.path}: this run is done; its model is in {folder.model}")
        steps = stored.num_train_steps or 0
        return PretrainResult(folder=folder.model, num_train_steps=steps, evaluation=None)
    if ranks.world_size > 1 and not asked.dry_run:
        folder.write_end("running", code=0, message="")
    ranks.tell("start", "prepare")
    parts = assemble(stored or asked, prepared_corpus(asked, folder), ranks)
    if stored is None:
        parts, probe = fix_length(parts)
        announce(parts, probe, folder)
        if asked.dry_run:
            ranks.tell("settings", _NOTHING)
            announce_dry_run(parts, probe)
            return None
        folder.store(asked, parts.config)
        durable.write_text(folder.corpus_facts, parts.facts.to_json())
        parts.tokenizer.save_pretrained(folder.tokenizer)
    else:
        parts = parts.with_config(with_run_settings(parts.config, asked))
    ranks.tell("settings", parts.config.to_json())
    return _run(parts, folder)


_NOTHING = "nothing to do"


def _follow_in(folder: RunFolder, asked: PretrainConfig, ranks: Ranks) -> PretrainResult | None:
    """Do a further rank's part of what `pretrain` does, with the settings of the first one."""
    if ranks.wait_for("start") == _NOTHING:
        return None
    store = prepared_corpus(asked, folder)
    settings = ranks.wait_for("settings")
    if settings == _NOTHING:
        return None
    parts = assemble(PretrainConfig.from_dict(json.loads(settings)), store, ranks)
    return _run(parts, folder)


def _run(parts: Parts, folder: RunFolder) -> PretrainResult:
    with (
        stop_on_signals() as stop,
        open_all_reduce(parts.ranks, parts.runtime.device, stop) as all_reduce,
    ):
        return _Run(parts, folder, all_reduce).go()


class _Run:
    """One process's share of a run: from its newest checkpoint, if any, to the result."""

    def __init__(self, parts: Parts, folder: RunFolder, all_reduce: AllReduce) -> None:
        self.parts, self.folder, self.all_reduce = parts, folder, all_reduce
        self.ranks, self.stop = all_reduce.ranks, all_reduce.stop
        found = self.ranks.from_first("checkpoint", lambda: str(newest_checkpoint(folder)))
        checkpoint = None if found == str(None) else Path(found)
        self.model = parts.build_model(checkpoint)
        self.optimizer = parts.build_optimizer(self.model)
        self.progress = Progress()
        if checkpoint is not None:
            self.progress = progress_of(checkpoint)
            load_optimizer(checkpoint, self.model, self.optimizer, num_updates=self.progress.step)
            print(f"resumed    from {checkpoint} after {self.progress.step:,} steps")
        kept = self.progress.step if checkpoint is not None else -1
        is_first = self.ranks.is_first
        self.log = MetricsLog(folder.metrics if is_first else None, keep_through_step=kept)
        self.display = Display(first_step=self.progress.step, has_bar=is_first)
        self.interval_examples = list(parts.held_out(INTERVAL_EXAMPLES))
        self.evaluation_s = 0.0

    def go(self) -> PretrainResult:
        """Train to the end, evaluate and write the result."""
        self._status("running", 0, "")
        try:
            if self.progress.step == 0:
                self._evaluate_untrained()
            train(
                self.model,
                self.optimizer,
                plan=self.parts.plan(),
                progress=self.progress,
                objective=PRETRAINING,
                runtime=self.parts.runtime,
                hooks=Hooks(
                    batches=self._batches,
                    evaluate=self._evaluate,
                    on_evaluated=self._on_evaluated,
                    save=self._save,
                    fix_horizon=self._fix_horizon,
                ),
                log=self.log,
                display=self.display,
                stop=self.stop,
                all_reduce=self.all_reduce,
                flops_per_s=(
                    self.parts.flops_per_token(),
                    self.parts.peak_flops * self.ranks.world_size,
                ),
            )
            if self.stop:
                self._stop()
            return self._finish()
        except NonFinite as error:
            message = str(error)
            self.ranks.leave_together(lambda: self._status("failed", NonFinite.exit_code, message))
            raise
        finally:
            self.display.close()

    def _batches(self, first_step: int) -> Iterator[Batch]:
        # A time-limited run does not know its last step yet; the loop leaves the iterator early.
        last_step = self.parts.config.num_train_steps or sys.maxsize // self.parts.loader.batch_size
        return iterate(
            self.parts.loader,
            first_step,
            last_step,
            self.parts.config.num_workers,
            pin_memory=self.parts.runtime.device.type == "cuda",
        )

    def _evaluate(self, model: nn.Module) -> dict[str, float]:
        start = time.perf_counter()
        sums = sums_of(
            model,
            self.interval_examples,
            objective=PRETRAINING,
            runtime=self.parts.runtime,
            all_reduce=self.all_reduce,
        )
        self.evaluation_s = time.perf_counter() - start
        return PRETRAINING.means(sums)

    def _evaluate_untrained(self) -> None:
        self.model.eval()
        self._on_evaluated(self.progress, self._evaluate(self.model))

    def _on_evaluated(self, progress: Progress, values: dict[str, float]) -> bool:
        self.log.append(
            step=progress.step,
            split="eval",
            **values,
            tokens=progress.tokens,
            elapsed_s=progress.elapsed_s,
        )
        steps = self.parts.config.num_train_steps
        self.display.line("held out   " + describe(progress.step, steps, values))
        return True

    def _fix_horizon(self, progress: Progress, step_s: float) -> Plan:
        """Turn what is left of the time budget into a number of steps, once and for all."""
        settings = self.ranks.from_first(
            "horizon", lambda: self._with_horizon(progress, step_s).to_json()
        )
        self.parts = self.parts.with_config(PretrainConfig.from_dict(json.loads(settings)))
        return self.parts.plan()

    def _with_horizon(self, progress: Progress, step_s: float) -> PretrainConfig:
        config = self.parts.config
        assert config.max_train_seconds is not None
        # Ten evaluations along the way, and the last one over all held-out examples.
        left_s = config.max_train_seconds - progress.elapsed_s - 10 * self.evaluation_s
        steps = progress.step + max(1, int(left_s / step_s))
        config = with_intervals(config.replace(num_train_steps=steps), step_s=step_s)
        self.folder.store_resolved(config)
        self.display.line(
            f"horizon    {steps:,} steps fit {config.max_train_seconds:g} s at "
            f"{step_s * 1e3:.1f} ms a step; fixed and stored"
        )
        return config

    def _save(self, progress: Progress) -> None:
        if not self.ranks.is_first:
            return
        state = {
            "tokens": progress.tokens,
            "elapsed_s": progress.elapsed_s,
            "window": vars(progress.window),
            "config": self.parts.config.to_dict(),
            "versions": versions(),
        }
        save_checkpoint(
            self.folder.checkpoints,
            step=progress.step,
            model=self.model,
            optimizer=self.optimizer,
            tokenizer=self.parts.tokenizer,
            state=state,
            keep=self.parts.config.keep_checkpoints,
        )

    def _stop(self) -> None:
        """Save what a later run can go on from, then say so by raising."""
        reason = f"stopped by {self.stop.signal_name} after {self.progress.step:,} steps"
        if self.parts.config.num_train_steps is None:
            message = f"{reason}, before anything worth saving; the same command starts again"
        else:
            message = f"{reason}; the same command goes on"

        def save() -> None:
            if self.parts.config.num_train_steps is not None:
                self._save(self.progress)
            self._status("stopped", Interrupted.exit_code, message)

        self.ranks.leave_together(save)
        raise Interrupted(message)

    def _finish(self) -> PretrainResult:
        parts, progress = self.parts, self.progress
        self.model.eval()
        evaluation = evaluate_model(
            self.model,
            parts.held_out(None),
            store=parts.store,
            runtime=parts.runtime,
            all_reduce=self.all_reduce,
            stop=self.stop,
        )
        if self.stop:
            self._stop()
        self.ranks.leave_together(lambda: self._write_result(evaluation))
        return PretrainResult(
            folder=self.folder.model, num_train_steps=progress.step, evaluation=evaluation
        )

    def _write_result(self, evaluation: Evaluation) -> None:
        parts, progress = self.parts, self.progress
        values = {k: v for k, v in evaluation.to_dict().items() if k != "num_examples"}
        self.log.append(
            step=progress.step,
            split="eval",
            **values,
            tokens=progress.tokens,
            elapsed_s=progress.elapsed_s,
        )
        card = model_card(
            config=parts.config,
            facts=parts.facts,
            evaluation=evaluation,
            progress=progress,
            sources=list(parts.config.corpus) or [parts.config.data or "Python's documentation"],
            num_parameters=sum(p.numel() for p in self.model.parameters()),
            corpus_sha256=durable.file_digest(parts.store.folder / "manifest.json")["sha256"],
        )
        write_model_folder(
            self.folder.model,
            model=self.model,
            tokenizer=parts.tokenizer,
            model_card=card,
            max_seq_length=parts.config.max_seq_length or 0,
        )
        self.display.close()
        print(evaluation)
        show_fill_ins(self.model, parts.store, parts.tokenizer)
        self._status("done", 0, f"held-out masked-token loss {evaluation.mlm_loss:.4f}")
        print(f"model      {self.folder.model}", flush=True)

    def _status(self, state: str, code: int, message: str) -> None:
        if self.ranks.is_first:
            self.folder.write_status(state, code=code, step=self.progress.step, message=message)
