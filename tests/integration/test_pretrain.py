"""Pins whole runs: what one leaves behind, that a stopped one ends with the same bits, and that a
changed one is refused. CPU only: `pytest tests/integration/test_pretrain.py`."""

from __future__ import annotations

import gzip
import hashlib
import json
import os
import re
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from bert_scratch.batch import Batch
from bert_scratch.config import InputError
from bert_scratch.data.wordpiece import load_tokenizer
from bert_scratch.model.heads import BertForPreTraining
from bert_scratch.pretraining.corpus_settings import CorpusSettings
from bert_scratch.pretraining.evaluate import EvaluateConfig, evaluate
from bert_scratch.pretraining.prepare import prepare
from bert_scratch.pretraining.pretrain import pretrain
from bert_scratch.pretraining.pretrain_config import PretrainConfig
from bert_scratch.pretraining.run import Run
from bert_scratch.pretraining.run_folder import PretrainRunFolder
from bert_scratch.training import loop
from bert_scratch.training.interruption import Interrupted
from bert_scratch.training.metrics import Display
from bert_scratch.training.step import NonFinite

MakeSettings = Callable[..., PretrainConfig]


def digest(folder: Path) -> str:
    """Return one hash of the final weights and the optimizer's moments."""
    checkpoint = sorted((folder / "checkpoints").iterdir())[-1]
    total = hashlib.sha256()
    for name in ("model.safetensors", "optimizer.safetensors"):
        for key, tensor in sorted(load_file(checkpoint / name).items()):
            total.update(key.encode() + tensor.numpy().tobytes())
    total.update((folder / "model" / "model.safetensors").read_bytes())
    return total.hexdigest()


@pytest.fixture
def stop_at(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], None]:
    """Return a function that makes the run receive SIGTERM when it has made so many steps."""

    def arrange(step: int) -> None:
        def advance(self: Display, done: int, total: int | None) -> None:
            if done == step:
                os.kill(os.getpid(), signal.SIGTERM)

        monkeypatch.setattr(Display, "advance", advance)

    return arrange


@pytest.fixture(scope="module")
def finished_run(tmp_path_factory: pytest.TempPathFactory, corpus: Path) -> Path:
    """A finished run of 40 steps, to look at."""
    folder = tmp_path_factory.mktemp("finished") / "run"
    pretrain(
        PretrainConfig(
            corpus=(str(corpus),),
            output_dir=str(folder),
            vocab_size=150,
            eval_fraction=0.1,
            num_processes=1,
            preset="tiny",
            hidden_size=32,
            num_attention_heads=2,
            initializer_range=0.02,
            learning_rate=2e-3,
            max_seq_length=32,
            train_batch_size=16,
            num_train_steps=40,
            eval_steps=20,
            logging_steps=10,
            device="cpu",
            dtype="float32",
            num_threads=1,
        )
    )
    return folder


def test_run_leaves_every_file_of_its_folder(finished_run: Path) -> None:
    names = {path.name for path in finished_run.iterdir() if path.name != ".lock"}
    assert names == {
        "asked_config.json",
        "best",
        "checkpoints",
        "corpus",
        "corpus.json",
        "fill_ins.jsonl",
        "metrics.jsonl",
        "model",
        "pretrain_config.json",
        "status.json",
        "tokenizer",
    }
    status = json.loads((finished_run / "status.json").read_text())
    assert (status["state"], status["code"], status["step"]) == ("done", 0, 40)


def test_run_logs_train_and_eval_lines_with_their_values(finished_run: Path) -> None:
    lines = [json.loads(line) for line in (finished_run / "metrics.jsonl").read_text().splitlines()]
    train = [line for line in lines if line["split"] == "train"]
    held_out = [line for line in lines if line["split"] == "eval"]
    assert [line["step"] for line in train] == [10, 20, 30, 40]
    assert [line["step"] for line in held_out] == [0, 20, 40]
    wanted = {"loss", "mlm_loss", "nsp_loss", "mlm_accuracy", "nsp_accuracy", "learning_rate"}
    wanted |= {"grad_norm", "tokens", "tokens_per_s", "data_wait_fraction", "elapsed_s", "mfu"}
    assert all(wanted <= set(line) for line in train)
    assert held_out[-1]["unigram_loss"] > 0


