"""Pins what --mixture accepts, the shares it means, and the exact counts of a block.

Run alone: pytest tests/data/test_mixture.py.
"""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bert_scratch.config import InputError
from bert_scratch.data.mixture import block_counts, check_mixture, mixture_shares


@pytest.mark.parametrize(
    ("rule", "num_sources", "message"),
    [
        (("share^0.7",), 1, "two --corpus paths"),
        (("2",), 1, "two --corpus paths"),
        (("share^x",), 2, "the power must be"),
        (("share^-1",), 2, "the power must be"),
        (("share^inf",), 2, "the power must be"),
        (("3", "1"), 3, "3 paths, 2 weights"),
        (("3", "0"), 2, "above 0; got '0'"),
        (("3", "nan"), 2, "above 0; got 'nan'"),
        (("3", "one"), 2, "above 0; got 'one'"),
        (("share^0.7", "1"), 2, "above 0; got 'share"),
    ],
)
def test_wrong_mixtures_are_refused(rule: tuple[str, ...], num_sources: int, message: str) -> None:
    with pytest.raises(InputError, match="--mixture.*" + message.replace("^", r"\^")):
        check_mixture(rule, num_sources)


@pytest.mark.parametrize("rule", [(), ("share^0.7",), ("share^0",), ("3", "1"), ("0.5", "1e3")])
def test_right_mixtures_are_accepted(rule: tuple[str, ...]) -> None:
    check_mixture(rule, 2)


def test_weights_are_shares_whatever_the_sizes() -> None:
    assert mixture_shares(("3", "1"), [5, 500]) == [0.75, 0.25]


def test_power_one_keeps_the_sizes_and_power_zero_forgets_them() -> None:
    assert mixture_shares(("share^1",), [900, 100]) == pytest.approx([0.9, 0.1])
    assert mixture_shares(("share^0",), [900, 100, 0]) == [0.5, 0.5, 0.0]


def test_power_between_raises_the_small() -> None:
    shares = mixture_shares(("share^0.7",), [900, 100])
    assert shares[1] == pytest.approx(0.1**0.7 / (0.9**0.7 + 0.1**0.7))


def test_a_weight_for_a_component_without_text_is_refused() -> None:
    with pytest.raises(InputError, match="weight 1 to --corpus path 2"):
        mixture_shares(("3", "1"), [10, 0])


def test_counts_are_rounded_by_largest_remainder() -> None:
    assert block_counts([0.5, 0.25, 0.25]) == [512, 256, 256]
    assert block_counts([1 / 3, 1 / 3, 1 / 3]) == [342, 341, 341]
    assert block_counts([0.7, 0.0, 0.3]) == [717, 0, 307]


def test_a_tiny_share_has_one_place() -> None:
    assert block_counts([0.9999, 1e-4 - 1e-9, 1e-9]) == [1022, 1, 1]


@given(st.lists(st.integers(0, 10**12), min_size=2, max_size=40).filter(any))
def test_counts_add_up_and_stay_near_their_shares(sizes: list[int]) -> None:
    shares = mixture_shares(("share^0.7",), sizes)
    counts = block_counts(shares)
    assert sum(counts) == 1024
    raised = sum(0 < 1024 * share < 1 for share in shares)
    for share, count in zip(shares, counts, strict=True):
        assert (count == 0) == (share == 0)
        assert abs(count - 1024 * share) <= max(1, raised)
    assert math.fsum(shares) == pytest.approx(1)


def test_more_components_than_places_are_refused() -> None:
    with pytest.raises(InputError, match="at most 1,024"):
        block_counts([1 / 1025] * 1025)
