"""Pins that the examples of surgery run and print sensible figures.
Run alone: `pytest tests/inference/test_surgery_examples.py`.
"""

from __future__ import annotations

import runpy
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from tokenizers import Tokenizer

from bert_scratch.config import InputError
from bert_scratch.inference.effects import loss_without_heads, masked_loss
from bert_scratch.inference.surgery import Site, operated, recorded
from bert_scratch.model.heads import BertForPreTraining

Run = Callable[..., list[str]]


@pytest.fixture
def run(repository: Path, folder: Path, capsys: pytest.CaptureFixture[str]) -> Run:
    """Return a function that runs an example and returns the lines it prints."""

    def call(name: str, *arguments: str) -> list[str]:
        main = runpy.run_path(str(repository / "examples" / name))["main"]
        main(["--model", str(folder), *arguments])
        return capsys.readouterr().out.splitlines()

    return call


def test_heads_prints_the_rise_of_the_loss(
    run: Run, model: BertForPreTraining, tokenizer: Tokenizer
) -> None:
    printed = run("heads.py", "--text", "the cat sees a dog")
    whole = masked_loss(model, tokenizer, "the cat sees a dog")
    assert printed[0] == f"loss of the whole model: {whole:.3f} nats per token"
    rises = loss_without_heads(model, tokenizer, "the cat sees a dog") - whole
    shown = [[float(rise) for rise in line.split()] for line in printed[3:5]]
    torch.testing.assert_close(torch.tensor(shown), rises, atol=1e-3, rtol=0)
    assert len(printed) == 1 + 2 * (2 + 2) + 2 + 2


def test_causal_tracing_brings_all_back_at_the_last_layer(run: Run) -> None:
    texts = ("--clean", "the cat [MASK]", "--corrupted", "the dog [MASK]")
    printed = run("causal_tracing.py", *texts, "--answer", "garden")
    rows = {line.split()[0]: line.split()[1::2] for line in printed[2:]}
    assert list(rows) == ["[CLS]", "the", "dog", "[MASK]", "[SEP]"]
    assert rows["[MASK]"][-1] == "100"
    assert rows["dog"] == ["100", rows["dog"][1], "0"], "the only word that differs"
    assert rows["the"][0] == "0"


def test_causal_tracing_of_equal_texts_has_nothing_to_restore(run: Run) -> None:
    texts = ("--clean", "the cat [MASK]", "--corrupted", "the cat [MASK]")
    with pytest.raises(InputError, match="the same probability: nothing to restore"):
        run("causal_tracing.py", *texts, "--answer", "garden")


def test_replaced_head_copies_the_token_before(
    run: Run, repository: Path, model: BertForPreTraining
) -> None:
    printed = run("replace_head.py", "--text", "the cat [MASK]")
    assert [line.split("  ")[0].strip() for line in printed] == [
        "as it is",
        *(f"layer {layer}, head {head}" for layer in (1, 2) for head in (1, 2, 3)),
    ]
    edits = runpy.run_path(str(repository / "examples" / "replace_head.py"))["previous_token_head"]
    ids = torch.tensor([[2, 5, 6, 7, 3]])
    value, heads = Site("value", 1), Site("heads", 1)
    with operated(model, edits(1, 2)), recorded(model, [value, heads]) as found, torch.no_grad():
        model.bert(ids)
    assert torch.equal(found[heads][0, 1:, 2], found[value][0, :-1, 2])
    assert torch.equal(found[heads][0, 0, 2], found[value][0, 0, 2])
