"""Sentence embeddings: the losses are the plain formulas, each kind of file teaches, and the result
is one folder for `similarity` and sentence-transformers.
Needs sentence-transformers: `pytest tests/finetuning/test_sentence_embedding.py`."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from bert_scratch.config import InputError
from bert_scratch.finetuning.assemble import assemble
from bert_scratch.finetuning.finetune import finetune
from bert_scratch.finetuning.finetune_config import FinetuneConfig
from bert_scratch.finetuning.predict import PredictConfig, predict
from bert_scratch.finetuning.rows import RowBatch
from bert_scratch.finetuning.sentence_embedding import SentenceEmbedding, contrastive_loss
from bert_scratch.finetuning.task_settings import TaskSettings
from bert_scratch.inference.inputs import load_with_tokenizer
from bert_scratch.inference.similarity import similarity
from bert_scratch.model.encoder import BertModel

from .conftest import reviews

Make = Callable[..., FinetuneConfig]
Write = Callable[[str, str], str]


def scored(num_rows: int, seed: int) -> str:
    """Return pairs of reviews: alike if both are good or both bad."""
    a, b = reviews(num_rows, seed), reviews(num_rows, seed + 100)
    lines = [f"{x}\t{y}\t{5.0 if m == n else 0.5}\n" for (x, m), (y, n) in zip(a, b, strict=True)]
    return "sentence1\tsentence2\tscore\n" + "".join(lines)


def texts(num_rows: int, seed: int) -> str:
    return "".join(f"{text}\n" for text, _ in reviews(num_rows, seed))


def triples(num_rows: int, seed: int) -> str:
    """Return an anchor, a review that judges alike, and one that does not."""
    kinds = {label: [t for t, n in reviews(4 * num_rows, seed) if n == label] for label in "01"}
    good, bad = kinds["1"], kinds["0"]
    rows = [[*good[2 * i : 2 * i + 2], bad[i]] for i in range(num_rows // 2)]
    rows += [[*bad[2 * i : 2 * i + 2], good[i]] for i in range(num_rows // 2)]
    return "anchor\tpositive\tnegative\n" + "".join("\t".join(row) + "\n" for row in rows)


@pytest.fixture
def embedding(settings: Make, write: Write) -> Make:
    """Return the settings of a run on scored pairs."""

    def of(name: str = "run", **changes: Any) -> FinetuneConfig:
        files = {
            "train_file": write("pairs.tsv", scored(96, 0)),
            "eval_file": write("scored.tsv", scored(60, 7)),
            "test_file": None,
        }
        return settings(name, task="sentence-embedding", **(files | changes))

    return of


def batch_of(config: FinetuneConfig, count: int) -> tuple[SentenceEmbedding, Any, RowBatch]:
    parts = assemble(config)
    batch = RowBatch.of(parts.train.rows[:count], pad_id=parts.pad_id)
    assert isinstance(parts.task, SentenceEmbedding)
    return parts.task, parts.build_model(), batch


def test_contrastive_loss_is_the_plain_formula() -> None:
    torch.manual_seed(0)
    vectors = torch.randn(4, 3, 8)
    ids = torch.arange(4 * 3 * 5).view(4, 3, 5)
    expected = 0.0
    for i in range(4):
        others = [vectors[j, c] for c in (1, 2) for j in range(4)]
        cosines = torch.stack([F.cosine_similarity(vectors[i, 0], o, dim=0) for o in others])
        expected -= float((cosines / 0.05).log_softmax(dim=0)[i])
    assert contrastive_loss(vectors, ids).item() == pytest.approx(expected, rel=1e-5)


def test_contrastive_scores_are_float32_under_autocast() -> None:
    vectors = torch.randn(8, 2, 32, generator=torch.Generator().manual_seed(3))
    ids = torch.arange(48).view(8, 2, 3)
    expected = contrastive_loss(vectors, ids)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(contrastive_loss(vectors, ids), expected)


def test_contrastive_loss_equals_that_of_sentence_transformers() -> None:
    losses = pytest.importorskip("sentence_transformers.losses")
    torch.manual_seed(0)
    vectors = torch.randn(6, 3, 8)
    theirs = losses.MultipleNegativesRankingLoss(torch.nn.Module(), scale=20.0)
    expected = theirs.compute_loss_from_embeddings(list(vectors.unbind(1)), None)
    ours = contrastive_loss(vectors, torch.arange(6 * 3).view(6, 3, 1)) / 6
    torch.testing.assert_close(ours, expected)


def test_the_same_text_again_is_no_negative() -> None:
    torch.manual_seed(0)
    vectors = torch.randn(3, 2, 8, requires_grad=True)
    ids = torch.tensor([[[1], [9]], [[2], [9]], [[3], [4]]])
    loss = contrastive_loss(vectors, ids)
    loss.backward()
    alone = [
        -(F.cosine_similarity(vectors[i, :1], vectors[keep, 1]) / 0.05).log_softmax(0)[place]
        for i, keep, place in ((0, [0, 2], 0), (1, [1, 2], 0), (2, [0, 1, 2], 2))
    ]
    torch.testing.assert_close(loss, torch.stack(alone).sum())
    assert vectors.grad is not None and bool(vectors.grad.isfinite().all())


def test_scores_become_cosines_up_to_the_largest(embedding: Make) -> None:
    task, model, batch = batch_of(embedding(), 8)
    assert batch.labels is not None
    assert sorted(set(batch.labels.tolist())) == pytest.approx([0.1, 1.0])
    vectors = task.logits(model.eval(), batch)
    cosines = [F.cosine_similarity(a, b, dim=0) for a, b in vectors]
    expected = ((torch.stack(cosines) - batch.labels) ** 2).sum()
    torch.testing.assert_close(task.loss(vectors, batch), expected)


def test_a_lone_text_goes_through_two_draws_of_dropout(embedding: Make, write: Write) -> None:
    task, model, batch = batch_of(embedding(train_file=write("t.txt", texts(20, 3))), 6)
    assert model.config.hidden_dropout_prob == 0.1
    assert batch.input_ids.shape[:2] == (6, 2) and batch.labels is None
    vectors = task.logits(model.train(), batch)
    assert not torch.allclose(vectors[:, 0], vectors[:, 1], atol=1e-3)
    vectors = task.logits(model.eval(), batch)
    torch.testing.assert_close(vectors[:, 0], vectors[:, 1])


def test_vectors_are_those_of_each_text_alone(embedding: Make) -> None:
    task, model, batch = batch_of(embedding(), 40)
    encoder = model.eval().bert
    with torch.inference_mode():
        vectors = task.logits(model, batch)
        for row, both in zip(batch.rows, vectors, strict=True):
            for sequence, vector in zip(row.sequences, both, strict=True):
                ids = torch.from_numpy(sequence.ids).long()[None]
                expected = encoder(ids).last_hidden_state[0].mean(dim=0)
                torch.testing.assert_close(vector, expected, atol=1e-5, rtol=0)


@pytest.mark.parametrize("kind", ["scored", "triples"])
def test_a_run_raises_the_correlation(embedding: Make, write: Write, kind: str) -> None:
    changes = {} if kind == "scored" else {"train_file": write("three.tsv", triples(96, 3))}
    epochs = 20 if kind == "scored" else 16
    dropout = 0.0 if kind == "scored" else 0.1
    asked = embedding(learning_rate=5e-3, num_train_epochs=epochs, dropout=dropout, **changes)
    result = finetune(asked.replace(eval_steps=30)).results
    first, best = result["evaluations"][0]["spearman"], result["spearman"]
    assert best > 0.6 and best > first
    assert ("loss" in result) == (kind == "scored")


def test_plain_texts_are_told_apart(embedding: Make, write: Write) -> None:
    train_file = write("t.txt", texts(128, 3))
    asked = embedding(train_file=train_file, num_train_epochs=None, num_train_steps=40)

    def cosine_of_different_texts(name: str, learning_rate: float) -> float:
        run = asked.replace(learning_rate=learning_rate, output_dir=f"{asked.output_dir}{name}")
        model, tokenizer = load_with_tokenizer(BertModel, str(finetune(run).folder))
        found = [text for text, _ in reviews(40, 8)]
        return float(similarity(model, tokenizer, found[1:], found[:-1]).mean())

    assert cosine_of_different_texts("on", 3e-3) < cosine_of_different_texts("off", 1e-9) - 0.1


def test_the_result_gives_equal_cosines_everywhere(
    embedding: Make, tmp_path: Path, write: Write
) -> None:
    library = pytest.importorskip("sentence_transformers")
    test_file = write("test.tsv", scored(12, 9))
    result = finetune(embedding(num_train_epochs=1, test_file=test_file))
    lines = (tmp_path / "run" / "test_predictions.jsonl").read_text().splitlines()
    answers = [json.loads(line) for line in lines]
    a = [answer["text"] for answer in answers]
    b = [answer["text_pair"] for answer in answers]
    given = [answer["cosine"] for answer in answers]
    ours = similarity(*load_with_tokenizer(BertModel, str(result.folder)), a, b)
    np.testing.assert_allclose(ours, given, atol=2e-6)
    theirs = library.SentenceTransformer(str(result.folder), device="cpu")
    vectors = [theirs.encode(side, normalize_embeddings=True) for side in (a, b)]
    np.testing.assert_allclose((vectors[0] * vectors[1]).sum(axis=1), given, atol=2e-6)
    config = json.loads((result.folder / "config.json").read_text())
    assert config["architectures"] == ["BertModel"]
    with pytest.raises(InputError, match=r"gives vectors, not answers; use embed"):
        predict(PredictConfig(model=(str(result.folder),), input=test_file))


PAIRS = "sentence1\tsentence2\tscore\n"


@pytest.mark.parametrize(
    ("flag", "name", "text", "message"),
    [
        ("train_file", "bad.tsv", "", r"bad.tsv: holds no examples"),
        ("train_file", "bad.tsv", "kind\tvalue\na\tb\nc\td\n", None),
        ("train_file", "bad.tsv", "kind\tvalue\tmore\na\tb\tc\n", r"name the text's with --text-c"),
        ("train_file", "bad.txt", "a good film\n", r"bad.txt:1: is the only example"),
        ("train_file", "bad.tsv", PAIRS + "a\tb\t1\na\tb\t-2\n", r"bad.tsv:3: the score is -2"),
        ("train_file", "bad.tsv", PAIRS + "a\tb\t1\na\tb\tmuch\n", r"bad.tsv:3: 'much' is not a n"),
        ("train_file", "bad.tsv", PAIRS + "a\tb\t1\na\tb\t\n", r"bad.tsv:3: has no score"),
        ("train_file", "bad.tsv", PAIRS + "a\tb\t1\na\tb\t1\n", r"bad.tsv:2: all scores are 1"),
        ("train_file", "bad.tsv", PAIRS + "a\t \t1\na\tb\t0\n", r"bad.tsv:2: has ' ' for 'sente"),
        ("train_file", "bad.tsv", "text1\ttext2\tnegative\tscore\na\tb\tc\t1\n", r"has one of the"),
        (
            "train_file",
            "bad.jsonl",
            '{"anchor": "a", "positive": "b"}\n{"anchor": "a"}\n',
            r":2: l",
        ),
        ("eval_file", "bad.txt", "a good film\na film\n", r"bad.txt:1: --eval-file needs scored"),
        ("eval_file", "bad.tsv", "anchor\tpositive\na\tb\n", r"bad.tsv:2: --eval-file needs sco"),
        ("eval_file", "bad.tsv", PAIRS + "a\tb\tinf\n", r"bad.tsv:2: 'inf' is not a number"),
        ("test_file", "bad.txt", "a good film\n", r"bad.txt:1: --test-file needs pairs"),
    ],
)
def test_bad_files_are_named_with_their_line(
    embedding: Make, write: Write, flag: str, name: str, text: str, message: str | None
) -> None:
    asked = embedding(**{flag: write(name, text)})
    if message is None:
        assert assemble(asked).train.examples[0].text == "kind"
        return
    with pytest.raises(InputError, match=message):
        assemble(asked)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"dropout": 0.0}, r"--dropout 0: .* two draws of dropout"),
        ({"micro_batch_size": 4}, r"--micro-batch-size: .* --train-batch-size"),
        ({"adversarial": "fgm"}, r"--adversarial fgm: is for tasks with labels"),
        ({"adapter": "prefix"}, r"--adapter prefix: the result is a plain encoder"),
        ({"auxiliary_mlm": 0.1}, r"--auxiliary-mlm 0.1: is for tasks with labels"),
        ({"metric": "loss"}, r"--metric loss: "),
        ({"long_text": "window"}, r"--long-text window: a text has one vector"),
        ({"text_column": "text"}, r"--text-column text is not among them"),
    ],
)
def test_settings_that_leave_nothing_to_learn_are_refused(
    embedding: Make, write: Write, changes: dict[str, Any], message: str
) -> None:
    with pytest.raises(InputError, match=message):
        assemble(embedding(train_file=write("t.txt", texts(20, 3)), **changes))


def test_columns_are_found_or_named(tmp_path: Path) -> None:
    def read(text: str, **changes: Any) -> Any:
        (tmp_path / "some.csv").write_text(text, encoding="utf-8")
        task = SentenceEmbedding(TaskSettings(task="sentence-embedding", **changes))
        (example,) = task.read(str(tmp_path / "some.csv"), labels_needed=True)
        return (example.text, example.text_pair, example.negative, example.label)

    assert read("sent0,sent1,hard_neg\na,b,c\n") == ("a", "b", "c", None)
    assert read("premise,hypothesis,score\na,b,3\n") == ("a", "b", None, "3")
    assert read("sentence1,sentence2,score\na,b,3\n", text_column="sentence2")[:2] == ("b", None)
    named = {"text_column": "x", "text_pair_column": "y", "negative_column": "z"}
    assert read("x,y,z\na,b,c\n", **named) == ("a", "b", "c", None)
    with pytest.raises(InputError, match=r"--negative-column w is not among them"):
        read("x,y,z\na,b,c\n", **named | {"negative_column": "w"})


def test_lines_of_text_may_train_where_columns_of_the_evaluation_are_named(
    embedding: Make, write: Write
) -> None:
    named = {"text_column": "x", "text_pair_column": "y", "label_column": ("z",)}
    files = {
        "train_file": write("texts.txt", texts(8, 0)),
        "eval_file": write("eval.tsv", "x\ty\tz\nthe cat\ta cat\t4\nthe cat\ta house\t1\n"),
    }
    parts = assemble(embedding(**files, **named))
    assert (len(parts.train.examples), len(parts.eval.examples)) == (8, 2)
