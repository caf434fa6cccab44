"""Regression: a number for each text or pair, such as the similarity of two sentences."""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from typing import Any

import torch.nn.functional as F
from torch import Tensor

from bert_scratch.config import InputError
from bert_scratch.extras import import_extra
from bert_scratch.finetuning.classification import mean_over_rows
from bert_scratch.finetuning.labelled_rows import LabelledText
from bert_scratch.finetuning.rows import Row, RowBatch
from bert_scratch.finetuning.texts import TextTask
from bert_scratch.model.task_heads import REGRESSION


class Regression(TextTask[float]):
    """A number for each text; the loss is the squared error, as in transformers."""

    @property
    def config_fields(self) -> dict[str, Any]:
        """One output, which transformers names LABEL_0."""
        return {"id2label": {0: "LABEL_0"}, "problem_type": REGRESSION}

    def target(self, example: LabelledText) -> float:
        """Return the number of a labelled example."""
        try:
            value = float(str(example.label))
        except ValueError:
            value = math.nan
        if not math.isfinite(value):
            raise InputError(f"{example.place}: {example.label!r} is not a number")
        return value

    def logits_sizes(self, batch: RowBatch) -> dict[str, int | None]:
        """Return [R, any], of which the first is the answer."""
        return {"rows": len(batch.rows), "numbers": None}

    def loss(self, logits: Tensor, batch: RowBatch) -> Tensor:
        """Return the summed squared error."""
        assert batch.labels is not None
        return F.mse_loss(logits[:, 0], batch.labels, reduction="sum")

    def answers(
        self, examples: Sequence[LabelledText], rows: Sequence[Row], logits: Sequence[Tensor]
    ) -> list[float]:
        """Return the predictions; the windows of a long text are averaged."""
        values: list[float] = mean_over_rows(rows, logits, len(examples))[:, 0].tolist()
        return values

    @property
    def metric_names(self) -> tuple[str, ...]:
        """Correlations with the labels, as GLUE measures STS-B, and the squared error."""
        return ("pearson", "spearman", "mean_squared_error")

    def metrics(
        self, examples: Sequence[LabelledText], answers: Sequence[float]
    ) -> dict[str, float]:
        """Compare numbers; the correlation of a single number, or of identical answers, is 0."""
        stats = import_extra("scipy.stats", "measuring a fine-tuned model", "sklearn")
        sklearn = import_extra("sklearn.metrics", "measuring a fine-tuned model", "sklearn")
        true = [self.target(example) for example in examples]
        with warnings.catch_warnings():  # identical answers: the correlation is NaN
            warnings.simplefilter("ignore")
            values = {
                name: float(correlation(true, answers).statistic) if len(true) > 1 else 0.0
                for name, correlation in (
                    ("pearson", stats.pearsonr),
                    ("spearman", stats.spearmanr),
                )
            }
            values["mean_squared_error"] = float(sklearn.mean_squared_error(true, answers))
        return {name: 0.0 if math.isnan(value) else value for name, value in values.items()}

    def compared(self, example: LabelledText, answer: float) -> tuple[float, float]:
        """Return the predicted and the right number."""
        return answer, self.target(example)

    def record(self, example: LabelledText, answer: float) -> dict[str, Any]:
        """Return the predicted number."""
        pair = {} if example.text_pair is None else {"text_pair": example.text_pair}
        return {"value": round(answer, 6), "text": example.text, **pair}
