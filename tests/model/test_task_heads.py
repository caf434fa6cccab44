"""Pins the heads of fine-tuned models against transformers: logits, losses and gradients of every
task, folders in both directions, and which head a folder's weights may start or replace.

Run alone: `pytest tests/model/test_task_heads.py`.
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors import safe_open

from bert_scratch.config import InputError
from bert_scratch.model import huggingface
from bert_scratch.model.heads import BertForMaskedLM, BertForPreTraining
from bert_scratch.model.task_heads import (
    BertForMultipleChoice,
    BertForQuestionAnswering,
    BertForSequenceClassification,
    BertForTokenClassification,
)
from bert_scratch.model.weight_files import WEIGHTS
from bert_scratch.testing import assert_matches_huggingface

ATOL = 1e-5
ROWS, WIDTH = 5, 17
THREE = {0: "no", 1: "perhaps", 2: "yes"}


def sequences(given):
    return given


def choices(given):
    """Make each row a question of its own with three choices: [B, 3, S]."""
    return {
        name: torch.stack([values, values.flip(0), values.roll(1, 0)], dim=1)
        for name, values in given.items()
    }


def numbers(*shape):
    return torch.rand(shape, generator=torch.Generator().manual_seed(5)) * 5 - 1


CLASSES = torch.tensor([2, 0, 1, 1, 0])
TAGS = (torch.arange(ROWS * WIDTH) * 7 % 4).view(ROWS, WIDTH)
TAGS[TAGS == 3] = -100
POSITIONS = {
    "start_positions": torch.tensor([0, 3, 16, 5, 2]),
    "end_positions": torch.tensor([0, 17, 16, 40, 4]),  # 17 and 40 lie outside: not counted
}
SEVERAL = torch.tensor([[1, 0, 1], [0, 0, 0], [1, 1, 1], [0, 1, 0], [0, 0, 1]]).float()
TASKS = {
    "one class": (
        BertForSequenceClassification,
        {"id2label": THREE, "problem_type": "single_label_classification"},
        sequences,
        {"labels": CLASSES},
    ),
    "one class, not said": (
        BertForSequenceClassification,
        {"id2label": THREE},
        sequences,
        {"labels": CLASSES},
    ),
    "one class, one label unknown": (
        BertForSequenceClassification,
        {"id2label": THREE},
        sequences,
        {"labels": CLASSES.masked_fill(CLASSES == 2, -100)},
    ),
    "two classes without names": (
        BertForSequenceClassification,
        {},
        sequences,
        {"labels": CLASSES % 2},
    ),
    "several classes": (
        BertForSequenceClassification,
        {"id2label": THREE, "problem_type": "multi_label_classification"},
        sequences,
        {"labels": SEVERAL},
    ),
    "several classes, not said": (
        BertForSequenceClassification,
        {"id2label": THREE},
        sequences,
        {"labels": SEVERAL},
    ),
    "a number": (
        BertForSequenceClassification,
        {"id2label": {0: "score"}, "problem_type": "regression"},
        sequences,
        {"labels": numbers(ROWS)},
    ),
    "a number, not said": (
        BertForSequenceClassification,
        {"id2label": {0: "score"}, "classifier_dropout": 0.4},
        sequences,
        {"labels": numbers(ROWS, 1)},
    ),
    "three numbers": (
        BertForSequenceClassification,
        {"id2label": THREE, "problem_type": "regression"},
        sequences,
        {"labels": numbers(ROWS, 3)},
    ),
    "tokens": (BertForTokenClassification, {"id2label": THREE}, sequences, {"labels": TAGS}),
    "answers": (BertForQuestionAnswering, {}, sequences, POSITIONS),
    "choices": (BertForMultipleChoice, {}, choices, {"labels": CLASSES}),
}
MODELS = sorted({task[0] for task in TASKS.values()}, key=lambda model_class: model_class.__name__)
each_task = pytest.mark.parametrize("task", TASKS)
each_model = pytest.mark.parametrize("model_class", MODELS, ids=lambda c: c.__name__)


def shape_of(model_class):
    return choices if model_class is BertForMultipleChoice else sequences


@each_task
def test_logits_loss_and_gradients_equal_transformers(task, config, twins, inputs):
    model_class, changes, shape, labels = TASKS[task]
    config = config.replace(**changes)
    ours, theirs = twins(model_class, config)
    given = shape(inputs(config))
    options = {"output_hidden_states": True, "output_attentions": True}
    assert_matches_huggingface(ours, theirs, {**given, **options}, ATOL)
    our_loss, their_loss = ours(**given, **labels).loss, theirs(**given, **labels).loss
    assert our_loss.item() > 0
    torch.testing.assert_close(our_loss, their_loss, atol=ATOL, rtol=0)
    our_loss.backward()
    their_loss.backward()
    mine = huggingface.to_hf({name: p.grad for name, p in ours.named_parameters()}, config)
    reference = {name: p.grad for name, p in theirs.named_parameters()}
    assert mine.keys() == reference.keys()
    largest = max(gradient.abs().max().item() for gradient in reference.values())
    for name, expected in reference.items():
        torch.testing.assert_close(mine[name], expected, atol=1e-5 * largest, rtol=1e-4)


@each_model
def test_other_arguments_equal_transformers(model_class, config, twins, inputs):
    ours, theirs = twins(model_class, config)
    shape = shape_of(model_class)
    given = inputs(config)
    ids = given.pop("input_ids")
    positions = torch.randint(0, config.max_position_embeddings, ids.shape)
    embedded = torch.randn(*ids.shape, config.hidden_size)
    for arguments in (
        {"input_ids": ids},
        {"input_ids": ids, **given, "position_ids": positions},
        {"input_ids": ids, "inputs_embeds": embedded, **given},
    ):
        arguments = shape(arguments)
        if "inputs_embeds" in arguments:
            arguments["input_ids"] = None
        assert_matches_huggingface(ours, theirs, arguments, ATOL)


@each_model
def test_our_folder_loads_in_transformers_with_the_same_logits_and_labels(
    model_class, config, transformers, randomize, inputs, tmp_path
):
    names = {0: "start", 1: "end"} if model_class is BertForQuestionAnswering else THREE
    model = randomize(model_class(config.replace(id2label=names)), 0.15)
    model.save_pretrained(tmp_path)
    auto = getattr(transformers, model_class.__name__.replace("Bert", "AutoModel"))
    theirs, report = auto.from_pretrained(
        tmp_path, output_loading_info=True, attn_implementation="eager"
    )
    assert not any(report.values()), report
    assert type(theirs).__name__ == model_class.__name__
    assert theirs.config.id2label == names
    assert theirs.config.label2id == {label: number for number, label in names.items()}
    assert_matches_huggingface(model, theirs, shape_of(model_class)(inputs(config)), 1e-6)


@each_model
@pytest.mark.parametrize("names", [THREE, None], ids=["named", "unnamed"])
def test_transformers_folder_loads_here_with_the_same_logits_and_labels(
    model_class, names, config, twins, inputs, tmp_path
):
    if model_class is BertForQuestionAnswering:
        names = None
    _, theirs = twins(model_class, config.replace(id2label=names))
    theirs.save_pretrained(tmp_path)
    ours = model_class.from_pretrained(tmp_path)
    assert ours.config.id2label == names
    assert ours.config.num_labels == theirs.config.num_labels
    assert_matches_huggingface(ours, theirs, shape_of(model_class)(inputs(config)), 1e-6)


@each_model
def test_our_folder_comes_back_bit_for_bit(model_class, config, randomize, tmp_path):
    model = randomize(model_class(config), 0.15)
    model.save_pretrained(tmp_path)
    assert json.loads((tmp_path / "config.json").read_text())["architectures"] == [
        model_class.__name__
    ]
    again = model_class.from_pretrained(tmp_path)
    assert again.config == model.config
    state = model.state_dict()
    assert state.keys() == again.state_dict().keys()
    assert all(torch.equal(tensor, state[name]) for name, tensor in again.state_dict().items())


@each_model
def test_only_models_that_read_the_pooler_have_one(model_class, config, tmp_path):
    model_class(config).save_pretrained(tmp_path)
    with safe_open(tmp_path / WEIGHTS, framework="pt") as file:
        pooled = "bert.pooler.dense.weight" in file.keys()
    assert pooled == (model_class in (BertForSequenceClassification, BertForMultipleChoice))


@each_model
def test_a_pretrained_encoder_gets_a_new_head_and_the_old_ones_are_named_once(
    model_class, config, randomize, tmp_path, caplog
):
    caplog.set_level("INFO")
    pretrained = randomize(BertForPreTraining(config), 0.15)
    pretrained.save_pretrained(tmp_path)
    with pytest.raises(InputError, match=r"they lack (classifier|qa_outputs)\.weight.*new_head"):
        model_class.from_pretrained(tmp_path)
    assert not caplog.records
    torch.manual_seed(3)
    model = model_class.from_pretrained(tmp_path, new_head=True)
    assert len(caplog.records) == 1
    assert "cls.predictions.transform.dense.weight" in caplog.text
    assert "cls.seq_relationship.weight" in caplog.text
    taken = pretrained.state_dict()
    new = [name for name in model.state_dict() if not name.startswith("bert.")]
    assert sorted(new) == sorted(
        f"{'qa_outputs' if model_class is BertForQuestionAnswering else 'classifier'}.{kind}"
        for kind in ("weight", "bias")
    )
    for name, tensor in model.state_dict().items():
        assert name in new or torch.equal(tensor, taken[name])
    head = model.get_parameter(next(name for name in new if name.endswith("weight")))
    assert 0 < head.std() < 3 * config.initializer_range


def test_a_masked_model_without_pooler_gets_a_pooler_too(config, tmp_path):
    BertForMaskedLM(config).save_pretrained(tmp_path)
    model = BertForSequenceClassification.from_pretrained(tmp_path, new_head=True)
    assert model.bert.pooler is not None
    assert model.bert.pooler.dense.weight.std() > 0


def test_labels_given_at_loading_size_the_new_head(config, tmp_path):
    BertForPreTraining(config).save_pretrained(tmp_path)
    model = BertForTokenClassification.from_pretrained(tmp_path, new_head=True, id2label=THREE)
    assert model.classifier.weight.shape == (3, config.hidden_size)
    assert model.config.id2label == THREE


def test_a_head_for_other_classes_is_replaced_only_when_asked_to(
    config, randomize, tmp_path: Path, caplog: pytest.LogCaptureFixture
):
    caplog.set_level("INFO")
    old = randomize(BertForSequenceClassification(config), 0.15)
    old.save_pretrained(tmp_path)
    with pytest.raises(InputError, match=r"classifier.* has shape \[2.*for \[3.*new_head=True"):
        BertForSequenceClassification.from_pretrained(tmp_path, id2label=THREE)
    model = BertForSequenceClassification.from_pretrained(tmp_path, id2label=THREE, new_head=True)
    assert "classifier.bias, classifier.weight" in caplog.text
    assert model.classifier.weight.shape == (3, config.hidden_size)
    assert torch.equal(model.bert.pooler.dense.weight, old.bert.pooler.dense.weight)
    same = BertForSequenceClassification.from_pretrained(tmp_path, new_head=True)
    assert torch.equal(same.classifier.weight, old.classifier.weight)


def test_number_of_labels_alone_is_understood(config):
    values = huggingface.config_to_hf(config, "BertForTokenClassification") | {"num_labels": 4}
    assert huggingface.config_from_hf(values).num_labels == 4
    with pytest.raises(InputError, match="config.json: num_labels must be >= 1 and <= 1048576"):
        huggingface.config_from_hf(values | {"num_labels": 10**12})
    named = huggingface.config_to_hf(config.replace(id2label=THREE), "x") | {"num_labels": 3}
    assert huggingface.config_from_hf(named).id2label == THREE


def test_dropout_before_the_classifier_is_the_configurations(config):
    def rate(**changes):
        return BertForTokenClassification(config.replace(**changes)).dropout.p

    assert rate(hidden_dropout_prob=0.3) == 0.3
    assert rate(hidden_dropout_prob=0.3, classifier_dropout=0.0) == 0.0


def test_packed_rows_give_the_logits_of_padded_rows(config, randomize, inputs):
    given = inputs(config)
    real = given["attention_mask"] == 1
    starts = torch.cat([torch.zeros(1, dtype=torch.int64), real.sum(1).cumsum(0)]).int()
    packed = {
        "input_ids": given["input_ids"][real][None],
        "token_type_ids": given["token_type_ids"][real][None],
        "row_starts": starts,
    }
    texts = randomize(BertForSequenceClassification(config.replace(id2label=THREE)), 0.15)
    expected, reached = texts(**given, labels=CLASSES), texts(**packed, labels=CLASSES)
    torch.testing.assert_close(reached.logits, expected.logits, atol=ATOL, rtol=0)
    torch.testing.assert_close(reached.loss, expected.loss, atol=ATOL, rtol=0)
    tokens = randomize(BertForTokenClassification(config.replace(id2label=THREE)), 0.15)
    expected, reached = tokens(**given).logits[real], tokens(**packed).logits[0]
    torch.testing.assert_close(reached, expected, atol=ATOL, rtol=0)


def test_a_batch_without_labels_that_count_costs_nothing(config, inputs):
    model = BertForTokenClassification(config)
    loss = model(**inputs(config), labels=torch.full((ROWS, WIDTH), -100)).loss
    loss.backward()
    assert loss.item() == 0.0
    assert not model.classifier.weight.grad.any()


def test_what_does_not_fit_is_refused_by_name(config, inputs):
    given = inputs(config)
    with pytest.raises(InputError, match="problem_type must be one of regression, single_label"):
        BertForSequenceClassification(config.replace(problem_type="single_label"))
    with pytest.raises(InputError, match="two outputs, start and end; id2label names 3"):
        BertForQuestionAnswering(config.replace(id2label=THREE))
    one_of_three = BertForSequenceClassification(config.replace(id2label=THREE))
    with pytest.raises(InputError, match=r"labels for single_.* must be \[5\]; got \[5, 3\]"):
        one_of_three(**given, labels=SEVERAL.long())
    with pytest.raises(InputError, match=r"labels for multi_.* must be \[5, 3\]; got \[5\]"):
        one_of_three(**given, labels=CLASSES.float())
    with pytest.raises(InputError, match=r"must be \[B\] = \[5\]; got \[1\]"):
        BertForQuestionAnswering(config)(
            **given, start_positions=CLASSES[:1], end_positions=CLASSES[:1]
        )
    with pytest.raises(InputError, match=r"must be \[B, K, S\].*got \[5, 17\]"):
        BertForMultipleChoice(config)(**given)
