"""Pins runs that begin with added words or with word vectors: stopped and changed ones too.
CPU only: `pytest tests/integration/test_starting_model.py`."""

from __future__ import annotations

import json
import os
import shutil
import signal
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from bert_scratch.config import BertConfig, InputError
from bert_scratch.data.wordpiece import load_tokenizer
from bert_scratch.model.folder import read_config
from bert_scratch.model.heads import BertForPreTraining
from bert_scratch.pretraining.pretrain import _check_initial_weights, pretrain
from bert_scratch.pretraining.pretrain_config import PretrainConfig
from bert_scratch.training.interruption import Interrupted
from bert_scratch.training.metrics import Display

Make = Callable[..., PretrainConfig]
SHAPE = (
    "vocab_size hidden_size num_hidden_layers num_attention_heads intermediate_size "
    "max_position_embeddings"
).split()


def stopped_at(step: int, asked: PretrainConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    """Start a run that is told to stop when it has made so many steps."""

    def advance(self: Display, done: int, total: int | None) -> None:
        if done == step:
            os.kill(os.getpid(), signal.SIGTERM)

    with monkeypatch.context() as patched:
        patched.setattr(Display, "advance", advance)
        with pytest.raises(Interrupted):
            pretrain(asked)


def bits(folder: Path) -> bytes:
    return (folder / "model" / "model.safetensors").read_bytes()


def test_added_words_are_learned_and_a_stopped_run_ends_with_the_same_bits(
    settings: Make,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    from transformers import AutoModelForPreTraining, AutoTokenizer

    pretrain(settings("first", vocab_size=70))
    words = tmp_path / "words.txt"
    known = load_tokenizer(tmp_path / "first" / "model").get_vocab()
    new = ["kitchen", "forest", "unseen"]
    assert not known.keys() & set(new)
    words.write_text("".join(f"{word}\n" for word in new))

    def second(name: str) -> PretrainConfig:
        changes = dict.fromkeys(SHAPE)
        checkpoint = str(tmp_path / "first" / "model")
        return settings(name, **changes, init_checkpoint=checkpoint, add_tokens=[str(words)])

    pretrain(second("through"))
    said = capsys.readouterr().out
    assert f"{len(new)} new rows, the means of their pieces" in said
    assert "1 do not occur in the text and learn nothing: unseen" in said
    stopped_at(6, second("stopped"), monkeypatch)
    pretrain(second("stopped"))
    assert bits(tmp_path / "through") == bits(tmp_path / "stopped")

    folder = tmp_path / "through" / "model"
    text = "The goat sees the horse in the kitchen forest."
    theirs = AutoTokenizer.from_pretrained(folder)(text, return_tensors="pt")
    assert theirs["input_ids"][0].tolist() == load_tokenizer(folder).encode(text).ids
    assert set(new[:-1]) <= set(load_tokenizer(folder).encode(text).tokens)
    with torch.inference_mode():
        logits = AutoModelForPreTraining.from_pretrained(folder)(**theirs).prediction_logits
        ours = BertForPreTraining.from_pretrained(folder)(**theirs).prediction_logits
    assert logits.shape[-1] == len(known) + len(new)
    torch.testing.assert_close(ours, logits, atol=1e-5, rtol=0)

    words.write_text("".join(f"{word}\n" for word in [*new, "another"]))
    with pytest.raises(InputError, match=r"another corpus:\n.*tokenizer"):
        pretrain(second("through"))


def test_a_begun_run_does_not_need_the_model_it_started_from(
    settings: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pretrain(settings("first", vocab_size=70))
    start = tmp_path / "start"
    shutil.copytree(tmp_path / "first" / "model", start)

    def second(name: str) -> PretrainConfig:
        shape = dict.fromkeys(SHAPE)
        return settings(name, **shape, init_checkpoint=str(start), add_tokens=["kitchen"])

    pretrain(second("through"))
    stopped_at(6, second("stopped"), monkeypatch)
    shutil.rmtree(start)
    pretrain(second("stopped"))
    assert bits(tmp_path / "through") == bits(tmp_path / "stopped")
    assert f"those of {start}" in (tmp_path / "stopped" / "model" / "README.md").read_text()
    longer = second("stopped").replace(extend=True, num_train_steps=14)
    assert pretrain(longer) is not None
    with pytest.raises(InputError, match="no such folder"):
        pretrain(second("another"))


def test_a_model_that_cannot_be_read_is_refused_before_the_corpus_is_prepared(
    settings: Make, tmp_path: Path
) -> None:
    start = tmp_path / "start"
    BertForPreTraining(BertConfig.preset("tiny", vocab_size=12)).save_pretrained(start)
    (start / "model.safetensors").rename(start / "pytorch_model.bin")
    (start / "vocab.txt").write_text("[PAD]\n[UNK]\n[CLS]\n[SEP]\n[MASK]\nthe\n")
    asked = settings("second", **dict.fromkeys(SHAPE), init_checkpoint=str(start))
    with pytest.raises(InputError, match=r"only as pytorch_model\.bin"):
        pretrain(asked)
    assert not (tmp_path / "second" / "corpus").exists()


def test_word_vectors_are_covered_and_other_ones_refused(
    settings: Make,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    vectors = tmp_path / "vectors.txt"
    numbers = [" ".join(str((7 * n + 3 * k) % 11 - 5) for k in range(32)) for n in range(3)]
    names = ("the", "in", "nowhere")
    vectors.write_text("".join(f"{w} {v}\n" for w, v in zip(names, numbers, strict=True)))
    pretrain(settings("through", init_word_vectors=str(vectors)))
    said = capsys.readouterr().out
    assert f"weights    --init-word-vectors {vectors}: 2 of " in said
    stopped_at(6, settings("stopped", init_word_vectors=str(vectors)), monkeypatch)
    pretrain(settings("stopped", init_word_vectors=str(vectors)))
    assert bits(tmp_path / "through") == bits(tmp_path / "stopped")
    pretrain(settings("plain"))
    assert bits(tmp_path / "through") != bits(tmp_path / "plain")
    vectors.write_text(vectors.read_text().replace("in ", "at "))
    with pytest.raises(InputError, match=r"--init-word-vectors .*is not the file the run began"):
        pretrain(settings("through", init_word_vectors=str(vectors)))


def test_counted_and_drawn_word_vectors_are_resumed_as_they_began(
    settings: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for source in ("corpus", "none"):
        pretrain(settings(f"{source}-through", init_word_vectors=source))
        stopped_at(6, settings(source, init_word_vectors=source), monkeypatch)
        pretrain(settings(source, init_word_vectors=source))
        assert bits(tmp_path / source) == bits(tmp_path / f"{source}-through")
    assert bits(tmp_path / "corpus") != bits(tmp_path / "none")


def test_run_of_drawn_word_vectors_starts_at_ln_v(settings: Make, tmp_path: Path) -> None:
    pretrain(settings("drawn", init_word_vectors="none", initializer_range=0.02))
    lines = (tmp_path / "drawn" / "metrics.jsonl").read_text().splitlines()
    first = next(line for line in map(json.loads, lines) if line["split"] == "eval")
    facts = json.loads((tmp_path / "drawn" / "corpus.json").read_text())
    assert first["step"] == 0
    assert first["mlm_loss"] == pytest.approx(facts["uniform_loss"], rel=0.05)


def test_run_stored_before_vectors_were_counted_begins_again_as_it_was(
    settings: Make, tmp_path: Path
) -> None:
    pretrain(settings("drawn", init_word_vectors="none"))
    pretrain(settings("old"))
    old = tmp_path / "old"
    for name in ("asked_config.json", "pretrain_config.json"):
        stored = json.loads((old / name).read_text()) | {"init_word_vectors": None}
        (old / name).write_text(json.dumps(stored))
    for gone in ("checkpoints", "model", "best"):
        shutil.rmtree(old / gone, ignore_errors=True)
    (old / "status.json").unlink()
    pretrain(settings("old"))
    assert bits(old) == bits(tmp_path / "drawn")


def test_word_vectors_that_are_nowhere_are_refused_before_the_corpus_is_read(
    settings: Make, tmp_path: Path
) -> None:
    with pytest.raises(InputError, match=r"must be corpus, none or a file of vectors; there is no"):
        pretrain(settings("run", init_word_vectors="Corpus"))
    assert not (tmp_path / "run" / "corpus").exists()


def test_word_vectors_are_not_for_a_model_that_is_continued() -> None:
    with pytest.raises(InputError, match=r"--init-word-vectors cannot be combined with --init-c"):
        PretrainConfig(init_checkpoint="model", init_word_vectors="vectors.txt")


@pytest.mark.parametrize(("name", "value"), [("initializer", "mimetic"), ("initializer_range", 1)])
def test_flags_of_drawn_weights_are_not_for_a_model_that_is_continued(
    name: str, value: object, settings: Make, tmp_path: Path
) -> None:
    changes = {**dict.fromkeys(SHAPE), "init_checkpoint": str(tmp_path), name: value}
    with pytest.raises(InputError, match=rf"--{name.replace('_', '-')} \S+ has no effect with"):
        pretrain(settings(**changes))


def test_settings_that_an_older_version_stored_with_a_checkpoint_are_taken() -> None:
    stored = PretrainConfig(
        init_checkpoint="model", recipe="google", initializer="truncated_normal"
    )
    _check_initial_weights(stored)
    with pytest.raises(InputError, match="--initializer truncated_normal has no effect with"):
        _check_initial_weights(stored.replace(recipe="huggingface"))


def test_a_model_continued_on_shorter_rows_still_reads_the_longer_ones(
    settings: Make, tmp_path: Path
) -> None:
    pretrain(settings("long", max_seq_length=32))
    shape = dict.fromkeys(SHAPE)
    checkpoint = str(tmp_path / "long" / "model")
    pretrain(settings("short", **shape, init_checkpoint=checkpoint, max_seq_length=16))
    folder = tmp_path / "short" / "model"
    assert json.loads((folder / "config.json").read_text())["trained_seq_length"] == 32
    sentences = json.loads((folder / "sentence_bert_config.json").read_text())
    assert sentences["max_seq_length"] == 32
    assert "past 32 tokens were never trained" in (folder / "README.md").read_text()


def test_a_continued_model_whose_rows_are_not_recorded_reads_as_much_as_before(
    settings: Make, tmp_path: Path
) -> None:
    pretrain(settings("long", max_seq_length=32))
    checkpoint = tmp_path / "long" / "model"
    (checkpoint / "sentence_bert_config.json").unlink()
    values = json.loads((checkpoint / "config.json").read_text())
    del values["trained_seq_length"]
    (checkpoint / "config.json").write_text(json.dumps(values))
    shape = dict.fromkeys(SHAPE)
    pretrain(settings("short", **shape, init_checkpoint=str(checkpoint), max_seq_length=16))
    folder = tmp_path / "short" / "model"
    sentences = json.loads((folder / "sentence_bert_config.json").read_text())
    assert sentences["max_seq_length"] == values["max_position_embeddings"] == 32
    assert read_config(folder).trained_seq_length == 32
    assert "past 32 tokens were never trained" in (folder / "README.md").read_text()
