"""`bert-scratch embed`: a file of texts in, a file of vectors out, both streamed."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
from tqdm import tqdm

from bert_scratch.config import InputError, check_choice
from bert_scratch.data.unpack import READ_ERRORS, open_bytes
from bert_scratch.inference.embed import EmbedOptions, embeddings
from bert_scratch.inference.inputs import load_with_tokenizer
from bert_scratch.inference.vector_files import VECTOR_WRITERS, open_writer
from bert_scratch.model.devices import DTYPES, default_num_threads, resolve_device
from bert_scratch.model.encoder import BertModel

STANDARD_INPUT = "-"


@dataclass(frozen=True, kw_only=True)
class EmbedConfig(EmbedOptions):
    """Write a vector for each text of a file, or for each of its words or tokens."""

    model: str
    """A model folder, a checkpoint, or a hub id."""
    input: str
    """Texts, one a line; or .jsonl, objects with "text"; - reads lines from standard input."""
    output: str
    """Vectors: .npy (of texts), .npz, .jsonl or .parquet."""
    device: str = "auto"
    """auto, cpu, cuda or cuda:N."""
    dtype: str = "float32"
    """What the model computes in: float32, bfloat16 or float16. Vectors are written as float32."""

    def __post_init__(self) -> None:
        """Check what does not depend on the model.

        Raises:
            InputError: naming the flag.
        """
        super().__post_init__()
        check_choice("--dtype", self.dtype, DTYPES)
        suffix = Path(self.output).suffix
        if suffix not in VECTOR_WRITERS:
            known = ", ".join(VECTOR_WRITERS)
            raise InputError(f"--output {self.output}: must end in one of {known}")
        if suffix == ".npy" and self.unit != "text":
            raise InputError(
                f"--output {self.output}: an .npy file holds one vector a text; with --unit "
                f"{self.unit} write .npz, .jsonl or .parquet"
            )


def run_embed(config: EmbedConfig) -> None:
    """Embed the texts of a file, with a progress bar on a terminal.

    Raises:
        InputError: if the model or the texts cannot be used, or the output cannot be written.
    """
    device = resolve_device(config.device)
    torch.set_num_threads(default_num_threads())
    model, tokenizer = load_with_tokenizer(BertModel, config.model)
    model = model.to(device, DTYPES[config.dtype]).eval()
    num_texts = num_cut = 0
    output = Path(config.output)
    if not output.parent.is_dir():
        raise InputError(f"--output {output}: the folder {output.parent} does not exist")
    with (
        open_writer(output) as write,
        tqdm(unit=" texts", disable=not sys.stderr.isatty()) as bar,
    ):
        for found in embeddings(model, tokenizer, read_texts(config.input), config):
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
    print(f"{num_texts:,} texts embedded: {output}")


def read_texts(source: str) -> Iterator[str]:
    """Yield the texts of a file, a blank line being an empty text, so that rows keep their number.

    Args:
        source: a file of lines, a .jsonl file of objects with "text", either one compressed; or
            - for lines of standard input.

    Raises:
        InputError: naming the file and the line that cannot be read.
    """
    if source == STANDARD_INPUT:
        yield from (line.strip() for line in sys.stdin)
        return
    file = Path(source)
    if not file.is_file():
        raise InputError(f"--input {source}: does not exist")
    is_jsonl = ".jsonl" in file.suffixes
    try:
        with open_bytes(file) as lines:
            for number, raw in enumerate(lines, start=1):
                place = f"--input {source}, line {number}"
                line = _decoded(raw, place)
                yield _text_of(line, place) if is_jsonl else line
    except READ_ERRORS as error:
        raise InputError(f"--input {source}: cannot be read: {error}") from error


def _decoded(raw: bytes, place: str) -> str:
    try:
        return raw.decode("utf-8").removeprefix("\ufeff").strip()
    except UnicodeDecodeError as error:
        raise InputError(f"{place}: is not UTF-8 text; convert it with iconv") from error


def _text_of(line: str, place: str) -> str:
    try:
        value = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise InputError(f"{place}: is not valid JSON: {error}") from error
    text = value.get("text") if isinstance(value, dict) else None
    if not isinstance(text, str):
        raise InputError(f'{place}: needs an object with a string under the key "text"')
    if any("\ud800" <= character <= "\udfff" for character in text):
        raise InputError(f"{place}: holds half of a surrogate pair, which is no character")
    return text
