"""`finetune` learns, is exact beside transformers, keeps the best model, and survives a stop.
Runs anywhere: `pytest tests/finetuning/test_finetune.py`."""

from __future__ import annotations

import json
import math
import os
import shutil
import signal
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from bert_scratch.config import InputError, read_json_object
from bert_scratch.data.wordpiece import TokenizerFolder, load_tokenizer
from bert_scratch.finetuning.assemble import Parts, assemble
from bert_scratch.finetuning.finetune import finetune
from bert_scratch.finetuning.finetune_config import FinetuneConfig
from bert_scratch.finetuning.rows import RowBatch
from bert_scratch.model.folder import read_config
from bert_scratch.model.heads import BertForPreTraining
from bert_scratch.training.interruption import Interrupted
from bert_scratch.training.optimizer import parameter_groups

Make = Callable[..., FinetuneConfig]


def lines_of(path: Path) -> list[dict[str, float]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def test_a_run_learns_and_leaves_results_model_and_predictions(
    settings: Make, capsys: pytest.CaptureFixture[str]
) -> None:
    asked = settings(num_train_epochs=12, learning_rate=5e-3)
    finetune(asked)
    assert (
        "no metrics: no label for 2 of 2 examples" in capsys.readouterr().out
    )  # the test file has no labels
    out = Path(asked.output_dir)
    results = json.loads((out / "results.json").read_text())
    assert results["accuracy"] > 0.9
    assert {"f1", "f1_macro", "balanced_accuracy", "matthews_corrcoef", "loss"} <= results.keys()
    config = json.loads((out / "model" / "config.json").read_text())
    assert config["id2label"] == {"0": "0", "1": "1"} and config["label2id"] == {"0": 0, "1": 1}
    assert config["problem_type"] == "single_label_classification"
    answers = lines_of(out / "test_predictions.jsonl")
    assert [answer["label"] for answer in answers] == ["1", "0"]
    assert lines_of(out / "metrics.jsonl")[-1]["accuracy"] == pytest.approx(results["accuracy"])
    assert not (out / "checkpoints").exists()


def test_losses_equal_those_of_transformers(settings: Make, tmp_path: Path) -> None:
    from transformers import BertForSequenceClassification, get_linear_schedule_with_warmup

    parts = assemble(settings(dropout=0.0, weight_decay=0.1, warmup_fraction=0.25))
    model = parts.build_model().train()
    model.save_pretrained(tmp_path / "start")
    theirs = BertForSequenceClassification.from_pretrained(tmp_path / "start").train()
    plan, batches = parts.plan(), list(islice(parts.batches(0), 8))
    updater = parts.build_updater(model)
    assert plan.num_train_steps is not None
    groups = parameter_groups(theirs, 0.1)
    their_optimizer = torch.optim.AdamW(groups, lr=plan.learning_rate, eps=1e-8)
    schedule = get_linear_schedule_with_warmup(
        their_optimizer, plan.num_warmup_steps, plan.num_train_steps
    )
    for step, batch in enumerate(batches):
        rate = plan.learning_rate_at(step)
        result = updater.update(batch, step=step, learning_rate=rate).result()
        loss = theirs(
            input_ids=batch.input_ids,
            token_type_ids=batch.token_type_ids,
            attention_mask=batch.attention_mask,
            labels=batch.labels,
        ).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(theirs.parameters(), 1.0)
        their_optimizer.step()
        schedule.step()
        their_optimizer.zero_grad()
        assert result.sums[0] / result.sums[1] == pytest.approx(loss.item(), abs=1e-5)


def test_the_result_has_equal_logits_in_transformers(settings: Make) -> None:
    from transformers import AutoModelForSequenceClassification

    asked = settings(num_train_epochs=1)
    folder = finetune(asked).folder
    parts = assemble(asked)
    batch = RowBatch.of(parts.eval.rows[:8], pad_id=parts.pad_id)
    with torch.inference_mode():
        theirs = AutoModelForSequenceClassification.from_pretrained(folder)(
            input_ids=batch.input_ids,
            token_type_ids=batch.token_type_ids,
            attention_mask=batch.attention_mask,
        ).logits
        ours = parts.task.logits(parts.task.load_model(folder, new_head=False), batch)
    torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=0)


