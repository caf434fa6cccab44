"""The result of a finished pretraining run: the model folder, and a note about unused time."""

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
"""Share of --max-train-seconds above which unused time is not reported."""


@dataclass(frozen=True, kw_only=True)
class PretrainResult:
    """The result of a finished run."""

    folder: Path
    """The model folder."""
    num_train_steps: int
    evaluation: Evaluation | None
    """Evaluation over all held-out text; None if the run was already finished."""


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
        step: updates the model has seen.
        evaluation: of the model, over all held-out text.
        progress: of the run.
        corpus_sha256: of the prepared corpus's manifest.
    """
    # A model that is continued may have learned longer rows before, at any position if it is not
    # recorded how long they were.
    trained = model.config.trained_seq_length or model.config.max_position_embeddings
    card = model_card(
        config=parts.config,
        facts=parts.facts,
        evaluation=evaluation,
        progress=progress,
        step_of_weights=step,
        sources=list(parts.config.corpus) or [parts.config.data or "Python's documentation"],
        num_parameters=sum(p.numel() for p in model.parameters()),
        corpus_sha256=corpus_sha256,
        trained_seq_length=trained,
    )
    write_model_folder(
        folder.model,
        model=model,
        tokenizer=parts.tokenizer,
        model_card=card,
        max_seq_length=trained,
    )


def unused_time(asked: PretrainConfig, progress: Progress) -> list[str]:
    """Return a line if steps became much faster after the number of steps was fixed.

    Args:
        asked: the settings of the command.
        progress: of the finished run.
    """
    limit_s, used_s = asked.max_train_seconds, progress.elapsed_s
    if limit_s is None or asked.num_train_steps is not None or used_s > WELL_USED * limit_s:
        return []
    return [
        f"time       only {duration(used_s)} of {duration(limit_s)} used: steps became faster "
        f"after their number was fixed. To use the rest, add --extend --num-train-steps "
        f"{int(limit_s * progress.step / used_s)} to the same command"
    ]
