"""Pins presets, checks, and that no typo in a key is ever ignored. Runs anywhere:
`pytest tests/test_config.py`."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bert_scratch.config import BertConfig, InputError, Settings, check_range, first_few
from bert_scratch.pretraining.pretrain_config import PretrainConfig


@dataclasses.dataclass(frozen=True, kw_only=True)
class Example(Settings):
    needed: int
    rate: float = 0.5
    names: tuple[str, ...] = ()
    folder: Path | None = None


@pytest.mark.parametrize(
    ("preset", "layers", "hidden", "heads"),
    [
        ("tiny", 2, 128, 2),
        ("mini", 4, 256, 4),
        ("small", 4, 512, 8),
        ("medium", 8, 512, 8),
        ("base", 12, 768, 12),
        ("large", 24, 1024, 16),
    ],
)
def test_preset_has_the_published_shape(preset: str, layers: int, hidden: int, heads: int) -> None:
    config = BertConfig.preset(preset)
    assert (config.num_hidden_layers, config.hidden_size) == (layers, hidden)
    assert (config.num_attention_heads, config.intermediate_size) == (heads, 4 * hidden)


def test_preset_override_of_the_width_keeps_heads_and_feed_forward_in_proportion() -> None:
    config = BertConfig.preset("tiny", hidden_size=192)
    assert (config.num_attention_heads, config.intermediate_size) == (3, 768)


def test_unknown_preset_is_refused_with_a_suggestion() -> None:
    with pytest.raises(InputError, match="'smal' .did you mean 'small'"):
        BertConfig.preset("smal")


def test_heads_that_do_not_divide_are_refused_naming_both() -> None:
    with pytest.raises(InputError, match="hidden_size=100, num_attention_heads=12"):
        BertConfig(hidden_size=100)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("vocab_size", 0),
        ("num_hidden_layers", -1),
        ("hidden_dropout_prob", 1.0),
        ("layer_norm_eps", 0.0),
        ("layer_norm_eps", float("nan")),
        ("hidden_act", "gleu"),
        ("pad_token_id", 40000),
    ],
)
def test_bad_value_is_refused_naming_the_field(field: str, value: object) -> None:
    with pytest.raises(InputError, match=field):
        BertConfig(**{field: value})


@settings(derandomize=True)
@given(st.data())
def test_misspelt_key_is_refused_with_the_right_suggestion(data: st.DataObject) -> None:
    key = data.draw(st.sampled_from([f.name for f in dataclasses.fields(BertConfig)]))
    place = data.draw(st.integers(0, len(key) - 1))
    misspelt = key[:place] + key[place + 1 :]
    with pytest.raises(InputError) as error:
        BertConfig.from_dict({misspelt: 1}, source="config.json")
    assert f"config.json: unknown key {misspelt!r} (did you mean {key!r}?)" in str(error.value)


def test_settings_round_trip_through_json(tmp_path: Path) -> None:
    value = Example(needed=3, names=("a", "b"), folder=Path("x"))
    path = tmp_path / "settings.json"
    path.write_text(value.to_json())
    assert Example.from_json_file(path) == value


def test_bert_config_round_trips_with_integer_label_keys() -> None:
    config = BertConfig(id2label={0: "no", 1: "yes"})
    assert BertConfig.from_dict(json.loads(config.to_json())) == config


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({}, "missing needed"),
        ({"needed": "3"}, "needed must be int; got '3'"),
        ({"needed": True}, "needed must be int; got True"),
        ({"needed": 1, "names": "ab"}, "names must be"),
        ({"needed": 1, "rate": "x"}, "rate must be float"),
    ],
)
def test_value_of_the_wrong_type_is_refused(values: dict[str, object], message: str) -> None:
    with pytest.raises(InputError, match=message):
        Example.from_dict(values)


@pytest.mark.parametrize("text", ["", "[1]", "{", "\xff"])
def test_file_that_is_no_json_object_is_refused_naming_it(tmp_path: Path, text: str) -> None:
    path = tmp_path / "broken.json"
    path.write_bytes(text.encode("latin-1"))
    with pytest.raises(InputError, match=r"broken\.json"):
        Example.from_json_file(path)


def test_only_names_left_out_become_dots() -> None:
    assert first_few(["a", "b"], 2) == "a, b"
    assert first_few(["a", "b", "c"], 2) == "a, b, ..."


def test_range_error_states_the_rule_and_the_value() -> None:
    with pytest.raises(InputError, match=r"--rate must be > 0 and <= 1; got 2"):
        check_range("--rate", 2, above=0, at_most=1)


def test_string_in_the_place_of_a_tuple_is_refused_naming_the_field() -> None:
    with pytest.raises(InputError, match=r"corpus must be a tuple; got '/', write \('/',\)"):
        PretrainConfig(corpus="/", output_dir="runs/mine")  # type: ignore[arg-type]
