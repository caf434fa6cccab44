"""Pins attention maps and what is counted about them, beside Hugging Face and plain loops.
Needs transformers. Run alone: `pytest tests/inference/test_attention_maps.py`.
"""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch
from tokenizers import Tokenizer
from torch import Tensor

import bert_scratch
from bert_scratch.inference.attention_maps import attention_rollout, head_statistics
from bert_scratch.model.heads import BertForPreTraining

transformers = pytest.importorskip("transformers")

A, B = "The cat sees a [MASK].", "un believable 北京!"


def random_weights(*shape: int) -> Tensor:
    torch.manual_seed(3)
    return torch.randn(*shape).mul(2).softmax(dim=-1)


@pytest.mark.parametrize("b", [None, B])
def test_maps_are_those_of_transformers(
    b: str | None, folder: Path, model: BertForPreTraining, tokenizer: Tokenizer
) -> None:
    maps = bert_scratch.attention_maps(model, tokenizer, A, b)
    their_tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    theirs = transformers.BertModel.from_pretrained(folder, attn_implementation="eager").eval()
    inputs = their_tokenizer(A, b, return_tensors="pt")
    with torch.no_grad():
        expected = torch.cat(theirs(**inputs, output_attentions=True).attentions)
    assert maps.tokens == their_tokenizer.convert_ids_to_tokens(inputs["input_ids"][0])
    assert maps.token_type_ids == inputs["token_type_ids"][0].tolist()
    torch.testing.assert_close(maps.weights, expected, atol=1e-5, rtol=0)
    alone = bert_scratch.attention_maps(model.bert, tokenizer, A, b)
    assert torch.equal(alone.weights, maps.weights)


def test_statistics_agree_with_plain_loops() -> None:
    weights = random_weights(2, 3, 7, 7)
    separators = torch.tensor([False, False, True, False, False, False, True])
    found = head_statistics(weights, separators)
    for layer in range(2):
        for head in range(3):
            table = weights[layer, head].tolist()
            rows = range(7)
            counted = {
                "entropy": sum(-w * math.log(w) for row in table for w in row) / 7,
                "distance": sum(table[i][j] * abs(i - j) for i in rows for j in rows) / 7,
                "to_cls": sum(table[i][0] for i in rows) / 7,
                "to_sep": sum(table[i][2] + table[i][6] for i in rows) / 7,
                "to_self": sum(table[i][i] for i in rows) / 7,
                "to_next": sum(table[i][i + 1] for i in range(6)) / 7,
                "to_previous": sum(table[i][i - 1] for i in range(1, 7)) / 7,
            }
            for name, value in counted.items():
                assert float(getattr(found, name)[layer, head]) == pytest.approx(value, abs=1e-5)


def test_entropy_is_between_one_token_and_all_alike() -> None:
    one = torch.eye(5).expand(1, 1, 5, 5)
    alike = torch.full((1, 1, 5, 5), 0.2)
    none = torch.zeros(5, dtype=torch.bool)
    assert float(head_statistics(one, none).entropy) == 0
    assert float(head_statistics(alike, none).entropy) == pytest.approx(math.log(5))


def test_rollout_is_the_product_of_mixed_layers() -> None:
    weights = random_weights(3, 2, 5, 5)
    rolled = attention_rollout(weights)
    product = torch.eye(5)
    for layer in range(3):
        mean = (weights[layer, 0] + weights[layer, 1]) / 2
        product = (0.5 * mean + 0.5 * torch.eye(5)) @ product
        torch.testing.assert_close(rolled[layer], product)
    torch.testing.assert_close(rolled.sum(dim=-1), torch.ones(3, 5))
