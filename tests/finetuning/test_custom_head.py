"""A head of the user's own gets the loop, checkpoints and export, and runs only when named.
Runs anywhere: `pytest tests/finetuning/test_custom_head.py`."""

from __future__ import annotations

import json
import re
from collections.abc import Callable

import pytest

from bert_scratch.cli import run_command
from bert_scratch.config import InputError, flag_of
from bert_scratch.finetuning.assemble import assemble
from bert_scratch.finetuning.custom_head import load_head
from bert_scratch.finetuning.finetune import finetune
from bert_scratch.finetuning.finetune_config import FinetuneConfig
from bert_scratch.finetuning.predict import PredictConfig, predict

Make = Callable[..., FinetuneConfig]
Write = Callable[[str, str], str]

HEAD = """
import torch
from torch import nn


class MeanHead(nn.Module):
    def __init__(self, config):
        super().__init__()
        self.dense = nn.Linear(config.hidden_size, config.num_labels)

    def forward(self, hidden_states, batch):
        mask = batch.attention_mask[..., None]
        return self.dense((hidden_states * mask).sum(dim=1) / mask.sum(dim=1))

    def loss(self, logits, batch):
        return nn.functional.cross_entropy(logits, batch.labels, label_smoothing=0.1)

    def metric(self, predictions, labels):
        return sum(p == t for p, t in zip(predictions, labels)) / len(labels)
"""


def test_a_head_of_ones_own_is_trained_saved_and_answers(settings: Make, write: Write) -> None:
    name = write("my_head.py", HEAD) + ":MeanHead"
    asked = settings(task=name, num_train_epochs=12, learning_rate=5e-3)
    result = finetune(asked)
    assert result.results["metric"] == "metric"
    values = result.results["evaluations"][-1]
    assert values["metric"] == values["accuracy"] > 0.8
    assert asked.test_file is not None
    records = predict(PredictConfig(model=(str(result.folder),), task=name, input=asked.test_file))
    assert [record["label"] for record in records] == ["1", "0"]
    with pytest.raises(InputError, match=r"user-defined head; give --task"):
        predict(PredictConfig(model=(str(result.folder),), input=asked.test_file))


def test_a_batch_of_a_custom_head_is_never_cut_unasked(settings: Make, write: Write) -> None:
    name = write("my_head.py", HEAD) + ":MeanHead"
    assert assemble(settings(task=name, train_batch_size=40)).config.micro_batch_size == 40


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("nowhere.py:MeanHead", r"there is no file"),
        ("my_head.py:MeanHaed", r"defines no MeanHaed \(did you mean 'MeanHead'"),
        ("my_head.py:torch", r"must be a class derived from nn.Module"),
    ],
)
def test_what_is_no_head_is_refused(settings: Make, write: Write, name: str, message: str) -> None:
    folder = write("my_head.py", HEAD).removesuffix("my_head.py")
    with pytest.raises(InputError, match=message):
        finetune(settings(task=folder + name))


def test_a_file_may_hold_dataclasses_and_postponed_annotations(write: Write) -> None:
    own = "from __future__ import annotations\nfrom dataclasses import dataclass\n"
    own += "@dataclass\nclass Size:\n    width: int = 3\n"
    file = write("sized_head.py", own + HEAD)
    assert load_head(file + ":MeanHead").__name__ == "MeanHead"


TAGS_HEAD = """
from torch import nn


class TagsHead(nn.Module):
    task = "token-classification"

    def __init__(self, config):
        super().__init__()
        self.dense = nn.Linear(config.hidden_size, config.num_labels)

    def forward(self, hidden_states, batch):
        return self.dense(hidden_states)

    def metric(self, predictions, labels):
        pairs = [pair for of_text in zip(predictions, labels) for pair in zip(*of_text)]
        return sum(given == true for given, true in pairs) / len(pairs)
"""


def test_a_metric_of_ones_own_is_given_the_tags_of_each_text(settings: Make, write: Write) -> None:
    name = write("tags_head.py", TAGS_HEAD) + ":TagsHead"
    words = write("words.conll", "the DT\ncat NN\n\na DT\ndog NN\n")
    asked = settings(
        task=name, train_file=words, eval_file=words, test_file=None, num_train_epochs=2
    )
    values = finetune(asked).results["evaluations"][-1]
    assert values["metric"] == values["accuracy"]


CHOICE_HEAD = """
from torch import nn


class ChoiceHead(nn.Module):
    task = "multiple-choice"

    def __init__(self, config):
        super().__init__()
        self.dense = nn.Linear(config.hidden_size, 1)

    def forward(self, hidden_states, batch):
        mask = batch.attention_mask[..., None]
        mean = (hidden_states * mask).sum(dim=-2) / mask.sum(dim=-2)
        return self.dense(mean).squeeze(-1)
"""


