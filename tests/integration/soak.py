"""Trains for a chosen time while killing, stopping, corrupting and resuming at random, and proves
that the end is that of a run nobody disturbed.

    python tests/integration/soak.py --seconds 3600 --seed 1

Each round is a run of its own: first undisturbed, then disturbed until it is done. Prints one line
a disturbance and a JSON object at the end; exits 1 at the first difference, naming the folder.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

NAMES = ("model.safetensors", "optimizer.safetensors")
LONGEST_DISTURBED = 12
"""Disturbances of a run before it is left in peace to finish."""


def write_corpus(path: Path, draw: random.Random) -> None:
    """Write 80 documents of a few sentences."""
    words = "cat dog bird fish horse mouse sees hears finds garden river forest market".split()
    documents = [
        "\n".join(" ".join(draw.choices(words, k=6)).capitalize() + "." for _ in range(6))
        for _ in range(80)
    ]
    path.write_text("\n\n".join(documents) + "\n", encoding="utf-8")


def command(corpus: Path, folder: Path, draw: random.Random) -> list[str]:
    """Return the command of one run, of settings drawn at random."""
    flags = (
        f"--documents blank-lines --vocab-size 150 --eval-fraction 0.1 --num-processes 1 "
        f"--hidden-size 32 --num-hidden-layers 2 --num-attention-heads 2 --intermediate-size 64 "
        f"--max-seq-length 32 --train-batch-size 8 --learning-rate 1e-3 --num-train-steps "
        f"{draw.randint(200, 400)} --num-warmup-steps 10 --logging-steps 10 "
        f"--hidden-dropout-prob {draw.choice([0.0, 0.1])} --lr-schedule "
        f"{draw.choice(['linear', 'wsd'])} --eval-steps {draw.choice([25, 40])} --save-steps "
        f"{draw.choice([10, 20, 35])} --keep-checkpoints {draw.choice([1, 2])} --seed "
        f"{draw.randint(0, 9)} --device cpu --dtype float32 --num-threads 1"
    )
    place = ["--corpus", str(corpus), "--output-dir", str(folder)]
    return [sys.executable, "-m", "bert_scratch", "pretrain", *place, *flags.split()]


def end(folder: Path) -> dict[str, bytes]:
    """Return every byte that a run's end is about."""
    newest = sorted((folder / "checkpoints").iterdir())[-1]
    files = [newest / name for name in NAMES] + [folder / "model" / NAMES[0]]
    return {file.relative_to(folder).as_posix(): file.read_bytes() for file in files}


def is_done(folder: Path) -> bool:
    """Tell whether the run has said that it is done: a kill can come after its last word."""
    status = folder / "status.json"
    return status.exists() and json.loads(status.read_text())["state"] == "done"


def corrupt(folder: Path, draw: random.Random) -> str | None:
    """Damage one file of the newest checkpoint, if another is there to go on from.

    Not of a run that is done: nobody reads its checkpoints, so nobody would mend them.
    """
    checkpoints = sorted((folder / "checkpoints").glob("step-????????"))
    if len(checkpoints) < 2 or is_done(folder):
        return None
    file = draw.choice([path for path in checkpoints[-1].iterdir() if path.is_file()])
    content = bytearray(file.read_bytes())
    place = draw.randrange(len(content))
    if draw.random() < 0.5:
        content[place] ^= 1 << draw.randrange(8)
    else:
        del content[place:]
    file.write_bytes(content)
    return f"corrupted {checkpoints[-1].name}/{file.name}"


def disturb(arguments: list[str], folder: Path, draw: random.Random) -> str:
    """Start the command, do something to it, and return what was done; 'done' when it finished."""
    harm = draw.choice(["kill", "kill", "stop", "corrupt"])
    options = ["--num-workers", str(draw.choice([0, 0, 1]))]
    process = subprocess.Popen(
        [*arguments, *options], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
    )
    try:
        process.wait(timeout=draw.uniform(0.5, 8.0))
    except subprocess.TimeoutExpired:
        process.send_signal(signal.SIGTERM if harm == "stop" else signal.SIGKILL)
    _, errors = process.communicate()
    expected = {0, 75, -signal.SIGKILL, -signal.SIGTERM}  # SIGTERM before Python has started
    if process.returncode not in expected or b"Traceback" in errors:
        raise SystemExit(f"{folder}: exit code {process.returncode}\n{errors.decode()}")
    if process.returncode == 0:
        return "done"
    return corrupt(folder, draw) or "kill" if harm == "corrupt" else harm


def soak_once(scratch: Path, draw: random.Random, counts: Counter[str]) -> None:
    """Make one run twice, once disturbed, and compare the ends."""
    shutil.rmtree(scratch, ignore_errors=True)
    scratch.mkdir(parents=True)
    write_corpus(scratch / "corpus.txt", draw)
    state = draw.getstate()
    through, disturbed = scratch / "through", scratch / "disturbed"
    subprocess.run(command(scratch / "corpus.txt", through, draw), check=True, capture_output=True)
    draw.setstate(state)
    arguments = command(scratch / "corpus.txt", disturbed, draw)
    for _ in range(LONGEST_DISTURBED):
        what = disturb(arguments, disturbed, draw)
        counts[what.split()[0]] += 1
        print(what, flush=True)
        if what == "done":
            break
    else:
        subprocess.run(arguments, check=True, capture_output=True)
    one, other = end(through), end(disturbed)
    if one != other:
        raise SystemExit(f"{scratch}: {[n for n in one if one[n] != other.get(n)]} differ")
    counts["runs"] += 1


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=180.0)
    parser.add_argument("--seed", type=int, default=int.from_bytes(os.urandom(4), "big"))
    asked = parser.parse_args()
    print(f"seed {asked.seed}", flush=True)
    draw, counts = random.Random(asked.seed), Counter[str]()
    started = time.monotonic()
    with tempfile.TemporaryDirectory() as scratch:
        while not counts["runs"] or time.monotonic() - started < asked.seconds:
            soak_once(Path(scratch) / "round", draw, counts)
    print(json.dumps({"seed": asked.seed, **counts}))


if __name__ == "__main__":
    main()
