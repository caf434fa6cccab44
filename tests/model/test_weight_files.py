"""Pins where weights are looked for and how files are read: folders, the hub, shards; damaged
files, pickles and names that lead elsewhere are refused with a line that names them.
Runs anywhere: `pytest tests/model/test_weight_files.py`.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from bert_scratch.config import BertConfig, InputError
from bert_scratch.model.heads import BertForPreTraining
from bert_scratch.model.weight_files import WEIGHTS, find_folder

CONFIG = BertConfig(
    vocab_size=67,
    hidden_size=24,
    num_hidden_layers=3,
    num_attention_heads=2,
    intermediate_size=40,
    max_position_embeddings=19,
)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    torch.manual_seed(1)
    BertForPreTraining(CONFIG).save_pretrained(tmp_path / "model")
    return tmp_path / "model"


def refusal(folder: Path | str) -> str:
    with pytest.raises(InputError) as caught:
        BertForPreTraining.from_pretrained(folder)
    return str(caught.value)


def test_pickled_weights_are_refused_with_the_command(folder: Path) -> None:
    (folder / WEIGHTS).rename(folder / "pytorch_model.bin")
    message = refusal(folder)
    assert f"bert-scratch convert --input {folder} --output-dir" in message
    assert "--allow-pickle" in message


def test_folder_without_weights_or_config_is_refused(folder: Path) -> None:
    (folder / WEIGHTS).unlink()
    assert f"{folder}: has no model.safetensors" in refusal(folder)
    (folder / "config.json").unlink()
    assert f"{folder}: is not a model folder: it has no config.json" in refusal(folder)


def test_run_folder_is_refused_pointing_at_its_model(folder: Path) -> None:
    assert f"did you mean {folder}?" in refusal(folder.parent)


def test_file_in_place_of_a_folder_is_refused(folder: Path) -> None:
    assert "give the folder that holds it" in refusal(folder / WEIGHTS)


@pytest.mark.parametrize("name", ["./nowhere", "no/such/folder", "../x", "a b", "", "/tmp/x\0y"])
def test_absent_folder_is_refused_without_asking_the_hub(name: str) -> None:
    assert refusal(name).startswith((f"{name}: ", ".: ", "nowhere: "))


def test_unreachable_hub_is_one_clear_line(monkeypatch: pytest.MonkeyPatch) -> None:
    import huggingface_hub
    from huggingface_hub.errors import LocalEntryNotFoundError

    def offline(*_: object, **__: object) -> str:
        raise LocalEntryNotFoundError("Got: ConnectError\nmore lines")

    monkeypatch.setattr(huggingface_hub, "snapshot_download", offline)
    message = refusal("bert-base-unknown")
    assert "bert-base-unknown: no folder of this name here" in message
    assert "give the path of a folder" in message
    assert "\n" not in message


def test_hub_is_asked_for_no_pickle(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import huggingface_hub

    asked: dict[str, Any] = {}

    def download(repo_id: str, *, allow_patterns: list[str]) -> str:
        asked.update(repo_id=repo_id, patterns=allow_patterns)
        return str(folder)

    monkeypatch.setattr(huggingface_hub, "snapshot_download", download)
    assert find_folder("someone/some-bert") == folder
    assert asked["repo_id"] == "someone/some-bert"
    assert not [pattern for pattern in asked["patterns"] if "bin" in pattern or pattern == "*"]


@pytest.mark.parametrize(
    "name",
    ["../outside.safetensors", "/etc/passwd", "sub/x.safetensors", "..", "", "a\0.safetensors",
     "C:\\x.safetensors", "pytorch_model.bin", 7],
)  # fmt: skip
def test_shard_index_may_not_name_files_elsewhere(folder: Path, name: object) -> None:
    outside = folder.parent / "outside.safetensors"
    (folder / WEIGHTS).rename(outside)
    index = {"weight_map": {"bert.pooler.dense.bias": name}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    assert "is not the name of a .safetensors file next to it" in refusal(folder)


def test_shard_index_must_be_true(folder: Path) -> None:
    (folder / WEIGHTS).rename(folder / "model-1.safetensors")
    index = folder / "model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": {"a": "model-1.safetensors"}}))
    assert f"{index}: the shards do not hold a" in refusal(folder)
    index.write_text(json.dumps({"weight_map": {"a": "model-2.safetensors"}}))
    assert "model-2.safetensors: cannot be read: No such file" in refusal(folder)
    index.write_text(json.dumps({"weight_map": []}))
    assert "must hold a weight_map" in refusal(folder)


@pytest.mark.parametrize("size", [0, 4, 8, 9, 500, -1])
def test_truncated_safetensors_is_refused_by_path(folder: Path, size: int) -> None:
    path = folder / WEIGHTS
    path.write_bytes(path.read_bytes()[:size])
    assert str(path) in refusal(folder)


@pytest.mark.parametrize("claimed", [2**63, 2**40, 100_000_000])
def test_header_that_claims_too_much_is_refused(folder: Path, claimed: int) -> None:
    path = folder / WEIGHTS
    path.write_bytes(claimed.to_bytes(8, "little") + path.read_bytes()[8:])
    assert f"claims to have {claimed}" in refusal(folder)


def test_pickle_under_the_name_of_safetensors_is_refused(folder: Path) -> None:
    (folder / WEIGHTS).write_bytes(b"\x80\x04cposix\nsystem\n(S'touch owned'\ntR.")
    assert str(folder / WEIGHTS) in refusal(folder)
