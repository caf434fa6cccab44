"""What a run leaves for readers: `results.json`, predictions, the model card."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from bert_scratch.config import counted
from bert_scratch.finetuning.assemble import Examples, Parts
from bert_scratch.finetuning.scoring import score_rows
from bert_scratch.model.pretrained_model import PretrainedModel
from bert_scratch.training.interruption import StopRequest


@dataclass(frozen=True)
class Judgement:
    """A model's answers to the examples of a file, and how good they are."""

    answers: list[Any]
    """One for each example."""
    values: dict[str, float]
    """Loss and metrics; empty if a label is missing."""


def judge(
    model: PretrainedModel, parts: Parts, asked: Examples, stop: StopRequest | None = None
) -> Judgement:
    """Let a model answer examples, and measure it if all have labels."""
    scores = score_rows(
        model, parts.task, asked.rows, runtime=parts.runtime, pad_id=parts.pad_id, stop=stop
    )
    if stop:
        return Judgement([], {})
    answers = parts.task.answers(asked.examples, asked.rows, scores.logits)
    values: dict[str, float] = {}
    if asked.labelled:
        values = {} if scores.loss is None else {"loss": scores.loss}
        values |= parts.task.metrics(asked.examples, answers)
    return Judgement(answers, values)


def model_card(parts: Parts, values: dict[str, float]) -> str:
    """Return the README.md of a fine-tuned model."""
    config = parts.config
    rows = "\n".join(f"| {name} | {value:.4f} |" for name, value in values.items())
    loaded = f"or {parts.task.elsewhere}."
    if not config.merges:
        loaded = (
            f"Its {config.adapter} adapters are not part of transformers' BERT, so transformers "
            f"cannot load it."
        )
    labels = ", ".join(f"`{label}`" for label in parts.task.labels) or "none"
    return f"""---
library_name: transformers
tags: [bert, bert-scratch, {config.task}]
---

# A BERT fine-tuned with bert_scratch

Task {config.task}, labels: {labels}. Started from `{config.model}`, trained on
`{config.train_file}` ({counted(len(parts.train.examples), "example")}). On `{config.eval_file}`
({counted(len(parts.eval.examples), "example")}):

| metric | value |
|---|---|
{rows}

## Use

    bert-scratch {parts.task.answers_with}

{loaded}

## Settings

```json
{config.to_json()}```
"""
