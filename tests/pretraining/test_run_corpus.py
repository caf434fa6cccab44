"""Pins which model a begun run reads when the one it started from is gone. Runs anywhere:
`pytest tests/pretraining/test_run_corpus.py`."""

from __future__ import annotations

from pathlib import Path

from bert_scratch.pretraining.pretrain_config import PretrainConfig
from bert_scratch.pretraining.run_corpus import with_own_model
from bert_scratch.pretraining.run_folder import PretrainRunFolder


def test_only_a_result_or_checkpoint_stands_in_for_a_model_that_is_gone(tmp_path: Path) -> None:
    start, folder = tmp_path / "start", PretrainRunFolder(tmp_path / "run")
    config = PretrainConfig(init_checkpoint=str(start), add_tokens=("kitchen",))
    folder.best.mkdir(parents=True)  # of an evaluation before the first checkpoint
    assert with_own_model(config, folder) == config
    folder.model.mkdir()
    own = with_own_model(config, folder)
    assert (own.init_checkpoint, own.add_tokens) == (str(folder.model), ())
    start.mkdir()
    assert with_own_model(config, folder) == config
