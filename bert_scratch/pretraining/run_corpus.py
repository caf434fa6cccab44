"""The corpus of a run (built in, prepared, or to be prepared), and the run's folder."""

from __future__ import annotations

from pathlib import Path

from bert_scratch.config import InputError, flag_of
from bert_scratch.data.store import TokenStore
from bert_scratch.model.weight_files import find_folder
from bert_scratch.pretraining.prepare import prepare
from bert_scratch.pretraining.pretrain_config import PretrainConfig
from bert_scratch.pretraining.resolve import filled
from bert_scratch.pretraining.run_folder import PretrainRunFolder
from bert_scratch.training.checkpoint import find_checkpoint

BUILT_IN: dict[str, str | int | float] = {
    "preset": "tiny",
    "vocab_size": 8192,
    "max_seq_length": 64,
    "train_batch_size": 32,
    "max_train_seconds": 250.0,
}
"""Settings of a run with neither --corpus nor --data that the user left out."""


def with_built_in_corpus(asked: PretrainConfig) -> PretrainConfig:
    """Fill in the settings of a run without a corpus, and say so."""
    filled = {name: value for name, value in BUILT_IN.items() if getattr(asked, name) is None}
    if asked.num_train_steps is not None:
        filled.pop("max_train_seconds", None)
    if asked.tokenizer is not None or asked.init_checkpoint is not None:
        filled.pop("vocab_size", None)
    if asked.init_checkpoint is not None:
        filled.pop("preset", None)
    flags = " ".join(
        f"{flag_of(name)} {value if isinstance(value, str) else format(value, 'g')}"
        for name, value in filled.items()
    )
    print("no --corpus: training on the documentation of this Python installation, with")
    print(f"  {flags}", flush=True)
    return asked.replace(**filled)


def default_output_dir(asked: PretrainConfig) -> str:
    """Return the default folder of a run: runs/<corpus>-<preset>."""
    source = asked.data or (asked.corpus[0] if asked.corpus else "python-documentation")
    name = Path(source).name.split(".")[0].strip("*?[]") or "corpus"
    return f"runs/{name}-{asked.preset or 'auto'}"


def prepared_corpus(asked: PretrainConfig, folder: PretrainRunFolder) -> TokenStore:
    """Return the corpus of --data, or prepare that of --corpus in the run's folder."""
    if asked.data is not None:
        return TokenStore(Path(asked.data))
    return prepare(corpus_settings(asked, folder), folder.corpus)


def corpus_settings(asked: PretrainConfig, folder: PretrainRunFolder) -> PretrainConfig:
    """Return the settings with the tokenizer of --init-checkpoint."""
    if asked.init_checkpoint is None:
        return asked
    settings = with_own_model(asked, folder)
    tokenizer = str(find_folder(filled(settings.init_checkpoint)))
    return settings.replace(init_checkpoint=None, tokenizer=tokenizer)


def with_own_model(config: PretrainConfig, folder: PretrainRunFolder) -> PretrainConfig:
    """Return the settings with the run's own model for an --init-checkpoint that is gone.

    A run that has a checkpoint or a result needs no more of it than shape and vocabulary. Its own
    model has both, words of --add-tokens included.
    """
    if config.init_checkpoint is None:
        return config
    try:
        find_folder(config.init_checkpoint)
    except InputError:
        model = folder.model if folder.model.is_dir() else find_checkpoint(folder.checkpoints)[0]
        if model is not None:
            return config.replace(init_checkpoint=str(model), add_tokens=())
    return config
