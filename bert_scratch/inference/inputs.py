"""Turn text into model inputs, and a model folder into a model that answers.

Letters: B texts, S positions, R positions to guess, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from typing import TypeVar

import torch
from tokenizers import Tokenizer
from torch import Tensor

from bert_scratch.config import BertConfig, InputError, check_choice
from bert_scratch.data.encoding import encode_texts
from bert_scratch.data.wordpiece import check_vocabulary_fits, load_tokenizer, special_ids
from bert_scratch.inference.int8 import with_int8_products
from bert_scratch.model.compute_settings import ComputeSettings
from bert_scratch.model.devices import DTYPES, take_device
from bert_scratch.model.encoder import BertModel
from bert_scratch.model.folder import load_pretrained
from bert_scratch.model.heads import BertForMaskedLM, BertForPreTraining, PreTrainingOutput
from bert_scratch.model.pretrained_model import PretrainedModel
from bert_scratch.model.weight_files import find_folder

MASK = "[MASK]"
INT8 = "int8"
BATCH_SIZE = 32
_CHARACTERS_AT_ONCE = 2**21

Item = TypeVar("Item")
Model = TypeVar("Model", bound=PretrainedModel)
MaskedLM = BertForMaskedLM | BertForPreTraining


@dataclass(frozen=True, kw_only=True)
class ModelOptions(ComputeSettings):
    """Which model answers, and in which precision."""

    model: str
    """A model folder, a checkpoint, or a hub id."""
    dtype: str = "float32"
    """What the model computes in: float32, bfloat16 or float16; int8: its matrix products, on a
    CPU."""

    def __post_init__(self) -> None:
        """Check the precision and the threads.

        Raises:
            InputError: if the precision is unknown, or there are no threads.
        """
        ComputeSettings.__post_init__(self)
        check_choice("--dtype", self.dtype, (*DTYPES, INT8))

    def load(self, cls: type[Model], **keywords: bool) -> tuple[Model, Tokenizer]:
        """Return the model, in evaluation mode on its device, and its tokenizer.

        Args:
            cls: the class to load it as.
            keywords: of that class.

        Raises:
            InputError: if either cannot be loaded, there is no such device, or it has no int8.
        """
        device = take_device(self)
        if self.dtype == INT8 and device.type != "cpu":
            raise InputError(f"--dtype int8 is for a CPU; with --device {device} use bfloat16")
        model, tokenizer = load_with_tokenizer(cls, self.model, **keywords)
        if self.dtype == INT8:
            return with_int8_products(model.float().eval()), tokenizer
        return model.to(device, DTYPES[self.dtype]).eval(), tokenizer

    def load_encoder(self) -> tuple[BertModel, Tokenizer]:
        """Return what `load` does of an encoder without its pooler, which not every folder has.

        Raises:
            InputError: as `load`.
        """
        return self.load(BertModel, add_pooling_layer=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class EncodedText:
    """`[CLS] A [SEP]` or `[CLS] A [SEP] B [SEP]` as ids."""

    ids: list[int]
    """S token ids."""
    token_type_ids: list[int]
    """S token types: 0 up to and including the first [SEP], then 1."""


def encode_pair(
    tokenizer: Tokenizer,
    a: str,
    b: str | None = None,
    *,
    config: BertConfig,
    with_masks: bool = False,
) -> EncodedText:
    """Encode a text, or a pair, for a model.

    Special tokens written out in a text are ordinary text, except [MASK] if with_masks.

    Args:
        tokenizer: the model's.
        a: the first text.
        b: the second text; None for a single one.
        config: the model's; an input it cannot take is refused.
        with_masks: whether "[MASK]" in a text is the mask token.

    Raises:
        InputError: if the input is longer than max_position_embeddings, has a token beyond
            vocab_size, or is a pair while the model has only one token type.
    """
    special = special_ids(tokenizer)
    first = [special.cls, *_segment(tokenizer, a, with_masks=with_masks), special.sep]
    second = []
    if b is not None:
        if config.type_vocab_size < 2:
            raise InputError("a pair needs a model with two token types; this one has one")
        second = [*_segment(tokenizer, b, with_masks=with_masks), special.sep]
    ids = first + second
    longest = config.max_position_embeddings
    if len(ids) > longest:
        raise InputError(
            f"{_shown(a)} is {len(ids)} tokens long with its special tokens; the model takes at "
            f"most {longest} (max_position_embeddings): shorten or split the text"
        )
    check_known(max(ids), config, what=_shown(a))
    return EncodedText(ids=ids, token_type_ids=[0] * len(first) + [1] * len(second))


def check_known(highest_id: int, config: BertConfig, *, what: str = "a text") -> None:
    """Check that the model has an embedding for each token of a text.

    Raises:
        InputError: if it lacks that of the highest id.
    """
    if highest_id >= config.vocab_size:
        raise InputError(
            f"{what} has a token with id {highest_id}, the model has {config.vocab_size} "
            f"embeddings (vocab_size): the tokenizer is not the model's"
        )


def fits_row(tokenizer: Tokenizer, config: BertConfig, *texts: str, what: str = "a text") -> bool:
    """Tell whether a text, or a pair, is no longer than a model's row.

    Raises:
        InputError: if the tokenizer is not the model's.
    """
    ids = [index for found in encode_texts(tokenizer, texts) for index in found.tolist()]
    check_known(max(ids, default=0), config, what=what)
    return len(ids) + 1 + len(texts) <= config.max_position_embeddings


def pad_batch(
    encoded: Sequence[EncodedText], *, pad_id: int, device: torch.device
) -> dict[str, Tensor]:
    """Stack texts of any length, padded at the end, into the models' keyword arguments.

    Args:
        encoded: B texts, at least one.
        pad_id: the id of [PAD].
        device: where the model is.

    Returns:
        input_ids, token_type_ids and attention_mask, each [B, S] int64.
    """
    longest = max(len(text.ids) for text in encoded)

    def stacked(rows: Iterable[list[int]], filler: int) -> Tensor:
        padded = [row + [filler] * (longest - len(row)) for row in rows]
        return torch.tensor(padded, dtype=torch.int64, device=device)

    return {
        "input_ids": stacked((text.ids for text in encoded), pad_id),
        "token_type_ids": stacked((text.token_type_ids for text in encoded), 0),
        "attention_mask": stacked(([1] * len(text.ids) for text in encoded), 0),
    }


@contextmanager
def answering(model: PretrainedModel) -> Iterator[torch.device]:
    """Switch dropout and gradients off inside the block; yields the model's device."""
    was_training = model.training
    at_rest = [module for module in model.modules() if not module.training]
    model.eval()
    try:
        with torch.inference_mode():
            yield next(model.parameters()).device
    finally:
        model.train(was_training)
        for module in at_rest:
            module.training = False


