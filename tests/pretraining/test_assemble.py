"""Pins when a run says that it knows no words of several ideographs, and how many processes build
its batches. Anywhere: `pytest tests/pretraining/test_assemble.py`."""

from __future__ import annotations

from types import SimpleNamespace
from typing import cast

import pytest
import torch

from bert_scratch.data.store import TokenStore
from bert_scratch.pretraining.assemble import num_workers_on, words_of_ideographs


@pytest.mark.parametrize(
    ("unit", "share", "has_word_starts", "is_said"),
    [
        ("word", 0.8, False, True),
        ("span", 0.8, False, True),
        ("token", 0.8, False, False),
        ("word", 0.8, True, False),
        ("word", 0.02, False, False),
    ],
)
def test_ideographs_without_a_segmenter_are_said_to_be_words(
    unit: str, share: float, has_word_starts: bool, is_said: bool
) -> None:
    store = cast(TokenStore, SimpleNamespace(has_word_starts=has_word_starts))
    lines = words_of_ideographs(unit, store, share)
    assert len(lines) == is_said
    if is_said:
        assert f"--mask-unit {unit}: " in lines[0] and "80% of the tokens" in lines[0]
        assert "--word-segmenter jieba" in lines[0]


@pytest.mark.parametrize(
    ("device", "asked", "expected"), [("cuda", None, 1), ("cpu", None, 0), ("cuda", 0, 0)]
)
def test_a_gpu_waits_for_no_batches_unless_told_to(
    device: str, asked: int | None, expected: int
) -> None:
    assert num_workers_on(torch.device(device), asked) == expected
