"""A model that has a classifier is gone on with, or gets a fresh one, and says which.
Runs anywhere: `pytest tests/finetuning/test_fresh_head.py`."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from bert_scratch.config import BertConfig
from bert_scratch.finetuning.announce import announce
from bert_scratch.finetuning.assemble import assemble
from bert_scratch.finetuning.finetune import finetune
from bert_scratch.finetuning.finetune_config import FinetuneConfig
from bert_scratch.finetuning.fresh_head import why_fresh

Make = Callable[..., FinetuneConfig]
HEAD = """import torch
class Own(torch.nn.Module):
    def __init__(self, config):
        super().__init__()
        self.inner = torch.nn.Linear(config.hidden_size, config.num_labels)
    def forward(self, hidden_states, batch):
        return self.inner(hidden_states[:, 0])
"""


@pytest.fixture
def trained(settings: Make) -> Path:
    return finetune(settings("first", num_train_epochs=1)).folder


def head_of(asked: FinetuneConfig) -> torch.Tensor:
    return assemble(asked).build_model().get_parameter("classifier.weight")


def test_a_head_of_the_same_labels_goes_on(settings: Make, trained: Path) -> None:
    asked = settings("second", model=str(trained))
    assert not assemble(asked).has_fresh_head
    before = assemble(settings()).task.load_model(trained, new_head=False)
    assert torch.equal(head_of(asked), before.get_parameter("classifier.weight"))


@pytest.mark.parametrize("labels", [("bad", "good"), ("0", "1", "2")])
def test_other_labels_get_a_fresh_head_and_one_line_says_so(
    settings: Make,
    trained: Path,
    write: Callable[[str, str], str],
    capsys: pytest.CaptureFixture[str],
    labels: tuple[str, ...],
) -> None:
    file = write("other.tsv", "sentence\tlabel\n" + "".join(f"a film\t{n}\n" for n in labels))
    asked = settings("second", model=str(trained), train_file=file, eval_file=file, test_file=None)
    announce(assemble(asked))
    assert (
        f"a new head, because the one in {trained} was trained for 2 labels: 0, 1\n"
        in capsys.readouterr().out
    )
    old = assemble(settings()).task.load_model(trained, new_head=False)
    head = head_of(asked)
    assert len(head) == len(labels) and not torch.equal(
        head[:2], old.get_parameter("classifier.weight")
    )
    assert finetune(asked.replace(num_train_epochs=1)).results["num_train_steps"] == 1


def test_another_task_and_a_head_of_one_s_own_get_a_fresh_one(
    settings: Make, trained: Path, write: Callable[[str, str], str]
) -> None:
    own = f"{write('own.py', HEAD)}:Own"
    asked = settings("second", model=str(trained), task=own, num_train_epochs=1)
    assert finetune(asked).results["num_train_steps"] == 6
    words = write("words.conll", "a O\nfilm B-X\n\ngood O\nplot B-X\n")
    files = {"train_file": words, "eval_file": words, "test_file": None}
    asked = settings("third", model=str(trained), task="token-classification", **files)
    parts = assemble(asked)
    assert parts.has_fresh_head and "was trained for the task classification" in parts.reasons[0]
    assert finetune(asked.replace(num_train_epochs=1)).results["num_train_steps"] == 1


@pytest.mark.parametrize(("names", "is_fresh"), [("01", False), ("012", True), (None, False)])
def test_labels_without_names_are_those_of_the_task(
    settings: Make, trained: Path, names: str | None, is_fresh: bool
) -> None:
    (trained / "task.json").unlink()
    config = BertConfig(id2label=names and {n: f"LABEL_{n}" for n in range(len(names))})
    assert (why_fresh(trained, config, assemble(settings()).task) is not None) == is_fresh


def test_a_pretrained_model_has_no_head_to_speak_of(settings: Make, folder: Path) -> None:
    config = BertConfig(id2label={0: "LABEL_0", 1: "LABEL_1", 2: "LABEL_2"})
    assert why_fresh(folder, config, assemble(settings()).task) is None
