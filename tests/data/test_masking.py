"""Pins the masks: counts, shares, which tokens can be chosen or drawn, independence of the batch,
the bits themselves. Run alone: pytest tests/data/test_masking.py.
"""

from __future__ import annotations

import hashlib
import math
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.nn.functional import pad

from bert_scratch.config import InputError
from bert_scratch.data.mask_settings import MASK_UNITS, MaskSettings
from bert_scratch.data.masking import Masker
from bert_scratch.data.philox import Purpose, philox4x32

PAD, UNK, CLS, SEP, MASK = range(5)
UNUSED = (7, 9)
UNSELECTABLE = {PAD, UNK, CLS, SEP, MASK, *UNUSED}
V = 211
SPECIAL = SimpleNamespace(pad=PAD, unk=UNK, cls=CLS, sep=SEP, mask=MASK)


def masker(*, seed: int = 4, max_predictions: int | None = None, **choices) -> Masker:
    return Masker(
        vocab_size=V,
        special_ids=SPECIAL,
        unselectable_ids=UNSELECTABLE,
        seed=seed,
        settings=MaskSettings(**choices),
        max_predictions=max_predictions,
    )


def rows(num_rows: int, width: int, *, low: int = 10, seed: int = 0) -> torch.Tensor:
    """[CLS] tokens [SEP], all of the full width."""
    generator = torch.Generator().manual_seed(seed)
    input_ids = torch.randint(low, V, (num_rows, width), generator=generator)
    input_ids[:, 0], input_ids[:, -1] = CLS, SEP
    return input_ids


def ids_of(num_rows: int, epoch: int = 0) -> torch.Tensor:
    slots = torch.arange(num_rows)
    return torch.stack([torch.full_like(slots, epoch), slots], dim=1)


def full(input_ids: torch.Tensor) -> torch.Tensor:
    return torch.full((len(input_ids),), input_ids.shape[1])


def within(count: int, total: int, share: float) -> bool:
    """Tell whether a count is within 4 standard errors of its expectation."""
    return abs(count - total * share) <= 4 * math.sqrt(total * share * (1 - share))


@pytest.fixture(scope="module")
def million() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    input_ids = rows(8192, 128)
    return input_ids, *masker().mask(input_ids, full(input_ids), ids_of(8192))


@pytest.mark.parametrize("probability", [0.15, 0.3, 0.5])
def test_count_follows_pythons_rounding(probability: float) -> None:
    lengths = range(1, 600)
    expected = [min(20, max(1, round(length * probability))) for length in lengths]
    counter = masker(masked_lm_prob=probability, max_predictions=20)
    assert counter.num_to_predict(torch.tensor(lengths)).tolist() == expected


def test_a_row_of_128_predicts_19() -> None:
    assert masker().num_to_predict(torch.tensor([128])).item() == 19


