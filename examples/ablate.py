"""What matters in BERT: change one thing at a time, and compare arms with the same budget.

    python examples/ablate.py --corpus my_texts/ --seconds-each 120 --output-dir runs/ablation

Every arm is a run of `pretrain` on the same prepared corpus. Two arms differ only in the seed: a
difference no larger than theirs says nothing. A budget in steps favours slow arms, one in seconds
fast arms. Prints the held-out losses, and draws them as a page.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from bert_scratch.config import InputError
from bert_scratch.pretraining.prepare import PrepareConfig, run_prepare
from bert_scratch.pretraining.pretrain import pretrain
from bert_scratch.pretraining.pretrain_config import PretrainConfig
from bert_scratch.views import page, plots

ARMS: dict[str, dict[str, Any]] = {
    "as it is": {},
    "another seed": {"seed": 43},
    "pairs: sop": {"pair_task": "sop"},
    "pairs: none": {"pair_task": "none"},
    "mask words": {"mask_unit": "word"},
    "mask spans": {"mask_unit": "span"},
    "mask 15 %": {"masked_lm_prob": 0.15},
    "mask 40 %": {"masked_lm_prob": 0.4},
    "deep, narrow": {"num_hidden_layers": 6, "hidden_size": 64, "intermediate_size": 256},
    "no warm-up": {"num_warmup_steps": 0},
    "tanh GELU": {"hidden_act": "gelu_new"},
}
"""What each arm changes."""


def run_arms(
    names: list[str], data: str, budget: Mapping[str, Any], output_dir: Path
) -> list[tuple[str, float, float]]:
    """Train each arm; return its name, held-out masked-token loss and accuracy."""
    common: dict[str, Any] = {"preset": "tiny", "max_seq_length": 64, "train_batch_size": 32}
    found = []
    for number, name in enumerate(names):
        settings = common | dict(budget) | ARMS[name]
        place = str(output_dir / f"arm-{number}")
        result = pretrain(PretrainConfig.from_dict({**settings, "data": data, "output_dir": place}))
        if result is None or result.evaluation is None:
            raise InputError(f"{place}: was finished before; give another --output-dir")
        found.append((name, result.evaluation.mlm_loss, result.evaluation.mlm_accuracy))
    return found


def write_page(path: Path, found: list[tuple[str, float, float]]) -> None:
    """Draw the losses, with the table below."""
    names, losses = [row[0] for row in found], [row[1] for row in found]
    shares = [loss / max(losses) for loss in losses]
    texts = [f"{loss:.3f}" for loss in losses]
    plot = plots.rows("loss", names, shares, texts, x_label="held-out masked-token loss")
    head = ("arm", "masked-token loss", "against the first", "accuracy")
    rows = [(n, f"{x:.3f}", f"{x - losses[0]:+.3f}", f"{a:.3f}") for n, x, a in found]
    parts = ["<h1>What matters in BERT</h1>", page.figure(plot), page.table(head, rows)]
    path.write_text(page.page("What matters in BERT", parts), encoding="utf-8")


def main(arguments: list[str] | None = None) -> None:
    """Prepare the corpus once, train the arms, print and draw."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--corpus", required=True, nargs="+", help="texts to train on")
    parser.add_argument("--output-dir", type=Path, required=True, help="a new folder")
    parser.add_argument("--vocab-size", type=int, default=4096)
    parser.add_argument("--arms", nargs="+", default=list(ARMS), choices=list(ARMS))
    budget = parser.add_mutually_exclusive_group(required=True)
    budget.add_argument("--seconds-each", type=float)
    budget.add_argument("--steps-each", type=int)
    given = parser.parse_args(arguments)
    plots.check_installed()
    data = str(given.output_dir / "corpus")
    shared = {"corpus": given.corpus, "output_dir": data, "vocab_size": given.vocab_size}
    run_prepare(PrepareConfig.from_dict(shared))
    wanted = {"num_train_steps": given.steps_each, "max_train_seconds": given.seconds_each}
    chosen = {name: value for name, value in wanted.items() if value is not None}
    found = run_arms(given.arms, data, chosen, given.output_dir)
    print(f"\n{'arm':<16}loss    change  accuracy")
    for name, loss, accuracy in found:
        print(f"{name:<16}{loss:.3f}  {loss - found[0][1]:+.3f}  {accuracy:.3f}")
    write_page(given.output_dir / "ablation.html", found)
    print(f"drawn in {given.output_dir / 'ablation.html'}")


if __name__ == "__main__":
    try:
        main()
    except InputError as error:
        sys.exit(f"error: {error}")
