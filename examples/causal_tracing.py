r"""Where a model stores what it needs to fill a gap: states of one text are put into another.

    python examples/causal_tracing.py --model runs/mine/model --answer type \
        --clean "Return a new [MASK] of the given type." \
        --corrupted "Return a new [MASK] of the given name."

Both texts must have the same number of tokens, with [MASK] in the same place. For each token and
each layer, the state of the clean text is put into the pass of the corrupted one: 100 % means that
this one state restores the whole probability of the answer, 0 % that it restores nothing.
"""

from __future__ import annotations

import argparse
import sys

from bert_scratch.config import InputError
from bert_scratch.inference.effects import causal_trace
from bert_scratch.inference.inputs import load_with_tokenizer
from bert_scratch.model.heads import BertForMaskedLM


def main(arguments: list[str] | None = None) -> None:
    """Print a row for each token, with columns for the embeddings and each layer."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--model", required=True, help="a model folder or a hub id")
    parser.add_argument("--clean", required=True, help="a text with one [MASK]")
    parser.add_argument("--corrupted", required=True, help="the same with other words")
    parser.add_argument("--answer", required=True, help="the token that fits the clean text")
    given = parser.parse_args(arguments)
    model, tokenizer = load_with_tokenizer(BertForMaskedLM, given.model)
    traced = causal_trace(model, tokenizer, given.clean, given.corrupted, given.answer)
    if traced.clean == traced.corrupted:
        raise InputError("both texts give the answer the same probability: nothing to restore")
    print(
        f"{given.answer!r}: {traced.clean:.4f} in the clean text, {traced.corrupted:.4f} in the "
        "corrupted one"
    )
    names = ["embeddings", *(f"layer {n + 1}" for n in range(model.config.num_hidden_layers))]
    print(" " * 14 + "".join(f"{name:>12}" for name in names))
    back = (traced.restored - traced.corrupted) / (traced.clean - traced.corrupted)
    for token, row in zip(traced.tokens, back.T.tolist(), strict=True):
        print(f"{token:>14}" + "".join(f"{round(100 * share):>10} %" for share in row))


if __name__ == "__main__":
    try:
        main()
    except InputError as error:
        sys.exit(f"error: {error}")
