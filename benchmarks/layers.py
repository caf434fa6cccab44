"""Accuracy of logistic regression on frozen vectors of each layer, compared with TF-IDF of words.

    uv run benchmarks/layers.py --model runs/mine/model --train SST-2/train.tsv --test SST-2/dev.tsv

Both sides learn from the same rows, with scikit-learn's defaults; vectors are means over tokens,
standardised.
"""

from __future__ import annotations

import argparse
import random
from collections.abc import Sequence
from typing import Any

import numpy as np
from measure import machine, print_table, write_json
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from bert_scratch import BertModel, embed
from bert_scratch.finetuning.labelled_rows import LabelledText, read_labelled_texts
from bert_scratch.finetuning.task_settings import TaskSettings
from bert_scratch.inference.inputs import load_with_tokenizer


def main(arguments: Sequence[str] | None = None) -> list[dict[str, str]]:
    options = parse_arguments(arguments)
    settings = TaskSettings(task="classification")
    train, test = (
        read_labelled_texts(file, settings, labels_needed=True)
        for file in (options.train, options.test)
    )
    if len(train) > options.num_rows:
        train = random.Random(options.seed).sample(train, options.num_rows)
    model, tokenizer = load_with_tokenizer(BertModel, options.model)
    states = [
        np.asarray(embed(model, tokenizer, [e.text for e in examples], layers=("all",)))
        for examples in (train, test)
    ]  # each [N, L + 1, D]
    words = make_pipeline(TfidfVectorizer(), LogisticRegression(max_iter=1000))
    texts = [[e.text for e in examples] for examples in (train, test)]
    found = {"TF-IDF of words": accuracy(words, *texts, train, test)}
    for layer in range(states[0].shape[1]):
        name = "embeddings (layer 0)" if layer == 0 else f"layer {layer}"
        line = make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000))
        found[name] = accuracy(line, states[0][:, layer], states[1][:, layer], train, test)
    print(f"{len(train):,} rows to learn from, {len(test):,} to measure on\n")
    rows = [{"vectors": name, "accuracy": f"{value:.4f}"} for name, value in found.items()]
    print_table(rows)
    write_json(options.output, {"machine": machine(), "options": vars(options), "arms": rows})
    return rows


def parse_arguments(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", required=True, help="any BERT folder")
    parser.add_argument("--train", required=True, help="labelled texts")
    parser.add_argument("--test", required=True, help="labelled texts")
    parser.add_argument("--num-rows", type=int, default=4000, help="drawn from the training file")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--output", help="JSON file")
    return parser.parse_args(arguments)


def accuracy(
    pipeline: Any,
    vectors: Any,
    test_vectors: Any,
    train: Sequence[LabelledText],
    test: Sequence[LabelledText],
) -> float:
    """Fit on the training rows; return the accuracy on the test rows."""
    pipeline.fit(vectors, [e.label for e in train])
    return float(pipeline.score(test_vectors, [e.label for e in test]))


if __name__ == "__main__":
    main()
