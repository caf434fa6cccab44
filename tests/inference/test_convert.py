"""Pins the convert command: any folder of known heads becomes a plain one that both libraries load,
and nothing is opened or overwritten unasked. Needs transformers.
Run alone: `pytest tests/inference/test_convert.py`.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from bert_scratch.cli import parse
from bert_scratch.config import InputError
from bert_scratch.data.wordpiece import TokenizerFolder, load_tokenizer
from bert_scratch.finetuning import task_settings
from bert_scratch.inference import convert
from bert_scratch.inference.convert import ConvertConfig, run_convert
from bert_scratch.model.folder import read_config

transformers = pytest.importorskip("transformers")

SHAPE = {
    "vocab_size": 37,
    "hidden_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 24,
    "max_position_embeddings": 11,
}


def make_hf(cls: str, folder: Path) -> Any:
    torch.manual_seed(6)
    model = getattr(transformers, cls)(transformers.BertConfig(**SHAPE)).eval()
    model.save_pretrained(folder)
    return model


def converted(source: Path, target: Path, *flags: str) -> Path:
    arguments = ["--input", str(source), "--output-dir", str(target), *flags]
    config = parse(ConvertConfig, arguments, prog="convert")
    assert isinstance(config, ConvertConfig)
    return run_convert(config)


@pytest.mark.parametrize(
    "cls",
    [
        "BertModel",
        "BertForPreTraining",
        "BertForMaskedLM",
        "BertForNextSentencePrediction",
        "BertForSequenceClassification",
        "BertForTokenClassification",
        "BertForQuestionAnswering",
        "BertForMultipleChoice",
    ],
)
def test_every_architecture_keeps_its_class_and_weights(cls: str, tmp_path: Path) -> None:
    model = make_hf(cls, tmp_path / "in")
    target = converted(tmp_path / "in", tmp_path / "out")
    assert json.loads((target / "config.json").read_text())["architectures"] == [cls]
    loaded, info = getattr(transformers, cls).from_pretrained(target, output_loading_info=True)
    assert not any(info.values()), info
    for name, tensor in model.state_dict().items():
        assert torch.equal(tensor, loaded.state_dict()[name]), name


def test_heads_tell_the_class_where_config_says_another(tmp_path: Path) -> None:
    make_hf("BertForPreTraining", tmp_path / "in")
    path = tmp_path / "in" / "config.json"  # as published: bert-base-uncased names BertForMaskedLM
    path.write_text(
        json.dumps({**json.loads(path.read_text()), "architectures": ["BertForMaskedLM"]})
    )
    target = converted(tmp_path / "in", tmp_path / "out")
    assert json.loads((target / "config.json").read_text())["architectures"] == [
        "BertForPreTraining"
    ]


def test_classifier_of_unknown_class_needs_the_flag(tmp_path: Path) -> None:
    make_hf("BertForTokenClassification", tmp_path / "in")
    path = tmp_path / "in" / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "architectures": None}))
    with pytest.raises(InputError, match="--architecture with one of"):
        converted(tmp_path / "in", tmp_path / "out")
    flags = ("--architecture", "BertForTokenClassification")
    target = converted(tmp_path / "in", tmp_path / "out", *flags)
    assert "BertForTokenClassification" in (target / "config.json").read_text()


@pytest.mark.parametrize(
    ("cls", "given", "message"),
    [
        ("BertForPreTraining", "BertForQuestionAnswering", "are those of BertForPreTraining"),
        ("BertModel", "BertForMaskedLM", "are those of BertModel"),
        ("BertForMaskedLM", "BertForTokenClassification", "are those of BertForMaskedLM"),
        ("BertForTokenClassification", "BertForMaskedLM", "have a classifier; give one of"),
    ],
)
def test_architecture_of_other_weights_is_refused(
    cls: str, given: str, message: str, tmp_path: Path
) -> None:
    make_hf(cls, tmp_path / "in")
    with pytest.raises(InputError, match=f"--architecture {given}: .*{message}"):
        converted(tmp_path / "in", tmp_path / "out", "--architecture", given)
    assert not (tmp_path / "out").exists()


def test_architecture_that_the_weights_are_of_is_taken(tmp_path: Path) -> None:
    make_hf("BertForMaskedLM", tmp_path / "in")
    target = converted(tmp_path / "in", tmp_path / "out", "--architecture", "BertForMaskedLM")
    assert '"BertForMaskedLM"' in (target / "config.json").read_text()


def test_heads_that_no_class_has_together_need_the_flag(tmp_path: Path) -> None:
    make_hf("BertForMaskedLM", tmp_path / "in")
    path = tmp_path / "in" / "model.safetensors"
    answers = {"qa_outputs.weight": torch.zeros(2, 16), "qa_outputs.bias": torch.zeros(2)}
    save_file(load_file(path) | answers, path, metadata={"format": "pt"})
    with pytest.raises(InputError, match="no class has the heads mlm_head, qa_outputs"):
        converted(tmp_path / "in", tmp_path / "out")
    assert converted(tmp_path / "in", tmp_path / "out", "--architecture", "BertForMaskedLM")


def test_unknown_architecture_is_refused_with_the_nearest() -> None:
    with pytest.raises(InputError, match="did you mean 'BertForMaskedLM'"):
        ConvertConfig(input="a", output_dir="b", architecture="BertForMaskLM")


def test_tokenizer_of_an_old_folder_comes_along(old_folder: Path, tmp_path: Path) -> None:
    target = converted(old_folder, tmp_path / "out")
    assert (target / "tokenizer.json").is_file()
    theirs = transformers.AutoTokenizer.from_pretrained(target)
    text = "The unbelievables é, 北京 q"
    expected = load_tokenizer(old_folder).encode(text).ids
    assert load_tokenizer(target).encode(text).ids == expected == theirs(text)["input_ids"]
    assert theirs.model_max_length == read_config(target).max_position_embeddings


def test_what_a_model_was_fine_tuned_for_comes_along(tmp_path: Path) -> None:
    make_hf("BertForQuestionAnswering", tmp_path / "old")
    (tmp_path / "old" / "task.json").write_text('{"task": "question-answering"}')
    new = converted(tmp_path / "old", tmp_path / "new")
    assert (new / "task.json").read_text() == '{"task": "question-answering"}'


def test_name_of_the_file_of_a_task_is_that_which_finetune_writes() -> None:
    assert convert.TASK_FILE == task_settings.TASK_FILE


def test_half_precision_becomes_float32(tmp_path: Path) -> None:
    make_hf("BertModel", tmp_path / "unused").half().save_pretrained(tmp_path / "in")
    target = converted(tmp_path / "in", tmp_path / "out")
    tensors = load_file(target / "model.safetensors")
    assert {tensor.dtype for tensor in tensors.values()} == {torch.float32}


@pytest.fixture
def pickled(folder: Path, tmp_path: Path) -> Path:
    """A folder with a .bin alone."""
    source = tmp_path / "pickled"
    shutil.copytree(folder, source)
    torch.save(load_file(source / "model.safetensors"), source / "pytorch_model.bin")
    (source / "model.safetensors").unlink()
    return source


@pytest.mark.parametrize("name", ["", "pytorch_model.bin"])
def test_pickle_is_not_opened_without_the_flag(
    pickled: Path, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(convert, "read_pickled_weights", lambda _: pytest.fail("it was opened"))
    with pytest.raises(InputError, match="pickle.*--allow-pickle"):
        converted(pickled / name, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_pickle_is_left_alone_where_safetensors_lie_beside_it(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(convert, "read_pickled_weights", lambda _: pytest.fail("it was opened"))
    source = tmp_path / "both"
    shutil.copytree(folder, source)
    (source / "pytorch_model.bin").write_bytes(b"x")
    assert converted(source, tmp_path / "out", "--allow-pickle")


def test_bin_file_converts_with_the_config_beside_it(
    pickled: Path, folder: Path, tmp_path: Path
) -> None:
    target = converted(pickled / "pytorch_model.bin", tmp_path / "out", "--allow-pickle")
    expected = load_file(folder / "model.safetensors")
    actual = load_file(target / "model.safetensors")
    assert actual.keys() == expected.keys()
    assert all(torch.equal(actual[name], expected[name]) for name in expected)


def test_output_in_use_is_not_touched(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "kept").write_text("mine")
    with pytest.raises(InputError, match="exists and is not an empty folder"):
        converted(folder, tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["kept"]


def test_a_conversion_that_is_cut_off_leaves_nothing(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr(TokenizerFolder, "save_pretrained", killed)
        converted(folder, tmp_path / "out")
    assert list(tmp_path.iterdir()) == []
    converted(folder, tmp_path / "out")


def test_weights_that_are_not_the_configs_leave_nothing(folder: Path, tmp_path: Path) -> None:
    source = tmp_path / "in"
    shutil.copytree(folder, source)
    values = json.loads((source / "config.json").read_text())
    (source / "config.json").write_text(json.dumps({**values, "intermediate_size": 47}))
    with pytest.raises(InputError, match=r"intermediate\.dense\.\w+ has shape"):
        converted(source, tmp_path / "out")
    assert not (tmp_path / "out").exists()
