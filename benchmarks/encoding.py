"""Text to ids, compared with plain `tokenizers`: speed, differences and memory, on one core.

    python benchmarks/encoding.py --data FOLDER [--lines 1000000] [--output encoding.json]

FOLDER holds wikipedia-en/*.gz, wikipedia-zh/*.gz, novels-en/*.gz (lines of UTF-8 text) and
vocab/bert-base-{cased,uncased,chinese,multilingual-cased}/vocab.txt. Both sides take the same
lines in turn, batch by batch in one process; times are CPU times and include learning every word.
Hindi and Arabic are drawn at random from the words below; "new words" are random letters that
never repeat. With --lines 1000000 this takes about 10 minutes.
"""

from __future__ import annotations

import argparse
import gzip
import os
import random
import time
from collections.abc import Iterator
from itertools import chain, islice
from pathlib import Path

os.environ["TOKENIZERS_PARALLELISM"] = "false"
os.environ["RAYON_NUM_THREADS"] = "1"

import numpy as np
from measure import machine, peak_memory_bytes, write_json
from tokenizers import Tokenizer

from bert_scratch.data.encoding import TextEncoder, encode_texts
from bert_scratch.data.wordpiece import SPECIAL_TOKENS, load_tokenizer

BATCH_LINES = 1000
HINDI = """
    यह एक किताब है। क्या आपने इसे पढ़ा है? हाँ, मैंने पढ़ा है। डॉ. शर्मा दिल्ली में रहते हैं। इसकी कीमत
    3.5 रुपये है! वे कल आएँगे। भारत की राजधानी और उसके लोग बहुत पुराने समय से इस नदी के किनारे बसे
    हुए थे, जिन्होंने विज्ञान, संगीत तथा साहित्य में महत्त्वपूर्ण योगदान दिया।
"""
ARABIC = """
    ولد د. أحمد في القاهرة عام 1950. درس الطب في الجامعة. هل سافر إلى باريس؟ نعم، سافر مرتين!
    كان عمره 3.5 سنوات. لم يتذكر شيئا. اللغة العربية هي أكثر اللغات السامية تحدثًا، ومن أكثرها
    انتشارًا في العالم، يتحدثها أكثر من أربعمائة مليون نسمة؛ ويتوزع متحدثوها في المنطقة.
"""
CORPORA = {
    "English Wikipedia": ("wikipedia-en/*.gz", ["cased", "uncased"]),
    "English novels": ("novels-en/*.gz", ["cased", "uncased"]),
    "Chinese Wikipedia": ("wikipedia-zh/*.gz", ["chinese", "multilingual-cased"]),
}
SYNTHETIC = {
    "Hindi": "multilingual-cased",
    "Arabic": "multilingual-cased",
    "new words": "cased",
    "special strings": "uncased",
}


def corpus_lines(data: Path, pattern: str) -> Iterator[str]:
    for path in sorted(data.glob(pattern)):
        with gzip.open(path, "rt", encoding="utf-8-sig") as file:
            yield from (line.rstrip("\n") for line in file if line.strip())


def synthetic_lines(name: str) -> Iterator[str]:
    draw = random.Random(0)
    known = {"Hindi": HINDI, "Arabic": ARABIC}
    while True:
        if name in known:
            yield " ".join(draw.choices(known[name].split(), k=20))
        elif name == "new words":
            letters = draw.choices("abcdefghijklmnopqrstuvwxyz", k=200)
            yield " ".join("".join(letters[start : start + 10]) for start in range(0, 200, 10))
        else:
            yield " ".join(draw.choices([*SPECIAL_TOKENS, "[mask]x", "a[SEP]", "##a", "the"], k=20))


def tokenizers_ids(tokenizer: Tokenizer, lines: list[str], *, special_is_text: bool):
    tokenizer.encode_special_tokens = special_is_text
    encodings = tokenizer.encode_batch_fast(lines, add_special_tokens=False)
    tokenizer.encode_special_tokens = False
    return [encoding.ids for encoding in encodings]


