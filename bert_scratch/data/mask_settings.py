"""The masking choices, without importing torch."""

from __future__ import annotations

from dataclasses import dataclass

from bert_scratch.config import InputError, check_choice, check_range

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


@dataclass(frozen=True, kw_only=True)
class MaskSettings:
    """Which tokens are masked, and what is shown in their place.

    Raises:
        InputError: on an unknown unit or a share out of range.
    """

    unit: str = "token"
    """token, word or span: what is chosen together (see `mask_units`)."""
    masked_lm_prob: float = 0.15
    """Share of a row's tokens, [CLS] and [SEP] included, to predict."""
    mask_token_prob: float = 0.8
    """Share of the chosen tokens that are shown as [MASK]."""
    random_token_prob: float = 0.1
    """Share of them that are shown as a random token; the rest stays unchanged."""
    mask_special: bool = False
    """As Google does, allow every token but [CLS] and [SEP] to be selected and any id of the
    vocabulary to be drawn."""

    def __post_init__(self) -> None:
        check_choice("--mask-unit", self.unit, MASK_UNITS)
        check_range("masked_lm_prob", self.masked_lm_prob, above=0, at_most=1)
        check_replacements(self.mask_token_prob, self.random_token_prob)


USUAL_MASKS = MaskSettings()
