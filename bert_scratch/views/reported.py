"""The public `pretrain` and `finetune`, which also write a report during training."""

from __future__ import annotations

import sys
from pathlib import Path

from bert_scratch import durable
from bert_scratch.finetuning import finetune as finetuning
from bert_scratch.finetuning.finetune import FinetuneResult
from bert_scratch.finetuning.finetune_config import FinetuneConfig
from bert_scratch.pretraining import pretrain as pretraining
from bert_scratch.pretraining.pretrain_config import PretrainConfig
from bert_scratch.pretraining.result import PretrainResult
from bert_scratch.views.report import REPORT, report_page
from bert_scratch.views.report_data import METRICS, read_runs


class ReportAlong:
    """Writes `report.html` into the run folder it is called with; never ends the run."""

    def __init__(self) -> None:
        self._works = True

    def __call__(self, folder: Path) -> None:
        """Rewrite the report; after a failure, print it once and do not try again."""
        if not self._works or not (folder / METRICS).is_file():
            return
        try:
            durable.write_text(folder / REPORT, report_page(read_runs([folder])))
        except Exception as error:
            self._works = False
            print(
                f"warning    {REPORT} was not written; the run continues: "
                f"{str(error) or type(error).__name__}; try `bert-scratch report --run {folder}`",
                file=sys.stderr,
            )


def pretrain(asked: PretrainConfig) -> PretrainResult | None:
    """Start or resume the pretraining that the settings describe; None after a dry run.

    `report.html` in the run's folder is written after each evaluation and at the end.

    Raises:
        InputError: if settings, corpus or folder cannot be used; nothing is lost.
        Interrupted: after SIGTERM or SIGINT, once what could be saved is saved.
        NonFinite: if a loss or gradient is not finite; the last checkpoint is finite.
    """
    return pretraining.pretrain(asked, on_change=ReportAlong())


def finetune(asked: FinetuneConfig) -> FinetuneResult:
    """Start or resume the fine-tuning that the settings describe.

    `report.html` in the run's folder is written after each evaluation and at the end.

    Raises:
        InputError: if settings, files or folder cannot be used; nothing is lost.
        Interrupted: after SIGTERM or SIGINT, once what could be saved is saved.
        NonFinite: if a loss or gradient is not finite; the last checkpoint is finite.
    """
    return finetuning.finetune(asked, on_change=ReportAlong())
