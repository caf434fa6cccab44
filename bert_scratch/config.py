"""The model's configuration, and the machinery shared by every command's settings.

All settings are frozen keyword-only dataclasses: built once, checked in `__post_init__`, written
to JSON, read back strictly. An unknown key is an error with a suggestion, never ignored.
"""

from __future__ import annotations

import dataclasses
import difflib
import functools
import json
import math
import types
import typing
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Self

from bert_scratch.json_values import matches, plain, type_name, typed

SYSTEM_ERROR_EXIT_CODE = 1
"""The system failed: a full disk, or a file that went away."""
INPUT_ERROR_EXIT_CODE = 2
STOPPED_EXIT_CODE = 75
"""Stopped before the end; the same command resumes."""


class InputError(ValueError):
    """The user's input is wrong: one clear line naming file, flag or value, and the remedy.

    The command line prints it without a traceback and exits with code 2.
    """


def exit_code_of(error: BaseException) -> int:
    """Return the exit code of a command that ended with this error."""
    if isinstance(error, InputError):
        return INPUT_ERROR_EXIT_CODE
    if isinstance(error, KeyboardInterrupt):
        return STOPPED_EXIT_CODE
    return int(getattr(error, "exit_code", SYSTEM_ERROR_EXIT_CODE))


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """Return ' (did you mean X?)' for the closest known name, or '' if none is close."""
    near = difflib.get_close_matches(name, list(known), n=1, cutoff=0.6)
    return f" (did you mean {near[0]!r}?)" if near else ""


def flag_of(name: str) -> str:
    """Return a field's flag: num_train_steps is --num-train-steps, as_ is --as."""
    return "--" + name.strip("_").replace("_", "-")


def counted(number: int, noun: str) -> str:
    """Return '1 document' or '1,200 documents'."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def first_few(names: Sequence[str], limit: int) -> str:
    """Return 'a, b, c', or 'a, b, ...' if there are more names than the limit."""
    return ", ".join(names[:limit]) + (", ..." if len(names) > limit else "")


@dataclass(frozen=True, kw_only=True)
class Settings:
    """A frozen group of named values that is written to JSON and read back strictly."""

    def __new__(cls, *_: Any, **values: Any) -> Self:
        """Refuse a string in the place of a tuple, which would be read letter by letter.

        Raises:
            InputError: naming the field.
        """
        for name, value in values.items():
            if isinstance(value, str) and typing.get_origin(cls._types().get(name)) is tuple:
                raise InputError(f"{name} must be a tuple; got {value!r}, write ({value!r},)")
        return super().__new__(cls)

    @classmethod
    @functools.cache
    def _types(cls) -> dict[str, Any]:
        """Return each field's type; evaluating the annotations takes a millisecond."""
        return typing.get_type_hints(cls)

    def to_dict(self) -> dict[str, Any]:
        """Return the fields as plain JSON values; tuples become lists, paths strings."""
        return {f.name: plain(getattr(self, f.name)) for f in dataclasses.fields(self)}

    def to_json(self) -> str:
        """Return the fields as indented JSON text that ends in a newline."""
        return json.dumps(self.to_dict(), indent=2, ensure_ascii=False) + "\n"

    def replace(self, **changes: Any) -> Self:
        """Return a copy with some fields changed; the checks run again."""
        return dataclasses.replace(self, **changes)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any], *, source: str = "settings") -> Self:
        """Build from a mapping, refusing unknown keys and values of the wrong type.

        Args:
            values: field name -> plain JSON value.
            source: how errors name the mapping, such as the file's path.

        Raises:
            InputError: on an unknown key (the nearest known one is suggested), a value of the
                wrong type, a missing required field, or a failed check of the class.
        """
        known = cls._types()
        fields = {f.name: f for f in dataclasses.fields(cls)}
        for key, value in values.items():
            if key not in fields:
                raise InputError(f"{source}: unknown key {key!r}{did_you_mean(key, fields)}")
            if not matches(value, known[key]):
                wanted = type_name(known[key])
                raise InputError(f"{source}: {key} must be {wanted}; got {value!r}")
        missing = [
            name
            for name, f in fields.items()
            if name not in values
            and f.default is dataclasses.MISSING
            and f.default_factory is dataclasses.MISSING
        ]
        if missing:
            raise InputError(f"{source}: missing {', '.join(missing)}")
        try:
            return cls(**{key: typed(value, known[key]) for key, value in values.items()})
        except InputError as error:
            raise InputError(f"{source}: {error}") from error

    @classmethod
    def from_json_file(cls, path: str | Path) -> Self:
        """Read a JSON file written by `to_json` (or by hand).

        Raises:
            InputError: if the file is absent, is not a JSON object, or `from_dict` refuses it.
        """
        return cls.from_dict(read_json_object(path), source=str(path))


