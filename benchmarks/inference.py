"""Time vectors of many texts against sentence-transformers and transformers, taking turns.

    uv run benchmarks/inference.py                              # base, float32 and bfloat16
    uv run benchmarks/inference.py --num-texts 10000 --rounds 1 --preset mini
    uv run benchmarks/inference.py --num-texts 10000 --device cuda
    uv run benchmarks/inference.py --dtype int8                 # the others in float32

The texts are 1 to 14 sentences of Python's own documentation; the model has
random weights and a vocabulary learned from them. All arms must give the same vectors; those of
the timed calls are compared. Before these, each arm embeds a few texts to warm up.
"""

from __future__ import annotations

import argparse
import itertools
import sys
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from measure import interleaved, machine, print_table, spread, write_json
from sentence_transformers import SentenceTransformer
from transformers import AutoModel, AutoTokenizer

from bert_scratch.config import BertConfig
from bert_scratch.data.documentation import build_documentation_corpus
from bert_scratch.data.vocabulary import train_tokenizer
from bert_scratch.data.wordpiece import TokenizerFolder, load_tokenizer
from bert_scratch.inference.embed import embed
from bert_scratch.inference.inputs import INT8
from bert_scratch.inference.int8 import with_int8_products
from bert_scratch.model.compute_settings import default_num_threads
from bert_scratch.model.devices import DTYPES
from bert_scratch.model.encoder import BertModel
from bert_scratch.model.heads import BertForMaskedLM

Vectors = npt.NDArray[np.float32]
Encode = Callable[[list[str]], Vectors]
COSINE = {"float32": 0.99999, "bfloat16": 0.99, "float16": 0.9999, "int8": 0.999}
BATCH_SIZE = 32
NUM_WARMUP_TEXTS = 64


def main() -> None:
    options = parse_arguments()
    torch.set_num_threads(options.num_threads)
    texts = mixed_texts(options.num_texts)
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        make_model(Path(folder), options.preset)
        for name in options.dtype.split(","):
            rows += compare(folder, texts, name, options)
    words = sum(len(text.split()) for text in texts)
    print(
        f"{options.preset}, {len(texts):,} texts of {words / len(texts):.0f} words on average, "
        f"{options.num_threads} threads\n"
    )
    print_table(rows)
    write_json(options.output, {"machine": machine(), "options": vars(options), "arms": rows})


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--preset", default="base", choices=list(BertConfig.PRESETS))
    parser.add_argument("--num-texts", type=int, default=256)
    parser.add_argument("--dtype", default="float32,bfloat16", help="one or more, with commas")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--device", default="cpu", help="cpu, or cuda")
    parser.add_argument("--num-threads", type=int, default=default_num_threads())
    parser.add_argument("--output", help="JSON file")
    return parser.parse_args()


def mixed_texts(count: int) -> list[str]:
    """Return texts of 1 to 14 sentences, mostly short ones, from all over the documentation."""
    text = build_documentation_corpus(Path("data")).read_text(encoding="utf-8")
    sentences = [line for line in text.split("\n") if line]
    starts = [index * (len(sentences) - 14) // count for index in range(count)]
    sizes = itertools.cycle((1, 1, 1, 2, 2, 3, 4, 6, 9, 14))
    return [" ".join(sentences[start : start + next(sizes)]) for start in starts]


def make_model(folder: Path, preset: str) -> None:
    text = build_documentation_corpus(Path("data")).read_text(encoding="utf-8")
    tokenizer = train_tokenizer(text.split("\n")[:20_000], 8192)
    torch.manual_seed(0)
    model = BertForMaskedLM(BertConfig.preset(preset, vocab_size=tokenizer.get_vocab_size()))
    model.save_pretrained(folder, TokenizerFolder(tokenizer, model_max_length=512))


def compare(
    folder: str, texts: list[str], dtype: str, options: argparse.Namespace
) -> list[dict[str, str]]:
    """Return a row for each arm, after checking that all gave the same vectors."""
    arms = {
        "ours": ours(folder, dtype, options.device),
        "sentence-transformers": theirs(folder, dtype, options.device),
        "transformers, in order": in_order(folder, dtype, options.device),
    }
    found: dict[str, Vectors] = {}

    def timed(name: str, encode: Encode) -> Callable[[], None]:
        return lambda: found.update({name: encode(texts)})

    for encode in arms.values():
        encode(texts[:NUM_WARMUP_TEXTS])
    calls = {name: timed(name, encode) for name, encode in arms.items()}
    seconds = interleaved(calls, rounds=options.rounds, warmup=0)
    check_equal(found, COSINE[dtype])
    own = spread(seconds["ours"])[0]
    return [
        {
            "dtype": dtype,
            "arm": name,
            "texts/s": f"{1000 * len(texts) / median:,.1f}",
            "s (median)": f"{median / 1000:.2f}",
            "ours is": f"{median / own:.2f}x",
        }
        for name in arms
        for median, _, _ in [spread(seconds[name])]
    ]


def ours(folder: str, dtype: str, device: str) -> Encode:
    model = BertModel.from_pretrained(folder, new_head=True).to(device, precision(dtype)).eval()
    if dtype == INT8:
        model = with_int8_products(model)
    tokenizer = load_tokenizer(folder)
    return lambda texts: np.asarray(embed(model, tokenizer, texts))


def theirs(folder: str, dtype: str, device: str) -> Encode:
    model = SentenceTransformer(folder, device=device).to(precision(dtype))

    def encode(texts: list[str]) -> Vectors:
        vectors = model.encode(texts, batch_size=BATCH_SIZE, convert_to_tensor=True)
        return vectors.float().cpu().numpy()

    return encode


def in_order(folder: str, dtype: str, device: str) -> Encode:
    """Return the loop of transformers' documentation: batches in the order of the texts."""
    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = AutoModel.from_pretrained(folder).to(device, precision(dtype)).eval()

    def encode(texts: list[str]) -> Vectors:
        vectors = []
        for start in range(0, len(texts), BATCH_SIZE):
            inputs = tokenizer(
                texts[start : start + BATCH_SIZE],
                padding=True,
                truncation=True,
                return_tensors="pt",
            ).to(device)
            with torch.inference_mode():
                states = model(**inputs).last_hidden_state.float()
            real = inputs["attention_mask"][:, :, None]
            vectors.append(((states * real).sum(1) / real.sum(1)).cpu())
        return torch.cat(vectors).numpy()

    return encode


def precision(dtype: str) -> torch.dtype:
    """Return the dtype that the others compute in, as they have no int8."""
    return DTYPES.get(dtype, torch.float32)


def check_equal(vectors: Mapping[str, Vectors], at_least: float) -> None:
    """Refuse to time arms that do not compute the same thing."""
    first = vectors["ours"]
    for name, found in vectors.items():
        lengths = np.linalg.norm(first, axis=1) * np.linalg.norm(found, axis=1)
        cosine = float(((first * found).sum(1) / lengths).min())
        if cosine < at_least:
            sys.exit(f"error: {name} gives other vectors: smallest cosine {cosine:.5f}")


if __name__ == "__main__":
    main()
