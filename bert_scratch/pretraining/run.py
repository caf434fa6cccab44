"""A pretraining run, from its newest checkpoint (if any) to the result."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Generator
from contextlib import suppress
from itertools import takewhile
from pathlib import Path

import torch
from torch import nn

from bert_scratch.batch import Batch
from bert_scratch.config import exit_code_of, read_json_object
from bert_scratch.data.workers import iterate, naming_killed_workers
from bert_scratch.model.heads import BertForPreTraining
from bert_scratch.pretraining.assemble import Parts, num_workers_on
from bert_scratch.pretraining.choices import CORPUS_VECTORS
from bert_scratch.pretraining.evaluate import INTERVAL_EXAMPLES, Evaluation, evaluate_model
from bert_scratch.pretraining.evaluation_history import (
    LOSS,
    EvaluationHistory,
    strange_first_loss,
)
from bert_scratch.pretraining.pretrain_config import PretrainConfig
from bert_scratch.pretraining.resolve import filled
from bert_scratch.pretraining.result import PretrainResult, unused_time, write_result
from bert_scratch.pretraining.resume import (
    check_same_store,
    corpus_digest,
    newest_checkpoint,
    progress_of,
)
from bert_scratch.pretraining.run_folder import PretrainRunFolder
from bert_scratch.pretraining.run_length import fixed_length
from bert_scratch.pretraining.show import FillIns
from bert_scratch.training.all_reduce import AllReduce
from bert_scratch.training.checkpoint import (
    STATE,
    checkpoint_folders,
    load_optimizer,
    save_checkpoint,
)
from bert_scratch.training.interruption import Interrupted
from bert_scratch.training.loop import Hooks, Plan, Progress, train
from bert_scratch.training.loss_scale import LossScale
from bert_scratch.training.metrics import Display, MetricsLog
from bert_scratch.training.objective import PRETRAINING
from bert_scratch.training.peers import PeerEnded
from bert_scratch.training.profiling import profiled
from bert_scratch.training.step import NonFinite, evaluation_sums
from bert_scratch.training.versions import versions
from bert_scratch.training.watchdog import Watchdog
from bert_scratch.training.writers import Writers


def settings_from(text: str) -> PretrainConfig:
    """Return the resolved settings that the first rank told the others."""
    return PretrainConfig.from_dict(json.loads(text), source="the first rank")


class Run:
    """One process's share of a run, from its newest checkpoint (if any) to the result."""

    def __init__(self, parts: Parts, folder: PretrainRunFolder, all_reduce: AllReduce) -> None:
        self.parts, self.folder, self.all_reduce = parts, folder, all_reduce
        self.ranks, self.stop = all_reduce.ranks, all_reduce.stop
        checkpoint = self._checkpoint()
        self.corpus_sha256 = corpus_digest(parts.store.folder)
        if checkpoint is not None:
            check_same_store(checkpoint, self.corpus_sha256, folder)
        self.model = parts.build_model(checkpoint)
        if checkpoint is None:
            self._start_alike()
        self.loss_scale: LossScale | None = None
        if parts.runtime.dtype == torch.float16:
            self.loss_scale = LossScale(parts.runtime.device)
        self.updater = parts.build_updater(
            self.model, all_reduce=all_reduce, loss_scale=self.loss_scale
        )
        self.optimizer = self.updater.optimizer
        self.progress = Progress()
        if checkpoint is not None:
            self.progress = progress_of(checkpoint)
            num_updates = self.progress.step - self.progress.skipped - self.progress.overflows
            load_optimizer(checkpoint, self.model, self.optimizer, num_updates=num_updates)
            if self.loss_scale is not None:
                self.loss_scale.load(read_json_object(checkpoint / STATE)["loss_scale"])
            print(f"resumed    from {checkpoint} after {self.progress.step:,} steps")
        kept = self.progress.step if checkpoint is not None else -1
        is_first = self.ranks.is_first
        writers = Writers(
            parts.config.report_to if is_first else (),
            folder.path,
            parts.config.to_dict(),
            first_step=self.progress.step,
        )
        self.log = MetricsLog(
            folder.metrics if is_first else None, keep_through_step=kept, writers=writers
        )
        self.display = Display(first_step=self.progress.step, has_bar=is_first)
        self.history: EvaluationHistory | None = None  # only on the first rank
        self.fill_ins = FillIns(
            folder.fill_ins if is_first else None,
            parts.store,
            parts.tokenizer,
            keep_through_step=kept,
        )
        if is_first:
            self.history = EvaluationHistory(
                self.log, self.display, folder.best, step=self.progress.step
            )
        self.interval_examples = list(parts.eval_batches(INTERVAL_EXAMPLES))
        self.watchdog = Watchdog(parts.config.hang_timeout_s)
        self.evaluation_s = 0.0

    def _checkpoint(self) -> Path | None:
        """Return the checkpoint to go on from, the same on all ranks; None at the start."""

        def say() -> str:
            newest = newest_checkpoint(self.folder)
            return json.dumps(None if newest is None else str(newest))

        path = json.loads(self.ranks.from_first("checkpoint", say))
        return None if path is None else Path(path)

    @torch.no_grad()
    def _start_alike(self) -> None:
        """Give every rank the first one's weights: CPUs may round counted vectors differently."""
        for weights in self.model.parameters():
            if not self.ranks.is_first:
                weights.zero_()
            self.all_reduce.sum_(weights)

    def go(self) -> PretrainResult:
        """Train to the end, evaluate and write the result."""
        try:
            self._status("running", 0, "")
            with naming_killed_workers():
                self._evaluate_if_due()
                train(
                    self.updater,
                    plan=self.parts.plan(),
                    progress=self.progress,
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
                    peak_tokens_per_s=self.parts.peak_tokens_per_s(),
                )
            if self.stop:
                self._stop()
            return self._finish()
        except NonFinite as error:
            message = str(error)
            self.ranks.leave_together(lambda: self._status("failed", NonFinite.exit_code, message))
            raise
        except (Interrupted, PeerEnded):
            raise
        except Exception as error:
            with suppress(OSError):  # the disk may be full
                self._status("failed", exit_code_of(error), str(error))
            raise
        finally:
            self.watchdog.close()
            self.log.close()
            self.display.close()

    def _batches(self, first_step: int) -> Generator[Batch, None, None]:
        # A time-limited run does not know its last step yet; the loop leaves the iterator early.
        last_step = self.parts.config.num_train_steps or sys.maxsize // self.parts.loader.batch_size
        batches = iterate(
            self.parts.loader,
            first_step,
            last_step,
            num_workers_on(self.parts.runtime.device, self.parts.config.num_workers),
        )
        if self.parts.config.profile and self.ranks.is_first:
            batches = profiled(
                batches,
                self.model,
                num_steps=self.parts.config.profile,
                trace=self.folder.profile,
                device=self.parts.runtime.device,
                say=self.display.line,
            )
        return self.watchdog.watch(batches)

    def _evaluate(self, model: nn.Module) -> dict[str, float]:
        start = time.perf_counter()
        sums = evaluation_sums(
            model,
            self.watchdog.watch(self.interval_examples),
            objective=PRETRAINING,
            runtime=self.parts.runtime,
            all_reduce=self.all_reduce,
            stop=self.stop,
        )
        self.evaluation_s = time.perf_counter() - start
        return PRETRAINING.means(sums)

    def _evaluate_if_due(self) -> None:
        """Evaluate fresh weights, or catch up on an evaluation that a stop interrupted."""
        step, every = self.progress.step, self.parts.plan().eval_steps
        is_done = self._first_knows("evaluated", lambda history: history.is_evaluated(step))
        if is_done or step == self.parts.config.num_train_steps or step % every:
            return
        self.model.eval()
        values = self._evaluate(self.model)
        self._on_evaluated(self.progress, values)
        if step == 0 and self.parts.config.init_checkpoint is None and not self.stop:
            counted = self.parts.config.init_word_vectors == CORPUS_VECTORS
            entropy = self.parts.facts.unigram_entropy if counted else None
            strange = strange_first_loss(self.model.config, values, entropy)
            if strange:
                self.display.line(f"warning    {strange}")

    def _on_evaluated(self, progress: Progress, values: dict[str, float]) -> bool:
        # After a stop only part of the examples were evaluated.
        if self.history is not None and not self.stop:
            self.history.add(
                progress,
                values,
                num_train_steps=self.parts.config.num_train_steps,
                model=self.model,
                tokenizer=self.parts.tokenizer,
            )
            self.fill_ins.add(progress.step, self.model)
            self.folder.on_change(self.folder.path)
        return True

    def _fix_horizon(self, progress: Progress, step_s: float) -> Plan:
        """Turn the rest of the time budget into a fixed number of steps."""
        settings = self.ranks.from_first(
            "horizon", lambda: self._with_length(progress, step_s).to_json()
        )
        self.parts = self.parts.with_config(settings_from(settings))
        return self.parts.plan()

    def _with_length(self, progress: Progress, step_s: float) -> PretrainConfig:
        config = self.parts.config
        config, lines = fixed_length(
            config,
            steps_made=progress.step,
            left_s=filled(config.max_train_seconds) - progress.elapsed_s,
            step_s=step_s,
            evaluation_s=self.evaluation_s,
        )
        self.folder.store_resolved(config)
        for line in lines:
            self.display.line(line)
        return config

    def _save(self, progress: Progress) -> None:
        if not self.ranks.is_first:
            return
        plan = self.parts.plan()
        state = {
            **progress.to_state(),
            "loss_scale": None if self.loss_scale is None else self.loss_scale.state(),
            "config": self.parts.config.to_dict(),
            "corpus_sha256": self.corpus_sha256,
            "versions": versions(),
        }
        self.watchdog.alive()
        save_checkpoint(
            self.folder.checkpoints,
            step=progress.step,
            model=self.model,
            optimizer=self.optimizer,
            tokenizer=self.parts.tokenizer,
            state=state,
            keep=self.parts.config.keep_checkpoints,
            also_keep=() if plan.stable_step is None else (plan.stable_step,),
        )
        self.watchdog.alive()

    def _stop(self) -> None:
        """Save a checkpoint to resume from if the horizon is fixed, then raise `Interrupted`."""
        reason = f"stopped by {self.stop.signal_name} after {self.progress.step:,} steps"
        is_horizon_fixed = self.parts.config.num_train_steps is not None
        if is_horizon_fixed:
            message = f"{reason}; run the same command again to resume"
        elif checkpoint_folders(self.folder.checkpoints):
            message = f"{reason}; run the same command again to resume from the last checkpoint"
        else:
            message = f"{reason}; nothing was saved yet, so the same command starts over"

        def save() -> None:
            if is_horizon_fixed:
                self._save(self.progress)
            self._status("stopped", Interrupted.exit_code, message)

        self.ranks.leave_together(save)
        raise Interrupted(message)

    def _finish(self) -> PretrainResult:
        """Evaluate the last weights, choose the result, and write it."""
        progress = self.progress
        self.model.eval()
        evaluation = self._evaluate_all(self.model)
        values = {k: v for k, v in evaluation.to_dict().items() if k != "num_examples"}
        self.log.append(
            step=progress.step,
            split="eval",
            **values,
            tokens=progress.tokens,
            elapsed_s=progress.elapsed_s,
        )
        model, step = self._best_model()
        if step != progress.step:
            self.display.line(
                f"best       keeping the model of step {step:,}: its held-out loss is lower than "
                f"the last step's"
            )
            evaluation = self._evaluate_all(model)
        self.ranks.leave_together(lambda: self._write_result(model, step, evaluation))
        return PretrainResult(
            folder=self.folder.model, num_train_steps=progress.step, evaluation=evaluation
        )

    def _write_result(self, model: BertForPreTraining, step: int, evaluation: Evaluation) -> None:
        write_result(
            self.folder,
            self.parts,
            model,
            step=step,
            evaluation=evaluation,
            progress=self.progress,
            corpus_sha256=self.corpus_sha256,
        )
        self.display.close()
        print(evaluation)
        self.fill_ins.show(model)
        message = f"step {step}: held-out masked-token loss {evaluation.mlm_loss:.4f}"
        self._status("done", 0, message)
        asked = PretrainConfig.from_json_file(self.folder.asked)
        print(*unused_time(asked, self.progress), f"model      {self.folder.model}", sep="\n")
        sys.stdout.flush()

    def _evaluate_all(self, model: BertForPreTraining) -> Evaluation:
        examples = takewhile(lambda _: not self.stop, self.parts.eval_batches(None))
        evaluation = evaluate_model(
            model,
            self.watchdog.watch(examples),
            store=self.parts.store,
            runtime=self.parts.runtime,
            all_reduce=self.all_reduce,
        )
        if self.stop:
            self._stop()
        return evaluation

    def _best_model(self) -> tuple[BertForPreTraining, int]:
        """Return the model with the lowest held-out loss (the last on a tie), and its step."""
        last = (self.model, self.progress.step)
        best_step = self._first_knows("best", lambda history: history.best_step())
        if best_step < 0:
            return last
        loss = self._evaluate(self.model)[LOSS]
        if self.stop:
            self._stop()
        if self._first_knows("last", lambda history: loss <= history.best_loss()):
            return last
        best = BertForPreTraining.from_pretrained(self.folder.best).to(self.parts.runtime.device)
        return best, best_step

    def _first_knows(self, event: str, answer: Callable[[EvaluationHistory], int]) -> int:
        """Return on every rank a number or truth that only the first rank's history tells."""

        def say() -> str:
            assert self.history is not None  # the first rank has one
            return json.dumps(answer(self.history))

        found: int = json.loads(self.ranks.from_first(event, say))
        return found

    def _status(self, state: str, code: int, message: str) -> None:
        if self.ranks.is_first:
            self.folder.write_status(state, code=code, step=self.progress.step, message=message)
