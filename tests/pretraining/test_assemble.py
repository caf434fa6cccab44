"""Pins when a run says that it knows no words of several ideographs. Anywhere:
`pytest tests/pretraining/test_assemble.py`."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest

from bert_scratch.data.wordpiece import SPECIAL_TOKENS, build_tokenizer
from bert_scratch.pretraining.assemble import words_of_ideographs

VOCAB = (*SPECIAL_TOKENS, "中", "国", "the", "##s")


@pytest.mark.parametrize(
    ("unit", "counts", "has_word_starts", "is_said"),
    [
        ("word", [40, 40, 20, 0], False, True),
        ("span", [40, 40, 20, 0], False, True),
        ("token", [40, 40, 20, 0], False, False),
        ("word", [40, 40, 20, 0], True, False),
        ("word", [1, 1, 98, 0], False, False),
    ],
)
def test_ideographs_without_a_segmenter_are_said_to_be_words(
    unit: str, counts: list[int], has_word_starts: bool, is_said: bool
) -> None:
    tokenizer = build_tokenizer(
        {token: number for number, token in enumerate(VOCAB)},
        lowercase=False,
        strip_accents=False,
        nfc=True,
    )
    store = SimpleNamespace(
        token_counts=np.array([0] * 5 + counts), has_word_starts=has_word_starts
    )
    lines = words_of_ideographs(unit, store, tokenizer)
    assert len(lines) == is_said
    if is_said:
        assert f"--mask-unit {unit}: " in lines[0] and "80% of the tokens" in lines[0]
        assert "--word-segmenter jieba" in lines[0]
