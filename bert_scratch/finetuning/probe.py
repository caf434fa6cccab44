"""Linear probes: how much each layer knows of any labels, compared with a control task.

A probe with many parameters can memorise labels. In the control task each word type has a random
label, which a probe can only memorise. The gain in accuracy on the real labels, its selectivity,
is what the layer itself knows.

Letters: N labelled words or texts, L layers, D hidden.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from tokenizers import Tokenizer

from bert_scratch.config import InputError, check_choice, check_range, counted
from bert_scratch.finetuning.labelled_rows import read_labelled_texts
from bert_scratch.finetuning.tagged_text import TaggedText, read_tagged_texts
from bert_scratch.finetuning.task_settings import TableSettings, TaskSettings
from bert_scratch.inference.displaced_words import word_states
from bert_scratch.inference.embed import ALL_LAYERS, embed
from bert_scratch.inference.estimate import Estimate, proportion
from bert_scratch.inference.inputs import ModelOptions, batches
from bert_scratch.inference.linear_probe import probe_layers
from bert_scratch.inference.whole_words import word_spans
from bert_scratch.model.encoder import BertModel

UNITS = ("text", "word")
_TABLES = frozenset((".tsv", ".csv", ".jsonl", ".json"))
_TEST_EVERY = 3
_MIN_EXAMPLES = 20

ReportProgress = Callable[[int], None]
"""Called with the number of sentences or texts that the model has processed."""


@dataclass(frozen=True, kw_only=True)
class ProbeConfig(ModelOptions, TableSettings):
    """Train a linear probe on every layer of a model, and compare it with a control task."""

    train_file: str
    """Labelled texts, or tagged words and marked spans, as finetune takes them."""
    eval_file: str | None = None
    """What the probes are tested on. Left out: every third example of the training file."""
    unit: str | None = None
    """What has a label: text or word. Left out: text for .tsv, .csv, .json, .jsonl or a folder."""
    num_examples: int = 3000
    """Labels that a probe learns from; it is tested on half as many. A larger file is sampled."""
    seed: int = 0
    """Draws the examples, and the labels of the control task."""
    json: bool = False
    """Print one JSON object instead of a table."""
    output_html: str | None = None
    """Also write a page with a plot to this file; it needs no network."""

    def __post_init__(self) -> None:
        """Check each value.

        Raises:
            InputError: naming the flag.
        """
        super().__post_init__()
        check_choice("--unit", self.unit, UNITS)
        check_range("--num-examples", self.num_examples, at_least=_MIN_EXAMPLES)
        check_range("--seed", self.seed, at_least=0)
        if len(self.label_column) > 1 or self.multi_label:
            raise InputError("a probe learns one label; name one --label-column")


@dataclass(frozen=True, kw_only=True)
class LayerProbe:
    """The probe of one layer; layer 0 is the output of the embeddings."""

    layer: int
    accuracy: Estimate
    control: Estimate
    """Accuracy of the same probe on the control task."""
    selectivity: float
    """Accuracy minus that on the control task."""


@dataclass(frozen=True, kw_only=True)
class ProbeReport:
    """The probes of all layers, and the accuracy of always predicting the most frequent label."""

    model: str
    train_file: str
    unit: str
    num_train: int
    num_test: int
    num_labels: int
    most_frequent_label: Estimate
    layers: list[LayerProbe]

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON values."""
        return asdict(self)


@dataclass(frozen=True)
class _Labelled:
    """A text with a label for each word or span, or one for the whole text."""

    text: str
    spans: Sequence[tuple[int, int]]
    """The characters of each word or span; empty if the label is for the whole text."""
    labels: Sequence[str]


@dataclass(frozen=True)
class _Examples:
    """Labelled words or texts, each of which is one example."""

    sentences: list[str]
    spans: list[list[tuple[int, int]]] | None
    """Spans of the words; None if labels are for whole texts."""
    labels: list[str]
    types: list[str]
    """The word type that sets the control label: the word itself, or a text's first word."""


def probe(config: ProbeConfig, progress: ReportProgress = lambda _done: None) -> ProbeReport:
    """Train and test the probes of all layers.

    Args:
        config: the settings, with model and labels.
        progress: called as the model processes texts.

    Raises:
        InputError: if model or files cannot be used, or there is only one label.

    Source:
        Hewitt and Liang 2019, "Designing and Interpreting Probes with Control Tasks", section 2.
        Deviation: for labels of whole texts, which the paper does not treat, the control label
        belongs to the first word.
    """
    train, test = _read(config)
    model, tokenizer = config.load_encoder()
    states = np.concatenate([_states(model, tokenizer, part, progress) for part in (train, test)])
    labels = np.array(train.labels + test.labels)
    control = control_labels(train.types + test.types, train.labels, seed=config.seed)
    num_train = len(train.labels)
    layers = [
        _layer(number, right, control_right)
        for number, (right, control_right) in enumerate(
            zip(
                probe_layers(states, labels, num_train=num_train),
                probe_layers(states, control, num_train=num_train),
                strict=True,
            )
        )
    ]
    names, counts = np.unique(labels[:num_train], return_counts=True)
    return ProbeReport(
        model=config.model,
        train_file=config.train_file,
        unit="text" if train.spans is None else "word",
        num_train=num_train,
        num_test=len(test.labels),
        num_labels=len(names),
        most_frequent_label=proportion(labels[num_train:] == names[counts.argmax()]),
        layers=layers,
    )