def test_run_starts_below_ln_v_by_counts_and_learns(finished_run: Path) -> None:
    lines = [json.loads(line) for line in (finished_run / "metrics.jsonl").read_text().splitlines()]
    held_out = [line["mlm_loss"] for line in lines if line["split"] == "eval"]
    facts = json.loads((finished_run / "corpus.json").read_text())
    assert held_out[-1] < held_out[0] - 0.5 < facts["uniform_loss"] - 1


def test_result_loads_in_transformers_and_gives_equal_scores(finished_run: Path) -> None:
    transformers = pytest.importorskip("transformers")
    folder = finished_run / "model"
    theirs, info = transformers.BertForPreTraining.from_pretrained(folder, output_loading_info=True)
    assert not info["missing_keys"] and not info["unexpected_keys"]
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    assert tokenizer.model_max_length == 512
    inputs = tokenizer("The cat sees the dog.", "The dog likes the cat.", return_tensors="pt")
    ours = BertForPreTraining.from_pretrained(folder)
    with torch.no_grad():
        expected, output = theirs(**inputs), ours(**inputs)
    torch.testing.assert_close(
        output.prediction_logits, expected.prediction_logits, atol=1e-5, rtol=0
    )
    for name in ("AutoModel", "AutoModelForMaskedLM"):
        _, info = getattr(transformers, name).from_pretrained(folder, output_loading_info=True)
        assert not info["missing_keys"]


def test_result_loads_in_sentence_transformers_with_mean_pooling(finished_run: Path) -> None:
    sentence_transformers = pytest.importorskip("sentence_transformers")
    folder = finished_run / "model"
    vector = sentence_transformers.SentenceTransformer(str(folder), device="cpu").encode("The cat.")
    model, tokenizer = BertForPreTraining.from_pretrained(folder), load_tokenizer(folder)
    ids = torch.tensor([tokenizer.encode("The cat.").ids])
    with torch.no_grad():
        mean = model.bert(ids).last_hidden_state.mean(dim=1)[0]
    assert torch.cosine_similarity(mean, torch.tensor(vector), dim=0) > 0.999999


@pytest.mark.parametrize("pair_task", ["sop", "none"])
def test_model_folder_says_what_its_pair_head_was_trained_for(
    pair_task: str, settings: MakeSettings
) -> None:
    transformers = pytest.importorskip("transformers")
    result = pretrain(settings(pair_task=pair_task))
    assert result is not None and result.evaluation is not None
    run = result.folder.parent
    data = str(run / "corpus")
    for folder in (result.folder, *(run / "checkpoints").iterdir()):
        assert transformers.AutoModel.from_pretrained(folder).config.pair_task == pair_task
    asked = EvaluateConfig(model=str(result.folder), data=data, max_seq_length=32, device="cpu")
    found = evaluate(asked)
    assert evaluate(asked.replace(num_examples=3)).num_examples == 3 < found.num_examples
    assert (found.nsp_accuracy is None) == (pair_task == "none")
    assert found.nsp_accuracy == result.evaluation.nsp_accuracy
    assert evaluate(asked.replace(pair_task="none")).nsp_loss is None
    with pytest.raises(InputError, match=f"--pair-task nsp: .* was trained with {pair_task}"):
        evaluate(asked.replace(pair_task="nsp"))


def test_a_model_whose_rows_are_not_recorded_is_evaluated_at_all_its_positions(
    settings: MakeSettings,
) -> None:
    result = pretrain(settings(max_position_embeddings=160, num_train_steps=1, num_warmup_steps=0))
    assert result is not None
    (result.folder / "sentence_bert_config.json").unlink()
    values = json.loads((result.folder / "config.json").read_text())
    del values["trained_seq_length"]
    (result.folder / "config.json").write_text(json.dumps(values))
    data = str(result.folder.parent / "corpus")
    asked = EvaluateConfig(model=str(result.folder), data=data, device="cpu")
    assert evaluate(asked) == evaluate(asked.replace(max_seq_length=160))
    assert evaluate(asked) != evaluate(asked.replace(max_seq_length=128))


