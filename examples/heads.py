"""Which heads a model needs: its loss on a text with each head disabled, or made uniform.

    python examples/heads.py --model runs/mine/model --text "The file is closed when it is deleted."

Prints the loss in nats per token, with each token masked in a pass of its own. Then prints how much
it rises, for each head of each layer, without the head and with its attention made uniform.
"""

from __future__ import annotations

import argparse
import sys

from bert_scratch.config import InputError
from bert_scratch.inference.effects import loss_without_heads, masked_loss
from bert_scratch.inference.inputs import load_with_tokenizer
from bert_scratch.inference.surgery import skip_layer, uniform_attention
from bert_scratch.model.heads import BertForMaskedLM


def main(arguments: list[str] | None = None) -> None:
    """Print the three tables."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--model", required=True, help="a model folder or a hub id")
    parser.add_argument("--text", required=True, help="a text of a sentence or two")
    given = parser.parse_args(arguments)
    model, tokenizer = load_with_tokenizer(BertForMaskedLM, given.model)
    whole = masked_loss(model, tokenizer, given.text)
    layers, heads = range(model.config.num_hidden_layers), range(model.config.num_attention_heads)
    print(f"loss of the whole model: {whole:.3f} nats per token")
    print("\nwithout a head (columns) of a layer (rows):")
    for row in loss_without_heads(model, tokenizer, given.text) - whole:
        print("  " + "  ".join(f"{rise:+.3f}" for rise in row.tolist()))
    print("\nwith a head that looks at every token alike:")
    for layer in layers:
        losses = [
            masked_loss(model, tokenizer, given.text, uniform_attention(layer, [head]))
            for head in heads
        ]
        print("  " + "  ".join(f"{loss - whole:+.3f}" for loss in losses))
    print("\nwithout a whole layer:")
    for layer in layers:
        print(f"  {masked_loss(model, tokenizer, given.text, skip_layer(layer)) - whole:+.3f}")


if __name__ == "__main__":
    try:
        main()
    except InputError as error:
        sys.exit(f"error: {error}")
