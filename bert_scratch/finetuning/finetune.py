"""The command `finetune`: train a model that answers from labelled examples.

If killed at any moment, the same command resumes from the last evaluation, bit for bit.
"""

from __future__ import annotations

import shutil
import sys
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import nn

from bert_scratch import durable
from bert_scratch.config import InputError, counted, exit_code_of, read_json_object
from bert_scratch.finetuning.adapters import result_of, write_adapted_folder
from bert_scratch.finetuning.announce import announce
from bert_scratch.finetuning.assemble import Parts, assemble
from bert_scratch.finetuning.finetune_config import MAY_CHANGE_ON_RESUME, FinetuneConfig
from bert_scratch.finetuning.inputs import check_inputs, store_inputs
from bert_scratch.finetuning.mistakes import write_mistakes
from bert_scratch.finetuning.predictions import json_lines
from bert_scratch.finetuning.results import judge, model_card
from bert_scratch.finetuning.several_seeds import RESOLVED, RESULTS, run_seeds
from bert_scratch.finetuning.task import LOWER_IS_BETTER
from bert_scratch.finetuning.task_settings import TASK_FILE
from bert_scratch.model.pretrained_model import PretrainedModel
from bert_scratch.training.checkpoint import STATE, find_checkpoint, load_optimizer, save_checkpoint
from bert_scratch.training.interruption import Interrupted, StopRequest, stop_on_signals
from bert_scratch.training.loop import Hooks, Progress, train
from bert_scratch.training.metrics import Display, MetricsLog, describe
from bert_scratch.training.model_folder import write_model_folder
from bert_scratch.training.run_folder import OnChange, RunFolder, nobody
from bert_scratch.training.runtime import measure_peak_flops_per_s, set_up, train_flops_per_token
from bert_scratch.training.versions import versions

PREDICTIONS = "test_predictions.jsonl"


@dataclass(frozen=True, kw_only=True)
class FinetuneResult:
    """The result of a finished run."""

    folder: Path
    """The model folder."""
    results: dict[str, Any]
    """The content of results.json."""


def finetune(asked: FinetuneConfig, on_change: OnChange = nobody) -> FinetuneResult:
    """Start or resume the fine-tuning that the settings describe.

    Args:
        asked: the settings; those left out are chosen.
        on_change: called with the run's folder after each evaluation, and when the run ends.

    Raises:
        InputError: if settings, files or folder cannot be used; nothing is lost.
        Interrupted: after SIGTERM or SIGINT, once everything possible is saved.
        NonFinite: if a loss or gradient is not finite; the last checkpoint is finite.
    """
    if asked.seeds:
        results = run_seeds(asked, lambda one: _finetune_once(one, on_change).results)
        return FinetuneResult(folder=Path(asked.output_dir) / "model", results=results)
    return _finetune_once(asked, on_change)


def _finetune_once(asked: FinetuneConfig, on_change: OnChange) -> FinetuneResult:
    """Do what `finetune` does, with one seed."""
    folder = RunFolder(
        Path(asked.output_dir),
        settings=FinetuneConfig,
        resolved_name=RESOLVED,
        on_change=on_change,
    )
    folder.create()
    with folder.locked():
        return _finetune_in(folder, asked)


def _finetune_in(folder: RunFolder[FinetuneConfig], asked: FinetuneConfig) -> FinetuneResult:
    """Do what `finetune` does, in a folder that no other process is using."""
    stored = folder.stored()
    if stored is None and (folder.path / RESULTS).exists():
        raise InputError(
            f"{folder.path} already holds {RESULTS} of another run (perhaps of several seeds); "
            f"give another --output-dir"
        )
    if stored is not None:
        _check_unchanged(folder, asked)
        check_inputs(folder.path, asked)
        if folder.ended_well():
            shutil.rmtree(folder.checkpoints, ignore_errors=True)  # a kill may have left them
            print(f"{folder.path}: this run is already finished; the model is in {folder.model}")
            return FinetuneResult(
                folder=folder.model, results=read_json_object(folder.path / RESULTS)
            )
        changes = {name: getattr(asked, name) for name in MAY_CHANGE_ON_RESUME}
        stored = stored.replace(**{k: v for k, v in changes.items() if v is not None})
    parts = assemble(stored or asked)
    set_up(parts.runtime, deterministic=parts.config.deterministic)
    if stored is None:
        announce(parts)
        store_inputs(folder.path, asked)
        folder.store(asked, parts.config)
    with stop_on_signals() as stop:
        return _Run(parts, folder, stop).go()


