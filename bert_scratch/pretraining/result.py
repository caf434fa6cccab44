"""What a finished pretraining run leaves behind: the model folder, and a word about its time."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from bert_scratch.model.heads import BertForPreTraining
from bert_scratch.pretraining.assemble import Parts
from bert_scratch.pretraining.evaluate import Evaluation
from bert_scratch.pretraining.model_card import model_card
from bert_scratch.pretraining.pretrain_config import PretrainConfig
from bert_scratch.pretraining.run_folder import PretrainRunFolder
from bert_scratch.training.loop import Progress
from bert_scratch.training.metrics import duration
from bert_scratch.training.model_folder import write_model_folder

WELL_USED = 0.8
"""The share of --max-train-seconds from which on nothing is said of what is left."""


@dataclass(frozen=True, kw_only=True)
class PretrainResult:
    """What a finished run left behind."""

    folder: Path
    """The model folder."""
    num_train_steps: int
    evaluation: Evaluation | None
    """Over all held-out text; None when the run had been finished before."""


def write_result(
    folder: PretrainRunFolder,
    parts: Parts,
    model: BertForPreTraining,
    *,
    step: int,
    evaluation: Evaluation,
    progress: Progress,
    corpus_sha256: str,
) -> None:
    """Write the model folder, with a card that says how the model was made.

    Args:
        folder: of the run.
        parts: of the run.
        model: the result.
        step: updates it has seen.
        evaluation: of it, over all held-out text.
        progress: of the run.
        corpus_sha256: of the prepared corpus's manifest.
    """
    card = model_card(
        config=parts.config,
        facts=parts.facts,
        evaluation=evaluation,
        progress=progress,
        step_of_weights=step,
        sources=list(parts.config.corpus) or [parts.config.data or "Python's documentation"],
        num_parameters=sum(p.numel() for p in model.parameters()),
        corpus_sha256=corpus_sha256,
    )
    write_model_folder(
        folder.model,
        model=model,
        tokenizer=parts.tokenizer,
        model_card=card,
        max_seq_length=parts.config.max_seq_length or 0,
    )


def unused_time(asked: PretrainConfig, progress: Progress) -> list[str]:
    """Return a line when steps became much faster once the number that fits the time was fixed.

    Args:
        asked: what the command said.
        progress: of the finished run.
    """
    limit_s, used_s = asked.max_train_seconds, progress.elapsed_s
    if limit_s is None or asked.num_train_steps is not None or used_s > WELL_USED * limit_s:
        return []
    return [
        f"time       {duration(used_s)} of {duration(limit_s)} were used: a step took longer when "
        f"their number was fixed; the same command with --extend --num-train-steps "
        f"{int(limit_s * progress.step / used_s)} goes on"
    ]
