"""Adapters learn alone, survive a stop; low-rank ones are merged, the others load here only.
Runs anywhere: `pytest tests/finetuning/test_adapters.py`."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch

from bert_scratch.config import BertConfig, InputError
from bert_scratch.data.wordpiece import TokenizerFolder, load_tokenizer
from bert_scratch.finetuning.adapter_settings import AdapterSettings
from bert_scratch.finetuning.adapters import (
    Prefix,
    add_adapters,
    load_adapted,
    load_weights,
    result_of,
    write_adapted_folder,
)
from bert_scratch.finetuning.assemble import Parts
from bert_scratch.finetuning.finetune import finetune
from bert_scratch.finetuning.finetune_config import FinetuneConfig
from bert_scratch.finetuning.predict import PredictConfig, predict
from bert_scratch.finetuning.rows import RowBatch
from bert_scratch.model.task_heads import BertForSequenceClassification
from bert_scratch.training.interruption import Interrupted

IDS = torch.tensor([[2, 7, 9, 8, 3], [2, 5, 6, 3, 0]])
MASK = torch.tensor([[1, 1, 1, 1, 1], [1, 1, 1, 1, 0]])
KINDS = ("lora", "bottleneck", "prefix")
Make = Callable[..., FinetuneConfig]


def of(kind: str) -> AdapterSettings:
    if kind == "lora":
        return AdapterSettings(adapter=kind, lora_rank=2, lora_alpha=4.0)
    return AdapterSettings(adapter=kind, adapter_size=3)


def adapted(folder: Path, kind: str) -> BertForSequenceClassification:
    torch.manual_seed(0)
    model = BertForSequenceClassification.from_pretrained(folder, new_head=True)
    add_adapters(model, of(kind))
    return model


def changed(folder: Path, kind: str) -> BertForSequenceClassification:
    model = adapted(folder, kind)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.add_(torch.randn_like(parameter), alpha=0.1)
    return model


@pytest.mark.parametrize("kind", ["lora", "bottleneck"])
def test_adapters_change_nothing_before_they_learn(folder: Path, kind: str) -> None:
    torch.manual_seed(0)
    plain = BertForSequenceClassification.from_pretrained(folder, new_head=True)
    torch.testing.assert_close(adapted(folder, kind)(IDS).logits, plain(IDS).logits)


@pytest.mark.parametrize("kind", KINDS)
def test_only_adapters_pooler_and_head_learn(folder: Path, kind: str) -> None:
    learning = {n for n, p in adapted(folder, kind).named_parameters() if p.requires_grad}
    names = BertForSequenceClassification.from_pretrained(folder, new_head=True).state_dict()
    old = {name for name in learning if name in names}
    heads = ("bert.pooler.dense", "classifier")
    assert old == {f"{head}.{kind}" for head in heads for kind in ("weight", "bias")}
    # of each layer: two for each of 4 matrices, four for each of 2 places, or one
    assert len(learning - old) == 2 * {"lora": 8, "bottleneck": 8, "prefix": 1}[kind]


@pytest.mark.parametrize("kind", KINDS)
def test_adapters_of_each_kind_change_the_answer(folder: Path, kind: str) -> None:
    model, plain = changed(folder, kind), adapted(folder, kind)
    plain.load_state_dict(
        {name: v for name, v in model.state_dict().items() if name.startswith("classifier")},
        strict=False,
    )
    plain.get_submodule("bert.pooler").load_state_dict(
        model.get_submodule("bert.pooler").state_dict()
    )
    assert not torch.allclose(model(IDS).logits, plain(IDS).logits, atol=1e-4)


def test_the_merged_model_has_equal_logits_and_ordinary_names(folder: Path) -> None:
    model = changed(folder, "lora")
    plain = result_of(model, of("lora"))
    names = BertForSequenceClassification(model.config).state_dict().keys()
    assert plain.state_dict().keys() == names
    torch.testing.assert_close(plain(IDS).logits, model(IDS).logits)


@pytest.mark.parametrize("kind", KINDS)
def test_a_checkpoint_brings_adapters_back(folder: Path, tmp_path: Path, kind: str) -> None:
    model, fresh = changed(folder, kind), adapted(folder, kind)
    model.save_pretrained(tmp_path)
    load_weights(fresh, tmp_path / "model.safetensors")
    for name, value in model.state_dict().items():
        assert torch.equal(fresh.state_dict()[name], value), name


def test_padding_changes_no_answer_behind_a_prefix(folder: Path) -> None:
    model = changed(folder, "prefix").eval()
    with torch.inference_mode():
        padded = model(IDS, attention_mask=MASK).logits[1]
        torch.testing.assert_close(padded, model(IDS[1:, :4]).logits[0])


@pytest.mark.parametrize("kind", ["bottleneck", "prefix"])
def test_what_cannot_be_merged_is_loaded_here_and_refused_elsewhere(
    folder: Path, tmp_path: Path, kind: str
) -> None:
    from transformers import AutoModelForSequenceClassification

    model = changed(folder, kind).eval()
    write_adapted_folder(
        tmp_path / "model",
        model=model,
        tokenizer=TokenizerFolder(load_tokenizer(folder)),
        settings=of(kind),
        model_card="",
        also={},
    )
    again = load_adapted(BertForSequenceClassification, tmp_path / "model")
    torch.testing.assert_close(again(IDS).logits, model(IDS).logits)
    with pytest.raises(OSError, match=r"no file named .*model.safetensors"):
        AutoModelForSequenceClassification.from_pretrained(tmp_path / "model")
    with pytest.raises(InputError, match=r"model: has adapters .* so only predict reads it"):
        BertForSequenceClassification.from_pretrained(tmp_path / "model")


@pytest.mark.parametrize(("kind", "weight"), [*((kind, 0.0) for kind in KINDS), ("lora", 0.1)])
def test_a_run_with_adapters_goes_on_to_the_same_bits_and_predicts(
    settings: Make, monkeypatch: pytest.MonkeyPatch, kind: str, weight: float
) -> None:
    def asked(name: str) -> FinetuneConfig:
        size = {"lora_rank" if kind == "lora" else "adapter_size": 4}
        chosen = {"adapter": kind, "auxiliary_mlm": weight, **size}
        return settings(name, **chosen, num_train_epochs=2)

    through = finetune(asked("through"))
    batches = Parts.batches

    def interrupted(self: Parts, first_step: int) -> Iterator[RowBatch]:
        for number, batch in enumerate(batches(self, first_step), start=first_step):
            if number == 8:
                os.kill(os.getpid(), signal.SIGTERM)
            yield batch

    with monkeypatch.context() as patched:
        patched.setattr(Parts, "batches", interrupted)
        with pytest.raises(Interrupted):
            finetune(asked("stopped"))
    resumed = finetune(asked("stopped"))
    assert through.results["evaluations"] == resumed.results["evaluations"]
    file = asked("through").eval_file
    answers = predict(PredictConfig(model=(str(through.folder),), input=file, device="cpu"))
    labels = [line.split("\t")[1] for line in Path(file).read_text().splitlines()[1:]]
    right = sum(a["label"] == label for a, label in zip(answers, labels, strict=True))
    assert right / len(labels) == pytest.approx(through.results["accuracy"])


def test_what_has_adapters_is_no_start_for_other_runs(settings: Make) -> None:
    first = finetune(settings("first", adapter="bottleneck", num_train_epochs=1))
    with pytest.raises(InputError, match=r"has adapters that cannot be merged; fine-tune the mod"):
        finetune(settings("second", model=str(first.folder)))


def test_an_unknown_kind_is_answered_with_those_there_are() -> None:
    with pytest.raises(InputError, match=r"--adapter must be one of none, lora, .*'prefix'"):
        AdapterSettings(adapter="prefx")


def test_a_prefix_begins_with_the_configured_spread() -> None:
    config = BertConfig.preset("tiny", vocab_size=61, initializer_range=0.02)
    assert 0.015 < Prefix(config, 50).positions.std() < 0.025
