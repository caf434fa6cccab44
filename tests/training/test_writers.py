"""Pins that every tracker gets the same names and a resumed run goes on with its curves.
CPU only; W&B and trackio are stand-ins: `pytest tests/training/test_writers.py`."""

from __future__ import annotations

import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from bert_scratch.config import InputError
from bert_scratch.training.metrics import MetricsLog
from bert_scratch.training.writers import Writers, check_writers_installed


class StandIn(ModuleType):
    """Takes the calls of wandb and of trackio, and keeps them."""

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.opened: list[dict[str, Any]] = []
        self.points: list[tuple[dict[str, float], int | None]] = []
        self.axes: list[Any] = []
        self.finished = 0

    def init(self, **arguments: Any) -> StandIn:
        self.opened.append(arguments)
        return self

    def define_metric(self, name: str, step_metric: str | None = None) -> None:
        self.axes.append((name, step_metric))

    def log(self, values: dict[str, float], step: int | None = None) -> None:
        self.points.append((values, step))

    def finish(self) -> None:
        self.finished += 1


@pytest.fixture
def trackers(monkeypatch: pytest.MonkeyPatch) -> dict[str, StandIn]:
    made = {name: StandIn(name) for name in ("wandb", "trackio")}
    for name, module in made.items():
        monkeypatch.setitem(sys.modules, name, module)
    return made


def curves(folder: Path) -> dict[str, list[tuple[int, float]]]:
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    events = accumulator.EventAccumulator(str(folder / "tensorboard"))
    events.Reload()
    return {
        name: [(point.step, round(point.value, 4)) for point in events.Scalars(name)]
        for name in events.Tags()["scalars"]
    }


def run(folder: Path, names: tuple[str, ...], steps: range, *, first_step: int) -> None:
    writers = Writers(names, folder, {"seed": 7}, first_step=first_step)
    kept = first_step or -1
    log = MetricsLog(folder / "metrics.jsonl", keep_through_step=kept, writers=writers)
    for step in steps:
        log.append(step=step, split="train", loss=step / 4, **{"grad_norm/embeddings": 2.0})
    log.append(step=steps[-1], split="eval", mlm_loss=1.5)
    log.close()


def test_resumed_run_continues_its_curves_in_tensorboard(tmp_path: Path) -> None:
    run(tmp_path, ("tensorboard",), range(1, 5), first_step=0)
    run(tmp_path, ("tensorboard",), range(3, 7), first_step=2)
    found = curves(tmp_path)
    assert found["train/loss"] == [(step, step / 4) for step in range(1, 7)]
    assert found["eval/mlm_loss"] == [(6, 1.5)]
    assert set(found) == {"train/loss", "eval/mlm_loss", "train/grad_norm/embeddings"}


def test_several_trackers_get_the_same_names(tmp_path: Path, trackers: dict[str, StandIn]) -> None:
    run(tmp_path, ("wandb", "trackio"), range(1, 3), first_step=0)
    expected = [
        ({"train/loss": 0.25, "train/grad_norm/embeddings": 2.0}, 1),
        ({"train/loss": 0.5, "train/grad_norm/embeddings": 2.0}, 2),
        ({"eval/mlm_loss": 1.5}, 2),
    ]
    assert trackers["trackio"].points == expected
    assert trackers["wandb"].points == [({**v, "step": step}, None) for v, step in expected]
    assert ("*", "step") in trackers["wandb"].axes
    assert [tracker.finished for tracker in trackers.values()] == [1, 1]


def test_resumed_run_is_the_same_run_and_another_folder_is_not(
    tmp_path: Path, trackers: dict[str, StandIn]
) -> None:
    for folder in ("one", "one", "two"):
        (tmp_path / folder).mkdir(exist_ok=True)
        run(tmp_path / folder, ("wandb", "trackio"), range(1, 2), first_step=0)
    for tracker, key in (("wandb", "id"), ("trackio", "name")):
        first, again, other = (opened[key] for opened in trackers[tracker].opened)
        assert first == again != other
        assert trackers[tracker].opened[0]["resume"] == "allow"
        assert trackers[tracker].opened[0]["config"] == {"seed": 7}


@pytest.mark.parametrize("broken", ["init", "log", "finish"])
def test_tracker_that_fails_is_said_once_and_the_others_go_on(
    broken: str,
    tmp_path: Path,
    trackers: dict[str, StandIn],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def fail(*_: Any, **__: Any) -> None:
        raise RuntimeError("no network")

    monkeypatch.setattr(trackers["wandb"], broken, fail)
    run(tmp_path, ("wandb", "trackio"), range(1, 4), first_step=0)
    assert len(trackers["trackio"].points) == 4
    assert (
        capsys.readouterr().err.count("wandb gets no more curves; the run continues: no network")
        == 1
    )
    assert len((tmp_path / "metrics.jsonl").read_text().splitlines()) == 4


@pytest.mark.parametrize(
    ("name", "command"),
    [
        ("wandb", "pip install wandb"),
        ("trackio", "pip install trackio"),
        ("tensorboard", 'pip install "bert-scratch\\[tensorboard\\]"'),
    ],
)
def test_missing_package_is_named_with_what_installs_it(
    name: str, command: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(InputError, match=f"--report-to {name}.*{command}"):
        check_writers_installed((name,))
