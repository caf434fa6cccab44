"""The main job: text in, a pretrained BERT out; if killed, the same command resumes."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from bert_scratch import durable
from bert_scratch.config import INPUT_ERROR_EXIT_CODE, InputError, flag_of
from bert_scratch.data.corpus_files import check_output_apart
from bert_scratch.data.store import TokenStore
from bert_scratch.model.devices import resolve_device, resolve_dtype
from bert_scratch.pretraining.announce import announce, announce_dry_run
from bert_scratch.pretraining.assemble import Parts, assemble
from bert_scratch.pretraining.checkpoint_space import check_disk_space
from bert_scratch.pretraining.choices import RECIPES
from bert_scratch.pretraining.choose_step import fix_length_and_step
from bert_scratch.pretraining.extend import extend
from bert_scratch.pretraining.pretrain_config import PretrainConfig
from bert_scratch.pretraining.result import PretrainResult
from bert_scratch.pretraining.resume import (
    check_corpus_unchanged,
    check_word_vectors_exist,
    check_word_vectors_unchanged,
    store_word_vectors,
    stored_run,
    with_run_settings,
)
from bert_scratch.pretraining.run import Run, settings_from
from bert_scratch.pretraining.run_corpus import (
    default_output_dir,
    prepared_corpus,
    with_built_in_corpus,
    with_own_model,
)
from bert_scratch.pretraining.run_folder import PretrainRunFolder
from bert_scratch.pretraining.run_length import check_warmup
from bert_scratch.pretraining.starting_model import check_initial_model
from bert_scratch.pretraining.together import ending_together, ranks_of_run
from bert_scratch.training.all_reduce import open_all_reduce
from bert_scratch.training.distributed import Ranks
from bert_scratch.training.interruption import (
    Interrupted,
    stop_on_signals,
)
from bert_scratch.training.run_folder import OnChange, nobody
from bert_scratch.training.writers import check_writers_installed

_NOTHING = "nothing to do"
"""What the first rank tells the others when there is no step to make."""


def pretrain(asked: PretrainConfig, on_change: OnChange = nobody) -> PretrainResult | None:
    """Start or resume the pretraining that the settings describe; None after a dry run.

    Args:
        asked: the settings; those left out are chosen.
        on_change: called with the run's folder after each evaluation, and when the run ends.

    Raises:
        InputError: if settings, corpus or folder cannot be used; nothing is lost.
        Interrupted: after SIGTERM or SIGINT, once progress is saved.
        NonFinite: if a loss or gradient is not finite; the last checkpoint is finite.
    """
    check_writers_installed(asked.report_to)
    with ranks_of_run() as ranks:
        if not asked.corpus and asked.data is None:
            asked = with_built_in_corpus(asked)
        folder = PretrainRunFolder(Path(asked.output_dir or default_output_dir(asked)), on_change)
        if not ranks.is_first:
            with ending_together(folder, ranks):
                return _run_as_other_rank(folder, asked, ranks)
        folder.create()
        with folder.locked(), ending_together(folder, ranks):
            return _pretrain_in(folder, asked, ranks)


def _pretrain_in(
    folder: PretrainRunFolder, asked: PretrainConfig, ranks: Ranks
) -> PretrainResult | None:
    """Do what `pretrain` does, in a folder that only the ranks of this run use."""
    stored = stored_run(folder, asked)
    if stored is not None:
        if asked.dry_run:
            raise InputError(
                f"--dry-run: {folder.path} already holds a run, which this command would resume; "
                f"give another --output-dir"
            )
        check_corpus_unchanged(asked, folder)
        check_word_vectors_unchanged(asked, folder)
        if asked.extend:
            stored = extend(folder, stored, asked)
        if folder.is_done(stored.num_train_steps):
            ranks.tell("start", _NOTHING)
            print(f"{folder.path}: this run is already finished; the model is in {folder.model}")
            steps = stored.num_train_steps or 0
            return PretrainResult(folder=folder.model, num_train_steps=steps, evaluation=None)
    is_shared = ranks.world_size > 1 and not asked.dry_run
    if is_shared:
        folder.write_end("running", code=0, message="")  # no end of an earlier start is this one's
    try:
        return _run_as_first_rank(folder, asked, stored, ranks)
    except InputError as error:
        if is_shared:
            folder.write_end("failed", code=INPUT_ERROR_EXIT_CODE, message=str(error))
        raise


def _run_as_first_rank(
    folder: PretrainRunFolder, asked: PretrainConfig, stored: PretrainConfig | None, ranks: Ranks
) -> PretrainResult | None:
    """Do the first rank's part of a run that has something to do, and tell the others theirs."""
    ranks.tell("start", "prepare")
    try:
        parts = _prepare_first_step(folder, asked, stored, ranks)
    except KeyboardInterrupt:
        message = "stopped before the first step; run the same command again to resume"
        # torchrun stops this rank too when it has lost another one, and starts all again.
        state = "stopped" if ranks.world_size == 1 else "interrupted"
        folder.write_end(state, code=Interrupted.exit_code, message=message)
        raise
    ranks.tell("settings", _NOTHING if parts is None else parts.config.to_json())
    return None if parts is None else _run(parts, folder)


