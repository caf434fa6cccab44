"""What a run says before its first step: corpus, model, choices with reasons, cost, verdict."""

from __future__ import annotations

import shutil

from bert_scratch.config import counted
from bert_scratch.data.loader import ExampleLoader
from bert_scratch.data.mixed_examples import MixedExamples
from bert_scratch.data.mixture import BLOCK_PLACES, mixture_components
from bert_scratch.pretraining.assemble import Parts, expected_steps
from bert_scratch.pretraining.checkpoint_space import disk_bytes
from bert_scratch.pretraining.choices import PASSES_WORTH_DROPOUT, verdict
from bert_scratch.pretraining.corpus_facts import PAIR_CHANCE_LOSS
from bert_scratch.pretraining.initial_weights import describe_new_rows
from bert_scratch.pretraining.resolve import filled, step_memory
from bert_scratch.pretraining.run_folder import RunFolder
from bert_scratch.pretraining.step_probe import StepProbe, Trial
from bert_scratch.training.metrics import describe, duration
from bert_scratch.training.objective import PRETRAINING


def announce(parts: Parts, trial: Trial, folder: RunFolder) -> None:
    """Print what will be trained on what, what was chosen and why, and what it will cost."""
    config, facts, shape = parts.config, parts.facts, parts.bert_config
    probe, rehearsal = trial.step, trial.checkpoint
    parameters = rehearsal.num_parameters
    steps = expected_steps(config, probe.step_s)
    # the shares of all ranks are much the same
    tokens_per_step = parts.ranks.world_size * parts.loader.batch_at(0).num_tokens
    tokens = float(steps * tokens_per_step)
    num_drawn = steps * filled(config.train_batch_size)
    passes = num_drawn / parts.loader.num_examples
    print(
        f"corpus     {counted(facts.train_documents, 'document')}, "
        f"{counted(facts.train_sentences, 'sentence')}, {facts.train_tokens:,} tokens; held out "
        f"{counted(facts.eval_documents, 'document')}, {facts.eval_tokens:,} tokens; "
        f"[UNK] {facts.unknown_share:.3%}"
    )
    print(
        f"model      {shape.num_hidden_layers} layers, width {shape.hidden_size}, "
        f"{shape.num_attention_heads} heads, vocabulary {shape.vocab_size:,}: "
        f"{parameters:,} parameters"
    )
    if parts.word_vectors is not None:
        print(f"weights    --init-word-vectors {config.init_word_vectors}: {parts.word_vectors()}")
    if parts.added_tokens:
        tokenizer = parts.tokenizer.tokenizer
        print(f"weights    {describe_new_rows(parts.added_tokens, tokenizer, parts.store)}")
    for reason in parts.reasons:
        print(f"chosen     {reason}")
    print(
        f"references ln V {facts.uniform_loss:.3f}, unigram entropy of the train text "
        f"{facts.unigram_entropy:.3f}, chance for pairs {PAIR_CHANCE_LOSS:.3f} (nats)"
    )
    print(
        f"plan       about {steps:,} steps of {tokens_per_step:,} tokens = {tokens:,.0f} tokens, "
        f"{passes:.1f} passes over the text, about "
        f"{duration(config.max_train_seconds or steps * probe.step_s)} on {parts.runtime.device}"
    )
    for line in describe_mixture(parts.loader, num_drawn):
        print(f"mixture    {line}")
    for line in verdict(facts, parameters=parameters, tokens=tokens, passes=passes):
        print(f"verdict    {line}")
    free = shutil.disk_usage(folder.path).free
    print(
        f"needs      {_bytes(trial.peak_memory_bytes)} of memory (measured), "
        f"{_bytes(disk_bytes(config, parameters))} on disk for checkpoints and models "
        f"({_bytes(free)} free)"
    )
    memory = step_memory(config, shape, parts.runtime)
    print(
        f"memory     {_bytes(memory.state_bytes)} of weights, gradients and moments, and "
        f"{_bytes(memory.token_bytes)} a token of a forward pass of {config.micro_batch_size} "
        f"examples (by the shapes)"
    )
    print(
        f"checkpoint {_bytes(rehearsal.num_bytes)}, one was written and verified in "
        f"{rehearsal.write_s:.2f} s and read back in {rehearsal.read_s:.2f} s",
        flush=True,
    )


def describe_mixture(loader: ExampleLoader, num_drawn: int) -> list[str]:
    """Return a line for each component of a mixture: its share, and how often it is repeated.

    Args:
        loader: of the train examples; without a mixture there is nothing to say.
        num_drawn: examples that the run draws in all.
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
                f", more than the {PASSES_WORTH_DROPOUT} from which dropout pays, though the "
                f"average of {average:.1f}, which decides dropout and verdict, is not"
            )
        lines.append(line)
    return lines


def announce_dry_run(parts: Parts, probe: StepProbe) -> None:
    """Print the resolved settings and what one real step did."""
    print("\nresolved settings (as --config would read them):")
    print(parts.config.to_json(), end="")
    values = PRETRAINING.means(probe.sums)
    print(f"\none step   {describe(1, None, values)}  in {probe.step_s * 1e3:.1f} ms")
    print("dry run: nothing was trained; the prepared corpus is kept for the real run")


def _bytes(count: float) -> str:
    for unit in ("B", "KB", "MB"):
        if count < 1000:
            return f"{count:.0f} {unit}"
        count /= 1000
    return f"{count:.1f} GB"
