"""Pins what making a run longer does, and what a changed world is told.
CPU only: `pytest tests/integration/test_extend.py`."""

from __future__ import annotations

import os
import re
import shlex
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from bert_scratch.cli import main
from bert_scratch.config import InputError
from bert_scratch.pretraining.pretrain import pretrain
from bert_scratch.pretraining.pretrain_config import PretrainConfig
from bert_scratch.training.checkpoint import checkpoint_folders, step_of

MakeSettings = Callable[..., PretrainConfig]


def weights(asked: PretrainConfig) -> bytes:
    newest = checkpoint_folders(Path(str(asked.output_dir)) / "checkpoints")[-1]
    names = ("model.safetensors", "optimizer.safetensors")
    return b"".join((newest / name).read_bytes() for name in names)


def steps_kept(asked: PretrainConfig) -> list[int]:
    folders = checkpoint_folders(Path(str(asked.output_dir)) / "checkpoints")
    return [step_of(folder) for folder in folders]


def test_wsd_run_made_longer_ends_with_the_bits_of_one_that_was_so_long(
    settings: MakeSettings, capsys: pytest.CaptureFixture[str]
) -> None:
    wsd = {"lr_schedule": "wsd", "keep_checkpoints": 1}
    whole = settings("whole", num_train_steps=20, **wsd)
    pretrain(whole)
    short = settings("short", num_train_steps=10, **wsd)
    pretrain(short)
    assert steps_kept(short) == [8, 10]
    longer = short.replace(num_train_steps=20, extend=True)
    capsys.readouterr()
    result = pretrain(longer)
    assert result is not None and result.num_train_steps == 20
    out = capsys.readouterr().out
    assert "from 10 to 20 steps, resuming at step 8" in out and "note" not in out
    asked_then = Path(str(longer.output_dir)) / "asked_config.json"
    assert not PretrainConfig.from_json_file(asked_then).extend
    assert weights(longer) == weights(whole)
    models = [Path(str(c.output_dir)) / "model" / "model.safetensors" for c in (whole, longer)]
    assert models[0].read_bytes() == models[1].read_bytes()
    pretrain(longer)
    assert "this run is already finished" in capsys.readouterr().out


def test_broken_checkpoint_is_not_extended_from(
    settings: MakeSettings, capsys: pytest.CaptureFixture[str]
) -> None:
    wsd = {"lr_schedule": "wsd", "save_steps": 9, "keep_checkpoints": 2}
    short = settings(num_train_steps=10, **wsd)
    pretrain(short)
    assert steps_kept(short) == [8, 9, 10]
    stable = Path(str(short.output_dir)) / "checkpoints" / "step-00000008"
    (stable / "manifest.json").unlink()
    result = pretrain(short.replace(num_train_steps=20, extend=True))
    assert result is not None and result.num_train_steps == 20
    assert "from 10 to 20 steps, resuming at step 10" in capsys.readouterr().out


def test_linear_run_made_longer_goes_on_with_a_higher_rate_and_says_so(
    settings: MakeSettings, capsys: pytest.CaptureFixture[str]
) -> None:
    asked = settings(num_train_steps=6)
    pretrain(asked)
    with pytest.raises(InputError, match=r"--num-train-steps: was 6, now 9(.|\n)*--extend"):
        pretrain(asked.replace(num_train_steps=9))
    with pytest.raises(InputError, match="has 6 steps; give more, not 5"):
        pretrain(asked.replace(num_train_steps=5, extend=True))
    result = pretrain(asked.replace(num_train_steps=9, extend=True))
    assert result is not None and result.num_train_steps == 9
    out = capsys.readouterr().out
    assert "from 6 to 9 steps, resuming at step 6" in out
    assert "the linear schedule of the longer run has learning rate 4.29e-04 there, not 0" in out


def test_run_is_made_longer_by_seconds(settings: MakeSettings) -> None:
    asked = settings(num_train_steps=6)
    pretrain(asked)
    longer = asked.replace(num_train_steps=None, max_train_seconds=500.0, extend=True, dry_run=True)
    stored = Path(str(asked.output_dir)) / "pretrain_config.json"
    before = PretrainConfig.from_json_file(stored)
    assert before.num_train_steps == 6
    from bert_scratch.pretraining.extend import extend
    from bert_scratch.pretraining.run_folder import PretrainRunFolder

    now = extend(PretrainRunFolder(Path(str(asked.output_dir))), before, longer)
    assert now.num_train_steps is not None and now.num_train_steps > 100
    assert now.max_train_seconds == 500.0
    assert PretrainConfig.from_json_file(stored) == now
    with pytest.raises(InputError, match=r"give more, not --max-train-seconds 1e-06, in which it"):
        extend(PretrainRunFolder(stored.parent), now, longer.replace(max_train_seconds=1e-6))