def test_an_epoch_shows_every_row_once_in_an_order_of_its_own(settings: Make) -> None:
    parts = assemble(settings(train_batch_size=20))
    assert parts.steps_per_epoch == math.ceil(96 / 20)
    epochs = [
        [row.example for batch in islice(parts.batches(start), 5) for row in batch.rows]
        for start in (0, 5)
    ]
    assert all(sorted(epoch) == list(range(96)) for epoch in epochs)
    assert epochs[0] != epochs[1]
    resumed = next(parts.batches(7))
    assert [row.example for row in resumed.rows] == epochs[1][40:60]


def test_a_large_batch_is_two_passes_on_a_cpu_unless_asked_otherwise(settings: Make) -> None:
    def rows_of_a_pass(**changes: int) -> int | None:
        return assemble(settings(**changes)).config.micro_batch_size

    assert rows_of_a_pass(train_batch_size=40) == 20
    assert rows_of_a_pass(train_batch_size=40, micro_batch_size=40) == 40
    assert rows_of_a_pass(train_batch_size=12) == 12


def stop_at(step: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Send this process a SIGTERM when the batch of a step is asked for."""
    batches = Parts.batches

    def interrupted(self: Parts, first_step: int) -> Iterator[RowBatch]:
        for number, batch in enumerate(batches(self, first_step), start=first_step):
            if number == step:
                os.kill(os.getpid(), signal.SIGTERM)
            yield batch

    monkeypatch.setattr(Parts, "batches", interrupted)


@pytest.mark.parametrize("step", [3, 11, 23])
def test_a_stopped_run_goes_on_to_the_same_bits(
    settings: Make, monkeypatch: pytest.MonkeyPatch, step: int
) -> None:
    through = finetune(settings("through"))
    with monkeypatch.context() as patched:
        stop_at(step, patched)
        with pytest.raises(Interrupted):
            finetune(settings("stopped"))
    status = json.loads((Path(settings("stopped").output_dir) / "status.json").read_text())
    assert (status["state"], status["code"]) == ("stopped", 75)
    resumed = finetune(settings("stopped"))
    weights = [r.folder / "model.safetensors" for r in (through, resumed)]
    assert weights[0].read_bytes() == weights[1].read_bytes()
    assert through.results["evaluations"] == resumed.results["evaluations"]


def test_a_finished_run_says_so(settings: Make, capsys: pytest.CaptureFixture[str]) -> None:
    first = finetune(settings(num_train_epochs=1))
    written = (first.folder / "model.safetensors").stat().st_mtime_ns
    again = finetune(settings(num_train_epochs=1))
    assert again.results == json.loads(json.dumps(first.results))
    assert (first.folder / "model.safetensors").stat().st_mtime_ns == written
    assert "this run is already finished" in capsys.readouterr().out


def test_changed_settings_and_changed_files_are_refused(settings: Make) -> None:
    finetune(settings(num_train_epochs=1))
    with pytest.raises(InputError, match=r"--train-batch-size: was 16, now 8"):
        finetune(settings(num_train_epochs=1, train_batch_size=8))
    with Path(settings().train_file).open("a") as file:
        file.write("a film\t1\n")
    with pytest.raises(InputError, match=r"the content of --train-file has changed"):
        finetune(settings(num_train_epochs=1))


def test_a_model_that_was_trained_on_is_refused(
    settings: Make, folder: Path, tmp_path: Path
) -> None:
    model = shutil.copytree(folder, tmp_path / "model")
    asked = settings("model/finetuned", model=str(model), num_train_epochs=1)
    finetune(asked)
    (model / "README.md").write_text("another card")
    finetune(asked)
    weights = load_file(model / "model.safetensors")
    save_file({name: tensor * 2 for name, tensor in weights.items()}, model / "model.safetensors")
    with pytest.raises(InputError, match=r"the content of --model has changed"):
        finetune(asked)


def test_one_seed_and_several_do_not_share_a_folder(settings: Make) -> None:
    finetune(settings("one", num_train_epochs=1))
    with pytest.raises(InputError, match="holds a run of one seed; give --seeds another"):
        finetune(settings("one", num_train_epochs=1, seeds=(1, 2)))
    finetune(settings("several", num_train_epochs=1, seeds=(1, 2)))
    with pytest.raises(InputError, match=r"holds results.json of another run"):
        finetune(settings("several", num_train_epochs=1))


def test_a_run_killed_at_its_very_end_is_done(
    settings: Make, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    asked = settings(num_train_epochs=1)

    def killed(folder: Path, **_: object) -> None:
        if folder.name == "checkpoints":
            raise KeyboardInterrupt
        remove(folder, ignore_errors=True)

    remove = shutil.rmtree
    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr(shutil, "rmtree", killed)
        finetune(asked)
    checkpoints = Path(asked.output_dir) / "checkpoints"
    assert checkpoints.is_dir()
    assert finetune(asked).results["accuracy"] > 0
    assert "this run is already finished" in capsys.readouterr().out and not checkpoints.exists()


def test_a_changed_file_in_a_folder_for_each_label_is_refused(
    settings: Make, tmp_path: Path
) -> None:
    for label, text in (("neg", "a bad film"), ("pos", "a good film")):
        (tmp_path / "rows" / label).mkdir(parents=True)
        (tmp_path / "rows" / label / "1.txt").write_text(text)
    asked = settings(
        train_file=str(tmp_path / "rows"),
        eval_file=str(tmp_path / "rows"),
        test_file=None,
        num_train_epochs=1,
    )
    finetune(asked)
    (tmp_path / "rows" / "neg" / "2.txt").write_text("a worse one")
    with pytest.raises(InputError, match=r"--train-file and --eval-file has changed"):
        finetune(asked)


def test_a_resumed_run_keeps_its_threads_unless_asked_otherwise(
    settings: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patched:
        stop_at(3, patched)
        with pytest.raises(Interrupted):
            finetune(settings(num_threads=1, num_train_epochs=1))
    finetune(settings(num_train_epochs=1))
    resolved = Path(settings().output_dir) / "finetune_config.json"
    assert json.loads(resolved.read_text())["num_threads"] == torch.get_num_threads() == 1


def test_the_model_is_that_of_the_best_evaluation(settings: Make) -> None:
    result = finetune(settings(num_train_epochs=5, learning_rate=3e-2)).results
    by_step = {evaluation["step"]: evaluation for evaluation in result["evaluations"]}
    assert result["accuracy"] == max(e["accuracy"] for e in by_step.values())
    assert by_step[result["best_step"]]["accuracy"] == result["accuracy"]


@pytest.mark.parametrize(
    ("flag", "table", "message"),
    [
        ("train_file", "sentence\tlabel\n", r"bad.tsv: holds no examples"),
        ("train_file", "", r"bad.tsv: holds no examples"),
        ("train_file", "sentence\tlabel\ngood\t1\nbad\t\n", r"bad.tsv:3: has no label"),
        (
            "train_file",
            "sentence\tlabel\ngood\t1\nfine\t1\n",
            r"needs at least two labels.*it has 1",
        ),
        ("train_file", "sentence\tkind\ngood\t1\n", r"columns sentence, kind; name the label's"),
        ("train_file", "sentence\tlabel\ngood\t1\nbad\n", r"bad.tsv:3: has 1 cell, the header 2"),
        ("eval_file", "sentence\tlabel\ngood\t1\nbad\t7\n", r"bad.tsv:3: label '7' is not one of"),
        ("test_file", "sentence\tlabel\ngood\tone\n", r"bad.tsv:2: label 'one' is not one of"),
    ],
)
def test_bad_files_are_named_with_their_line(
    settings: Make, write: Callable[[str, str], str], flag: str, table: str, message: str
) -> None:
    with pytest.raises(InputError, match=message):
        finetune(settings(**{flag: write("bad.tsv", table)}))


def test_a_wrong_column_is_answered_with_those_there_are(settings: Make) -> None:
    with pytest.raises(InputError, match=r"columns sentence, label; .*lable.*did you mean 'label'"):
        finetune(settings(label_column=("lable",)))
    with pytest.raises(InputError, match=r"--text-column text is not among them"):
        finetune(settings(text_column="text"))


def test_an_unknown_metric_is_answered_with_those_there_are(settings: Make) -> None:
    with pytest.raises(InputError, match=r"--metric must be one of accuracy, .*'acuracy'"):
        finetune(settings(metric="acuracy"))


def test_a_gpu_without_bfloat16_computes_in_float32(
    settings: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(InputError, match="--dtype float16 is not supported in fine-tuning"):
        finetune(settings(dtype="float16"))
    old = ("float16", "compute capability 7.5")
    monkeypatch.setattr("bert_scratch.finetuning.assemble.resolve_dtype", lambda *_: old)
    parts = assemble(settings(dtype="auto"))
    assert parts.config.dtype == "float32" and parts.runtime.dtype == torch.float32
    assert "--dtype float32: compute capability 7.5 has no bfloat16" in parts.reasons


def test_rows_longer_than_the_model_takes_are_refused(settings: Make) -> None:
    with pytest.raises(InputError, match=r"--max-seq-length 64: .* at most 40 tokens"):
        finetune(settings(max_seq_length=64))


@pytest.mark.parametrize("task", ["classification", "regression", "question-answering"])
def test_pairs_are_refused_by_a_model_of_one_token_type(
    settings: Make, folder: Path, tmp_path: Path, task: str
) -> None:
    one = tmp_path / "one"
    model = BertForPreTraining(read_config(folder).replace(type_vocab_size=1))
    model.save_pretrained(one, TokenizerFolder(load_tokenizer(folder)))
    file = tmp_path / "pairs.jsonl"
    if task == "question-answering":
        answers = {"text": ["good"], "answer_start": [2]}
        pair = {"id": "1", "question": "was", "context": "a good film", "answers": answers}
    else:
        pair = {"sentence1": "a good film", "sentence2": "a bad film", "label": "1"}
    other = {**pair, "label": "0", "id": "2"} if "label" in pair else {**pair, "id": "2"}
    file.write_text(f"{json.dumps(pair)}\n{json.dumps(other)}\n")
    asked = settings(task=task, model=str(one), train_file=str(file), eval_file=str(file))
    with pytest.raises(InputError, match=r"pairs.jsonl.* needs a model with two token types"):
        assemble(asked.replace(test_file=None))


def test_a_run_without_progress_ends_early_and_stays_ended(
    settings: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = settings(learning_rate=1e-9, num_train_epochs=20, early_stopping_patience=2)
    results = finetune(asked).results
    assert results["num_train_steps"] == 3 * 6 and len(results["evaluations"]) == 3


def test_answers_that_no_row_shows_whole_are_not_trained_on(settings: Make, tmp_path: Path) -> None:
    context = "a good film " * 20
    answers = {"text": [context.strip()], "answer_start": [0]}
    file = tmp_path / "questions.jsonl"
    question = {"id": "1", "question": "was", "context": context, "answers": answers}
    file.write_text(json.dumps(question) + "\n")
    files = {"train_file": str(file), "eval_file": str(file), "test_file": None}
    with pytest.raises(InputError, match=r"no row of --max-seq-length 16 shows anything to learn"):
        assemble(settings(task="question-answering", max_seq_length=16, **files))


def test_few_shot_takes_so_many_of_each_label(settings: Make) -> None:
    chosen = [assemble(settings(few_shot=5, seed=seed)).train.examples for seed in (1, 1, 2)]
    assert [example.label for example in chosen[0]].count("0") == 5 == len(chosen[0]) - 5
    assert chosen[0] == chosen[1] != chosen[2]
    with pytest.raises(
        InputError, match=r"--few-shot 90: label '.*' has only \d+ training examples"
    ):
        assemble(settings(few_shot=90))


def test_standard_input_is_refused_since_it_cannot_be_read_twice(settings: Make) -> None:
    with pytest.raises(InputError, match=r"--eval-file -: must be a file"):
        settings(eval_file="-")


def test_a_pipe_is_refused_since_it_cannot_be_read_twice(settings: Make, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.tsv")
    with pytest.raises(InputError, match=r"--test-file \S+pipe\.tsv: must be a file"):
        settings(test_file=str(tmp_path / "pipe.tsv"))


def test_few_shot_is_refused_where_examples_have_no_classes(settings: Make) -> None:
    with pytest.raises(InputError, match=r"--few-shot 1: is for classification.*--task regression"):
        assemble(settings(task="regression", few_shot=1))


def test_several_seeds_leave_no_half_written_file_of_a_killed_run(settings: Make) -> None:
    asked = settings(num_train_epochs=1, seeds=(3, 4))
    leftover = Path(asked.output_dir) / "results.json.123.tmp"
    leftover.parent.mkdir(parents=True)
    leftover.write_text("{")
    finetune(asked)
    assert not leftover.exists()


def test_several_seeds_give_mean_and_deviation(settings: Make) -> None:
    asked = settings(num_train_epochs=1, seeds=(3, 4))
    results = finetune(asked).results
    losses = [results["seeds"][seed]["loss"] for seed in ("3", "4")]
    assert losses[0] != losses[1]
    assert results["loss"] == pytest.approx(sum(losses) / 2)
    assert results["std"]["loss"] == pytest.approx(abs(losses[0] - losses[1]) / math.sqrt(2))
    out = Path(asked.output_dir)
    assert json.loads((out / "results.json").read_text()) == json.loads(json.dumps(results))
    best = out / f"seed-{results['best_seed']}" / "model" / "model.safetensors"
    assert (out / "model" / "model.safetensors").read_bytes() == best.read_bytes()


def test_frozen_layers_are_those_of_the_pretrained_model(settings: Make, folder: Path) -> None:
    from safetensors.torch import load_file

    result = finetune(settings(num_train_epochs=1, freeze_layers="all"))
    before = load_file(folder / "model.safetensors")
    after = load_file(result.folder / "model.safetensors")
    encoder = [name for name in after if name.startswith(("bert.embeddings", "bert.encoder"))]
    assert encoder and all(torch.equal(before[name], after[name]) for name in encoder)
    assert not torch.equal(before["bert.pooler.dense.weight"], after["bert.pooler.dense.weight"])


def test_rows_are_as_long_as_the_model_takes_where_nothing_is_said(
    settings: Make, capsys: pytest.CaptureFixture[str]
) -> None:
    asked = settings(max_seq_length=None, num_train_steps=1, num_train_epochs=None)
    result = finetune(asked)
    positions = read_config(result.folder).max_position_embeddings
    assert assemble(asked).config.row_length == positions < 128
    assert read_config(result.folder).trained_seq_length == positions
    out = capsys.readouterr().out
    assert "first      '" in out and ", label " in out and "note " not in out
    longer = settings("again", model=str(result.folder), num_train_steps=1, num_train_epochs=None)
    short = read_json_object(result.folder / "config.json") | {"trained_seq_length": 3}
    (result.folder / "config.json").write_text(json.dumps(short))
    finetune(longer)
    assert "100.0% of the rows are longer than the 3 tokens" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ({"lora_rank": 4}, "--lora-rank has no effect without --adapter lora"),
        ({"adapter": "lora", "adapter_size": 4}, "--adapter-size has no effect without"),
        ({"adapter": "lora", "freeze_layers": "1"}, "--freeze-layers 1 has no effect with"),
        ({"adapter": "prefix", "freeze_layers": "all"}, "--freeze-layers all has no effect"),
        ({"adversarial_epsilon": 2.0}, "--adversarial-epsilon has no effect without"),
        ({"seed": 3, "seeds": (1, 2)}, "give --seed or --seeds, not both"),
    ],
)
def test_flags_without_effect_are_refused(
    settings: Make, flags: dict[str, Any], message: str
) -> None:
    with pytest.raises(InputError, match=message):
        settings(**flags)


@pytest.mark.parametrize("task", ["classification", "token-classification"])
def test_flags_of_columns_may_be_of_one_file_only(
    settings: Make, write: Callable[[str, str], str], tmp_path: Path, task: str
) -> None:
    """A folder per label, JSON of spans and lines of text have no columns to name."""
    table = "words\tmark\na good film\tgood\na bad film\tbad\n"
    other = write("spans.jsonl", '{"text": "a good film", "spans": [[2, 6, "WORD"]]}')
    if task == "classification":
        for label in ("good", "bad"):
            (tmp_path / "texts" / label).mkdir(parents=True)
            (tmp_path / "texts" / label / "1.txt").write_text(f"a {label} film")
        other = str(tmp_path / "texts")
    else:
        table = "words\tmark\na good film\tO B-WORD O\n"
    asked = settings(
        task=task,
        train_file=write("t.tsv", table),
        eval_file=other,
        test_file=write("in.txt", "a good film\nbad"),
        num_train_epochs=1,
        text_column="words",
        label_column=("mark",),
    )
    parts = assemble(asked)
    assert [len(part.examples) for part in (parts.train, parts.eval)] in ([2, 2], [1, 1])
    assert parts.test is not None and [e.text for e in parts.test.examples] == [
        "a good film",
        "bad",
    ]
    swapped = assemble(asked.replace(train_file=other, eval_file=asked.train_file))
    assert len(swapped.train.examples) == len(parts.eval.examples)
