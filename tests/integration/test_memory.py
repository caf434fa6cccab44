"""Pins what a run says of its memory: the dry run's figure against the real run's peak, and how
many examples a forward pass takes. CPU only: `pytest tests/integration/test_memory.py -m ''`."""

from __future__ import annotations

import re
import subprocess
import sys
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from bert_scratch.batch import Batch
from bert_scratch.config import InputError
from bert_scratch.pretraining import assemble
from bert_scratch.pretraining.pretrain import pretrain
from bert_scratch.pretraining.pretrain_config import PretrainConfig
from bert_scratch.pretraining.run_folder import PretrainRunFolder
from bert_scratch.pretraining.step_probe import StepProbe
from bert_scratch.training.step import Updater

MakeSettings = Callable[..., PretrainConfig]
UNITS = {"MB": 1e6, "GB": 1e9}
RUN = """
import sys
from bert_scratch.cli import main
code = main(sys.argv[1:])
print(*[line for line in open("/proc/self/status") if line.startswith("VmHWM")])
sys.exit(code)
"""


def resolved(asked: PretrainConfig) -> PretrainConfig:
    pretrain(asked)
    stored = PretrainRunFolder(Path(str(asked.output_dir))).stored()
    assert stored is not None
    return stored


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="needs Linux")
@pytest.mark.parametrize(
    "shape",
    [
        ["--preset", "tiny", "--max-seq-length", "64", "--train-batch-size", "128"],
        ["--preset", "mini", "--max-seq-length", "128", "--train-batch-size", "32"],
        ["--preset", "mini", "--max-seq-length", "128", "--train-batch-size", "32",
         "--activation-checkpointing"],
    ],
)  # fmt: skip
def test_dry_run_predicts_the_peak_of_the_run(
    shape: list[str], corpus: Path, tmp_path: Path
) -> None:
    command = [
        sys.executable, "-c", RUN, "pretrain", "--corpus", str(corpus),
        "--documents", "blank-lines", "--vocab-size", "150", "--eval-fraction", "0.1",
        "--output-dir", str(tmp_path / "run"), "--device", "cpu", "--num-train-steps", "12",
        "--num-threads", "1", *shape,
    ]  # fmt: skip
    run = {"check": True, "capture_output": True, "text": True}
    dry: str = subprocess.run([*command, "--dry-run"], **run).stdout  # type: ignore[call-overload]
    real: str = subprocess.run(command, **run).stdout  # type: ignore[call-overload]
    said = re.search(r"needs +([\d.]+) (MB|GB) of memory", dry)
    peak = re.search(r"VmHWM:\s+(\d+) kB", real)
    assert said is not None and peak is not None
    predicted, used = float(said[1]) * UNITS[said[2]], int(peak[1]) * 1024
    assert predicted == pytest.approx(used, rel=0.15)


def test_auto_is_resolved_once_and_stored(
    settings: MakeSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert resolved(settings(micro_batch_size="auto")).micro_batch_size == 8
    # as little memory as leaves room for a single example
    monkeypatch.setattr(assemble, "free_bytes", lambda _: 0)
    assert resolved(settings(micro_batch_size="auto")).micro_batch_size == 8
    assert resolved(settings("small", micro_batch_size="auto")).micro_batch_size == 1


def test_what_does_not_fit_a_gpu_is_halved_unless_it_was_asked_for(
    settings: MakeSettings, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    failed: list[weakref.ref[Any]] = []

    def probe_step(updater: Updater[Any], batch: Batch) -> StepProbe:
        assert not any(held() for held in failed), "a failed trial still fills the memory"
        if updater.micro_batch_size > 2:
            failed.append(weakref.ref(updater.model))
            raise torch.OutOfMemoryError("CUDA out of memory")
        return real(updater, batch)

    real = assemble.probe_step
    monkeypatch.setattr(assemble, "probe_step", probe_step)
    assert resolved(settings()).micro_batch_size == 2
    assert "--micro-batch-size 2: 4 did not fit" in capsys.readouterr().out
    with pytest.raises(InputError, match="--micro-batch-size 8 does not fit"):
        pretrain(settings("asked", micro_batch_size=8))
