"""Pins that each line of a trace is what its formula says of the lines before it, and that the
ends are what the model returns. Run alone: `pytest tests/inference/test_trace.py`.
"""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from tokenizers import Tokenizer
from torch import Tensor

from bert_scratch.inference.attention_maps import attention_maps
from bert_scratch.inference.fill_mask import fill_mask
from bert_scratch.inference.trace import Trace, trace
from bert_scratch.model.heads import BertForPreTraining

TEXT, PAIR = "the cat [MASK] a [MASK]", "un x"


@pytest.fixture(scope="module")
def traced(model: BertForPreTraining, tokenizer: Tokenizer) -> Trace:
    return trace(model, tokenizer, TEXT, PAIR)


def part(traced: Trace, name: str) -> dict[str, Tensor]:
    return {step.name: step.value for step in traced.steps if step.part == name}


def test_every_part_has_its_steps_in_order(traced: Trace) -> None:
    layer = ["Q", "K", "V", "scores", "weights", "heads", "attended", "y", "wide", "narrow", "x"]
    expected = {
        "embeddings": ["ids", "word", "position", "segment", "sum", "x"],
        "layer 1": layer,
        "layer 2": layer,
        "masked words": ["x_m", "t", "logits", "p"],
        "next sentence": ["pooled", "n", "p_n"],
    }
    assert list(dict.fromkeys(step.part for step in traced.steps)) == list(expected)
    for name, steps in expected.items():
        assert list(part(traced, name)) == steps
    assert all(len(step.letters) == step.value.dim() for step in traced.steps)


def test_verdict_of_a_head_that_never_learned_next_sentence_is_left_out(
    folder: Path, tokenizer: Tokenizer
) -> None:
    other = BertForPreTraining.from_pretrained(folder, pair_task="sop")
    assert not part(trace(other, tokenizer, TEXT, PAIR), "next sentence")


@torch.no_grad()
def test_each_step_of_a_layer_follows_from_those_before(
    traced: Trace, model: BertForPreTraining
) -> None:
    x = part(traced, "embeddings")["x"]
    for number, block in enumerate(model.bert.layers):
        at = part(traced, f"layer {number + 1}")
        weights, biases = (
            tensor.chunk(3)
            for tensor in (
                block.attention.query_key_value.weight,
                block.attention.query_key_value.bias,
            )
        )
        for name, weight, bias in zip("QKV", weights, biases, strict=True):
            projected = (x @ weight.T + bias).view(len(x), 3, 8).transpose(0, 1)
            torch.testing.assert_close(at[name], projected)
        torch.testing.assert_close(at["scores"], at["Q"] @ at["K"].mT / 8**0.5)
        torch.testing.assert_close(at["weights"], at["scores"].softmax(dim=-1))
        torch.testing.assert_close(at["heads"], at["weights"] @ at["V"])
        joined = at["heads"].transpose(0, 1).reshape(len(x), 24)
        torch.testing.assert_close(at["attended"], block.attention.output(joined))
        torch.testing.assert_close(at["y"], block.attention_layer_norm(x + at["attended"]))
        torch.testing.assert_close(at["wide"], F.gelu(block.feed_forward.widen(at["y"])))
        torch.testing.assert_close(at["narrow"], block.feed_forward.narrow(at["wide"]))
        x = block.feed_forward_layer_norm(at["y"] + at["narrow"])
        torch.testing.assert_close(at["x"], x)


def test_embeddings_add_up(traced: Trace, model: BertForPreTraining) -> None:
    at = part(traced, "embeddings")
    assert torch.equal(at["sum"], at["word"] + at["position"] + at["segment"])
    with torch.no_grad():
        torch.testing.assert_close(at["x"], model.bert.embeddings.layer_norm(at["sum"]))
        both = model.bert.embeddings.token_type_embeddings.weight
    assert torch.equal(at["segment"][0], both[0]) and torch.equal(at["segment"][-1], both[1])


def test_ends_are_what_the_model_returns(
    traced: Trace, model: BertForPreTraining, tokenizer: Tokenizer
) -> None:
    maps = attention_maps(model, tokenizer, TEXT, PAIR)
    assert traced.tokens == maps.tokens
    for number in range(2):
        weights = part(traced, f"layer {number + 1}")["weights"]
        torch.testing.assert_close(weights, maps.weights[number], atol=1e-6, rtol=0)
    shares = part(traced, "next sentence")["p_n"]
    ids = part(traced, "embeddings")["ids"][None]
    with torch.no_grad():
        output = model(ids, torch.tensor([maps.token_type_ids]))
    torch.testing.assert_close(shares, output.seq_relationship_logits[0].softmax(dim=-1))


def test_predictions_are_those_of_fill_mask(
    model: BertForPreTraining, tokenizer: Tokenizer
) -> None:
    shares = part(trace(model, tokenizer, TEXT), "masked words")["p"]
    for row, guesses in zip(shares, fill_mask(model, tokenizer, TEXT, top_k=3), strict=True):
        assert row.topk(3).indices.tolist() == [guess.id for guess in guesses]


def test_models_without_heads_and_texts_without_masks_end_earlier(
    model: BertForPreTraining, tokenizer: Tokenizer
) -> None:
    assert trace(model, tokenizer, "the cat").steps[-1].part == "layer 2"
    assert trace(model.bert, tokenizer, TEXT, PAIR).steps[-1].part == "layer 2"
