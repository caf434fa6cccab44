"""Tagging, question answering and multiple choice learn through `finetune`, write their results,
and their models give the same answers through `predict`.

Run alone: `pytest -m slow tests/finetuning/test_tasks_learn.py`.
"""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from bert_scratch.config import BertConfig
from bert_scratch.data.wordpiece import TokenizerFolder, build_tokenizer
from bert_scratch.finetuning.finetune import finetune
from bert_scratch.finetuning.finetune_config import FinetuneConfig
from bert_scratch.finetuning.predict import PredictConfig, run_predict
from bert_scratch.model.heads import BertForPreTraining

NAMES, TOWNS, OTHERS = "anna bert carl", "rome oslo", "saw in went to the a . who where ?"


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A small model with random weights."""
    words = f"{NAMES} {TOWNS} {OTHERS}".split()
    tokens = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *words]
    vocab = {token: index for index, token in enumerate(tokens)}
    tokenizer = build_tokenizer(vocab, lowercase=True, strip_accents=False, nfc=False)
    torch.manual_seed(5)
    config = BertConfig(
        vocab_size=len(vocab),
        hidden_size=24,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=48,
        max_position_embeddings=40,
        initializer_range=0.1,
    )
    path = tmp_path_factory.mktemp("learn") / "model"
    BertForPreTraining(config).save_pretrained(path, TokenizerFolder(tokenizer))
    return str(path)


def sentence(draw: random.Random) -> list[str]:
    words = draw.choices(OTHERS.split()[:7], k=6)
    words.insert(draw.randrange(7), draw.choice(NAMES.split()))
    words.insert(draw.randrange(8), draw.choice(TOWNS.split()))
    return words


def conll(draw: random.Random, count: int) -> str:
    kinds = {**dict.fromkeys(NAMES.split(), "S-PER"), **dict.fromkeys(TOWNS.split(), "S-LOC")}
    lines = (f"{word} {kinds.get(word, 'O')}\n" for _ in range(count) for word in sentence(draw))
    return "".join(line + "\n" * (n % 8 == 7) for n, line in enumerate(lines))


def squad(draw: random.Random, count: int) -> str:
    paragraphs = []
    for number in range(count):
        words = sentence(draw)
        wanted, question = draw.choice([(NAMES, "who ?"), (TOWNS, "where ?")])
        word = next(word for word in words if word in wanted.split())
        context = " ".join(words)
        answer = {"text": word, "answer_start": f" {context} ".index(f" {word} ")}
        qas = [{"id": str(number), "question": question, "answers": [answer]}]
        paragraphs.append({"context": context, "qas": qas})
    return json.dumps({"data": [{"paragraphs": paragraphs}]})


def choices(draw: random.Random, count: int) -> str:
    lines = []
    for _ in range(count):
        texts = [" ".join(draw.choices(OTHERS.split()[:7], k=4)) for _ in range(3)]
        label = draw.randrange(3)
        texts[label] += " " + draw.choice(NAMES.split())
        lines.append(json.dumps({"question": "who ?", "choices": texts, "label": label}) + "\n")
    return "".join(lines)


TASKS: dict[str, tuple[Callable[[random.Random, int], str], str, str]] = {
    "token-classification": (conll, ".conll", "f1"),
    "question-answering": (squad, ".json", "exact_match"),
    "multiple-choice": (choices, ".jsonl", "accuracy"),
}


@pytest.mark.slow
@pytest.mark.parametrize("task", TASKS)
def test_a_task_learns_and_its_model_answers(task: str, model: str, tmp_path: Path) -> None:
    write, ending, metric = TASKS[task]
    files = {"train_file": 160, "eval_file": 40, "test_file": 8}
    for seed, (name, count) in enumerate(files.items()):
        (tmp_path / f"{name}{ending}").write_text(write(random.Random(seed), count))
    config = FinetuneConfig(
        task=task,
        model=model,
        output_dir=str(tmp_path / "run"),
        num_train_epochs=12,
        learning_rate=5e-3,
        train_batch_size=16,
        max_seq_length=24,
        dropout=0.0,
        dtype="float32",
        device="cpu",
        num_threads=1,
        **{name: str(tmp_path / f"{name}{ending}") for name in files},
    )
    finetune(config)
    results = json.loads((tmp_path / "run" / "results.json").read_text())
    assert results[metric] > 0.9
    output = tmp_path / "answers.jsonl"
    asked = str(tmp_path / f"test_file{ending}")
    run_predict(
        PredictConfig(model=(str(tmp_path / "run" / "model"),), input=asked, output=str(output))
    )
    written = [json.loads(line) for line in output.read_text().splitlines()]
    at_the_end = (tmp_path / "run" / "test_predictions.jsonl").read_text().splitlines()
    assert len(written) == 8
    for answer, line in zip(written, at_the_end, strict=True):
        before = json.loads(line)
        first = next(iter(answer))
        assert answer[first] == before[first]
    if task == "token-classification":
        columns = tmp_path / "answers.conll"
        folder = str(tmp_path / "run" / "model")
        run_predict(PredictConfig(model=(folder,), input=asked, output=str(columns)))
        tags = [line.split("\t") for line in columns.read_text().splitlines() if line]
        assert len(tags) == 64
        assert {tag for _, tag in tags} == {"O", "B-PER", "B-LOC"}
