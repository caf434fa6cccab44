"""Lower layers learn more slowly, or not at all, when asked.
Runs anywhere: `pytest tests/finetuning/test_depth.py`."""

from __future__ import annotations

from pathlib import Path

import pytest

from bert_scratch.config import InputError
from bert_scratch.finetuning.depth import depth_of, freeze, lr_scale_of
from bert_scratch.model.task_heads import BertForSequenceClassification


@pytest.fixture
def model(folder: Path) -> BertForSequenceClassification:
    return BertForSequenceClassification.from_pretrained(folder, new_head=True)


def test_depth_grows_from_the_embeddings_to_the_head(model: BertForSequenceClassification) -> None:
    depths = {name: depth_of(name, 2) for name, _ in model.named_parameters()}
    assert depths["bert.embeddings.word_embeddings.weight"] == 0
    assert depths["bert.layers.1.feed_forward.widen.bias"] == 2
    assert depths["bert.pooler.dense.weight"] == depths["classifier.weight"] == 3
    assert lr_scale_of("bert.embeddings.layer_norm.bias", 2, 0.5) == 0.125
    assert lr_scale_of("classifier.bias", 2, 0.5) == 1.0


@pytest.mark.parametrize(
    ("layers", "deepest"), [("none", -1), ("embeddings", 0), ("1", 1), ("all", 2)]
)
def test_what_is_frozen_does_not_learn(
    model: BertForSequenceClassification, layers: str, deepest: int
) -> None:
    freeze(model, layers)
    for name, parameter in model.named_parameters():
        assert parameter.requires_grad == (depth_of(name, 2) > deepest)


def test_more_layers_than_there_are_cannot_be_frozen(model: BertForSequenceClassification) -> None:
    with pytest.raises(InputError, match=r"--freeze-layers 3: the model has 2 layers"):
        freeze(model, "3")