def _prepare_first_step(
    folder: PretrainRunFolder, asked: PretrainConfig, stored: PretrainConfig | None, ranks: Ranks
) -> Parts | None:
    """Prepare and resolve everything needed before the first step; None after a dry run."""
    if stored is None:
        _check_machine(asked)
        _check_initial_weights(asked)
        if asked.num_train_steps is not None:  # before the corpus is prepared
            check_warmup(asked, steps=asked.num_train_steps)
        check_initial_model(asked)
        check_word_vectors_exist(asked)
        check_output_apart(asked.corpus, folder.path)
    parts = _assembled(folder, stored or asked, prepared_corpus(asked, folder), ranks)
    if stored is not None:
        return parts.with_config(with_run_settings(parts.config, asked))
    parts, trial = fix_length_and_step(parts, folder, may_halve=asked.micro_batch_size is None)
    announce(parts, trial, folder)
    if asked.dry_run:
        announce_dry_run(parts, trial.step)
        return None
    check_disk_space(folder, parts.config, trial.checkpoint.num_parameters)
    store_word_vectors(asked, folder)
    durable.write_text(folder.corpus_facts, parts.facts.to_json())
    parts.tokenizer.save_pretrained(folder.tokenizer)
    folder.store(asked, parts.config)  # last: from here on the run can be resumed
    return parts


def _assembled(
    folder: PretrainRunFolder, basis: PretrainConfig, store: TokenStore, ranks: Ranks
) -> Parts:
    """Build the parts, also if --init-checkpoint is gone since the run saved a checkpoint."""
    parts = assemble(with_own_model(basis, folder), store, ranks)
    began_with = {"init_checkpoint": basis.init_checkpoint, "add_tokens": basis.add_tokens}
    return parts.with_config(parts.config.replace(**began_with))


def _check_machine(asked: PretrainConfig) -> None:
    """Refuse what this machine cannot compute, before a long preparation of the corpus.

    Raises:
        InputError: naming the flag.
    """
    device = resolve_device(asked.device)
    resolve_dtype(asked.dtype, device)
    if asked.packed and device.type == "cpu":
        raise InputError("--packed: its kernels are for GPUs, this run is on a CPU; leave it out")


def _check_initial_weights(asked: PretrainConfig) -> None:
    """Refuse flags about weights that are drawn if those of a checkpoint are continued.

    Raises:
        InputError: naming the flag.
    """
    for name in ("initializer", "initializer_range"):
        value = getattr(asked, name)
        # an older version's settings, given as --config, hold what the recipe sets
        of_recipe = RECIPES[asked.recipe].get(name)
        if asked.init_checkpoint is not None and value not in (None, of_recipe):
            raise InputError(
                f"{flag_of(name)} {value} has no effect with --init-checkpoint: the weights are "
                f"those of the checkpoint; leave it out"
            )


def _run_as_other_rank(
    folder: PretrainRunFolder, asked: PretrainConfig, ranks: Ranks
) -> PretrainResult | None:
    """Do another rank's part of what `pretrain` does, with the first rank's settings."""
    if ranks.wait_for("start") == _NOTHING:
        return None
    store = prepared_corpus(asked, folder)
    settings = ranks.wait_for("settings")
    if settings == _NOTHING:
        return None
    parts = _assembled(folder, settings_from(settings), store, ranks)
    return _run(replace(parts, word_vectors=None), folder)  # it gets the first rank's weights


def _run(parts: Parts, folder: PretrainRunFolder) -> PretrainResult:
    with (
        stop_on_signals() as stop,
        open_all_reduce(parts.ranks, parts.runtime.device, stop) as all_reduce,
    ):
        return Run(parts, folder, all_reduce).go()
