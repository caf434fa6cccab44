"""Measure preparation from raw text to a training store: MB/s of one core, and peak memory.

    python benchmarks/prepare.py                              # Python's own documentation
    python benchmarks/prepare.py --corpus texts/ --megabytes 10 --output prepare.json
    python benchmarks/prepare.py --lowercase                  # all arms as google's default

Every arm reads the same plain text file (a line is a paragraph, a blank line ends a document), runs
in a process of its own on one core, and its clock starts after its imports. Repetitions of the
arms take turns. MB/s are those of CPU time, which other programs disturb least.

See `prepare_arms.py` for what each arm does.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from measure import machine, peak_memory_bytes, print_table, write_json
from prepare_arms import ARMS, SENTENCES, TEXT, TOKENIZER, lines_of

ONE_CORE = {
    "OMP_NUM_THREADS": "1",
    "RAYON_NUM_THREADS": "1",
    "TOKENIZERS_PARALLELISM": "false",
    "HF_HUB_OFFLINE": "1",
    "TRANSFORMERS_VERBOSITY": "error",
    "PYTHONPATH": str(Path(__file__).resolve().parent.parent),
}
WRITE = "write"
SAME_TOKENS = ("ours", "tokenizers", "same-work")
"""Arms that tokenise the same text with the same vocabulary."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--corpus", nargs="+", help="as prepare takes it; default: Python's docs")
    parser.add_argument("--megabytes", type=float, default=10)
    parser.add_argument("--google-megabytes", type=float, default=1)
    parser.add_argument("--vocab-size", type=int, default=8192)
    parser.add_argument("--lowercase", action="store_true", help="and strip accents, all arms")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--arms", nargs="+", choices=ARMS, default=list(ARMS))
    parser.add_argument("--output", help="write the figures to this JSON file")
    parser.add_argument("--run", choices=[WRITE, *ARMS], help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--sentences", default="rules", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.run:
        run = write_text if options.run == WRITE else measure
        out, sys.stdout = sys.stdout, sys.stderr  # output on the way is not a result
        print(json.dumps(run(options)), file=out)
        return
    with tempfile.TemporaryDirectory() as place:
        results = compare(Path(place), options)
    print_table(rows(results["arms"]))
    write_json(options.output, results)


def measure(options: argparse.Namespace) -> dict[str, float]:
    """Run one arm in this process, which was started for it."""
    with tempfile.TemporaryDirectory(dir=options.folder) as place:
        folder = Path(place)
        for name in (TEXT, SENTENCES, TOKENIZER):
            (folder / name).symlink_to(options.folder / name)
        work = ARMS[options.run][2](folder, options)
        cpu, wall = time.process_time(), time.perf_counter()
        num_tokens = work()
        cpu, wall = time.process_time() - cpu, time.perf_counter() - wall
    return {
        "cpu_s": cpu,
        "wall_s": wall,
        "peak_mb": peak_memory_bytes() / 1e6,
        "num_tokens": num_tokens,
    }


def compare(folder: Path, options: argparse.Namespace) -> dict[str, Any]:
    """Write the arms' input, then run each arm `--repeats` times in turn."""
    # Not in this process: a child's peak memory begins at that of its parent.
    written = in_child(WRITE, folder, options)
    options.sentences = written["sentences"]
    runs: dict[str, list[dict[str, float]]] = {name: [] for name in options.arms}
    for repeat in range(options.repeats):
        for name in options.arms:
            runs[name].append(in_child(name, folder, options))
            print(f"{repeat + 1}/{options.repeats} {name}: {runs[name][-1]}", file=sys.stderr)
    arms = {}
    for name, measured in runs.items():
        of_text = written["google_bytes" if name.startswith("google") else "text_bytes"]
        middle = {key: statistics.median(run[key] for run in measured) for key in measured[0]}
        arms[name] = {
            **middle,
            "text_bytes": of_text,
            "mb_per_cpu_s": of_text / 1e6 / middle["cpu_s"],
            "runs": measured,
        }
    check_equal({name: arm["num_tokens"] for name, arm in arms.items() if name in SAME_TOKENS})
    return {
        "corpus": options.corpus or "built-in documentation",
        "vocab_size": options.vocab_size,
        "lowercase": options.lowercase,
        "repeats": options.repeats,
        "machine": machine(),
        "arms": arms,
    }


def check_equal(num_tokens: dict[str, float]) -> None:
    """Refuse figures of arms that did not make the same tokens from the same text."""
    if len(set(num_tokens.values())) > 1:
        sys.exit(f"error: the arms do not agree on the number of tokens: {num_tokens}")


def write_text(options: argparse.Namespace) -> dict[str, Any]:
    """Write the text, its beginning as sentences, and the vocabulary; return what was written."""
    from bert_scratch.data.corpus import read_documents
    from bert_scratch.data.documentation import build_documentation_corpus
    from bert_scratch.data.sentences import split_document
    from bert_scratch.data.vocabulary import train_tokenizer
    from bert_scratch.data.wordpiece import save_tokenizer
    from bert_scratch.pretraining.corpus_plan import find_text

    paths = options.corpus or [str(build_documentation_corpus(Path("data")))]
    text = find_text(paths, documents="auto", sentences="auto", encoding_errors="replace")
    rule = text.rules.sentence_rules[0]
    text_bytes = google_bytes = 0
    folder = options.folder
    with (
        (folder / TEXT).open("w", encoding="utf-8", newline="\n") as lines,
        (folder / SENTENCES).open("w", encoding="utf-8", newline="\n") as sentences,
    ):
        for part in text.slices:
            for document in read_documents(part, text.sources[part.source_index], "replace"):
                if text_bytes >= options.megabytes * 1e6:
                    break
                block = "\n".join(document) + "\n\n"
                lines.write(block)
                if google_bytes < options.google_megabytes * 1e6:
                    google_bytes += len(block.encode())
                    sentences.write("\n".join(split_document(document, rule)) + "\n\n")
                text_bytes += len(block.encode())
    tokenizer = train_tokenizer(
        lines_of(folder / TEXT),
        options.vocab_size,
        lowercase=options.lowercase,
        strip_accents=options.lowercase,
    )
    save_tokenizer(tokenizer, folder / TOKENIZER)
    return {"sentences": rule, "text_bytes": text_bytes, "google_bytes": google_bytes}


def in_child(run: str, folder: Path, options: argparse.Namespace) -> dict[str, Any]:
    """Run this script for one purpose, in a process of its own, on one core."""
    command = [sys.executable, __file__, "--run", run, "--folder", str(folder)]
    for name in ("vocab_size", "sentences", "megabytes", "google_megabytes"):
        command += [f"--{name.replace('_', '-')}", str(getattr(options, name))]
    command += ["--lowercase"] if options.lowercase else []
    command += ["--corpus", *options.corpus] if options.corpus else []
    done = subprocess.run(
        command, env={**os.environ, **ONE_CORE}, stdout=subprocess.PIPE, text=True, check=True
    )
    return dict(json.loads(done.stdout))


def rows(arms: dict[str, dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the table; `ours is` is the speedup of ours that gets its vocabulary the same way."""
    lines = []
    for name, arm in arms.items():
        title, vocabulary, _ = ARMS[name]
        own = arms.get("ours" if vocabulary == "given" else "ours-learned")
        times = f"{own['mb_per_cpu_s'] / arm['mb_per_cpu_s']:.2f}x" if own else ""
        lines.append(
            {
                "arm": title,
                "vocabulary": vocabulary,
                "MB": f"{arm['text_bytes'] / 1e6:.1f}",
                "CPU s": f"{arm['cpu_s']:.2f}",
                "MB/s": f"{arm['mb_per_cpu_s']:.2f}",
                "wall s": f"{arm['wall_s']:.2f}",
                "peak MB": f"{arm['peak_mb']:,.0f}",
                "tokens": f"{arm['num_tokens']:,.0f}",
                "ours is": times,
            }
        )
    return lines


if __name__ == "__main__":
    main()
