"""Convert any BERT folder to a modern one: safetensors, tokenizer.json, a plain config.json."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from bert_scratch import durable
from bert_scratch.config import InputError, Settings, check_choice, read_json_object
from bert_scratch.data.wordpiece import (
    TokenizerFolder,
    has_tokenizer,
    load_tokenizer,
    vocab_size_of,
)
from bert_scratch.model.folder import check_encoder, read_config, to_ours, write_folder
from bert_scratch.model.huggingface import place_encoder, to_hf
from bert_scratch.model.legacy import read_pickled_weights
from bert_scratch.model.weight_files import CONFIG, PICKLED, find_folder, read_weights
from bert_scratch.output_places import make_place_for

# Heads under our names -> the class that has exactly these.
_CLASS_OF_HEADS = {
    (): "BertModel",
    ("mlm_head",): "BertForMaskedLM",
    ("nsp_head",): "BertForNextSentencePrediction",
    ("mlm_head", "nsp_head"): "BertForPreTraining",
    ("qa_outputs",): "BertForQuestionAnswering",
}
_CLASSES_WITH_CLASSIFIER = (
    "BertForSequenceClassification",
    "BertForTokenClassification",
    "BertForMultipleChoice",
)
TASK_FILE = "task.json"
"""How a fine-tuned model reads texts and chooses answers; without it `predict` has to guess."""


@dataclass(frozen=True, kw_only=True)
class ConvertConfig(Settings):
    """Turn a BERT folder of any age into one with safetensors and tokenizer.json."""

    input: str
    """A model folder, a hub id, or a pytorch_model.bin next to its config.json."""
    output_dir: str
    """The folder to make; must not exist, or be empty."""
    allow_pickle: bool = False
    """Read a pickled pytorch_model.bin: only from a source you trust, it can run code."""
    architecture: str | None = None
    """The class that the weights are of, where a classifier leaves that open."""

    def __post_init__(self) -> None:
        """Check the class.

        Raises:
            InputError: if it is not one that is known.
        """
        known = (*_CLASS_OF_HEADS.values(), *_CLASSES_WITH_CLASSIFIER)
        check_choice("--architecture", self.architecture, known)


def run_convert(config: ConvertConfig) -> Path:
    """Convert a folder and return the new one; weights become float32.

    Raises:
        InputError: if the input cannot be read, is not a complete BERT, or is a pickle and
            --allow-pickle was not given; if --architecture is not the weights' class, or is needed
            and missing; or if the output folder is in use or cannot be written to.
    """
    target = Path(config.output_dir)
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise InputError(f"--output-dir {target}: exists and is not an empty folder")
    if not target.exists():
        make_place_for(target, flag="--output-dir")
    source = Path(config.input)
    pickled = source if source.suffix == ".bin" and source.is_file() else None
    if pickled is not None:
        source = source.parent
    else:
        source = find_folder(config.input, extra_files=[PICKLED] if config.allow_pickle else [])
        if config.allow_pickle and not any(source.glob("*.safetensors")):
            pickled = source / PICKLED
    if pickled is not None and not config.allow_pickle:
        raise InputError(f"{pickled}: is a pickle, which can run code; add --allow-pickle")

    shape = read_config(source)
    weights = read_weights(source) if pickled is None else read_pickled_weights(pickled)
    check_encoder(source, shape, weights)
    ours = to_ours(source, shape, weights, prefix="bert.")
    architecture = _architecture(source, ours, config.architecture)
    if architecture == "BertModel":
        ours = place_encoder(ours, prefix="")
    stored = to_hf(ours, shape)
    tokenizer = load_tokenizer(source) if has_tokenizer(source) else None
    num_tokens = 0 if tokenizer is None else vocab_size_of(tokenizer)
    if num_tokens > shape.vocab_size:
        print(
            f"warning: {source}: its tokenizer has {num_tokens} tokens, its embedding "
            f"{shape.vocab_size}: converted all the same, but they do not belong together",
            file=sys.stderr,
        )
    with durable.durable_folder(target) as folder:
        write_folder(folder, stored, shape, architecture=architecture)
        if tokenizer is not None:
            length = shape.max_position_embeddings
            TokenizerFolder(tokenizer, model_max_length=length).save_pretrained(folder)
        if (source / TASK_FILE).is_file():
            shutil.copyfile(source / TASK_FILE, folder / TASK_FILE)
    num_parameters = sum(tensor.numel() for tensor in stored.values())
    without = "" if tokenizer is not None else f"; no tokenizer, {source} has none"
    print(f"{target}: {architecture}, {num_parameters:,} parameters{without}")
    return target


def _architecture(source: Path, names: Iterable[str], given: str | None) -> str:
    """Infer the class from the heads; for a classifier only the user or config.json can tell."""
    heads = {name.partition(".")[0] for name in names} - {"bert"}
    if "classifier" not in heads:
        settled = _CLASS_OF_HEADS.get(tuple(sorted(heads)), given)
        if settled is None:
            raise InputError(
                f"{source}: no class has the heads {', '.join(sorted(heads))} and no others; add "
                f"--architecture with the one to load it as"
            )
        if given not in (None, settled):
            raise InputError(
                f"--architecture {given}: the weights in {source} are those of {settled}; leave "
                f"the flag out"
            )
        return settled
    if given in _CLASSES_WITH_CLASSIFIER:
        return given
    if given is not None:
        raise InputError(
            f"--architecture {given}: the weights in {source} have a classifier; give one of "
            f"{', '.join(_CLASSES_WITH_CLASSIFIER)}"
        )
    named = read_json_object(source / CONFIG).get("architectures")
    for architecture in named if isinstance(named, list) else []:
        if architecture in _CLASSES_WITH_CLASSIFIER:
            return str(architecture)
    raise InputError(
        f"{source}: the weights have a classifier, {CONFIG} does not name their class; add "
        f"--architecture with one of {', '.join(_CLASSES_WITH_CLASSIFIER)}"
    )