def test_every_row_has_its_count(million) -> None:
    input_ids, _, positions, _ = million
    counts = torch.bincount(positions // 128, minlength=len(input_ids))
    assert (counts == 19).all()


def test_max_predictions_limits_each_row() -> None:
    input_ids = rows(50, 64)
    _, positions, _ = masker(max_predictions=3).mask(input_ids, full(input_ids), ids_of(50))
    assert (torch.bincount(positions // 64) == 3).all()


def test_labels_are_the_tokens_that_stood_there(million) -> None:
    input_ids, masked_ids, positions, labels = million
    assert torch.equal(input_ids.flatten()[positions], labels)
    assert (positions.diff() > 0).all()
    untouched = torch.ones(input_ids.numel(), dtype=torch.bool)
    untouched[positions] = False
    assert torch.equal(masked_ids.flatten()[untouched], input_ids.flatten()[untouched])


def test_replacements_are_80_10_10(million) -> None:
    _, masked_ids, positions, labels = million
    shown = masked_ids.flatten()[positions]
    num_ids = V - len(UNSELECTABLE)
    assert within(int((shown == MASK).sum()), len(labels), 0.8)
    # a random replacement is the token itself once in num_ids
    assert within(int((shown == labels).sum()), len(labels), 0.1 + 0.1 / num_ids)


@pytest.mark.parametrize(
    ("masked", "random"), [(0.8, 0.1), (1.0, 0.0), (0.0, 1.0), (0.0, 0.0), (0.55, 0.3)]
)
def test_replacements_follow_any_mix(masked: float, random: float) -> None:
    input_ids = rows(2048, 128)
    masked_ids, positions, labels = masker(mask_token_prob=masked, random_token_prob=random).mask(
        input_ids, full(input_ids), ids_of(2048)
    )
    shown = masked_ids.flatten()[positions]
    unchanged = 1 - masked - random + random / (V - len(UNSELECTABLE))
    assert within(int((shown == MASK).sum()), len(labels), masked)
    assert within(int((shown == labels).sum()), len(labels), unchanged)


@pytest.fixture(scope="module", params=["word", "span"])
def million_of_words(request: pytest.FixtureRequest) -> tuple[str, torch.Tensor, torch.Tensor]:
    """A million tokens in words of 1 to 3: the unit, what is chosen, and what stands there."""
    input_ids = rows(8192, 128)
    starts = torch.rand(input_ids.shape, generator=torch.Generator().manual_seed(0)) < 0.7
    masked_ids, positions, _ = masker(unit=request.param).mask(
        input_ids, full(input_ids), ids_of(8192), starts
    )
    chosen = torch.zeros(input_ids.numel(), dtype=torch.bool)
    chosen[positions] = True
    shown = torch.where(masked_ids == MASK, 0, torch.where(masked_ids == input_ids, 2, 1))
    return request.param, chosen.view_as(input_ids), shown


def test_words_and_spans_fill_the_count_nearly_always(million_of_words) -> None:
    _, chosen, _ = million_of_words
    counts = chosen.sum(1)
    assert counts.max() == 19
    # words of one token are there to fill what longer ones leave
    assert (counts == 19).double().mean() > 0.999


def test_words_replace_each_token_and_spans_all_tokens_alike(million_of_words) -> None:
    unit, chosen, shown = million_of_words
    neighbours = chosen[:, 1:] & chosen[:, :-1]
    alike = shown[:, 1:][neighbours] == shown[:, :-1][neighbours]
    same = 1 / (V - len(UNSELECTABLE))  # a random token may be the one that stood there
    shares = (0.8, 0.1 * (1 - same), 0.1 * (1 + same))
    of_words, of_spans = sum(share**2 for share in shares), 1 - 0.1 * 2 * same * (1 - same)
    expected = of_words if unit == "word" else of_spans
    assert within(int(alike.sum()), len(alike), expected)


def test_replacements_of_words_and_spans_are_80_10_10(million_of_words) -> None:
    unit, chosen, shown = million_of_words
    begins = chosen.clone()
    if unit == "span":  # one draw for each run of chosen tokens
        begins[:, 1:] &= ~chosen[:, :-1]
    kinds = shown[begins]
    assert within(int((kinds == 0).sum()), len(kinds), 0.8)
    assert within(int((kinds == 2).sum()), len(kinds), 0.1 + 0.1 / (V - len(UNSELECTABLE)))


def test_positions_of_whole_words_are_uniform_over_the_row() -> None:
    input_ids = rows(8192, 128)
    starts = torch.arange(128).expand_as(input_ids) % 2 == 1  # words of two, from column 1 on
    _, positions, _ = masker(unit="word").mask(input_ids, full(input_ids), ids_of(8192), starts)
    counts = torch.bincount(positions % 128, minlength=128)
    # 19 tokens hold 9 words of two
    assert counts[0] == counts[-1] == 0 and len(positions) == 8192 * 18
    expected = len(positions) / 126
    assert ((counts[1:-1] - expected).abs() < 4 * math.sqrt(expected)).all()


def test_random_replacements_are_uniform_over_ordinary_ids(million) -> None:
    _, masked_ids, positions, labels = million
    shown = masked_ids.flatten()[positions]
    drawn = shown[(shown != MASK) & (shown != labels)]
    counts = np.bincount(drawn.numpy(), minlength=V)
    ordinary = np.array([token not in UNSELECTABLE for token in range(V)])
    assert (counts[~ordinary] == 0).all()
    expected = counts.sum() / ordinary.sum()
    chi_square = ((counts[ordinary] - expected) ** 2 / expected).sum()
    degrees = ordinary.sum() - 1
    assert abs(chi_square - degrees) < 4 * math.sqrt(2 * degrees)


def test_positions_are_uniform_over_the_row(million) -> None:
    _, _, positions, _ = million
    counts = torch.bincount(positions % 128, minlength=128)
    assert counts[0] == counts[-1] == 0
    expected = len(positions) / 126
    # without replacement within a row, so a little less spread than independent draws
    assert ((counts[1:-1] - expected).abs() < 4 * math.sqrt(expected)).all()


def test_special_tokens_are_never_selected() -> None:
    input_ids = rows(2000, 64, low=0)
    _, _, labels = masker(masked_lm_prob=0.5).mask(input_ids, full(input_ids), ids_of(2000))
    assert not set(labels.tolist()) & UNSELECTABLE


def test_mask_special_does_as_google() -> None:
    input_ids = rows(4000, 64, low=0)
    masked_ids, positions, labels = masker(mask_special=True).mask(
        input_ids, full(input_ids), ids_of(4000)
    )
    assert set(labels.tolist()) == set(range(V)) - {CLS, SEP}
    shown = masked_ids.flatten()[positions]
    assert set(shown[shown != labels].tolist()) == set(range(V))


@given(st.data(), st.sampled_from(MASK_UNITS))
def test_padding_and_company_change_nothing(data: st.DataObject, unit: str) -> None:
    num_rows, width = 5, 40
    input_ids = rows(num_rows, width, low=0, seed=data.draw(st.integers(0, 10**6)))
    lengths = torch.tensor(data.draw(st.lists(st.integers(1, width), min_size=5, max_size=5)))
    starts = torch.rand(num_rows, width, generator=torch.Generator().manual_seed(1)) < 0.6
    ids = ids_of(num_rows, epoch=3)
    whole = by_row(masker(unit=unit), input_ids, lengths, ids, starts)
    company = data.draw(st.lists(st.integers(0, 4), min_size=1, max_size=4, unique=True))
    extra = data.draw(st.integers(0, 20))
    some = by_row(
        masker(unit=unit),
        pad(input_ids[company], (0, extra), value=data.draw(st.integers(0, V - 1))),
        lengths[company],
        ids[company],
        pad(starts[company], (0, extra), value=True),
    )
    for row, (masked_ids, positions, labels) in zip(company, some, strict=True):
        length = int(lengths[row])
        assert masked_ids[:length] == whole[row][0][:length]
        assert (positions, labels) == whole[row][1:]


def by_row(masker: Masker, input_ids: torch.Tensor, *arguments: torch.Tensor) -> list[tuple]:
    """Each row's masked ids, predicted columns and labels."""
    masked_ids, positions, labels = masker.mask(input_ids, *arguments)
    row, column = positions // input_ids.shape[1], positions % input_ids.shape[1]
    return [
        (
            masked_ids[number].tolist(),
            column[row == number].tolist(),
            labels[row == number].tolist(),
        )
        for number in range(len(input_ids))
    ]


def test_masks_differ_by_epoch_slot_and_seed() -> None:
    input_ids = rows(1, 128).expand(2, -1)
    chosen = [
        set(masker(seed=seed).mask(input_ids[:1], torch.tensor([128]), ids)[1].tolist())
        for seed, ids in (
            (4, torch.tensor([[0, 0]])),
            (4, torch.tensor([[1, 0]])),
            (4, torch.tensor([[0, 1]])),
            (5, torch.tensor([[0, 0]])),
        )
    ]
    assert len({frozenset(positions) for positions in chosen}) == 4


def test_the_random_bits_are_philox_in_torch_too() -> None:
    ids, position = ids_of(5, epoch=2), torch.arange(24)
    expected = philox4x32(4, (ids[:, :1], ids[:, 1:], position, Purpose.MASK))
    for ours, theirs in zip(masker()._random_bits(ids, position), expected, strict=True):
        assert torch.equal(ours, theirs)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("choices", [{}, {"mask_special": True}, {"masked_lm_prob": 0.5}])
def test_masks_have_the_same_bits_on_cuda(choices: dict) -> None:
    arguments = (rows(4096, 128, low=0), torch.arange(4096) % 120 + 8, ids_of(4096, epoch=3))
    on_device = masker(**choices).mask(*(argument.cuda() for argument in arguments))
    for cpu, cuda in zip(masker(**choices).mask(*arguments), on_device, strict=True):
        assert torch.equal(cpu, cuda.cpu())


@pytest.mark.parametrize("num_tokens", [1, 2, 3])
def test_short_rows_predict_at_least_one_token(num_tokens: int) -> None:
    input_ids = rows(1000, num_tokens + 2)
    _, positions, _ = masker().mask(input_ids, full(input_ids), ids_of(1000))
    assert (torch.bincount(positions // (num_tokens + 2), minlength=1000) == 1).all()


def test_a_row_with_nothing_to_mask_predicts_nothing() -> None:
    input_ids = torch.tensor([[CLS, UNK, 7, SEP], [CLS, 20, 30, SEP]])
    masked_ids, positions, labels = masker().mask(input_ids, torch.tensor([4, 4]), ids_of(2))
    assert torch.equal(masked_ids[0], input_ids[0])
    assert len(positions) == len(labels) == 1
    alone = masker().mask(input_ids[:1], torch.tensor([4]), ids_of(1))
    assert len(alone[1]) == len(alone[2]) == 0


def test_rows_with_fewer_candidates_than_wanted_predict_all_of_them() -> None:
    input_ids = torch.full((1, 40), UNK)
    input_ids[0, 5:8] = 20
    _, positions, _ = masker(masked_lm_prob=0.5).mask(input_ids, torch.tensor([40]), ids_of(1))
    assert positions.tolist() == [5, 6, 7]


@pytest.mark.parametrize(
    ("choices", "message"),
    [
        ({"masked_lm_prob": 0.0}, "masked_lm_prob"),
        ({"masked_lm_prob": 1.5}, "masked_lm_prob"),
        ({"max_predictions": 0}, "max_predictions"),
        ({"unit": "words"}, "--mask-unit.*did you mean 'word'"),
        ({"mask_token_prob": 1.1}, "--mask-token-prob"),
        ({"random_token_prob": -0.1}, "--random-token-prob"),
        ({"mask_token_prob": 0.8, "random_token_prob": 0.21}, "more than 1"),
    ],
)
def test_settings_out_of_range_are_refused(choices: dict, message: str) -> None:
    with pytest.raises(InputError, match=message):
        masker(**choices)


def test_mask_bits_have_not_changed() -> None:
    input_ids = torch.arange(10, 10 + 64 * 3).view(3, 64)
    digest = hashlib.sha256()
    for tensor in masker().mask(input_ids, torch.tensor([64, 40, 64]), ids_of(3, epoch=7)):
        digest.update(tensor.numpy().tobytes())
    assert digest.hexdigest()[:16] == GOLDEN


GOLDEN = "388dd54797afcb4d"


def test_tokens_beyond_the_length_are_never_selected() -> None:
    lengths = torch.full((2000,), 40)
    _, positions, _ = masker(masked_lm_prob=0.5).mask(rows(2000, 64), lengths, ids_of(2000))
    assert (positions % 64).max() == 39


def test_spans_a_token_apart_have_draws_of_their_own(million_of_words) -> None:
    _, chosen, shown = million_of_words
    gap = chosen[:, 2:] & ~chosen[:, 1:-1] & chosen[:, :-2]
    alike = shown[:, 2:][gap] == shown[:, :-2][gap]
    same = 1 / (V - len(UNSELECTABLE))
    shares = (0.8, 0.1 * (1 - same), 0.1 * (1 + same))
    assert within(int(alike.sum()), len(alike), sum(share**2 for share in shares))
