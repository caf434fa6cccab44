"""Pins the reading of pickled weights: both formats of torch.save come in, whatever else a pickle
holds does not, nothing of it runs in this process, and real old files give transformers' numbers.
The real files need the developers' data. Run alone: `pytest tests/model/test_legacy.py`.
"""

from __future__ import annotations

import os
import pickle
import signal
import subprocess
import zipfile
from collections import OrderedDict
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch

from bert_scratch.config import InputError
from bert_scratch.inference.convert import ConvertConfig, run_convert
from bert_scratch.model import legacy
from bert_scratch.model.encoder import BertModel
from bert_scratch.model.legacy import read_pickled_weights


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "pytorch_model.bin"


def refusal(path: Path) -> str:
    with pytest.raises(InputError) as caught:
        read_pickled_weights(path)
    assert str(caught.value).startswith(f"{path}: ")
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.fixture
def here(monkeypatch: pytest.MonkeyPatch) -> None:
    """Do the child's work in this process: starting one takes seconds, and some tests do."""

    def run(command: list[str], **_: Any) -> subprocess.CompletedProcess[str]:
        try:
            legacy.pickle_to_safetensors(Path(command[-2]), Path(command[-1]))
        except Exception as error:
            return subprocess.CompletedProcess(command, 1, stderr=legacy._reason(error))
        return subprocess.CompletedProcess(command, 0)

    monkeypatch.setattr(legacy.subprocess, "run", run)


@pytest.mark.usefixtures("here")
@pytest.mark.parametrize("zip_format", [True, False])
def test_both_formats_of_torch_save_are_read(path: Path, zip_format: bool) -> None:
    whole = torch.randn(4, 6, dtype=torch.float64)
    state = OrderedDict(a=whole, view=whole[:, 2:4], half=torch.ones(3).half(), n=torch.arange(2))
    torch.save(state, path, _use_new_zipfile_serialization=zip_format)
    read = read_pickled_weights(path)
    assert read.keys() == state.keys()
    for name, tensor in state.items():
        assert read[name].dtype == tensor.dtype
        assert torch.equal(read[name], tensor)


class RunsCode:
    """A pickle of this makes a file when it is read unsafely."""

    def __init__(self, proof: Path) -> None:
        self.proof = proof

    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, (f"touch {self.proof}",)


def test_code_in_a_pickle_does_not_run(path: Path) -> None:
    proof = path.with_name("owned")
    torch.save({"weight": torch.ones(2), "more": RunsCode(proof)}, path)
    message = refusal(path)
    assert "posix.system" in message
    assert "weights_only" not in message, "torch's advice to read it unsafely is not passed on"
    assert not proof.exists()


@pytest.mark.usefixtures("here")
@pytest.mark.parametrize("plain", [True, False])
def test_code_in_older_pickles_does_not_run(path: Path, plain: bool) -> None:
    proof = path.with_name("owned")
    if plain:
        path.write_bytes(pickle.dumps(RunsCode(proof)))
    else:
        torch.save({"a": RunsCode(proof)}, path, _use_new_zipfile_serialization=False)
    refusal(path)
    assert not proof.exists()


@pytest.mark.usefixtures("here")
@pytest.mark.parametrize(
    "value",
    [torch.ones(2), [torch.ones(2)], {"a": 1}, {"a": {"b": torch.ones(2)}}, {1: torch.ones(2)}],
)
def test_anything_but_named_tensors_is_refused(path: Path, value: Any) -> None:
    torch.save(value, path)
    assert "not a" in refusal(path)


@pytest.mark.usefixtures("here")
def test_compressed_member_is_refused(path: Path) -> None:
    torch.save({"a": torch.zeros(1000)}, path)
    plain = path.rename(path.with_name("plain"))
    with zipfile.ZipFile(plain) as old, zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as new:
        for member in old.namelist():
            new.writestr(member, old.read(member))
    assert "compressed members" in refusal(path)


@pytest.mark.usefixtures("here")
@pytest.mark.parametrize("content", [b"", b"not a pickle", b"PK\x03\x04 no zip", b"\x80\x02."])
def test_damaged_file_is_refused(path: Path, content: bytes) -> None:
    path.write_bytes(content)
    assert "cannot be read as a file of weights" in refusal(path)


def test_absent_file_is_refused(path: Path) -> None:
    assert "no such file" in refusal(path)


def test_crash_of_the_reader_is_an_error_here(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path.write_bytes(b"x")
    crashed = subprocess.CompletedProcess([], -signal.SIGSEGV, stderr="")
    monkeypatch.setattr(legacy.subprocess, "run", lambda *_, **__: crashed)
    assert "died of signal 11" in refusal(path)


def test_endless_reading_is_given_up(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path.write_bytes(b"x")
    monkeypatch.setattr(legacy, "TIMEOUT_S", 0.01)
    assert "gave up" in refusal(path)


# Two real files, with what transformers makes of them


def reference(transformers: ModuleType, folder: Path, cls: str) -> Any:
    """Return transformers' model, filled from the .bin by name, so that nothing is converted."""
    config = transformers.BertConfig.from_pretrained(folder)
    model = getattr(transformers, cls)(config)
    result = model.load_state_dict(
        torch.load(folder / "pytorch_model.bin", weights_only=True), strict=False
    )
    assert not result.missing_keys
    assert set(result.unexpected_keys) <= {"bert.embeddings.position_ids"}
    return model.eval()


def test_old_format_file_of_2019_converts_and_matches(
    shared: Path, tmp_path: Path, transformers: ModuleType
) -> None:
    source = shared / "weights" / "camphr-bert-ja-3x16"
    target = run_convert(
        ConvertConfig(input=str(source), output_dir=str(tmp_path / "new"), allow_pickle=True)
    )
    ours, theirs = BertModel.from_pretrained(target), reference(transformers, source, "BertModel")
    loaded, info = transformers.AutoModel.from_pretrained(target, output_loading_info=True)
    assert not any(info.values())
    ids = torch.randint(5, 32000, (2, 17), generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        expected = theirs(ids)
        for model in (ours, loaded.eval()):
            actual = model(ids)
            for name in ("last_hidden_state", "pooler_output"):
                difference = getattr(actual, name) - getattr(expected, name)
                assert difference.abs().max() <= 1e-6


def test_zip_format_file_of_a_tagger_converts_and_matches(
    shared: Path, tmp_path: Path, transformers: ModuleType
) -> None:
    source = shared / "weights" / "camphr-ner-bert"
    target = run_convert(
        ConvertConfig(input=str(source), output_dir=str(tmp_path / "new"), allow_pickle=True)
    )
    theirs = reference(transformers, source, "BertForTokenClassification")
    loaded, info = transformers.AutoModelForTokenClassification.from_pretrained(
        target, output_loading_info=True
    )
    assert not any(info.values())
    assert loaded.config.id2label == theirs.config.id2label
    ours = BertModel.from_pretrained(target, add_pooling_layer=False)
    ids = torch.randint(5, 400, (2, 16), generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        torch.testing.assert_close(loaded.eval()(ids).logits, theirs(ids).logits, atol=0, rtol=0)
        states = theirs.bert(ids).last_hidden_state
        assert (ours(ids).last_hidden_state - states).abs().max() <= 1e-6