def num_different(ours: list[np.ndarray], theirs: list[list[int]]) -> int:
    assert len(ours) == len(theirs)
    return sum(a.tolist() != b for a, b in zip(ours, theirs, strict=True))


def compare(lines: Iterator[str], tokenizer: Tokenizer) -> dict[str, float]:
    """Encode lines with both sides in turn, and count the lines whose ids differ."""
    encoder = TextEncoder(tokenizer)
    num_bytes = num_lines = different = different_spelt_out = 0
    own_s = tokenizers_s = 0.0
    while batch := list(islice(lines, BATCH_LINES)):
        start_s = time.process_time()
        ours = encoder.encode(batch)
        middle_s = time.process_time()
        theirs = tokenizers_ids(tokenizer, batch, special_is_text=True)
        own_s += middle_s - start_s
        tokenizers_s += time.process_time() - middle_s
        different += num_different(ours, theirs)
        if any("[" in line for line in batch):
            spelt_out = encode_texts(tokenizer, batch, tokens=SPECIAL_TOKENS)
            theirs = tokenizers_ids(tokenizer, batch, special_is_text=False)
            different_spelt_out += num_different(spelt_out, theirs)
        num_lines += len(batch)
        num_bytes += sum(len(line.encode()) for line in batch)
    return {
        "lines": num_lines,
        "megabytes": num_bytes / 1e6,
        "own_mb_per_s": num_bytes / 1e6 / own_s,
        "tokenizers_mb_per_s": num_bytes / 1e6 / tokenizers_s,
        "ratio": tokenizers_s / own_s,
        "different_lines": different,
        "different_lines_special_tokens_spelt_out": different_spelt_out,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--data", type=Path, required=True, help="folder of corpora and vocab/")
    parser.add_argument("--lines", type=int, default=100_000, help="of the corpora, in all")
    parser.add_argument("--output", help="JSON file to write")
    arguments = parser.parse_args()

    total = {
        name: sum(1 for _ in corpus_lines(arguments.data, p)) for name, (p, _) in CORPORA.items()
    }
    share = min(1.0, arguments.lines / sum(total.values()))
    rows = []
    print(
        f"{'text':18} {'vocabulary':18} {'lines':>8} {'MB':>6} {'own':>6} {'theirs':>6}"
        f" {'ratio':>6} {'differ':>7}"
    )
    cases = [(name, vocabulary) for name, (_, several) in CORPORA.items() for vocabulary in several]
    for name, vocabulary in chain(cases, SYNTHETIC.items()):
        if name in CORPORA:
            number = round(total[name] * share)
            lines = islice(corpus_lines(arguments.data, CORPORA[name][0]), number)
        else:
            lines = islice(synthetic_lines(name), arguments.lines // 10)
        tokenizer = load_tokenizer(arguments.data / "vocab" / f"bert-base-{vocabulary}")
        row = {"text": name, "vocabulary": vocabulary, **compare(lines, tokenizer)}
        rows.append(row)
        differ = row["different_lines"] + row["different_lines_special_tokens_spelt_out"]
        print(
            f"{name:18} {vocabulary:18} {row['lines']:8} {row['megabytes']:6.1f}"
            f" {row['own_mb_per_s']:6.1f} {row['tokenizers_mb_per_s']:6.1f} {row['ratio']:6.1f}"
            f" {differ:7}",
            flush=True,
        )
    peak_mib = peak_memory_bytes() / 2**20
    print(
        f"lines of corpora: {sum(round(n * share) for n in total.values())}, MB/s of CPU time, "
        f"peak memory {peak_mib:.0f} MiB"
    )
    write_json(arguments.output, {"machine": machine(), "rows": rows, "peak_memory_mib": peak_mib})


if __name__ == "__main__":
    main()
