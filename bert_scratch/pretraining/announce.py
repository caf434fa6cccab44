"""What a run reports before its first step: corpus, model, choices with reasons, cost, verdict."""

from __future__ import annotations

import shutil

from bert_scratch.data.loader import ExampleLoader
from bert_scratch.data.mixed_examples import MixedExamples
from bert_scratch.data.mixture import BLOCK_PLACES, mixture_components
from bert_scratch.pretraining.assemble import Parts
from bert_scratch.pretraining.checkpoint_space import disk_bytes
from bert_scratch.pretraining.choices import PASSES_WORTH_DROPOUT
from bert_scratch.pretraining.plan_outlook import (
    describe_bytes,
    describe_outlook,
    describe_start,
    outlook_on,
)
from bert_scratch.pretraining.resolve import filled, step_memory
from bert_scratch.pretraining.run_folder import PretrainRunFolder
from bert_scratch.pretraining.run_length import expected_steps
from bert_scratch.pretraining.starting_model import describe_new_rows
from bert_scratch.pretraining.step_probe import StepProbe, Trial
from bert_scratch.training.metrics import describe
from bert_scratch.training.objective import PRETRAINING


def announce(parts: Parts, trial: Trial, folder: PretrainRunFolder) -> None:
    """Print the model and corpus, what was chosen and why, and what the run will cost."""
    config, facts, shape = parts.config, parts.facts, parts.bert_config
    probe, rehearsal = trial.step, trial.checkpoint
    parameters = rehearsal.num_parameters
    steps = expected_steps(config, probe.step_s)
    outlook = outlook_on(
        config,
        shape,
        facts,
        num_train_steps=steps,
        num_examples=parts.loader.num_examples,
        # all ranks have similar shares
        tokens_per_step=parts.ranks.world_size * parts.loader.batch_at(0).num_tokens,
        step_s=probe.step_s,
    )
    mixture = describe_mixture(parts.loader, steps * filled(config.train_batch_size))
    for line in (
        *describe_start(facts, shape, parameters, parts.reasons),
        *_beginnings(parts),
        *describe_outlook(outlook, str(parts.runtime.device)),
        *(f"mixture    {component}" for component in mixture),
    ):
        print(line)
    free = shutil.disk_usage(folder.path).free
    print(
        f"needs      {describe_bytes(trial.peak_memory_bytes)} of memory (measured), "
        f"{describe_bytes(disk_bytes(config, parameters))} on disk for checkpoints and models "
        f"({describe_bytes(free)} free)"
    )
    memory = step_memory(config, shape, parts.runtime, world_size=parts.ranks.world_size)
    print(
        f"memory     {describe_bytes(memory.state_bytes)} for weights, gradients and moments, plus "
        f"{describe_bytes(memory.token_bytes)} per token in a forward pass of "
        f"{config.micro_batch_size} examples (computed from shapes)"
    )
    print(
        f"checkpoint {describe_bytes(rehearsal.num_bytes)}; a trial one was written and verified "
        f"in {rehearsal.write_s:.2f} s and read back in {rehearsal.read_s:.2f} s",
        flush=True,
    )


def _beginnings(parts: Parts) -> list[str]:
    """Return a line for each kind of embedding row that starts in a special way."""
    lines = []
    if parts.word_vectors is not None:
        vectors = parts.config.init_word_vectors
        coverage = parts.word_vectors().coverage
        lines.append(f"weights    --init-word-vectors {vectors}: {coverage}")
    if parts.added_tokens:
        new = describe_new_rows(parts.added_tokens, parts.tokenizer.tokenizer, parts.store)
        lines.append(f"weights    {new}")
    return lines


def describe_mixture(loader: ExampleLoader, num_drawn: int) -> list[str]:
    """Return a line for each component of a mixture: its share, and how often it is repeated.

    Args:
        loader: of the train examples; without a mixture there are no lines.
        num_drawn: total examples that the run draws.
    """
    if not isinstance(loader.source, MixedExamples):
        return []
    average = num_drawn / loader.num_examples
    lines = []
    sizes = loader.source.component_sizes
    for component, size in zip(mixture_components(loader.store.manifest), sizes, strict=True):
        share = component.places / BLOCK_PLACES
        passes = share * num_drawn / size
        line = (
            f"{component.path}: {share:.1%} of the examples, {component.text_share:.1%} of the "
            f"text, {passes:.1f} passes over it"
        )
        if passes > PASSES_WORTH_DROPOUT >= average:
            line += (
                f", above the {PASSES_WORTH_DROPOUT} passes from which dropout may help; dropout "
                f"and verdict follow the average, {average:.1f}"
            )
        lines.append(line)
    return lines


def announce_dry_run(parts: Parts, probe: StepProbe) -> None:
    """Print the resolved settings and the result of one real step."""
    print("\nresolved settings (as --config would read them):")
    print(parts.config.to_json(), end="")
    values = PRETRAINING.means(probe.sums)
    print(f"\none step   {describe(1, None, values)}  in {probe.step_s * 1e3:.1f} ms")
    print("dry run: nothing was trained; the prepared corpus is kept for the real run")
