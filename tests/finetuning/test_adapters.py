"""Low-rank adapters learn alone, survive a stop, and are merged on export.
Runs anywhere: `pytest tests/finetuning/test_adapters.py`."""

from __future__ import annotations

from pathlib import Path

import torch

from bert_scratch.finetuning.adapters import add_adapters, load_with_adapters, merged
from bert_scratch.model.task_heads import BertForSequenceClassification

IDS = torch.tensor([[2, 7, 9, 8, 3], [2, 5, 6, 3, 0]])


def adapted(folder: Path) -> BertForSequenceClassification:
    torch.manual_seed(0)
    model = BertForSequenceClassification.from_pretrained(folder, new_head=True)
    add_adapters(model, rank=2, alpha=4.0)
    return model


def changed(folder: Path) -> BertForSequenceClassification:
    model = adapted(folder)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.add_(torch.randn_like(parameter), alpha=0.1)
    return model


def test_adapters_change_nothing_before_they_learn(folder: Path) -> None:
    torch.manual_seed(0)
    plain = BertForSequenceClassification.from_pretrained(folder, new_head=True)
    torch.testing.assert_close(adapted(folder)(IDS).logits, plain(IDS).logits)


def test_only_adapters_pooler_and_head_learn(folder: Path) -> None:
    learning = {name for name, p in adapted(folder).named_parameters() if p.requires_grad}
    kinds = {
        name.split(".")[-2 if name.startswith(("bert.pooler", "cl")) else -1] for name in learning
    }
    assert kinds == {"down", "up", "dense", "classifier"}
    assert not any("original" in name for name in learning)


def test_the_merged_model_has_equal_logits_and_ordinary_names(folder: Path) -> None:
    model = changed(folder)
    plain = merged(model)
    assert (
        plain.state_dict().keys() == BertForSequenceClassification(model.config).state_dict().keys()
    )
    torch.testing.assert_close(plain(IDS).logits, model(IDS).logits)


def test_a_checkpoint_brings_adapters_back(folder: Path, tmp_path: Path) -> None:
    model, fresh = changed(folder), adapted(folder)
    model.save_pretrained(tmp_path)
    load_with_adapters(fresh, tmp_path)
    for name, value in model.state_dict().items():
        assert torch.equal(fresh.state_dict()[name], value), name
