"""Pins what a resumed run takes from its checkpoint and from the command.
Runs anywhere: `pytest tests/pretraining/test_resume.py`."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

from bert_scratch.pretraining.pretrain_config import PretrainConfig
from bert_scratch.pretraining.resume import progress_of, stored_run, with_run_settings
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
