"""Replace what an attention head does by a rule of your own, and see the guesses change.

    python examples/replace_head.py --model runs/mine/model --text "Return a new [MASK]."

The rule here: each token takes the value of the token before it. Any function that maps the tensor
at a site to one of the same shape will do; `bert_scratch.inference.surgery` lists the sites.
"""

from __future__ import annotations

import argparse
import sys

from torch import Tensor

from bert_scratch.config import InputError
from bert_scratch.inference.fill_mask import fill_mask
from bert_scratch.inference.inputs import load_with_tokenizer
from bert_scratch.inference.surgery import Edit, Site, operated
from bert_scratch.model.heads import BertForMaskedLM


def previous_token_head(layer: int, head: int) -> list[Edit]:
    """Let a head copy the previous token's value to each token; the first copies its own."""
    values: list[Tensor] = []

    def keep(value: Tensor) -> Tensor:
        values.append(value)
        return value

    def copy(heads: Tensor) -> Tensor:
        own = values.pop()[:, :, head]  # [B, S, K]
        replaced = heads.clone()
        replaced[:, 0, head] = own[:, 0]
        replaced[:, 1:, head] = own[:, :-1]
        return replaced

    return [Edit(Site("value", layer), keep), Edit(Site("heads", layer), copy)]


def main(arguments: list[str] | None = None) -> None:
    """Print the guesses of the model as it is, and with each head replaced in turn."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--model", required=True, help="a model folder or a hub id")
    parser.add_argument("--text", required=True, help="a text with one [MASK]")
    given = parser.parse_args(arguments)
    model, tokenizer = load_with_tokenizer(BertForMaskedLM, given.model)

    def say(name: str) -> None:
        guesses = fill_mask(model, tokenizer, given.text, top_k=4)[0]
        print(f"{name:<18}" + "  ".join(f"{guess.token} {guess.score:.3f}" for guess in guesses))

    say("as it is")
    for layer in range(model.config.num_hidden_layers):
        for head in range(model.config.num_attention_heads):
            with operated(model, previous_token_head(layer, head)):
                say(f"layer {layer + 1}, head {head + 1}")


if __name__ == "__main__":
    try:
        main()
    except InputError as error:
        sys.exit(f"error: {error}")