def test_new_pair_task_of_a_continued_model_is_recorded(
    finished_run: Path, settings: MakeSettings
) -> None:
    shape = {"hidden_size": None, "num_hidden_layers": None, "num_attention_heads": None}
    shape |= {"intermediate_size": None, "max_position_embeddings": None, "vocab_size": None}
    given = {"init_checkpoint": str(finished_run / "model"), "pair_task": "sop"}
    result = pretrain(settings(**shape, **given, num_train_steps=1, num_warmup_steps=0))
    assert result is not None
    assert BertForPreTraining.from_pretrained(finished_run / "model").config.pair_task == "nsp"
    assert BertForPreTraining.from_pretrained(result.folder).config.pair_task == "sop"


def test_finished_run_says_so_and_changes_nothing(
    settings: MakeSettings, capsys: pytest.CaptureFixture[str]
) -> None:
    asked = settings()
    pretrain(asked)
    before = digest(Path(str(asked.output_dir)))
    capsys.readouterr()
    result = pretrain(asked)
    assert result is not None and result.num_train_steps == 12
    assert "this run is already finished" in capsys.readouterr().out
    assert digest(Path(str(asked.output_dir))) == before


@pytest.mark.parametrize(
    "dtype",
    ["float32", pytest.param("float16", marks=pytest.mark.slow)],
)
def test_resumed_run_equals_uninterrupted_run(
    settings: MakeSettings, stop_at: Callable[[int], None], dtype: str
) -> None:
    through = settings("through", dtype=dtype)
    pretrain(through)
    stopped = settings("stopped", dtype=dtype)
    for step in (2, 7, 9):
        stop_at(step)
        with pytest.raises(Interrupted, match=f"after {step} steps"):
            pretrain(stopped)
        status = json.loads((Path(str(stopped.output_dir)) / "status.json").read_text())
        assert (status["state"], status["code"], status["step"]) == ("stopped", 75, step)
    stop_at(-1)
    pretrain(stopped)
    assert digest(Path(str(stopped.output_dir))) == digest(Path(str(through.output_dir)))


@pytest.mark.slow
def test_number_of_workers_changes_no_bit(settings: MakeSettings) -> None:
    digests = set()
    for workers in (0, 2):
        asked = settings(f"workers{workers}", num_workers=workers)
        pretrain(asked)
        digests.add(digest(Path(str(asked.output_dir))))
    assert len(digests) == 1


def test_same_run_twice_gives_the_same_bits_and_another_seed_does_not(
    settings: MakeSettings,
) -> None:
    digests = []
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        asked = settings(name, seed=seed)
        pretrain(asked)
        digests.append(digest(Path(str(asked.output_dir))))
    assert digests[0] == digests[1] != digests[2]


def test_micro_batches_give_the_weights_of_one_batch(settings: MakeSettings) -> None:
    weights = []
    for name, size in (("whole", 8), ("cut", 3)):
        no_dropout = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
        asked = settings(name, micro_batch_size=size, **no_dropout)
        pretrain(asked)
        weights.append(load_file(Path(str(asked.output_dir)) / "model" / "model.safetensors"))
    for key, tensor in weights[0].items():
        torch.testing.assert_close(tensor, weights[1][key], atol=2e-5, rtol=0)


def test_time_limited_run_equals_a_run_given_its_horizon(settings: MakeSettings) -> None:
    # The choice of dropout estimates a time budget's passes from a timing.
    alike = {"num_warmup_steps": 4, "hidden_dropout_prob": 0.1, "attention_probs_dropout_prob": 0.1}
    limited = settings("limited", num_train_steps=None, max_train_seconds=3.0, **alike)
    result = pretrain(limited)
    assert result is not None and result.num_train_steps > 4
    given = settings("given", num_train_steps=result.num_train_steps, **alike)
    pretrain(given)
    finals = [Path(str(c.output_dir)) / "model" / "model.safetensors" for c in (limited, given)]
    assert finals[0].read_bytes() == finals[1].read_bytes()