def control_labels(
    types: Sequence[str], labels: Sequence[str], *, seed: int
) -> npt.NDArray[np.str_]:
    """Return [N] labels that depend on the word type alone, each drawn from the real labels.

    Args:
        types: the word types of N examples.
        labels: the real labels, which give the frequencies.
        seed: equal seeds and types give equal labels.
    """
    random = np.random.Generator(np.random.Philox(seed))
    drawn: dict[str, str] = {}
    for word in sorted(set(types)):
        drawn[word] = labels[int(random.integers(len(labels)))]
    return np.array([drawn[word] for word in types])


def _layer(number: int, right: npt.NDArray[np.bool_], control: npt.NDArray[np.bool_]) -> LayerProbe:
    accuracy, of_control = proportion(right), proportion(control)
    return LayerProbe(
        layer=number,
        accuracy=accuracy,
        control=of_control,
        selectivity=accuracy.mean - of_control.mean,
    )


def _read(config: ProbeConfig) -> tuple[_Examples, _Examples]:
    """Return the examples that the probes learn from, and those they are tested on."""
    read = _labelled_words if _has_words(config) else _labelled_texts
    found = read(config, config.train_file)
    random = np.random.Generator(np.random.Philox(config.seed))
    shuffled = [found[index] for index in random.permutation(len(found)).tolist()]
    if config.eval_file is None:
        tested = shuffled[::_TEST_EVERY]
        shuffled = [item for n, item in enumerate(shuffled) if n % _TEST_EVERY]
    else:
        others = read(config, config.eval_file)
        tested = [others[index] for index in random.permutation(len(others)).tolist()]
    train = _first(shuffled, config.num_examples)
    test = _first(tested, max(_MIN_EXAMPLES, config.num_examples // 2))
    tested_on = config.train_file if config.eval_file is None else config.eval_file
    if min(len(train.labels), len(test.labels)) < _MIN_EXAMPLES:
        raise InputError(
            f"{config.train_file} has {counted(len(train.labels), 'label')} to learn from and "
            f"{tested_on} {len(test.labels)} to test on; each needs {_MIN_EXAMPLES}"
        )
    if len(set(train.labels)) < 2:
        raise InputError(
            f"--train-file {config.train_file}: has one label only, {train.labels[0]!r}"
        )
    return train, test


def _has_words(config: ProbeConfig) -> bool:
    if config.unit is not None:
        return config.unit == "word"
    path = Path(config.train_file)
    return not path.is_dir() and _TABLES.isdisjoint(path.suffixes)


def _settings(config: ProbeConfig, task: str) -> TaskSettings:
    return TaskSettings(
        task=task,
        text_column=config.text_column,
        text_pair_column=config.text_pair_column,
        label_column=config.label_column,
    )


def _labelled_words(config: ProbeConfig, file: str) -> list[_Labelled]:
    settings = _settings(config, "token-classification")
    return [_of_tagged(e) for e in read_tagged_texts(file, settings, labels_needed=True)]


def _of_tagged(example: TaggedText) -> _Labelled:
    if example.spans is not None:
        places = [(start, end) for start, end, _ in example.spans]
        return _Labelled(example.text, places, [kind for _, _, kind in example.spans])
    return _Labelled(example.text, example.words or (), example.tags or ())


def _labelled_texts(config: ProbeConfig, file: str) -> list[_Labelled]:
    settings = _settings(config, "classification")
    found = []
    for example in read_labelled_texts(file, settings, labels_needed=True):
        if example.text_pair is not None:
            raise InputError(
                f"{file}: has pairs; a probe takes single texts: name one with --text-column"
            )
        if not isinstance(example.label, str):
            raise InputError(f"{example.place}: has several labels; a probe learns one")
        found.append(_Labelled(example.text, (), [example.label]))
    return found


def _first(examples: Sequence[_Labelled], num_labels: int) -> _Examples:
    """Return the first examples with at most `num_labels` labels, or more if they are too few."""
    chosen: list[_Labelled] = []
    count = 0
    for example in examples:
        if count >= _MIN_EXAMPLES and count + len(example.labels) > num_labels:
            break
        chosen.append(example)
        count += len(example.labels)
    has_words = any(example.spans for example in chosen)
    words = [
        [e.text[start:end] for start, end in (e.spans if has_words else word_spans([e.text])[0])]
        for e in chosen
    ]
    return _Examples(
        sentences=[example.text for example in chosen],
        spans=[list(example.spans) for example in chosen] if has_words else None,
        labels=[label for example in chosen for label in example.labels],
        types=[w for own in words for w in (own if has_words else (own or [""])[:1])],
    )


def _states(
    model: BertModel, tokenizer: Tokenizer, examples: _Examples, progress: ReportProgress
) -> npt.NDArray[np.float32]:
    """Return [N, L + 1, D], the vectors of words, or of texts as means over their tokens."""
    states = []
    if examples.spans is None:
        for some in batches(examples.sentences):
            states.append(embed(model, tokenizer, some, layers=(ALL_LAYERS,)))
            progress(len(some))
    else:
        for found in word_states(model, tokenizer, examples.sentences, examples.spans):
            states.append(found)
            progress(1)
    return np.concatenate(states)
