"""Pins the derived numbers of the log, its file format, and what a resume cuts from it.
Runs anywhere: `pytest tests/training/test_metrics.py`."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest

from bert_scratch.training.metrics import LogWindow, MetricsLog, describe, duration
from bert_scratch.training.objective import PRETRAINING


def test_window_adds_sums_and_counts_steps() -> None:
    window = LogWindow()
    window.add([1.0, 2.0, 3.0, 4.0, 5.0, 6.0])
    window.add([1.0, 0.0, 0.0, 0.0, 0.0, 0.5])
    assert window.sums == [2.0, 2.0, 3.0, 4.0, 5.0, 6.5]
    assert window.steps == 2


def test_padding_is_the_share_of_positions_without_a_token() -> None:
    assert LogWindow(tokens=900, positions=1000).padding_fraction == pytest.approx(0.1)
    assert LogWindow().padding_fraction == 0
    # of a checkpoint that did not count positions yet
    assert LogWindow(tokens=900).padding_fraction == 0


def test_log_omits_absent_and_non_finite_values(tmp_path: Path) -> None:
    log = MetricsLog(tmp_path / "metrics.jsonl", keep_through_step=-1)
    log.append(step=3, split="train", loss=1.23456789, nsp_loss=None, mfu=math.nan, tokens=7)
    line = json.loads((tmp_path / "metrics.jsonl").read_text())
    assert line == {"step": 3, "split": "train", "loss": 1.234568, "tokens": 7}


def test_log_cuts_lines_past_the_resumed_step_and_a_torn_last_line(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    lines = [json.dumps({"step": step, "split": "train"}) for step in (10, 20, 30)]
    path.write_text("\n".join(lines) + '\n{"step": 2')
    MetricsLog(path, keep_through_step=20)
    assert [json.loads(line)["step"] for line in path.read_text().splitlines()] == [10, 20]


def test_log_is_read_where_a_kill_cut_a_character(tmp_path: Path) -> None:
    path = tmp_path / "fill_ins.jsonl"
    whole = json.dumps({"step": 10, "split": "eval", "text": "猫\u2028"}, ensure_ascii=False)
    path.write_bytes(f"{whole}\n".encode() + '{"step": 20, "text": "猫'.encode()[:-1])
    log = MetricsLog(path, keep_through_step=20)
    assert path.read_text(encoding="utf-8") == whole + "\n"
    assert [line["step"] for line in log.evaluations()] == [10]


@pytest.mark.parametrize(
    ("seconds", "text"), [(0.4, "0 s"), (59, "59 s"), (200, "3 min 20 s"), (7500, "2 h 05 min")]
)
def test_duration_reads_like_a_clock(seconds: float, text: str) -> None:
    assert duration(seconds) == text


def test_description_shows_losses_apart() -> None:
    values = PRETRAINING.means([30.0, 4.0, 10.0, 6.0, 3.0, 4.0])
    text = describe(
        50, 1000, values | {"learning_rate": 1e-3, "tokens_per_s": 54321.0, "eta_s": 61}
    )
    for part in ("step   50/1000", "mlm 3.000", "nsp 1.500", "lr 1.00e-03", "54,321 tokens/s"):
        assert part in text
    assert text.endswith("1 min 01 s left")


def test_description_shows_the_loss_of_a_task_beside_that_of_masked_tokens() -> None:
    text = describe(5, 10, {"loss": 0.5, "mlm_loss": 6.0, "learning_rate": 1e-3})
    assert text == "step  5/10  loss 0.500  mlm 6.000  lr 1.00e-03"


def test_description_names_a_metric_that_is_no_part_s_accuracy() -> None:
    text = describe(5, 10, {"loss": 0.5, "accuracy": 0.7, "balanced_accuracy": 0.6})
    assert text.endswith("loss 0.500  accuracy 0.700  balanced_accuracy 0.600")


def test_description_of_a_single_loss_names_the_metrics_beside_it() -> None:
    text = describe(5, 10, {"loss": 0.5, "f1": 0.25, "accuracy": 0.75, "grad_norm": 3.0})
    assert text == "step  5/10  loss 0.500  f1 0.250  accuracy 0.750"