def test_changed_settings_are_refused_naming_each(
    settings: MakeSettings, stop_at: Callable[[int], None]
) -> None:
    stop_at(3)
    with pytest.raises(Interrupted):
        pretrain(settings())
    with pytest.raises(InputError) as error:
        pretrain(settings(learning_rate=5e-4, seed=7, logging_steps=2))
    message = str(error.value)
    assert "--learning-rate: was 0.001, now 0.0005" in message
    assert "--seed: was 42, now 7" in message
    assert "--logging-steps" not in message
    assert "--init-checkpoint" in message


def test_broken_newest_checkpoint_is_named_and_the_one_before_used(
    settings: MakeSettings, stop_at: Callable[[int], None], capsys: pytest.CaptureFixture[str]
) -> None:
    through = settings("through")
    pretrain(through)
    stopped = settings("stopped")
    stop_at(11)
    with pytest.raises(Interrupted):
        pretrain(stopped)
    folder = Path(str(stopped.output_dir))
    newest = sorted((folder / "checkpoints").iterdir())[-1]
    weights = newest / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1])
    stop_at(-1)
    pretrain(stopped)
    captured = capsys.readouterr()
    assert newest.name in captured.err and "model.safetensors" in captured.err
    assert "after 10 steps" in captured.out
    assert digest(folder) == digest(Path(str(through.output_dir)))


def test_run_whose_checkpoints_are_all_broken_is_not_begun_again(
    settings: MakeSettings, stop_at: Callable[[int], None]
) -> None:
    asked = settings()
    stop_at(11)
    with pytest.raises(Interrupted):
        pretrain(asked)
    folder = Path(str(asked.output_dir))
    for manifest in (folder / "checkpoints").glob("*/manifest.json"):
        manifest.unlink()
    before = (folder / "metrics.jsonl").read_bytes()
    stop_at(-1)
    with pytest.raises(
        InputError, match=r"no complete checkpoint (.|\n)*delete .*checkpoints to sta"
    ):
        pretrain(asked)
    assert (folder / "metrics.jsonl").read_bytes() == before


def test_second_process_in_the_same_folder_is_refused(settings: MakeSettings) -> None:
    asked = settings(num_train_steps=2)
    folder = PretrainRunFolder(Path(str(asked.output_dir)))
    folder.create()
    with folder.locked(), pytest.raises(InputError, match="another process is running"):
        pretrain(asked)
    assert pretrain(asked) is not None


def test_finished_run_on_a_changed_corpus_is_refused(
    settings: MakeSettings, corpus: Path, tmp_path: Path
) -> None:
    text = tmp_path / "own.txt"
    text.write_text(corpus.read_text())
    asked = settings(num_train_steps=2, corpus=[str(text)])
    pretrain(asked)
    text.write_text(corpus.read_text() + "\n\nOne more. And its second sentence.\n")
    with pytest.raises(InputError, match=r"another corpus:\n.*own\.txt"):
        pretrain(asked)


def test_run_is_not_begun_in_the_folder_of_its_own_text(
    settings: MakeSettings, corpus: Path, tmp_path: Path
) -> None:
    (tmp_path / "own.txt").write_text(corpus.read_text())
    with pytest.raises(InputError, match="holds text of --corpus"):
        pretrain(settings(corpus=[str(tmp_path)], output_dir=str(tmp_path)))
    assert not (tmp_path / "corpus").exists()


def test_pairs_without_two_token_types_are_refused(settings: MakeSettings) -> None:
    with pytest.raises(InputError, match="needs two token types"):
        pretrain(settings(type_vocab_size=1, pair_task="nsp"))
    assert pretrain(settings(type_vocab_size=1, pair_task="none")) is not None


