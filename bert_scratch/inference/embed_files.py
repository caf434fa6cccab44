"""`bert-scratch embed`: a file of texts in, a file of vectors out, both streamed."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path

from tqdm import tqdm

from bert_scratch.config import InputError, counted
from bert_scratch.inference.embed import EmbedOptions, embeddings
from bert_scratch.inference.inputs import ModelOptions
from bert_scratch.inference.texts import read_texts
from bert_scratch.inference.vector_files import VECTOR_WRITERS, open_writer
from bert_scratch.inference.whitening import Whitening
from bert_scratch.output_places import make_place_for


@dataclass(frozen=True, kw_only=True)
class EmbedConfig(ModelOptions, EmbedOptions):
    """Write a vector for each text of a file, or for each of its words or tokens."""

    input: str
    """Texts, one per line; or .jsonl, objects with "text"; - reads lines from standard input."""
    output: str
    """Vectors, float32: .npy (of texts), .npz, .jsonl or .parquet."""
    whitening: str | None = None
    """A file that whiten wrote: makes vectors of texts of mean 0 and covariance 1."""

    def __post_init__(self) -> None:
        """Check what does not depend on the model.

        Raises:
            InputError: naming the flag.
        """
        ModelOptions.__post_init__(self)
        EmbedOptions.__post_init__(self)
        if self.whitening is not None and self.unit != "text":
            raise InputError("--whitening is for vectors of texts; leave out --unit")
        if self.whitening is not None:
            self.check_one_vector()  # a whitening is of one layer, or of one combination of them
        suffix = Path(self.output).suffix
        if suffix not in VECTOR_WRITERS:
            known = ", ".join(VECTOR_WRITERS)
            raise InputError(f"--output {self.output}: must end in one of {known}")
        if suffix == ".npy" and self.unit != "text":
            raise InputError(
                f"--output {self.output}: an .npy file holds one vector per text; with --unit "
                f"{self.unit} write .npz, .jsonl or .parquet"
            )


def run_embed(config: EmbedConfig) -> None:
    """Embed the texts of a file, with a progress bar on a terminal.

    Raises:
        InputError: if the model or the texts cannot be used, or the output cannot be written.
    """
    output = Path(config.output)
    make_place_for(output, source=config.input)
    model, tokenizer = config.load_encoder()
    whitening = None if config.whitening is None else Whitening.load(config.whitening)
    texts = read_texts(config.input)
    num_texts = num_cut = 0
    with (
        open_writer(output) as write,
        tqdm(unit=" texts", disable=not sys.stderr.isatty()) as bar,
    ):
        for found in embeddings(model, tokenizer, texts, config, whitening):
            write(found)
            bar.update()
            num_texts += 1
            num_cut += found.num_cut > 0
        if num_texts == 0:
            raise InputError(f"--input {config.input}: holds no text")
    if num_cut:
        print(
            f"warning: {num_cut:,} of {num_texts:,} texts were longer than a row and cut off; "
            f"--stride N reads them in windows",
            file=sys.stderr,
        )
    print(f"{counted(num_texts, 'text')} embedded: {output}")
