"""Compare sentence vectors from one checkpoint: how well do their cosines rank scored pairs?

    uv run examples/sentence_vectors.py --model runs/mine/model --train STS-B/train.tsv \
        --eval STS-B/dev.tsv

Training pairs are used three times: their sentences for whitening, the same sentences as plain
texts for SimCSE, and the pairs with their scores for the supervised model. --sentences takes other
texts for the first two. The figure is Spearman's correlation of cosines and scores, for the model
after the last update: the evaluation file chooses nothing.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.stats import spearmanr

from bert_scratch import BertModel, embed, finetune
from bert_scratch.config import InputError
from bert_scratch.finetuning.finetune_config import FinetuneConfig
from bert_scratch.finetuning.sentence_embedding_files import (
    SentenceExample,
    read_sentence_examples,
)
from bert_scratch.finetuning.task_settings import TaskSettings
from bert_scratch.inference.inputs import load_with_tokenizer
from bert_scratch.inference.pooling import unit_length
from bert_scratch.inference.texts import read_texts
from bert_scratch.inference.whitening import fit_whitening

Vectors = npt.NDArray[np.float32]
TASK = "sentence-embedding"


def main(arguments: Sequence[str] | None = None) -> dict[str, float]:
    """Evaluate all kinds, print the table and return it."""
    options = parse_arguments(arguments)
    train, held_out = read_pairs(options.train), read_pairs(options.eval)
    if options.sentences is None:
        sentences = sorted({text for e in train for text in (e.text, str(e.text_pair))})
    else:
        sentences = [text for text in read_texts(options.sentences) if text]
    model, tokenizer = load_with_tokenizer(BertModel, options.model)

    def vectors(texts: Sequence[str], **how: Any) -> Vectors:
        return np.asarray(embed(model, tokenizer, texts, **how))

    whitening = fit_whitening([vectors(sentences)])
    found = {
        "mean, last layer": spearman(vectors, held_out),
        "mean, second-to-last layer": spearman(
            lambda texts: vectors(texts, layers=(-2,)), held_out
        ),
        "mean, last layer, whitened": spearman(lambda texts: whitening(vectors(texts)), held_out),
    }
    output = Path(options.output_dir)
    output.mkdir(parents=True, exist_ok=True)
    lines = output / "sentences.txt"
    lines.write_text("".join(" ".join(s.split()) + "\n" for s in sentences), encoding="utf-8")
    for name, file in (("SimCSE", str(lines)), ("supervised", options.train)):
        result = finetune(
            FinetuneConfig(
                task=TASK,
                model=options.model,
                train_file=file,
                eval_file=options.eval,
                output_dir=str(output / name.lower()),
                train_batch_size=64 if name == "SimCSE" else 32,
                num_train_epochs=options.simcse_epochs if name == "SimCSE" else options.epochs,
                learning_rate=options.simcse_learning_rate if name == "SimCSE" else None,
                max_seq_length=options.max_seq_length,
                keep="last",
            )
        )
        found[name] = result.results["spearman"]
    for name, value in found.items():
        print(f"{name:<28}{value:7.4f}")
    return found


def parse_arguments(arguments: Sequence[str] | None) -> argparse.Namespace:
    """Return the parsed flags."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", required=True, help="any BERT folder")
    parser.add_argument("--train", required=True, help="scored pairs to learn from")
    parser.add_argument("--eval", required=True, help="scored pairs to evaluate on")
    parser.add_argument("--sentences", help="plain texts, one per line, for whitening and SimCSE")
    parser.add_argument("--output-dir", default="runs/sentence-vectors")
    parser.add_argument("--max-seq-length", type=int, default=64)
    parser.add_argument("--epochs", type=float, default=4.0, help="of the supervised model")
    parser.add_argument("--simcse-epochs", type=float, default=1.0)
    parser.add_argument("--simcse-learning-rate", type=float, help="default: by the width")
    return parser.parse_args(arguments)


def read_pairs(file: str) -> list[SentenceExample]:
    """Return the scored pairs of a file."""
    return read_sentence_examples(file, TaskSettings(task=TASK), labels_needed=True)


def spearman(embedder: Callable[[list[str]], Vectors], pairs: Sequence[SentenceExample]) -> float:
    """Return the rank correlation of the pairs' cosines with their scores."""
    both = [embedder([e.text for e in pairs]), embedder([str(e.text_pair) for e in pairs])]
    first, second = map(unit_length, both)
    scores = [float(str(e.label)) for e in pairs]
    return float(spearmanr((first * second).sum(axis=1), scores).statistic)


if __name__ == "__main__":
    try:
        main()
    except InputError as error:
        sys.exit(f"error: {error}")