def test_shape_that_cannot_be_is_refused_before_the_corpus_is_prepared(
    settings: MakeSettings, tmp_path: Path
) -> None:
    with pytest.raises(InputError, match="num_attention_heads=5"):
        settings(num_attention_heads=5)
    assert not (tmp_path / "run").exists()


def test_resume_never_and_must_are_obeyed(settings: MakeSettings) -> None:
    with pytest.raises(InputError, match="--resume must"):
        pretrain(settings(resume="must"))
    pretrain(settings(num_train_steps=2))
    with pytest.raises(InputError, match="--resume never"):
        pretrain(settings(num_train_steps=2, resume="never"))


def test_non_finite_loss_stops_before_the_update(settings: MakeSettings) -> None:
    asked = settings(learning_rate=1e30, max_grad_norm=0.0, num_warmup_steps=0, save_steps=1)
    with pytest.raises(NonFinite, match="the update was not made"):
        pretrain(asked)
    folder = Path(str(asked.output_dir))
    status = json.loads((folder / "status.json").read_text())
    assert (status["state"], status["code"]) == ("failed", 3)


def test_dry_run_trains_nothing_and_prints_the_resolved_settings(
    settings: MakeSettings, capsys: pytest.CaptureFixture[str]
) -> None:
    asked = settings(dry_run=True, train_batch_size=None, learning_rate=None)
    assert pretrain(asked) is None
    out = capsys.readouterr().out
    for part in ("parameters", "--train-batch-size", "--learning-rate", "verdict", "one step"):
        assert part in out
    folder = Path(str(asked.output_dir))
    assert not (folder / "checkpoints").exists() and not (folder / "model").exists()


def test_init_checkpoint_starts_from_its_weights(finished_run: Path, corpus: Path) -> None:
    folder = finished_run.parent / "continued"
    result = pretrain(
        PretrainConfig(
            corpus=(str(corpus),),
            output_dir=str(folder),
            init_checkpoint=str(finished_run / "model"),
            eval_fraction=0.1,
            num_processes=1,
            max_seq_length=32,
            train_batch_size=8,
            num_train_steps=2,
            device="cpu",
            dtype="float32",
            num_threads=1,
        )
    )
    assert result is not None
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    before = [json.loads(x) for x in (finished_run / "metrics.jsonl").read_text().splitlines()][-1]
    assert lines[0]["mlm_loss"] < before["mlm_loss"] + 0.5


def test_a_corpus_of_another_vocabulary_is_refused(
    finished_run: Path, settings: MakeSettings, corpus: Path, tmp_path: Path
) -> None:
    other = CorpusSettings(corpus=(str(corpus),), documents="blank-lines", lowercase=True)
    prepare(other, tmp_path / "other")
    model, data = str(finished_run / "model"), str(tmp_path / "other")
    with pytest.raises(InputError, match=r"--model .*: its vocabulary is not the one"):
        evaluate(EvaluateConfig(model=model, data=data, max_seq_length=32))
    with pytest.raises(InputError, match=r"--init-checkpoint .*: its vocabulary is not the one"):
        pretrain(
            PretrainConfig(
                data=data,
                init_checkpoint=model,
                output_dir=str(tmp_path / "run"),
                num_train_steps=1,
            )
        )


def test_profile_says_where_a_step_goes_and_changes_no_bit(
    settings: MakeSettings, capsys: pytest.CaptureFixture[str]
) -> None:
    plain, profiled = settings("plain"), settings("profiled", profile=4)
    recomputing = settings("recomputing", profile=4, activation_checkpointing=True)
    tables = []
    for asked in (plain, profiled, recomputing):
        pretrain(asked)
        tables.append(capsys.readouterr().out)
    assert "profile " not in tables[0]
    found = []
    for table in tables[1:]:
        lines = re.findall(r"profile +(\S.*?) +(-?[\d.]+) +(-?[\d.]+)%", table)
        shares = {part: share for part, _, share in lines}
        assert float(shares.pop("a step")) == 100
        assert sum(map(float, shares.values())) == pytest.approx(100, abs=1), table
        assert all(float(share) >= 0 for share in shares.values())
        busy = ("forward: attention", "forward: feed-forward", "backward", "clip and optimizer")
        assert all(float(ms) > 0 for part, ms, _ in lines if part in busy)
        found.append([float(shares[part]) for part in busy])
    # A busy machine may hold up one part of one of the runs for longer than all the others take.
    assert all(max(of_part) > 1 for of_part in zip(*found, strict=True)), tables
    folder = Path(str(profiled.output_dir))
    trace = json.loads(gzip.decompress((folder / "profile.json.gz").read_bytes()))
    assert sum(event.get("name") == "backward" for event in trace["traceEvents"]) == 4
    digests = {digest(Path(str(asked.output_dir))) for asked in (plain, profiled, recomputing)}
    assert len(digests) == 1


