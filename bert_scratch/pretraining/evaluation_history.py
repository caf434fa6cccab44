"""Log and judge the held-out loss during a run, and keep the model with the lowest one."""

from __future__ import annotations

import math
import shutil
from pathlib import Path

from bert_scratch import durable
from bert_scratch.config import BertConfig, InputError, read_json_object
from bert_scratch.model.folder import SavesPretrained
from bert_scratch.model.pretrained_model import PretrainedModel
from bert_scratch.pretraining.counted_vectors import WORD_GAIN
from bert_scratch.training.loop import Progress
from bert_scratch.training.metrics import Display, MetricsLog, describe

RISES_WORTH_A_WARNING = 3
LOSS = "mlm_loss"
"""The loss that is judged; that of pairs rises early on small corpora while words still improve."""
EVALUATION = "evaluation.json"
FIRST_LOSS_TOLERANCE = 0.05
LOWEST_COUNTED = 0.5
"""Lowest share of the expected first loss with counted vectors: small texts repeat themselves."""


class EvaluationHistory:
    """The evaluations of a run so far, and the folder of its best model.

    A model is kept when its loss is lower than at every earlier evaluation. The state depends only
    on the log and the folder, both cut back to the step a resumed run starts from.
    """

    def __init__(self, log: MetricsLog, display: Display, best: Path, *, step: int) -> None:
        """Read what an earlier process of the run left.

        Args:
            log: cut back to the step.
            display: shows evaluations and warnings.
            best: where the best model is kept; one of a later step is removed.
            step: the step the run starts from.
        """
        self.log, self.display, self.best = log, display, best
        # The line at a run's end covers all held-out examples and is not comparable with others.
        self.losses = {
            int(line["step"]): line[LOSS]
            for line in log.evaluations()
            if "unigram_loss" not in line and LOSS in line
        }
        if self.best_step() > step:
            shutil.rmtree(best, ignore_errors=True)

    def is_evaluated(self, step: int) -> bool:
        """Tell whether the log has an evaluation of the step."""
        return step in self.losses

    def add(
        self,
        progress: Progress,
        values: dict[str, float],
        *,
        num_train_steps: int | None,
        model: PretrainedModel,
        tokenizer: SavesPretrained,
    ) -> None:
        """Keep the model if it is the best so far, log the evaluation, warn if the loss rises.

        If killed in between, the next start evaluates again and finds the model already kept.

        Args:
            progress: of the run.
            values: losses and accuracies, always over the same held-out examples.
            num_train_steps: of the run, if known.
            model: the model that was evaluated.
            tokenizer: saved with it.
        """
        # An untrained model is determined by the seed and not worth keeping.
        if progress.step and values[LOSS] < self.best_loss():
            with durable.durable_folder(self.best) as folder:
                model.save_pretrained(folder, tokenizer=tokenizer)
                durable.write_json(folder / EVALUATION, {"step": progress.step, LOSS: values[LOSS]})
        self.log.append(
            step=progress.step,
            split="eval",
            **values,
            tokens=progress.tokens,
            elapsed_s=progress.elapsed_s,
        )
        self.display.line("held out   " + describe(progress.step, num_train_steps, values))
        self.losses[progress.step] = values[LOSS]
        self._warn_if_rising()

    def best_step(self) -> int:
        """Return the step of the kept model, or -1."""
        return int(self._best().get("step", -1))

    def best_loss(self) -> float:
        """Return the held-out loss of the kept model, or infinity."""
        return float(self._best().get(LOSS, math.inf))

    def _best(self) -> dict[str, float]:
        try:
            return read_json_object(self.best / EVALUATION)
        except InputError:
            return {}

    def _warn_if_rising(self) -> None:
        losses = [loss for _, loss in sorted(self.losses.items())]
        rises = 0
        while rises + 1 < len(losses) and losses[-rises - 1] > losses[-rises - 2]:
            rises += 1
        if rises and rises % RISES_WORTH_A_WARNING == 0:
            self.display.line(
                f"warning    the held-out loss has risen {rises} evaluations in a row, to "
                f"{losses[-1]:.3f}: the model is overfitting; the result will be that "
                f"of step {self.best_step():,} ({self.best_loss():.3f}). More text, dropout or "
                f"fewer steps help"
            )


def expected_first_loss(
    config: BertConfig, *, with_pairs: bool, counted_entropy: float | None = None
) -> float:
    """Return the expected loss of fresh weights, in nats.

    Logits are products of a LayerNorm's output, of squared length D, with rows of standard
    deviation r. They have variance D r^2, half of which adds to ln V. Over six seeds of five
    widths the excess was 0.21 on average where D r^2 / 2 is 0.25, and at most 0.45. With rows and
    biases counted from the corpus, the entropy of its word frequencies replaces ln V; words that
    share their neighbours, of which a small text has many, lower the loss.

    Args:
        config: of the model.
        with_pairs: whether pairs are classified too, which adds ln 2.
        counted_entropy: entropy of the word frequencies, in nats, if rows and biases were counted.
    """
    by_words, spread = math.log(config.vocab_size), config.initializer_range
    if counted_entropy is not None:
        by_words, spread = counted_entropy, WORD_GAIN * spread
    return by_words + config.hidden_size * spread**2 / 2 + (math.log(2) if with_pairs else 0.0)


def strange_first_loss(
    config: BertConfig, values: dict[str, float], counted_entropy: float | None = None
) -> str | None:
    """Return what is strange about the loss of fresh weights, or None.

    Args:
        config: of the model.
        values: of the evaluation before the first step.
        counted_entropy: as in `expected_first_loss`; if given, a lower loss is not strange, down
            to `LOWEST_COUNTED` of the expected one.
    """
    expected = expected_first_loss(
        config, with_pairs="nsp_loss" in values, counted_entropy=counted_entropy
    )
    lowest, by_words = 1 - FIRST_LOSS_TOLERANCE, "ln V"
    if counted_entropy is not None:
        lowest, by_words = LOWEST_COUNTED, "the entropy of word frequencies"
    if lowest * expected <= values["loss"] <= (1 + FIRST_LOSS_TOLERANCE) * expected:
        return None
    return (
        f"the loss of fresh weights is {values['loss']:.3f}; about {expected:.3f} was expected "
        f"({by_words}, half of width x spread of the word embeddings squared, ln 2 for pairs); "
        f"below {lowest:.0%} or above {1 + FIRST_LOSS_TOLERANCE:.0%} of that is a sign of wrong "
        f"weights or labels"
    )
