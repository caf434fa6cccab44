"""Pins what is said about the effects of cleaning, NFC, lower-casing and accent stripping.

Run alone: pytest tests/data/test_normalisation.py.
"""

from __future__ import annotations

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bert_scratch.data.normalisation import NormalisationEffects, normalisation_effects

ZWNJ, ZWJ = "\u200c", "\u200d"


def test_share_of_words_changed_and_spellings_merged_are_counted_for_each_step() -> None:
    decomposed = unicodedata.normalize("NFD", "café")
    effects = normalisation_effects(["The the café cafe", f"the {decomposed} way home"])
    assert (effects.num_words, effects.num_spellings) == (8, 7)
    assert effects.words_changed == {
        "cleaning": 0,
        "nfc": 1 / 8,
        "lowercase": 1 / 8,
        "strip_accents": 2 / 8,
    }
    assert effects.spellings_merged == {
        "cleaning": 0,
        "nfc": 1,
        "lowercase": 1,
        "strip_accents": 1,
    }
    assert effects.examples["lowercase"] == ("the/The",)
    assert effects.examples["strip_accents"] == ("café/cafe",)


def test_lowercasing_and_accent_stripping_are_measured_apart() -> None:
    effects = normalisation_effects(["École école Ecole"])
    assert effects.examples["lowercase"] == ("École/école",)
    assert effects.examples["strip_accents"] == ("Ecole/École",)


def test_dropped_characters_are_counted_by_kind() -> None:
    text = f"می{ZWNJ}خواهم میخواهم क्{ZWJ}ष soft\u00adware \ufeffnul\x00 \ufffd private\ue000"
    effects = normalisation_effects([text, "page\x0cbreak"])
    assert effects.joiners_dropped == 2
    assert effects.format_characters_dropped == 2
    assert effects.control_characters_dropped == 4
    assert effects.spellings_merged["cleaning"] == 1
    assert effects.examples["cleaning"] == ("میخواهم/می\\u200cخواهم",)


def test_accent_stripping_is_shown_to_harm_scripts_whose_marks_are_vowels() -> None:
    effects = normalisation_effects(["मैं हिन्दी बोलता हूँ", "I speak it"])
    by_script = effects.words_changed_by_script["strip_accents"]
    assert by_script == {"Devanagari": 3 / 4, "Latin": 0}


def test_words_are_cut_as_bert_cuts_them() -> None:
    effects = normalisation_effects(["can't 中文", "stop-me."])
    assert (effects.num_words, effects.num_spellings) == (9, 9)


def test_settings_can_be_written_and_read() -> None:
    effects = normalisation_effects(["a café"])
    assert NormalisationEffects.from_dict(effects.to_dict()).to_dict() == effects.to_dict()


@pytest.mark.parametrize("texts", [[], [""], ["\x00\u200b"], [" \n\u2028 "]])
def test_text_without_words_has_no_effects(texts: list[str]) -> None:
    effects = normalisation_effects(texts)
    assert not any(effects.spellings_merged.values())


@given(st.lists(st.text(st.characters(exclude_categories=["Cs"]), max_size=40), max_size=5))
def test_any_text_can_be_measured(texts: list[str]) -> None:
    effects = normalisation_effects(texts)
    assert all(0 <= share <= 1 for share in effects.words_changed.values())