def test_dry_run_never_goes_on_with_a_run_that_is_there(settings: MakeSettings) -> None:
    asked = settings()
    pretrain(asked)
    before = digest(Path(str(asked.output_dir)))
    longer = asked.replace(num_train_steps=20, extend=True, dry_run=True)
    for again in (asked.replace(dry_run=True), longer):
        with pytest.raises(InputError, match="--dry-run: .* already holds a run"):
            pretrain(again)
    assert digest(Path(str(asked.output_dir))) == before


@pytest.mark.parametrize(
    ("error", "code"), [(InputError("a page is damaged"), 2), (MemoryError("no more"), 1)]
)
def test_status_tells_of_any_failure(
    settings: MakeSettings, monkeypatch: pytest.MonkeyPatch, error: Exception, code: int
) -> None:
    def failing(_run: Run, _first_step: int) -> Iterator[Batch]:
        raise error

    monkeypatch.setattr(Run, "_batches", failing)
    asked = settings()
    with pytest.raises(type(error)):
        pretrain(asked)
    status = json.loads((Path(str(asked.output_dir)) / "status.json").read_text())
    assert status == {"state": "failed", "code": code, "step": 0, "message": str(error)}


def test_run_with_time_left_tells_how_to_go_on(
    settings: MakeSettings, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    asked = settings(num_train_steps=None, max_train_seconds=300.0)
    with monkeypatch.context() as slow_start:
        slow_start.setattr(loop, "settled_step_s", lambda _: 60.0)
        pretrain(asked)
    (line,) = [x for x in capsys.readouterr().out.splitlines() if x.startswith("time ")]
    assert "of 5 min 00 s used" in line
    steps = int(line.split("--num-train-steps ")[1].split()[0])
    assert steps > 100
    shorter = asked.replace(extend=True, num_train_steps=20)
    result = pretrain(shorter)
    assert result is not None and result.num_train_steps == 20
    assert "were used" not in capsys.readouterr().out


def test_a_warm_up_longer_than_the_run_is_refused_unless_the_run_has_begun(
    settings: MakeSettings, stop_at: Callable[[int], None]
) -> None:
    asked = settings(num_warmup_steps=13)
    with pytest.raises(InputError, match=r"--num-warmup-steps 13 is more than the run's 12 steps"):
        pretrain(asked)
    folder = Path(str(asked.output_dir))
    assert not (folder / "corpus").exists()
    stop_at(3)
    with pytest.raises(Interrupted):
        pretrain(settings())
    for name in ("asked_config.json", "pretrain_config.json"):  # as an older version let it begin
        stored = json.loads((folder / name).read_text())
        (folder / name).write_text(json.dumps(stored | {"num_warmup_steps": 13}))
    result = pretrain(asked)
    assert result is not None and result.num_train_steps == 12


def test_a_warm_up_longer_than_the_time_turned_out_to_be_is_told(
    settings: MakeSettings, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(loop, "settled_step_s", lambda _: 600.0)
    pretrain(settings(num_train_steps=None, max_train_seconds=600.0, num_warmup_steps=80))
    (line,) = [x for x in capsys.readouterr().out.splitlines() if "never reaches" in x]
    assert line.startswith("warning    --num-warmup-steps 80 is more than these steps")
