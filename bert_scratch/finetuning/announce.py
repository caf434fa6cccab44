"""What a run prints before its first step: task, examples, model, choices and reasons."""

from __future__ import annotations

from bert_scratch.config import counted, first_few
from bert_scratch.finetuning.assemble import Parts
from bert_scratch.finetuning.labelled_rows import LabelledText

_SHOWN = 60
"""Characters of the first text that are shown, enough to notice that a wrong column was read."""


def announce(parts: Parts) -> None:
    """Print the task and its examples, and what was chosen and why."""
    shape, config = parts.bert_config, parts.config
    labels = first_few(parts.task.labels, 10)
    print(
        f"task       {config.task}"
        + (f", {counted(len(parts.task.labels), 'label')}: {labels}" if labels else "")
    )
    lengths = sorted(row.num_tokens for row in parts.train.rows)
    cut = sum(length >= config.row_length for length in lengths) / len(lengths)
    print(
        f"examples   {len(parts.train.examples):,} for training, {len(parts.eval.examples):,} for "
        f"evaluation; median length {lengths[len(lengths) // 2]} tokens, {cut:.1%} reach the limit "
        f"of {config.row_length}"
    )
    first = parts.train.examples[0]
    if isinstance(first, LabelledText):
        texts = " | ".join(repr(text[:_SHOWN]) for text in (first.text, first.text_pair) if text)
        label = first.label if isinstance(first.label, str) else ", ".join(first.label or ())
        print(f"first      {texts}, label {label}")
    layers = counted(shape.num_hidden_layers, "layer")
    print(f"model      {config.model}: {layers}, width {shape.hidden_size}")
    trained = shape.trained_seq_length
    if trained is not None and lengths[-1] > trained:
        longer = sum(length > trained for length in lengths) / len(lengths)
        print(
            f"note       {longer:.1%} of the rows are longer than the {trained} tokens that the "
            f"model was trained on: its later positions are first trained here"
        )
    for reason in parts.reasons:
        print(f"chosen     {reason}")
    passes = parts.num_train_steps / parts.steps_per_epoch
    steps = counted(parts.num_train_steps, "step")
    print(f"plan       {steps}, {passes:.1f} passes, on {parts.runtime.device}", flush=True)