def read_json_object(path: str | Path) -> dict[str, Any]:
    """Read a file that holds one JSON object.

    Raises:
        InputError: if the file cannot be read, is not UTF-8 JSON, or is not an object.
    """
    try:
        value = json.loads(Path(path).read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror or error}") from error
    except (UnicodeDecodeError, json.JSONDecodeError, RecursionError) as error:
        raise InputError(f"{path}: is not valid JSON: {error}") from error
    if not isinstance(value, dict):
        raise InputError(f"{path}: must hold a JSON object; got {type(value).__name__}")
    return value


def check_choice(name: str, value: str | None, choices: Iterable[str]) -> None:
    """Raise `InputError` unless value is None or one of the choices; the closest is suggested."""
    known = list(choices)
    if value is not None and value not in known:
        raise InputError(
            f"{name} must be one of {', '.join(known)}; got {value!r}{did_you_mean(value, known)}"
        )


def check_range(
    name: str,
    value: float | None,
    *,
    at_least: float | None = None,
    above: float | None = None,
    at_most: float | None = None,
    below: float | None = None,
) -> None:
    """Raise `InputError` unless value is None or a finite number within the bounds given."""
    if value is None:
        return
    broken = (
        (at_least is not None and value < at_least)
        or (above is not None and value <= above)
        or (at_most is not None and value > at_most)
        or (below is not None and value >= below)
    )
    if broken or not math.isfinite(value):
        limits = ((">=", at_least), (">", above), ("<=", at_most), ("<", below))
        rule = " and ".join(f"{sign} {limit}" for sign, limit in limits if limit is not None)
        raise InputError(f"{name} must be {rule or 'finite'}; got {value}")


PAIR_TASKS = ("nsp", "sop", "none")
PAIR_SAMPLINGS = ("balanced", "google")
INITIALIZERS = ("normal", "truncated_normal", "mimetic")
ACTIVATIONS = ("gelu", "gelu_new", "gelu_pytorch_tanh", "relu", "silu")


