"""Pins model folders: what is saved loads bit for bit, old spellings and other dtypes are
understood, heads start anew only when asked to, and whatever does not fit is refused by name.
Runs anywhere: `pytest tests/model/test_folder.py`.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from bert_scratch.config import BertConfig, InputError
from bert_scratch.model.encoder import BertModel
from bert_scratch.model.heads import (
    BertForMaskedLM,
    BertForNextSentencePrediction,
    BertForPreTraining,
)
from bert_scratch.model.pretrained_model import PretrainedModel
from bert_scratch.model.weight_files import WEIGHTS

CONFIG = BertConfig(
    vocab_size=67,
    hidden_size=24,
    num_hidden_layers=3,
    num_attention_heads=2,
    intermediate_size=40,
    max_position_embeddings=19,
)
CLASSES = (BertModel, BertForPreTraining, BertForMaskedLM, BertForNextSentencePrediction)


def make(cls: type[PretrainedModel], seed: int = 1) -> PretrainedModel:
    """Return a model whose every parameter, biases and LayerNorms too, is random."""
    torch.manual_seed(seed)
    model = cls(CONFIG).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter), alpha=0.05)
    return model


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    make(BertForPreTraining).save_pretrained(tmp_path / "model")
    return tmp_path / "model"


def change_config(folder: Path, **changes: Any) -> None:
    """Set keys of config.json; ... removes one."""
    path = folder / "config.json"
    values = {**json.loads(path.read_text()), **changes}
    path.write_text(json.dumps({k: v for k, v in values.items() if v is not ...}))


def change_tensors(
    folder: Path, change: Callable[[dict[str, torch.Tensor]], dict[str, torch.Tensor]]
) -> None:
    path = folder / WEIGHTS
    tensors = {name: tensor.clone() for name, tensor in load_file(path).items()}
    save_file({k: v.contiguous() for k, v in change(tensors).items()}, path)


@pytest.mark.parametrize("cls", CLASSES)
def test_round_trip_is_bit_exact(cls: type[PretrainedModel], tmp_path: Path) -> None:
    model = make(cls)
    model.save_pretrained(tmp_path)
    loaded = cls.from_pretrained(tmp_path)
    assert loaded.config == model.config
    assert not loaded.training
    state = loaded.state_dict()
    assert state.keys() == model.state_dict().keys()
    for name, tensor in model.state_dict().items():
        assert torch.equal(tensor, state[name]), name


def test_loaded_decoder_is_tied_and_trains(folder: Path) -> None:
    model = BertForPreTraining.from_pretrained(folder)
    assert model.mlm_head.decoder.weight is model.bert.embeddings.word_embeddings.weight
    assert all(p.requires_grad and p.is_leaf and not p.is_meta for p in model.parameters())


def test_decoder_is_stored_once_with_metadata(folder: Path) -> None:
    from safetensors import safe_open

    with safe_open(folder / WEIGHTS, framework="pt") as file:
        assert file.metadata() == {"format": "pt"}
        assert "cls.predictions.decoder.weight" not in file.keys()
        assert "cls.predictions.bias" in file.keys()
    assert sorted(path.name for path in folder.iterdir()) == ["config.json", WEIGHTS]


def test_config_json_names_class_and_type(folder: Path) -> None:
    values = json.loads((folder / "config.json").read_text())
    assert values["model_type"] == "bert"
    assert values["architectures"] == ["BertForPreTraining"]


def test_saving_into_the_folder_it_was_loaded_from(folder: Path) -> None:
    model = BertForPreTraining.from_pretrained(folder)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    model.save_pretrained(folder)
    again = BertForPreTraining.from_pretrained(folder).state_dict()
    assert all(torch.equal(before[name], again[name]) for name in before)
    assert all(torch.equal(before[name], t) for name, t in model.state_dict().items())


def test_failed_save_leaves_the_old_weights(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import bert_scratch.model.folder as module

    def full_disk(_tensors: object, path: Path, **_: object) -> None:
        Path(path).write_bytes(b"half")
        raise OSError(28, "No space left on device")

    before = (folder / WEIGHTS).read_bytes()
    monkeypatch.setattr(module, "save_file", full_disk)
    with pytest.raises(OSError, match="No space"):
        make(BertForPreTraining, seed=9).save_pretrained(folder)
    assert (folder / WEIGHTS).read_bytes() == before
    assert sorted(path.name for path in folder.iterdir()) == ["config.json", WEIGHTS]


def test_loading_the_same_class_says_nothing(
    folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG, logger="bert_scratch")
    BertForPreTraining.from_pretrained(folder)
    assert not caplog.records


def old_names(tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    def old(name: str) -> str:
        if "LayerNorm" not in name:
            return name
        return name.replace(".weight", ".gamma").replace("LayerNorm.bias", "LayerNorm.beta")

    old_file = {old(name): tensor for name, tensor in tensors.items()}
    old_file["bert.embeddings.position_ids"] = torch.arange(19)[None]
    old_file["cls.predictions.decoder.weight"] = tensors["bert.embeddings.word_embeddings.weight"]
    return {name: tensor.clone() for name, tensor in old_file.items()}


def test_old_names_and_buffers_are_understood(folder: Path) -> None:
    model = BertForPreTraining.from_pretrained(folder)
    change_tensors(folder, old_names)
    for name, tensor in BertForPreTraining.from_pretrained(folder).state_dict().items():
        assert torch.equal(tensor, model.state_dict()[name])


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_other_floating_dtypes_load_as_float32(folder: Path, dtype: torch.dtype) -> None:
    change_tensors(folder, lambda tensors: {k: v.to(dtype) for k, v in tensors.items()})
    stored = load_file(folder / WEIGHTS)["bert.pooler.dense.weight"]
    model = BertForPreTraining.from_pretrained(folder)
    assert all(parameter.dtype == torch.float32 for parameter in model.parameters())
    assert torch.equal(model.bert.pooler.dense.weight, stored.float())


def test_config_without_model_type_is_bert(folder: Path) -> None:
    change_config(folder, model_type=..., architectures=...)
    assert BertForPreTraining.from_pretrained(folder).config == CONFIG


def test_overrides_are_config_fields_and_class_keywords(folder: Path) -> None:
    model = BertForPreTraining.from_pretrained(
        folder, hidden_dropout_prob=0.0, attention_backend="explicit"
    )
    assert model.config == CONFIG.replace(hidden_dropout_prob=0.0)
    assert model.bert.embeddings.dropout.p == 0.0


def test_missing_head_is_refused_without_new_head(tmp_path: Path) -> None:
    make(BertModel).save_pretrained(tmp_path)
    with pytest.raises(InputError, match=r"they lack cls\.predictions.*new_head=True"):
        BertForPreTraining.from_pretrained(tmp_path)


def test_missing_pooler_is_refused_without_new_head(tmp_path: Path) -> None:
    make(BertForMaskedLM).save_pretrained(tmp_path)
    with pytest.raises(InputError, match=r"they lack pooler\.dense\.weight"):
        BertModel.from_pretrained(tmp_path)


def test_new_head_initialises_the_head_alone(tmp_path: Path) -> None:
    encoder = make(BertModel)
    encoder.save_pretrained(tmp_path)
    torch.manual_seed(5)
    model = BertForPreTraining.from_pretrained(tmp_path, new_head=True)
    for name, tensor in encoder.state_dict().items():
        assert torch.equal(tensor, model.bert.state_dict()[name])
    assert model.mlm_head.decoder.weight is model.bert.embeddings.word_embeddings.weight
    assert not any(parameter.is_meta for parameter in model.parameters())
    assert 0.01 < model.nsp_head.classifier.weight.std() < 0.04
    assert torch.all(model.mlm_head.decoder.bias == 0)


def test_half_a_head_is_refused_even_with_new_head(folder: Path) -> None:
    lost = "cls.predictions.transform.dense.weight"
    change_tensors(folder, lambda t: {k: v for k, v in t.items() if k != lost})
    with pytest.raises(InputError, match=f"missing {lost}"):
        BertForPreTraining.from_pretrained(folder, new_head=True)


def refusal(folder: Path | str, **keywords: Any) -> str:
    with pytest.raises(InputError) as caught:
        BertForPreTraining.from_pretrained(folder, **keywords)
    return str(caught.value)


def test_missing_key_is_refused_by_its_stored_name(folder: Path) -> None:
    lost = "bert.encoder.layer.1.attention.self.key.weight"
    change_tensors(folder, lambda t: {k: v for k, v in t.items() if k != lost})
    message = refusal(folder, new_head=True)
    assert message == f"{folder}: the weights do not fit BertForPreTraining: missing {lost}"


def test_misspelt_key_is_refused_with_the_nearest_name(folder: Path) -> None:
    def misspell(tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        return {
            k.replace("layer.0.output.dense", "layer.0.outptu.dense"): tensors[k] for k in tensors
        }

    change_tensors(folder, misspell)
    message = refusal(folder)
    assert "missing bert.encoder.layer.0.output.dense.weight" in message
    assert "unexpected bert.encoder.layer.0.outptu.dense" in message
    assert "did you mean 'bert.encoder.layer.0.output.dense" in message


def test_unexpected_key_is_refused(folder: Path) -> None:
    change_tensors(folder, lambda t: {**t, "bert.adapter.weight": torch.ones(2)})
    assert "unexpected bert.adapter.weight" in refusal(folder)


@pytest.mark.parametrize(
    ("name", "shape", "wanted"),
    [
        ("bert.encoder.layer.0.attention.self.value.weight", (24, 23), "[24, 24]"),
        ("bert.embeddings.position_embeddings.weight", (18, 24), "[19, 24]"),
        ("cls.predictions.bias", (66,), "[67]"),
        ("cls.seq_relationship.weight", (3, 24), "[2, 24]"),
    ],
)
def test_wrong_shape_is_refused_naming_both(
    folder: Path, name: str, shape: tuple[int, ...], wanted: str
) -> None:
    change_tensors(folder, lambda t: {**t, name: torch.zeros(shape)})
    message = refusal(folder)
    assert f"{name} has shape {list(shape)}" in message
    assert wanted in message


def test_wrong_shape_under_an_old_name_is_refused(folder: Path) -> None:
    name = "bert.embeddings.LayerNorm.gamma"
    change_tensors(folder, lambda t: {**old_names(t), name: torch.zeros(25)})
    assert "[25]" in refusal(folder)


def test_more_layers_than_config_is_refused(folder: Path) -> None:
    change_config(folder, num_hidden_layers=2)
    assert "the weights have 3 layers" in refusal(folder)


def test_fewer_layers_than_config_is_refused(folder: Path) -> None:
    change_config(folder, num_hidden_layers=4)
    assert "missing bert.encoder.layer.3." in refusal(folder)


@pytest.mark.parametrize(
    "key", ["vocab_size", "max_position_embeddings", "intermediate_size", "num_hidden_layers"]
)
def test_absurd_size_is_refused_before_anything_is_made(folder: Path, key: str) -> None:
    change_config(folder, **{key: 10**15})
    assert f"{key} is {10**15}" in refusal(folder)


def test_integer_weights_are_refused(folder: Path) -> None:
    change_tensors(folder, lambda t: {k: v.to(torch.int8) for k, v in t.items()})
    assert "torch.int8; weights must be floating point" in refusal(folder)


def test_other_model_type_is_refused_by_name(folder: Path) -> None:
    change_config(folder, model_type="roberta")
    assert "model_type must be 'bert'; got 'roberta'" in refusal(folder)


def test_unknown_override_is_refused_with_the_nearest(folder: Path) -> None:
    message = refusal(folder, hidden_droput_prob=0.0)
    assert "unknown override 'hidden_droput_prob' (did you mean 'hidden_dropout_prob'?)" in message


def test_override_of_a_wrong_type_is_refused(folder: Path) -> None:
    assert "hidden_dropout_prob must be float" in refusal(folder, hidden_dropout_prob="none")
