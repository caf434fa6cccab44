"""What a run says before its first step: task, examples, model, choices with their reasons."""

from __future__ import annotations

from bert_scratch.finetuning.assemble import Parts


def announce(parts: Parts) -> None:
    """Print what will be learnt from what, and what was chosen and why."""
    shape, config = parts.bert_config, parts.config
    labels = ", ".join(parts.task.labels[:10]) + (", ..." if len(parts.task.labels) > 10 else "")
    print(
        f"task       {config.task}"
        + (f", {len(parts.task.labels)} labels: {labels}" if labels else "")
    )
    lengths = sorted(row.num_tokens for row in parts.train.rows)
    cut = sum(length >= config.max_seq_length for length in lengths) / len(lengths)
    print(
        f"examples   {len(parts.train.examples):,} to learn from, {len(parts.eval.examples):,} to "
        f"measure on; {lengths[len(lengths) // 2]} tokens in the middle, {cut:.1%} fill "
        f"{config.max_seq_length}"
    )
    print(f"model      {config.model}: {shape.num_hidden_layers} layers, width {shape.hidden_size}")
    for reason in parts.reasons:
        print(f"chosen     {reason}")
    steps = parts.num_train_steps
    passes = steps / parts.steps_per_epoch
    print(f"plan       {steps:,} steps, {passes:.1f} passes, on {parts.runtime.device}", flush=True)
