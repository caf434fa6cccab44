"""Pins what the settings of a pretraining run refuse. Anywhere:
`pytest tests/pretraining/test_pretrain_config.py`."""

from __future__ import annotations

import pytest

from bert_scratch.config import InputError
from bert_scratch.pretraining.pretrain_config import PretrainConfig


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"mask_unit": "wrod"}, "--mask-unit.*did you mean 'word'"),
        ({"mask_token_prob": 1.5}, "--mask-token-prob"),
        ({"mask_token_prob": 0.9, "random_token_prob": 0.2}, "more than 1"),
        (
            {"init_checkpoint": "t", "vocab_size": 300},
            "--vocab-size 300 cannot .*--init-checkpoint",
        ),
        ({"data": "d", "mixture": ("3", "1")}, "--mixture has no effect with --data: .*prepare"),
    ],
)
def test_wrong_settings_are_refused(settings: dict, message: str) -> None:
    with pytest.raises(InputError, match=message):
        PretrainConfig(**settings)


def test_any_mix_that_leaves_nothing_unchanged_is_fine() -> None:
    assert PretrainConfig(mask_token_prob=0.9, random_token_prob=0.1).mask_unit == "token"