@dataclass(frozen=True, kw_only=True)
class BertConfig(Settings):
    """The shape of a BERT model; field names are the keys of Hugging Face's `config.json`.

    Source:
        Devlin et al. 2018, section 3; google-research/bert `modeling.BertConfig`. Defaults are
        Hugging Face's (`type_vocab_size` 2, where Google's code default is 16).
    """

    vocab_size: int = 30522
    """Rows of the word embedding."""
    hidden_size: int = 768
    """D, the width of every hidden state."""
    num_hidden_layers: int = 12
    """Encoder layers."""
    num_attention_heads: int = 12
    """H; must divide hidden_size."""
    intermediate_size: int = 3072
    """F, the inner width of the feed-forward block."""
    hidden_act: str = "gelu"
    """gelu (erf), gelu_new or gelu_pytorch_tanh (tanh form), relu, silu."""
    hidden_dropout_prob: float = 0.1
    """Dropout after the embeddings and after each block's output projection."""
    attention_probs_dropout_prob: float = 0.1
    """Dropout on the attention probabilities."""
    max_position_embeddings: int = 512
    """The longest sequence the model can take."""
    type_vocab_size: int = 2
    """Rows of the token type (segment) embedding."""
    initializer_range: float = 0.02
    """Standard deviation of the initial weights."""
    layer_norm_eps: float = 1e-12
    """Added to the variance inside LayerNorm's root."""
    pad_token_id: int | None = 0
    """The id of [PAD]; its embedding row starts at zero. None: no such row."""
    id2label: dict[int, str] | None = None
    """Class names of a fine-tuned model."""
    classifier_dropout: float | None = None
    """Dropout before a fine-tuned head; None takes hidden_dropout_prob."""
    problem_type: str | None = None
    """single_label_classification, multi_label_classification or regression."""
    pair_task: str | None = None
    """What the pair head was trained for: nsp, sop or none. None: not recorded. This key is our
    own: transformers keeps it but ignores it."""
    trained_seq_length: int | None = None
    """Tokens of the longest rows it was trained on: later positions have learned nothing. None:
    not recorded. This key is our own, too."""

    PRESETS: ClassVar[Mapping[str, tuple[int, int]]] = types.MappingProxyType(
        {
            "tiny": (2, 128),
            "mini": (4, 256),
            "small": (4, 512),
            "medium": (8, 512),
            "base": (12, 768),
            "large": (24, 1024),
        }
    )

    def __post_init__(self) -> None:
        """Check each field and the fields against each other.

        Raises:
            InputError: naming the field, what it must be and what it was.
        """
        for name in (
            "vocab_size",
            "hidden_size",
            "num_hidden_layers",
            "num_attention_heads",
            "intermediate_size",
            "max_position_embeddings",
            "type_vocab_size",
        ):
            check_range(name, getattr(self, name), at_least=1)
        for name in (
            "hidden_dropout_prob",
            "attention_probs_dropout_prob",
            "classifier_dropout",
        ):
            check_range(name, getattr(self, name), at_least=0, below=1)
        check_range("initializer_range", self.initializer_range, at_least=0)
        check_range("layer_norm_eps", self.layer_norm_eps, above=0)
        check_choice("hidden_act", self.hidden_act, ACTIVATIONS)
        check_choice("pair_task", self.pair_task, PAIR_TASKS)
        check_range("trained_seq_length", self.trained_seq_length, at_least=1)
        if self.hidden_size % self.num_attention_heads:
            raise InputError(
                f"hidden_size must be a multiple of num_attention_heads; got hidden_size="
                f"{self.hidden_size}, num_attention_heads={self.num_attention_heads}"
            )
        if self.pad_token_id is not None and not 0 <= self.pad_token_id < self.vocab_size:
            raise InputError(
                f"pad_token_id must be in [0, vocab_size); got {self.pad_token_id} with "
                f"vocab_size={self.vocab_size}"
            )

    @classmethod
    def preset(cls, name: str, **overrides: Any) -> BertConfig:
        """Return a published size: tiny, mini, small, medium, base or large.

        Heads are hidden_size / 64 and the feed-forward width 4 x hidden_size; overriding
        hidden_size keeps both rules unless they are overridden too.

        Raises:
            InputError: on an unknown preset or field.
        """
        check_choice("preset", name, cls.PRESETS)
        layers, hidden = cls.PRESETS[name]
        hidden = overrides.get("hidden_size", hidden)
        shape = {
            "num_hidden_layers": layers,
            "hidden_size": hidden,
            "num_attention_heads": max(1, hidden // 64),
            "intermediate_size": 4 * hidden,
        }
        return cls.from_dict({**shape, **overrides}, source=f"preset {name}")

    @property
    def head_size(self) -> int:
        """K = hidden_size / num_attention_heads."""
        return self.hidden_size // self.num_attention_heads

    @property
    def num_labels(self) -> int:
        """C, the number of classes of a fine-tuned model: of id2label, or 2 as in transformers."""
        return 2 if self.id2label is None else len(self.id2label)
