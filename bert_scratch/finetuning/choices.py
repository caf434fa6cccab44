"""Defaults for what the user leaves out, as functions of model and data."""

from __future__ import annotations

import math

from bert_scratch.config import BertConfig
from bert_scratch.finetuning.task_settings import ROW_LENGTH

EPOCHS, ENTITY_EPOCHS = 3, 6
"""Passes over a training file that is large enough; the second is for entities."""
MIN_STEPS = 300
"""A small file gets more passes, until there are this many updates,"""
MAX_EPOCHS = 20
"""but no more often than this."""
BASE_WIDTH, BASE_LEARNING_RATE = 768, 2e-5
"""Width and learning rate with which Devlin et al. 2018, section 4.1, fine-tune BERT-base."""
MAX_LEARNING_RATE = 1e-3
SMALLEST_PASS = 16
"""Minimum rows in a forward pass on a CPU."""


def learning_rate_for(hidden_size: int) -> float:
    """Return the peak learning rate for a model's width; it falls with the square of the width.

    The usual 2e-5 hardly moves a small model. Measured at width 128 (2 layers) on 4,000 texts of
    SST-2, accuracy on the dev set after each pass: 0.638, 0.673, 0.683 with 3e-4; 0.671, 0.724,
    0.737 with 1e-3.
    """
    scaled = BASE_LEARNING_RATE * (BASE_WIDTH / hidden_size) ** 2
    return float(f"{min(MAX_LEARNING_RATE, scaled):.1g}")


def row_length_for(config: BertConfig) -> int:
    """Return the most tokens of a row: the usual 128, or fewer if the model can take no more."""
    return min(ROW_LENGTH, config.max_position_embeddings)


def micro_batch_for(batch_size: int) -> int:
    """Return the rows of a forward pass on a CPU, where rows of similar length share a pass.

    When 32 rows are padded to the longest, 37 % (MRPC) to 64 % (SST-2) is padding. With two passes
    a step of a model of width 256 takes 0.80 of the time on SST-2, 0.81 on MRPC and CoNLL; with
    four it takes longer again.
    """
    return max(SMALLEST_PASS, -(-batch_size // 2))


def num_epochs_for(steps_per_epoch: int, task: str) -> int:
    """Return the number of passes over the training file; entities get more.

    Six instead of three raised F1 on CoNLL-2003 from 0.813 to 0.824 (width 256, pretrained for an
    hour) and from 0.637 to 0.670 (width 128, six minutes); CoLA fell from 0.128 to 0.087.
    """
    usual = ENTITY_EPOCHS if task == "token-classification" else EPOCHS
    return max(usual, min(MAX_EPOCHS, math.ceil(MIN_STEPS / steps_per_epoch)))


def adversarial_for(task: str, hidden_size: int) -> str:
    """Return fgm for entities with a narrow model, otherwise none.

    Measured with widths 128 and 256 on several entity sets (`docs/benchmarks.md`); sentiment
    gained nothing, and wider models were not tried.
    """
    is_narrow = hidden_size < BASE_WIDTH
    return "fgm" if task == "token-classification" and is_narrow else "none"