def test_there_must_be_a_run_and_a_horizon_to_extend(settings: MakeSettings) -> None:
    with pytest.raises(InputError, match="--extend: there is no run to resume in"):
        pretrain(settings(extend=True))
    with pytest.raises(InputError, match="--extend needs a larger"):
        settings(num_train_steps=None, extend=True)


def test_a_run_that_differs_is_told_three_commands_that_work(
    settings: MakeSettings, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    asked = settings(num_train_steps=4)
    pretrain(asked)
    changed = asked.replace(train_batch_size=4)
    with pytest.raises(InputError) as error:
        pretrain(changed)
    message = str(error.value)
    assert "--train-batch-size: was 8, now 4" in message
    assert pretrain(changed.replace(output_dir=str(tmp_path / "another"))) is not None
    initial = re.search(r"--init-checkpoint (\S+)", message)
    assert initial is not None
    shape = dict.fromkeys(
        ("vocab_size", "hidden_size", "num_hidden_layers", "num_attention_heads",
         "intermediate_size", "max_position_embeddings")
    )  # fmt: skip
    continued = changed.replace(
        init_checkpoint=initial[1], output_dir=str(tmp_path / "continued"), **shape
    )
    assert pretrain(continued) is not None
    longer = re.search(r"bert-scratch (pretrain --config .*) MORE", message)
    assert longer is not None
    assert main([*shlex.split(longer[1]), "6"]) == 0
    assert "from 4 to 6 steps" in capsys.readouterr().out


def test_unfinished_run_on_a_changed_corpus_is_told_the_three_commands(
    settings: MakeSettings, corpus: Path, tmp_path: Path
) -> None:
    text = tmp_path / "own.txt"
    text.write_text(corpus.read_text())
    asked = settings(num_train_steps=2, corpus=[str(text)])
    pretrain(asked)
    (Path(str(asked.output_dir)) / "status.json").unlink()
    text.write_text(corpus.read_text() + "\n\nOne more. And its second sentence.\n")
    with pytest.raises(InputError, match=r"another corpus:\n.*own\.txt(.|\n)*--init-checkpoint"):
        pretrain(asked)


def test_data_prepared_anew_under_the_same_name_is_refused(
    settings: MakeSettings, corpus: Path, tmp_path: Path
) -> None:
    import shutil

    from bert_scratch.pretraining.corpus_settings import CorpusSettings
    from bert_scratch.pretraining.prepare import prepare

    data = tmp_path / "data"
    of_corpus = CorpusSettings.__dataclass_fields__
    own = {name: of_corpus[name].default for name in of_corpus} | {"data": str(data)}
    prepared = {"vocab_size": 150, "eval_fraction": 0.1, "num_processes": 1}
    prepare(CorpusSettings(corpus=(str(corpus),), documents="blank-lines", **prepared), data)
    asked = settings(**own, num_train_steps=2)
    pretrain(asked)
    (Path(str(asked.output_dir)) / "status.json").unlink()
    shutil.rmtree(data)
    prepared["eval_fraction"] = 0.2
    prepare(CorpusSettings(corpus=(str(corpus),), documents="blank-lines", **prepared), data)
    with pytest.raises(InputError, match="not the one the run was trained on"):
        pretrain(asked)


def test_run_without_a_whole_checkpoint_is_not_begun_again(settings: MakeSettings) -> None:
    asked = settings(num_train_steps=6)
    pretrain(asked)
    folder = Path(str(asked.output_dir))
    model = (folder / "model" / "model.safetensors").read_bytes()
    shutil.rmtree(folder / "checkpoints")
    with pytest.raises(
        InputError, match=r"--extend: .* no complete checkpoint .*--init-checkpoint"
    ):
        pretrain(asked.replace(num_train_steps=9, extend=True))
    assert (folder / "model" / "model.safetensors").read_bytes() == model
    assert (folder / "metrics.jsonl").stat().st_size


def test_other_spellings_of_a_path_are_the_same_run(
    settings: MakeSettings, capsys: pytest.CaptureFixture[str]
) -> None:
    asked = settings(num_train_steps=2)
    pretrain(asked)
    (corpus,) = asked.corpus
    relative = os.path.relpath(corpus)
    pretrain(asked.replace(corpus=(os.path.join(".", relative),)))
    assert "this run is already finished" in capsys.readouterr().out