def load_with_tokenizer(
    cls: type[Model], folder_or_hub_id: str, **keywords: bool
) -> tuple[Model, Tokenizer]:
    """Load a model and the tokenizer in its folder.

    Args:
        cls: the class to load it as.
        folder_or_hub_id: as in `load_pretrained`.
        keywords: of that class.

    Raises:
        InputError: if either cannot be loaded, or they do not belong together.
    """
    folder = find_folder(folder_or_hub_id)
    model = load_pretrained(cls, folder, **keywords)
    tokenizer = load_tokenizer(folder)
    check_vocabulary_fits(tokenizer, model.config.vocab_size, model=str(folder_or_hub_id))
    return model, tokenizer


def vocabulary_logits(model: MaskedLM, inputs: dict[str, Tensor], positions: Tensor) -> Tensor:
    """Return [R, V], vocabulary logits at some positions of a batch.

    Args:
        model: on the inputs' device.
        inputs: from `pad_batch`, each [B, S].
        positions: [R] int64, row * S + column.

    Raises:
        InputError: if the model has no head for masked tokens.
    """
    if not hasattr(model, "mlm_head"):
        raise InputError(
            f"guessing masked tokens needs a BertForMaskedLM or BertForPreTraining of "
            f"bert_scratch; got {type(model).__module__}.{type(model).__name__}"
        )
    output = model(**inputs, masked_positions=positions)
    pretraining = isinstance(output, PreTrainingOutput)
    logits: Tensor = output.prediction_logits if pretraining else output.logits
    return logits


def logits_at(
    model: MaskedLM,
    rows: Sequence[EncodedText],
    columns: Sequence[Sequence[int]],
    *,
    pad_id: int,
    device: torch.device,
) -> Tensor:
    """Return [R, V], vocabulary logits at some columns of each row.

    Args:
        model: on the device.
        rows: B texts, of any length.
        columns: the positions to guess in each row, [CLS] being 0.
        pad_id: the id of [PAD].
        device: where the model is.
    """
    inputs = pad_batch(rows, pad_id=pad_id, device=device)
    width = inputs["input_ids"].shape[1]
    positions = [row * width + column for row, own in enumerate(columns) for column in own]
    at = torch.tensor(positions, dtype=torch.int64, device=device)  # of none, torch takes float
    return vocabulary_logits(model, inputs, at)


def each_text(texts: Iterable[str]) -> Iterator[str]:
    """Yield texts.

    Raises:
        InputError: if they are one string, which would be read letter by letter, a table, which
            would be read as the names of its columns, or not all strings.
    """
    kind = "one string" if isinstance(texts, str) else f"a {type(texts).__name__}"
    if isinstance(texts, (str, Mapping)) or getattr(texts, "ndim", 1) != 1:
        raise InputError(f"this needs a list of texts; got {kind}")
    for number, text in enumerate(texts):
        if not isinstance(text, str):
            raise InputError(
                f"this needs a list of texts; got a {type(text).__name__} among them, at index "
                f"{number}"
            )
        yield text


def batches(items: Iterable[Item], size: int = BATCH_SIZE) -> Iterator[list[Item]]:
    """Yield lists of up to size items."""
    remaining = iter(items)
    while batch := list(islice(remaining, size)):
        yield batch


def text_batches(texts: Iterable[str], size: int) -> Iterator[list[str]]:
    """Yield lists of up to size texts, fewer if they are long, so that memory stays even."""
    batch: list[str] = []
    room = _CHARACTERS_AT_ONCE
    for text in each_text(texts):
        if batch and (len(batch) == size or len(text) > room):
            yield batch
            batch, room = [], _CHARACTERS_AT_ONCE
        batch.append(text)
        room -= len(text)
    if batch:
        yield batch


def _segment(tokenizer: Tokenizer, text: str, *, with_masks: bool) -> list[int]:
    """Return the ids of a text without special tokens around it."""
    tokens = [MASK] if with_masks else []
    ids: list[int] = encode_texts(tokenizer, [text], tokens=tokens)[0].tolist()
    return ids


def _shown(text: str) -> str:
    return repr(text if len(text) <= 60 else text[:57] + "...")
