"""Unit-length vectors of texts, for commands that compare texts by cosine."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

from bert_scratch.inference.embed import EmbedOptions, VectorOptions, embeddings
from bert_scratch.inference.inputs import ModelOptions
from bert_scratch.inference.pooling import Vectors
from bert_scratch.inference.whitening import Whitening

Embed = Callable[[Iterable[str]], Iterator[Vectors]]


@dataclass(frozen=True, kw_only=True)
class TextVectorOptions(ModelOptions, VectorOptions):
    """How texts become vectors for comparison."""

    whitening: str | None = None
    """A file that whiten wrote: makes vectors of mean 0 and covariance 1 first."""

    def __post_init__(self) -> None:
        """Check each value, and that a text has one vector.

        Raises:
            InputError: naming the flag.
        """
        ModelOptions.__post_init__(self)
        VectorOptions.__post_init__(self)
        self.check_one_vector()

    def embedder(self) -> Embed:
        """Load the model and return a function from texts to their unit-length vectors [D].

        Raises:
            InputError: if the model or the whitening cannot be loaded.
        """
        model, tokenizer = self.load_encoder()
        whitening = None if self.whitening is None else Whitening.load(self.whitening)
        options = EmbedOptions(
            pooling=self.pooling,
            layers=self.layers,
            layer_combine=self.layer_combine,
            max_seq_length=self.max_seq_length,
            stride=self.stride,
            batch_size=self.batch_size,
            normalize=True,
        )

        def embed(texts: Iterable[str]) -> Iterator[Vectors]:
            for found in embeddings(model, tokenizer, texts, options, whitening):
                yield found.vectors

        return embed
