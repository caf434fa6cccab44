"""Pins what a resumed run takes from its checkpoint and from the command.
Runs anywhere: `pytest tests/pretraining/test_resume.py`."""

from __future__ import annotations

import json
import shlex
from dataclasses import asdict
from pathlib import Path

import pytest

from bert_scratch.cli import parse
from bert_scratch.config import InputError
from bert_scratch.pretraining.pretrain_config import PretrainConfig
from bert_scratch.pretraining.resume import progress_of, run_differs, stored_run, with_run_settings
from bert_scratch.pretraining.run_folder import PretrainRunFolder
from bert_scratch.training.metrics import LogWindow
from bert_scratch.training.schedule import DECAY_SHARE


def test_intervals_given_again_are_taken_and_others_kept() -> None:
    stored = PretrainConfig(save_steps=5, eval_steps=6)
    resumed = with_run_settings(stored, PretrainConfig(save_steps=50))
    assert (resumed.save_steps, resumed.eval_steps) == (50, 6)


def test_progress_has_all_that_a_checkpoint_says(tmp_path: Path) -> None:
    counters = {"step": 9, "skipped": 2, "overflows": 3, "tokens": 70, "elapsed_s": 1.5}
    state = {**counters, "window": asdict(LogWindow(steps=4, tokens=12))}
    (tmp_path / "state.json").write_text(json.dumps(state))
    assert asdict(progress_of(tmp_path)) == state


def test_a_run_stored_with_a_share_of_decay_that_has_no_effect_resumes(tmp_path: Path) -> None:
    folder = PretrainRunFolder(tmp_path)
    asked = PretrainConfig(lr_decay_share=0.5)
    folder.store(asked, asked.replace(lr_schedule="linear", init_word_vectors="none"))
    stored = stored_run(folder, asked)
    assert stored is not None and stored.lr_decay_share == DECAY_SHARE


def test_command_that_makes_a_run_longer_works_where_the_run_is_now(tmp_path: Path) -> None:
    folder = PretrainRunFolder(tmp_path / "moved here")
    folder.path.mkdir()
    asked = PretrainConfig(output_dir="where/it/was", resume="never", num_train_steps=4)
    folder.store(asked, asked)
    (line,) = [line for line in str(run_differs(folder, "", [])).split("\n") if "--config" in line]
    command = line.partition("bert-scratch pretrain ")[2].replace("MORE", "9")
    longer = parse(PretrainConfig, shlex.split(command), prog="pretrain")
    assert isinstance(longer, PretrainConfig)
    assert (longer.output_dir, longer.resume) == (str(folder.path), "auto")
    assert (longer.extend, longer.num_train_steps) == (True, 9)


def test_run_that_is_never_to_be_resumed_is_not_told_to_be_deleted(tmp_path: Path) -> None:
    folder = PretrainRunFolder(tmp_path)
    asked = PretrainConfig(resume="never")
    folder.store(asked, asked)
    with pytest.raises(InputError, match="leave --resume never out to resume it") as error:
        stored_run(folder, asked)
    assert "delete" not in str(error.value)
