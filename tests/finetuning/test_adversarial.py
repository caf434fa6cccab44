"""The fast gradient method moves embeddings where the loss grows, and adds that loss.
Runs anywhere: `pytest tests/finetuning/test_adversarial.py`."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from bert_scratch.finetuning.adversarial import AdversarialObjective
from bert_scratch.finetuning.assemble import assemble
from bert_scratch.finetuning.finetune import finetune
from bert_scratch.finetuning.finetune_config import FinetuneConfig
from bert_scratch.finetuning.objective import TaskObjective


@pytest.mark.parametrize("epsilon", [0.05, 0.5])
def test_moved_embeddings_have_a_larger_loss(
    settings: Callable[..., FinetuneConfig], epsilon: float
) -> None:
    parts = assemble(settings(dropout=0.0))
    model, batch = parts.build_model(), next(parts.batches(0))
    counts = torch.tensor([16.0])
    plain, sums = TaskObjective(parts.task).loss(model, batch, counts)
    both, sums_beside = AdversarialObjective(parts.task, epsilon).loss(model, batch, counts)
    assert both.item() > 2 * plain.item()
    torch.testing.assert_close(sums, sums_beside)
    both.backward()
    assert all(p.grad is not None for p in model.parameters())
    again, _ = TaskObjective(parts.task).loss(model, batch, counts)
    torch.testing.assert_close(plain, again)


def test_gradients_are_those_of_both_losses(settings: Callable[..., FinetuneConfig]) -> None:
    """Beside the formula: the gradient moves the embeddings, and is not followed itself."""
    parts, epsilon = assemble(settings(dropout=0.0)), 0.3
    model, batch = parts.build_model(), next(parts.batches(0))
    counts, objective = torch.tensor([16.0]), TaskObjective(parts.task)
    embeddings = model.get_submodule("bert.embeddings")
    zero = torch.zeros((*batch.input_ids.shape, model.config.hidden_size), requires_grad=True)

    def loss_with(extra: torch.Tensor) -> torch.Tensor:
        handle = embeddings.register_forward_pre_hook(
            lambda _, args, kwargs: (args, {**kwargs, "extra_embeddings": extra}), with_kwargs=True
        )
        loss, _ = objective.loss(model, batch, counts)
        handle.remove()
        return loss

    plain = loss_with(zero)
    (gradient,) = torch.autograd.grad(plain, zero, retain_graph=True)
    rows = gradient.flatten(1).norm(dim=1)[:, None, None]
    expected = torch.autograd.grad(
        plain + loss_with(epsilon * gradient / rows), list(model.parameters())
    )
    AdversarialObjective(parts.task, epsilon).loss(model, batch, counts)[0].backward()
    for parameter, both in zip(model.parameters(), expected, strict=True):
        torch.testing.assert_close(parameter.grad, both, rtol=1e-4, atol=1e-6)


def test_entities_are_learned_adversarially_unless_asked_otherwise(
    settings: Callable[..., FinetuneConfig], write: Callable[[str, str], str]
) -> None:
    words = write("words.conll", "the O\ngood B-ADJ\nfilm O\n\na O\npoor B-ADJ\nplot O\n")
    files = {"train_file": words, "eval_file": words, "test_file": None}
    parts = assemble(settings(task="token-classification", **files))
    assert parts.config.adversarial == "fgm"
    assert any(reason.startswith("--adversarial fgm: ") for reason in parts.reasons)
    assert isinstance(parts.objective(), AdversarialObjective)
    plain = assemble(settings(task="token-classification", adversarial="none", **files))
    assert not isinstance(plain.objective(), AdversarialObjective)
    assert assemble(settings()).config.adversarial == "none"
    longer = settings(task="token-classification", adversarial_epsilon=0.3, **files)
    assert assemble(longer).config.adversarial == "fgm"  # the step of what is left out to be chosen


def test_a_run_of_before_the_default_changed_is_still_the_same_run(
    settings: Callable[..., FinetuneConfig],
) -> None:
    asked = settings(num_train_epochs=1)
    first = finetune(asked).results
    file = Path(asked.output_dir) / "asked_config.json"
    file.write_text(asked.replace(adversarial="none").to_json())
    assert finetune(asked).results == first  # done, not refused
