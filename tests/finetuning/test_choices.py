"""What is chosen where the user says nothing.
Runs anywhere: `pytest tests/finetuning/test_choices.py`."""

from __future__ import annotations

import pytest

from bert_scratch.finetuning.choices import (
    adversarial_for,
    learning_rate_for,
    micro_batch_for,
    num_epochs_for,
)


@pytest.mark.parametrize(
    ("width", "rate"), [(768, 2e-5), (512, 5e-5), (256, 2e-4), (128, 7e-4), (64, 1e-3)]
)
def test_narrow_models_learn_faster(width: int, rate: float) -> None:
    assert learning_rate_for(width) == rate


@pytest.mark.parametrize(("steps", "epochs"), [(1, 20), (30, 10), (100, 3), (5000, 3)])
def test_small_files_are_gone_through_more_often(steps: int, epochs: int) -> None:
    assert num_epochs_for(steps, "classification") == epochs


def test_entities_are_gone_through_more_often() -> None:
    assert num_epochs_for(5000, "token-classification") == 6


@pytest.mark.parametrize(("batch_size", "rows"), [(8, 16), (32, 16), (33, 17), (128, 64)])
def test_a_pass_on_a_cpu_is_half_of_a_large_batch(batch_size: int, rows: int) -> None:
    assert micro_batch_for(batch_size) == rows


@pytest.mark.parametrize(
    ("task", "width", "expected"),
    [
        ("token-classification", 256, "fgm"),
        ("token-classification", 768, "none"),
        ("classification", 256, "none"),
        ("question-answering", 128, "none"),
    ],
)
def test_narrow_models_learn_entities_adversarially(task: str, width: int, expected: str) -> None:
    assert adversarial_for(task, width) == expected
