"""Write the golden files: small random models of transformers, inputs, and what they compute.

Run `python tests/model/golden/make_golden.py` where transformers is installed. The files pin
parity where it is not; they change only if transformers does.
"""

from __future__ import annotations

import json
from pathlib import Path

import torch
import transformers
from safetensors.torch import save_file

SHAPES = {
    "ordinary": {
        "vocab_size": 61,
        "hidden_size": 24,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "intermediate_size": 40,
        "max_position_embeddings": 16,
    },
    "unusual": {
        "vocab_size": 53,
        "hidden_size": 21,
        "num_hidden_layers": 3,
        "num_attention_heads": 3,
        "intermediate_size": 29,
        "max_position_embeddings": 13,
        "type_vocab_size": 1,
        "hidden_act": "gelu_new",
        "layer_norm_eps": 1e-5,
    },
}


def make(name: str, shape: dict[str, object], folder: Path) -> None:
    """Write `<name>.json` (the configuration) and `<name>.safetensors` (weights and results)."""
    torch.manual_seed(20181011)
    config = transformers.BertConfig(**shape, attn_implementation="eager")
    model = transformers.BertForPreTraining(config).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.15)
    rows, width = 3, 11
    inputs = {
        "input_ids": torch.randint(0, config.vocab_size, (rows, width)),
        "token_type_ids": torch.randint(0, config.type_vocab_size, (rows, width)),
        "attention_mask": (torch.arange(width) < torch.tensor([[11], [7], [4]])).long(),
    }
    labels = torch.full((rows, width), -100)
    labels[:, 1::3] = inputs["input_ids"][:, 1::3]
    pairs = torch.tensor([0, 1, 1])
    output = model(
        **inputs,
        labels=labels,
        next_sentence_label=pairs,
        output_hidden_states=True,
        output_attentions=True,
    )
    output.loss.backward()
    tensors = {f"inputs.{key}": value for key, value in inputs.items()}
    tensors |= {"inputs.labels": labels, "inputs.next_sentence_label": pairs}
    for key in ("loss", "prediction_logits", "seq_relationship_logits"):
        tensors[f"outputs.{key}"] = output[key].detach()
    for key in ("hidden_states", "attentions"):
        tensors[f"outputs.{key}"] = torch.stack(output[key]).detach()
    for key, parameter in model.named_parameters():
        tensors[f"weights.{key}"] = parameter.detach()
        tensors[f"gradients.{key}"] = parameter.grad
    save_file({k: v.contiguous() for k, v in tensors.items()}, folder / f"{name}.safetensors")
    values = {**shape, "model_type": "bert", "architectures": ["BertForPreTraining"]}
    (folder / f"{name}.json").write_text(json.dumps(values, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    for name, shape in SHAPES.items():
        make(name, shape, Path(__file__).resolve().parent)
