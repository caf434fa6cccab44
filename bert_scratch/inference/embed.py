"""Vectors of texts, words and tokens, from any layer.

Letters: N texts, n words or tokens of a text, L layers, D hidden.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby

import numpy as np
from tokenizers import Encoding, Tokenizer
from torch import nn

from bert_scratch.config import InputError, Settings, check_choice, check_range
from bert_scratch.data.encoding import TextEncoder, encode_with_offsets
from bert_scratch.data.wordpiece import special_ids
from bert_scratch.inference.encode import EncodedBatch, Window, encode_windows, windows_of
from bert_scratch.inference.inputs import each_text, text_batches
from bert_scratch.inference.pooling import (
    LAYER_COMBINES,
    POOLINGS,
    Vectors,
    combine_layers,
    join_pieces,
    join_windows,
    pool_rows,
    pool_windows,
    unit_length,
)
from bert_scratch.model.encoder import BertModel

Offsets = list[tuple[int, int]]

ALL_LAYERS = "all"
UNITS = ("text", "word", "token")
BATCH_SIZE, CPU_BATCH_SIZE = 64, 8
"""Rows per pass. On a CPU a few rows fit its caches, and have more similar lengths."""
TOKENS_A_ROW = 128
_TEXTS_AT_ONCE = 4096


@dataclass(frozen=True, kw_only=True)
class ReadingOptions(Settings):
    """Which layers are read, and how much of a text at a time."""

    layers: tuple[str, ...] = ("-1",)
    """Layers to read: 0 is the output of the embeddings, L or -1 the last layer, -2 the one before
    it; or all."""
    layer_combine: str | None = None
    """How to combine layers: mean, sum, concat, or stack (apart). Left out: mean; stack for all."""
    max_seq_length: int | None = None
    """Tokens of a row. Left out: those of the rows the model was trained on, or all it can take."""
    stride: int | None = None
    """Tokens from one window of a longer text to the next. Left out: it is cut off."""
    batch_size: int | None = None
    """Rows of 128 tokens in a pass; more of shorter ones, fewer of longer ones. Left out: 8 on a
    CPU, 64 elsewhere."""

    def __post_init__(self) -> None:
        """Check each value.

        Raises:
            InputError: naming the option.
        """
        check_choice("--layer-combine", self.layer_combine, LAYER_COMBINES)
        check_range("--batch-size", self.batch_size, at_least=1)
        check_range("--max-seq-length", self.max_seq_length, at_least=3)
        check_range("--stride", self.stride, at_least=1)
        if not self.layers:
            raise InputError("--layers needs at least one layer")

    def check_one_vector(self) -> None:
        """Check that the layers are combined into one vector.

        Raises:
            InputError: if they are kept apart.
        """
        if self.layer_combine == "stack" or (
            self.layer_combine is None and self.layers == (ALL_LAYERS,)
        ):
            raise InputError("one vector is needed: choose --layer-combine mean, sum or concat")


@dataclass(frozen=True, kw_only=True)
class VectorOptions(ReadingOptions):
    """What a text's vector is made of; the defaults are sentence-transformers' for a plain BERT."""

    pooling: str = "mean"
    """How to pool a text: mean or max over its tokens, including [CLS] and [SEP], or cls."""

    def __post_init__(self) -> None:
        """Check each value.

        Raises:
            InputError: naming the option.
        """
        super().__post_init__()
        check_choice("--pooling", self.pooling, POOLINGS)


@dataclass(frozen=True, kw_only=True)
class EmbedOptions(VectorOptions):
    """What gets a vector, and how it is scaled."""

    unit: str = "text"
    """What gets a vector: text, word (the mean of its pieces) or token."""
    normalize: bool = False
    """Scale every vector to length 1."""

    def __post_init__(self) -> None:
        """Check each value.

        Raises:
            InputError: naming the option.
        """
        super().__post_init__()
        check_choice("--unit", self.unit, UNITS)


@dataclass(frozen=True, slots=True)
class Embedding:
    """A text and its vectors."""

    text: str
    vectors: Vectors
    """[D] for a text, [n, D] for words or tokens; k * D with concat, [.., k, D] with stack."""
    offsets: Offsets | None
    """The position of each word or token in the text, in characters; None for a text."""
    num_cut: int
    """Number of tokens beyond the row, which were left out."""


def embed(
    model: nn.Module,
    tokenizer: Tokenizer,
    texts: Sequence[str],
    pooling: str = "mean",
    layers: Sequence[int | str] = (-1,),
    layer_combine: str | None = None,
    unit: str = "text",
    normalize: bool = False,
    batch_size: int | None = None,
    **options: int | None,
) -> Vectors | list[Vectors]:
    """Return a vector for each text, or for each of its words or tokens.

    Args:
        model: a `BertModel`, or any model around one; in its own dtype and on its own device.
        tokenizer: the model's.
        texts: N texts; special tokens written out in them are text.
        pooling: mean, cls or max; see `EmbedOptions`, also for the others.
        layers: one or more of 0 (embeddings) to L, or -1 (last) to -(L + 1); or ("all",).
        layer_combine: mean (the default), sum, concat, or stack (the default for all).
        unit: text, word or token.
        normalize: scale to length 1.
        batch_size: rows of 128 tokens per pass. None: 8 on a CPU, 64 elsewhere.
        options: max_seq_length and stride.

    Returns:
        [N, D] float32 for texts; a list of N arrays [n, D] for words and tokens. With k layers, D
        is k times as long with concat, and [k, D] with stack.

    Raises:
        InputError: on an unknown choice, a layer the model lacks, a tokenizer that is not the
            model's, or texts that are not a list of strings.
    """
    chosen = EmbedOptions(
        pooling=pooling,
        layers=tuple(map(str, layers)),
        layer_combine=layer_combine,
        unit=unit,
        normalize=normalize,
        batch_size=batch_size,
        **options,
    )
    # If there are no texts, the vectors of an empty one tell the shape.
    given = list(each_text(texts))
    vectors = [found.vectors for found in embeddings(model, tokenizer, given or [""], chosen)]
    if unit != "text":
        return vectors[: len(given)]
    return np.stack(vectors)[: len(given)]


def embeddings(
    model: nn.Module,
    tokenizer: Tokenizer,
    texts: Iterable[str],
    options: EmbedOptions,
    change: Callable[[Vectors], Vectors] | None = None,
) -> Iterator[Embedding]:
    """Yield the embedding of each text in order; memory does not grow with their number.

    A change, such as a `Whitening`, is applied to each vector before it is scaled to length 1.

    Raises:
        InputError: as `embed`.
    """
    encoder = encoder_of(model)
    embedder = _Embedder(encoder, tokenizer, options, change)
    for group in text_batches(texts, _TEXTS_AT_ONCE):
        yield from embedder.embed(group)


def encoder_of(model: nn.Module) -> BertModel:
    """Return the encoder inside a model with heads, or the model itself.

    Raises:
        InputError: if it is another kind of model.
    """
    encoder = getattr(model, "bert", model)
    if not isinstance(encoder, BertModel):
        raise InputError(
            f"the model must be one of bert_scratch, as BertModel.from_pretrained(FOLDER) returns; "
            f"got {type(model).__module__}.{type(model).__name__}"
        )
    return encoder


class _Embedder:
    """Embeds groups of texts by the options, keeping the tokenizer's word cache."""

    def __init__(
        self,
        encoder: BertModel,
        tokenizer: Tokenizer,
        options: EmbedOptions,
        change: Callable[[Vectors], Vectors] | None,
    ) -> None:
        self._encoder = encoder
        self._tokenizer = tokenizer
        self._special = special_ids(tokenizer)
        self._text_encoder = TextEncoder(tokenizer)
        self._options = options
        self._change = change
        self._layers = layer_indices(options.layers, encoder.config.num_hidden_layers)
        own = "stack" if options.layers == (ALL_LAYERS,) else "mean"
        self._layer_combine = options.layer_combine or own
        positions = encoder.config.max_position_embeddings
        length = options.max_seq_length or encoder.config.trained_seq_length or positions
        if length > positions:
            raise InputError(
                f"--max-seq-length {length} is longer than the model's {positions} positions"
            )
        self._max_tokens = length - 2
        if options.stride is not None and options.stride > self._max_tokens:
            raise InputError(
                f"--stride {options.stride} is longer than a window of {self._max_tokens} tokens: "
                f"what lies between two windows would be left out"
            )

    def embed(self, texts: list[str]) -> Iterator[Embedding]:
        """Yield the embedding of each text of a group."""
        if self._options.unit == "text":
            encodings = []
            token_ids = [ids.tolist() for ids in self._text_encoder.encode(texts)]
        else:
            encodings = encode_with_offsets(self._tokenizer, texts)
            token_ids = [encoding.ids for encoding in encodings]
        stride = self._options.stride
        windows = list(windows_of(token_ids, max_tokens=self._max_tokens, stride=stride))
        by_text = self._of_units(windows, encodings) if encodings else self._of_texts(windows)
        for text, ids, (vectors, offsets) in zip(texts, token_ids, by_text, strict=True):
            num_cut = max(0, len(ids) - self._max_tokens) if stride is None else 0
            changed = vectors if self._change is None else self._change(vectors)
            scaled = unit_length(changed) if self._options.normalize else changed
            yield Embedding(text, scaled, offsets, num_cut)

    def _of_texts(self, windows: list[Window]) -> Iterator[tuple[Vectors, None]]:
        pooled: list[Vectors] = [np.empty(0, np.float32)] * len(windows)
        for batch in self._batches(windows):
            states = combine_layers(batch.layers, self._layer_combine)
            vectors = pool_rows(states, batch.attention_mask, self._options.pooling)
            for row, vector in zip(batch.rows, vectors.float().cpu().numpy(), strict=True):
                pooled[row] = vector
        for vector in pool_windows(np.stack(pooled), windows, self._options.pooling):
            yield vector, None

    def _of_units(
        self, windows: list[Window], encodings: list[Encoding]
    ) -> Iterator[tuple[Vectors, Offsets]]:
        found: list[Vectors] = [np.empty(0, np.float32)] * len(windows)
        for batch in self._batches(windows):
            states = combine_layers(batch.layers, self._layer_combine).float().cpu().numpy()
            for row, vectors in zip(batch.rows, states, strict=True):
                found[row] = vectors[1 : len(windows[row].ids) + 1].copy()
        pairs = zip(windows, found, strict=True)
        for text, own in groupby(pairs, key=lambda pair: pair[0].text):
            tokens = join_windows(*zip(*own, strict=True))
            encoding = encodings[text]
            offsets = encoding.offsets[: len(tokens)]
            if self._options.unit == "word":
                yield join_pieces(tokens, encoding.word_ids[: len(tokens)], offsets)
            else:
                yield tokens, offsets

    def _batches(self, windows: list[Window]) -> Iterator[EncodedBatch]:
        on_cpu = next(self._encoder.parameters()).device.type == "cpu"
        rows = self._options.batch_size or (CPU_BATCH_SIZE if on_cpu else BATCH_SIZE)
        return encode_windows(
            self._encoder,
            windows,
            special_ids=self._special,
            layers=self._layers,
            tokens_per_batch=rows * TOKENS_A_ROW,
        )


def layer_indices(layers: Sequence[str], num_layers: int) -> list[int]:
    """Return each layer as 0 (the embeddings) to L.

    Raises:
        InputError: if a name is neither all nor a number from -(L + 1) to L.
    """
    if tuple(layers) == (ALL_LAYERS,):
        return list(range(num_layers + 1))
    known = {
        str(layer): layer % (num_layers + 1) for layer in range(-num_layers - 1, num_layers + 1)
    }
    for layer in layers:
        if layer not in known:
            raise InputError(
                f"layers must be {ALL_LAYERS}, or 0 (embeddings) to {num_layers} (last), or -1 "
                f"(last) to {-num_layers - 1}; got {layer!r}"
            )
    return [known[layer] for layer in layers]