def _check_unchanged(folder: RunFolder[FinetuneConfig], asked: FinetuneConfig) -> None:
    """Refuse to resume a run with other settings, naming each changed one with both values."""
    may_change = MAY_CHANGE_ON_RESUME
    if asked.adversarial is None:
        may_change |= {"adversarial"}  # older runs stored "none" where it was left out
    changes = folder.changes(asked, may_change=may_change)
    if changes:
        listing = "\n  ".join(changes)
        raise InputError(
            f"{folder.path} holds a run with other settings:\n  {listing}\n"
            f"Resume it with its own settings, or start a new run in another --output-dir"
        )


_MEASURES = "scikit-learn"
"""The library that computes the metrics."""


class _Run:
    """A run, from its newest checkpoint (if any) to the result."""

    def __init__(self, parts: Parts, folder: RunFolder[FinetuneConfig], stop: StopRequest) -> None:
        self.parts, self.folder, self.stop = parts, folder, stop
        checkpoint, problems = find_checkpoint(folder.checkpoints)
        for problem in problems:
            print(f"warning    checkpoint ignored: {problem}", file=sys.stderr)
        self.model = parts.build_model(checkpoint)
        self.updater = parts.build_updater(self.model)
        self.optimizer = self.updater.optimizer
        self.progress = Progress()
        self.evaluations: list[dict[str, float]] = []
        if checkpoint is not None:
            state = read_json_object(checkpoint / STATE)
            self.evaluations = state["evaluations"]
            self.progress = Progress.from_state(state)
            load_optimizer(checkpoint, self.model, self.optimizer, num_updates=self.progress.step)
            print(f"resumed    from {checkpoint} after {counted(self.progress.step, 'step')}")
        kept = self.progress.step if checkpoint is not None else -1
        self.log = MetricsLog(folder.metrics, keep_through_step=kept)
        self.display = Display(first_step=self.progress.step)

    def go(self) -> FinetuneResult:
        """Train to the end, evaluate and write the result."""
        self._status("running", 0, "")
        try:
            if self.progress.step and self.progress.step % self.parts.plan().eval_steps == 0:
                self._evaluate_now()
            if not self._is_over():
                self._train()
            self._evaluate_now()
            if self.stop:
                self._stop()
            return self._finish()
        except Interrupted:
            raise
        except Exception as error:
            with suppress(OSError):  # the disk may be full
                self._status("failed", exit_code_of(error), str(error))
            raise
        finally:
            self.display.close()

    def _train(self) -> None:
        parts = self.parts
        flops_per_token = train_flops_per_token(
            self.model.config, seq_length=parts.config.row_length, masked_lm_prob=None
        )
        train(
            self.updater,
            plan=parts.plan(),
            progress=self.progress,
            hooks=Hooks(
                batches=parts.batches,
                evaluate=self._evaluate,
                on_evaluated=self._on_evaluated,
                save=self._save,
            ),
            log=self.log,
            display=self.display,
            stop=self.stop,
            peak_tokens_per_s=measure_peak_flops_per_s(parts.runtime) / flops_per_token,
        )

    def _evaluate_now(self) -> None:
        """Evaluate at the end, or where a stop cut it off, unless this was already done."""
        done = bool(self.evaluations) and self.evaluations[-1]["step"] == self.progress.step
        if not done and not self.stop:
            self._on_evaluated(self.progress, self._evaluate(self.model))

    def _evaluate(self, model: nn.Module) -> dict[str, float]:
        assert isinstance(model, PretrainedModel)
        return judge(model, self.parts, self.parts.eval, self.stop).values

    def _on_evaluated(self, progress: Progress, values: dict[str, float]) -> bool:
        """Log an evaluation, and keep the model if it is the best so far."""
        if not values:
            return True  # a stop was requested during the evaluation
        self.log.append(
            step=progress.step,
            split="eval",
            **values,
            tokens=progress.tokens,
            elapsed_s=progress.elapsed_s,
        )
        self.display.line(
            "evaluated  " + describe(progress.step, self.parts.num_train_steps, values)
        )
        before = self._best()
        self.evaluations.append({"step": progress.step, **values})
        if self.parts.config.keep == "last" or self._best() is not before:
            self._write_model(values)
        self.folder.on_change(self.folder.path)
        return not self._is_over()

    def _is_over(self) -> bool:
        """Tell whether as many evaluations as patience allows have passed without improvement."""
        patience = self.parts.config.early_stopping_patience
        best = self._best()
        if patience is None or best is None:
            return False
        return len(self.evaluations) - 1 - self.evaluations.index(best) >= patience

    def _best(self) -> dict[str, float] | None:
        """Return the best evaluation so far; the earlier of two equal ones."""
        metric = self.parts.config.metric
        assert metric is not None
        sign = -1.0 if metric in LOWER_IS_BETTER else 1.0
        return max(self.evaluations, key=lambda values: sign * values[metric], default=None)

    def _write_model(self, values: dict[str, float]) -> None:
        parts, config = self.parts, self.parts.config
        card = model_card(parts, values)
        also = {TASK_FILE: parts.task.settings.for_prediction().to_json()}
        is_result = config.adapter == "none" and not config.auxiliary_mlm
        model = self.model if is_result else result_of(self.model, config)
        if config.merges:
            write_model_folder(
                self.folder.model,
                model=parts.task.exported(model),
                tokenizer=parts.tokenizer,
                model_card=card,
                max_seq_length=config.row_length,
                also=also,
            )
        else:
            write_adapted_folder(
                self.folder.model,
                model=model,
                tokenizer=parts.tokenizer,
                settings=config.adapter_settings(),
                model_card=card,
                also=also,
            )

    def _save(self, progress: Progress) -> None:
        state = {
            **progress.to_state(),
            "evaluations": self.evaluations,
            "config": self.parts.config.to_dict(),
            "versions": versions(_MEASURES),
        }
        save_checkpoint(
            self.folder.checkpoints,
            step=progress.step,
            model=self.model,
            optimizer=self.optimizer,
            tokenizer=self.parts.tokenizer,
            state=state,
            keep=1,
        )

    def _stop(self) -> None:
        """Save what a later run can resume from, then raise `Interrupted`."""
        self._save(self.progress)
        message = (
            f"stopped by {self.stop.signal_name} after {counted(self.progress.step, 'step')}; run "
            f"the same command again to resume"
        )
        self._status("stopped", Interrupted.exit_code, message)
        raise Interrupted(message)

    def _finish(self) -> FinetuneResult:
        """Evaluate the model as it was written, and write the results."""
        parts, folder = self.parts, self.folder
        best = self._best() if parts.config.keep == "best" else self.evaluations[-1]
        assert best is not None
        self.model = parts.task.load_model(folder.model, new_head=False).to(parts.runtime.device)
        judged = judge(self.model, parts, parts.eval)
        write_mistakes(folder.path, parts.task, parts.eval.examples, judged.answers)
        results: dict[str, Any] = {
            **judged.values,
            "metric": parts.config.metric,
            "best_step": int(best["step"]),
            "num_train_steps": self.progress.step,
            "num_train_examples": len(parts.train.examples),
            "num_eval_examples": len(parts.eval.examples),
            "evaluations": self.evaluations,
        }
        if parts.test is not None:
            test = judge(self.model, parts, parts.test)
            records = map(parts.task.record, parts.test.examples, test.answers)
            durable.write_text(folder.path / PREDICTIONS, json_lines(records))
            results["num_test_examples"] = len(parts.test.examples)
            if test.values:
                results["test"] = test.values
        results |= {
            "elapsed_s": round(self.progress.elapsed_s, 3),
            "config": parts.config.to_dict(),
            "versions": versions(_MEASURES),
        }
        durable.write_json(folder.path / RESULTS, results)
        self.display.close()
        summary = describe_values(judged.values)
        self._status("done", 0, summary)
        shutil.rmtree(folder.checkpoints, ignore_errors=True)
        print(f"result     {summary} on {parts.config.eval_file}, of step {results['best_step']:,}")
        if "test" in results:
            print(f"test       {describe_values(results['test'])} on {parts.config.test_file}")
        elif parts.test is not None:
            unlabelled = sum(not parts.task.is_labelled(each) for each in parts.test.examples)
            print(
                f"test       no metrics: no label for {unlabelled:,} of "
                f"{counted(len(parts.test.examples), 'example')} in {parts.config.test_file}; "
                f"answers in {PREDICTIONS}"
            )
        print(f"model      {folder.model}", flush=True)
        return FinetuneResult(folder=folder.model, results=results)

    def _status(self, state: str, code: int, message: str) -> None:
        self.folder.write_status(state, code=code, step=self.progress.step, message=message)


def describe_values(values: dict[str, float]) -> str:
    """Return loss and metrics on one line."""
    return "  ".join(f"{name} {value:.4f}" for name, value in values.items())