def test_a_head_of_ones_own_for_choices_learns_and_answers(settings: Make, write: Write) -> None:
    name = write("choice_head.py", CHOICE_HEAD) + ":ChoiceHead"
    texts = ["a good film", "a bad film", "a dull plot that was poor"]
    lines = [
        {"context": "the film", "choices": texts[shift:] + texts[:shift], "label": -shift % 3}
        for shift in range(3)
    ]
    choices = write("choices.jsonl", "".join(json.dumps(line) + "\n" for line in lines * 8))
    asked = settings(
        task=name,
        train_file=choices,
        eval_file=choices,
        test_file=None,
        num_train_epochs=12,
        learning_rate=5e-3,
    )
    result = finetune(asked)
    assert result.results["accuracy"] == 1.0
    records = predict(PredictConfig(model=(str(result.folder),), task=name, input=choices))
    assert [record["label"] for record in records[:3]] == [0, 2, 1]


def test_a_head_of_ones_own_for_sentence_embeddings_is_refused(
    settings: Make, write: Write
) -> None:
    file = write(
        "my_head.py", HEAD.replace("Module):", 'Module):\n    task = "sentence-embedding"')
    )
    with pytest.raises(InputError, match=r"MeanHead: its task is sentence-embedding, .*; give"):
        finetune(settings(task=f"{file}:MeanHead"))


@pytest.mark.parametrize(
    ("right", "wrong", "what"),
    [
        ("config.hidden_size", "config.hidden_sise", "be made: .*AttributeError"),
        ("(hidden_states * mask)", "hidden_states[0, 0, 0]", "compute its logits: .*IndexError"),
        ("batch.labels,", "batch.label,", "compute its loss: .*AttributeError"),
        ("/ len(labels)", "/ len(labels[0][0][0:0])", "compute its metric: .*ZeroDivisionError"),
    ],
)
def test_an_error_of_a_head_names_its_line(
    settings: Make,
    write: Write,
    capsys: pytest.CaptureFixture[str],
    right: str,
    wrong: str,
    what: str,
) -> None:
    file = write("my_head.py", HEAD.replace(right, wrong))
    (line,) = (n for n, text in enumerate(HEAD.splitlines(), start=1) if right in text)
    flags = settings(task=f"{file}:MeanHead", num_train_epochs=1).to_dict()
    code = run_command(
        "finetune", [f"{flag_of(name)}={value}" for name, value in flags.items() if name in GIVEN]
    )
    (error,) = (e for e in capsys.readouterr().err.splitlines() if e.startswith("error: "))
    assert code == 2
    place = re.escape(f"{file}:{line}: ")
    assert re.match(f"error: --task: MeanHead cannot {what}".replace(": .*", f": {place}"), error)


@pytest.mark.parametrize(
    ("right", "wrong", "what"),
    [
        (
            "return ",
            "return 0, ",
            "forward must return a tensor of logits of .*; it returned a tuple",
        ),
        ("loss(self", "loss(*_): pass\n\n    def unused(self", "loss must return .* None"),
    ],
)
def test_a_head_that_returns_something_else_is_told(
    settings: Make, write: Write, right: str, wrong: str, what: str
) -> None:
    file = write("my_head.py", HEAD.replace(right, wrong, 1))
    with pytest.raises(InputError, match=f"MeanHead.{what}"):
        finetune(settings(task=f"{file}:MeanHead", num_train_epochs=1))


@pytest.mark.parametrize(("given", "num_sizes"), [("hidden_states", 3), ("hidden_states[0]", 2)])
def test_logits_of_a_wrong_shape_are_told_with_file_class_and_both_shapes(
    settings: Make, write: Write, capsys: pytest.CaptureFixture[str], given: str, num_sizes: int
) -> None:
    whole = "(hidden_states * mask).sum(dim=1) / mask.sum(dim=1)"
    assert whole in HEAD
    file = write("my_head.py", HEAD.replace(whole, given))
    flags = settings(task=f"{file}:MeanHead", num_train_epochs=1).to_dict()
    code = run_command(
        "finetune", [f"{flag_of(name)}={value}" for name, value in flags.items() if name in GIVEN]
    )
    (error,) = (e for e in capsys.readouterr().err.splitlines() if e.startswith("error: "))
    assert code == 2
    found = re.fullmatch(
        rf"error: --task {re.escape(file)}: MeanHead.forward must return a tensor of logits of "
        rf"shape \[rows=\d+, labels=2\]; it returned one of shape \[(.*, 2)\]",
        error,
    )
    assert found and len(found[1].split(", ")) == num_sizes


def test_lack_of_memory_is_not_called_a_mistake_of_the_head(settings: Make, write: Write) -> None:
    broken = HEAD.replace("(hidden_states * mask)", "(hidden_states * torch.zeros(10**15))")
    file = write("my_head.py", broken)
    with pytest.raises(RuntimeError, match="allocate memory"):
        finetune(settings(task=f"{file}:MeanHead", num_train_epochs=1))


GIVEN = (
    *("task", "model", "train_file", "eval_file", "output_dir", "num_train_epochs", "device"),
    *("train_batch_size", "max_seq_length", "dtype", "num_threads"),
)
"""The flags of a run with a broken head."""
