"""Resume the run in a folder: which settings may change, and what is refused."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path

from bert_scratch import durable
from bert_scratch.config import InputError, read_json_object
from bert_scratch.data.store import MANIFEST
from bert_scratch.pretraining.choices import CORPUS_VECTORS, NO_VECTORS
from bert_scratch.pretraining.prepare import check_same_corpus
from bert_scratch.pretraining.pretrain_config import (
    HORIZON,
    INTERVALS,
    MAY_CHANGE_ON_RESUME,
    TAKEN_ON_RESUME,
    PretrainConfig,
)
from bert_scratch.pretraining.run_corpus import corpus_settings
from bert_scratch.pretraining.run_folder import PretrainRunFolder
from bert_scratch.training.checkpoint import STATE, find_checkpoint
from bert_scratch.training.loop import Progress
from bert_scratch.training.schedule import DECAY_SHARE
from bert_scratch.training.versions import versions


def stored_run(folder: PretrainRunFolder, asked: PretrainConfig) -> PretrainConfig | None:
    """Return the settings of the run to resume, or None for a new one.

    Raises:
        InputError: if --resume or --extend forbid it, or the command's settings differ from the
            run's.
    """
    stored = folder.stored()
    if stored is None:
        if asked.resume == "must" or asked.extend:
            flag = "--extend" if asked.extend else "--resume must"
            raise InputError(f"{flag}: there is no run to resume in {folder.path}")
        return None
    if asked.resume == "never":
        raise InputError(
            f"--resume never: {folder.path} already holds a run; leave --resume never out to "
            f"resume it, or give another --output-dir"
        )
    may_change = MAY_CHANGE_ON_RESUME | (HORIZON if asked.extend else set())
    changes = folder.changes(asked, may_change=may_change)
    if changes:
        raise run_differs(folder, "other settings", changes)
    if stored.lr_schedule != "wsd":  # older versions took a share with every schedule
        stored = stored.replace(lr_decay_share=DECAY_SHARE)
    if stored.init_word_vectors is None and stored.init_checkpoint is None:
        return stored.replace(init_word_vectors=NO_VECTORS)  # from a version that counted none
    return stored


def check_corpus_unchanged(asked: PretrainConfig, folder: PretrainRunFolder) -> None:
    """Refuse to resume, or to call done, a run whose text has changed since.

    Raises:
        InputError: naming what changed.
    """
    if asked.data is not None or not (folder.corpus / MANIFEST).exists():
        return
    changes = check_same_corpus(folder.corpus, corpus_settings(asked, folder))
    if changes:
        raise run_differs(folder, "another corpus", changes)


def check_word_vectors_exist(asked: PretrainConfig) -> None:
    """Refuse a value of --init-word-vectors that names nothing, before the corpus is prepared.

    Raises:
        InputError: naming the value and what is allowed.
    """
    file = _word_vectors_file(asked)
    if file is not None and not file.is_file():
        raise InputError(
            f"--init-word-vectors must be {CORPUS_VECTORS}, {NO_VECTORS} or a file of vectors; "
            f"there is no file {file}"
        )


def store_word_vectors(asked: PretrainConfig, folder: PretrainRunFolder) -> None:
    """Write the digest of --init-word-vectors, if it was given, into the run's folder."""
    if (file := _word_vectors_file(asked)) is not None:
        durable.write_json(folder.word_vectors, durable.file_digest(file))


def check_word_vectors_unchanged(asked: PretrainConfig, folder: PretrainRunFolder) -> None:
    """Refuse to resume, or to call done, a run whose word vectors have changed since.

    Raises:
        InputError: if they have.
    """
    file = _word_vectors_file(asked)
    if file is None:
        return
    stored = read_json_object(folder.word_vectors)
    if not file.is_file() or durable.file_digest(file) != stored:
        change = f"--init-word-vectors {file}: is not the file the run began with"
        raise run_differs(folder, "other word vectors", [change])


def _word_vectors_file(asked: PretrainConfig) -> Path | None:
    value = asked.init_word_vectors
    return None if value in (None, CORPUS_VECTORS, NO_VECTORS) else Path(value)


def run_differs(folder: PretrainRunFolder, what: str, changes: list[str]) -> InputError:
    """Return the error: what differs, and the three commands that make sense.

    Args:
        folder: of the run.
        what: what differs in the run it holds.
        changes: one line each.
    """
    listing = "\n  ".join(changes)
    model = folder.newest_model()
    lines = [
        f"{folder.path} holds a run with {what}:\n  {listing}\nYou can instead:",
        "  start a new run                   the same command with --output-dir ANOTHER",
    ]
    if model is not None:
        lines += [
            f"  start a new run from its weights  the same command with "
            f"--init-checkpoint {shlex.quote(str(model))} --output-dir ANOTHER,",
            f"{'':36}without the flags of the model's shape, first weights and vocabulary",
        ]
    # The folder may have been moved, and the run may have been begun with --resume never.
    lines.append(
        f"  train the old run longer          bert-scratch pretrain --config "
        f"{shlex.quote(str(folder.asked))} --output-dir {shlex.quote(str(folder.path))} "
        f"--resume auto --extend --num-train-steps MORE"
    )
    return InputError("\n".join(lines))


def check_same_store(checkpoint: Path, corpus_sha256: str, folder: PretrainRunFolder) -> None:
    """Refuse a corpus prepared anew under the same name; note changed library versions.

    Args:
        checkpoint: the one to resume from.
        corpus_sha256: of the manifest of today's corpus.
        folder: of the run.

    Raises:
        InputError: if the checkpoint was trained on another corpus.
    """
    state = read_json_object(checkpoint / STATE)
    if state.get("corpus_sha256", corpus_sha256) != corpus_sha256:
        change = "--data: the prepared corpus is not the one the run was trained on"
        raise run_differs(folder, "another corpus", [change])
    then, now = state.get("versions", {}), versions()
    for name in sorted(then.keys() & now.keys()):
        if then[name] != now[name]:
            print(
                f"note       {name} was {then[name]} and is now {now[name]}: results may "
                f"differ in the last bits"
            )


def with_run_settings(stored: PretrainConfig, asked: PretrainConfig) -> PretrainConfig:
    """Return the stored settings, updated with those that a resumed run may change."""
    always = {name: getattr(asked, name) for name in TAKEN_ON_RESUME}
    given = {name: value for name in INTERVALS if (value := getattr(asked, name)) is not None}
    return stored.replace(**always, **given)


def newest_checkpoint(folder: PretrainRunFolder) -> Path | None:
    """Return the newest valid checkpoint of a run, and report newer ones that are not valid.

    Raises:
        InputError: if there are checkpoints but none is valid: the run would start over and lose
            its best model.
    """
    checkpoint, problems = find_checkpoint(folder.checkpoints)
    if problems and checkpoint is None:
        listing = "\n  ".join(problems)
        raise InputError(
            f"{folder.path} has no complete checkpoint to resume from:\n  {listing}\n"
            f"delete {folder.checkpoints} to start this run over, or give another --output-dir"
        )
    for problem in problems:
        print(f"warning    checkpoint ignored: {problem}", file=sys.stderr)
    return checkpoint


def progress_of(checkpoint: Path) -> Progress:
    """Return the progress of the run when a checkpoint was written."""
    return Progress.from_state(read_json_object(checkpoint / STATE))


def corpus_digest(store_folder: Path) -> str:
    """Return the SHA-256 of a prepared corpus's manifest, which includes that of every file."""
    digest: str = durable.file_digest(store_folder / MANIFEST)["sha256"]
    return digest
