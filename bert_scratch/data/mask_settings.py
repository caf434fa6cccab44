"""The masking choices, without importing torch."""

from __future__ import annotations

from bert_scratch.config import InputError, check_range

MASK_UNITS = ("token", "word", "span")


def check_replacements(mask_token_prob: float, random_token_prob: float) -> None:
    """Check the shares of the replacements.

    Raises:
        InputError: if one is outside [0, 1], or both together are above 1.
    """
    check_range("--mask-token-prob", mask_token_prob, at_least=0, at_most=1)
    check_range("--random-token-prob", random_token_prob, at_least=0, at_most=1)
    if round(mask_token_prob + random_token_prob, 9) > 1:
        raise InputError(
            f"--mask-token-prob {mask_token_prob:g} and --random-token-prob {random_token_prob:g} "
            "add up to more than 1; what is left of 1 is the share of tokens that stay as they are"
        )
