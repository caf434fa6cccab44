"""Pins that nothing a folder holds is run: pickles under every name that is read, names that lead
out of a folder. CPU only: `pytest tests/test_hostile_files.py`."""

from __future__ import annotations

import io
import json
import os
import pickle
import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from bert_scratch.cli import main
from bert_scratch.config import BertConfig, InputError
from bert_scratch.data.store import TokenStore
from bert_scratch.data.wordpiece import load_tokenizer
from bert_scratch.model.heads import BertForPreTraining
from bert_scratch.pretraining.pretrain import pretrain
from bert_scratch.pretraining.pretrain_config import PretrainConfig
from bert_scratch.training.checkpoint import find_checkpoint, load_optimizer, problem_with
from bert_scratch.training.optimizer import build_optimizer


class Touch:
    """Unpickled, it makes a folder."""

    def __init__(self, path: Path, how: str) -> None:
        self.path, self.how = path, how

    def __reduce__(self) -> tuple[object, tuple[object, ...]]:
        if self.how == "system":
            return os.system, (f"mkdir {self.path}",)
        if self.how == "exec":
            return exec, (f"import os; os.mkdir({str(self.path)!r})",)
        return os.mkdir, (str(self.path),)


def pickles(mark: Path) -> dict[str, bytes]:
    """Return five pickles that each make the folder `mark` when they are opened."""
    of_torch, archive = io.BytesIO(), io.BytesIO()
    torch.save(Touch(mark, "mkdir"), of_torch)
    with zipfile.ZipFile(archive, "w") as file:
        file.writestr("archive/data.pkl", pickle.dumps(Touch(mark, "system")))
        file.writestr("archive/version", "3")
    return {
        "system": pickle.dumps(Touch(mark, "system")),
        "exec": pickle.dumps(Touch(mark, "exec"), protocol=0),
        "in a list": pickle.dumps([1, {"a": Touch(mark, "mkdir")}], protocol=4),
        "torch": of_torch.getvalue(),
        "archive": archive.getvalue(),
    }


@pytest.fixture(scope="module")
def run_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a finished run of two steps."""
    folder = tmp_path_factory.mktemp("hostile")
    documents = [
        "\n".join(f"The cat number {i} sees dog {j}." for j in range(4)) for i in range(40)
    ]
    (folder / "text.txt").write_text("\n\n".join(documents))
    pretrain(
        PretrainConfig(
            corpus=(str(folder / "text.txt"),),
            output_dir=str(folder / "run"),
            vocab_size=100,
            eval_fraction=0.1,
            num_processes=1,
            preset="tiny",
            hidden_size=16,
            num_attention_heads=1,
            max_seq_length=32,
            train_batch_size=4,
            num_train_steps=2,
            device="cpu",
            dtype="float32",
            num_threads=1,
        )
    )
    return folder / "run"


def test_the_pickles_are_hostile(tmp_path: Path) -> None:
    mark = tmp_path / "mark"
    for name, content in pickles(mark).items():
        if name in ("torch", "archive"):
            continue  # only torch.load opens those, which nothing here may call
        pickle.loads(content)
        assert mark.exists(), name
        mark.rmdir()


def read_everything(run: Path) -> None:
    """Read a run's folder through every door, whatever the refusals."""
    (checkpoint,) = list((run / "checkpoints").iterdir())[-1:]
    model = BertForPreTraining(BertConfig.preset("tiny", vocab_size=100, hidden_size=16))
    optimizer = build_optimizer(
        model, learning_rate=0.1, weight_decay=0.0, betas=(0.9, 0.99), epsilon=1e-6,
        bias_correction=True,
    )  # fmt: skip
    doors: list[Callable[[], object]] = [
        lambda: BertForPreTraining.from_pretrained(run / "model"),
        lambda: load_tokenizer(run / "model"),
        lambda: load_tokenizer(run / "tokenizer"),
        lambda: TokenStore(run / "corpus", verify=True),
        lambda: load_optimizer(checkpoint, model, optimizer, num_updates=1),
    ]
    for door in doors:
        try:
            door()
        except InputError:
            pass
    find_checkpoint(run / "checkpoints")
    # What the commands do with a file in the way is one line and a code, never a traceback.
    assert main(["fill-mask", "--model", str(run / "model"), "--text", "a [MASK]"]) in (0, 2)
    assert main(["pretrain", "--config", str(run / "asked_config.json")]) in (0, 2)


def names_read(run: Path) -> list[str]:
    return sorted(
        path.relative_to(run).as_posix()
        for path in run.rglob("*")
        if path.is_file() and path.name not in (".lock", "README.md")
    )


def test_no_pickle_is_opened_under_any_name_that_is_read(
    run_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    mark = tmp_path / "mark"
    hostile = pickles(mark)
    names = names_read(run_folder)
    assert len(names) > 30
    copy = tmp_path / "copy"
    shutil.copytree(run_folder, copy)
    for content in hostile.values():
        for name in names:
            (copy / name).write_bytes(content)
        (copy / "model" / "pytorch_model.bin").write_bytes(content)
        read_everything(copy)
        assert not mark.exists()
        for name in names:  # one at a time the others are read further
            shutil.copy(run_folder / name, copy / name)
        for name in names:
            if name.startswith("model/") and content is hostile["system"]:
                (copy / name).write_bytes(content)
                read_everything(copy)
                shutil.copy(run_folder / name, copy / name)
        assert not mark.exists()
    capsys.readouterr()


OUTSIDE = [
    "../outside", "/etc/passwd", "a/../../outside", "..", "./../outside", "../../../etc/passwd",
    "link/outside", "~/outside/../../..", "//etc/passwd",
]  # fmt: skip


@pytest.mark.parametrize("name", OUTSIDE)
def test_names_in_a_manifest_of_a_checkpoint_cannot_leave_its_folder(
    run_folder: Path, tmp_path: Path, name: str
) -> None:
    folder = tmp_path / "checkpoints" / "step-00000002"
    shutil.copytree(next((run_folder / "checkpoints").iterdir()), folder)
    (tmp_path / "checkpoints" / "outside").write_text("secret")
    (folder / "link").symlink_to(tmp_path / "checkpoints")
    manifest = json.loads((folder / "manifest.json").read_text())
    manifest["files"][name] = {"bytes": 6, "sha256": "0" * 64}
    (folder / "manifest.json").write_text(json.dumps(manifest))
    problem = problem_with(folder)
    assert problem is not None
    assert "outside the folder" in problem or "is missing" in problem
