"""Pins parity with transformers: every output, every component, every gradient, both directions,
over configurations that vary every field; and the mapping of names and config keys.

The golden files are always compared, live transformers where it is installed. Run alone:
`pytest tests/model/test_huggingface.py`; with `-rP` each parity test prints what it reached.
"""

from __future__ import annotations

import json
import warnings
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from bert_scratch.config import BertConfig, InputError
from bert_scratch.model import huggingface
from bert_scratch.model.encoder import BertModel
from bert_scratch.model.heads import (
    BertForMaskedLM,
    BertForNextSentencePrediction,
    BertForPreTraining,
)
from bert_scratch.testing import assert_matches_huggingface

GOLDEN = Path(__file__).parent / "golden"
ATOL = 1e-5
MODELS = (BertModel, BertForPreTraining, BertForMaskedLM, BertForNextSentencePrediction)

SMALL = {
    "vocab_size": 67,
    "hidden_size": 24,
    "num_hidden_layers": 2,
    "num_attention_heads": 3,
    "intermediate_size": 41,
    "max_position_embeddings": 19,
}
VARIANTS = {
    "three heads": {},
    "one head": {"num_attention_heads": 1},
    "five heads": {"hidden_size": 35, "num_attention_heads": 5},
    "seven heads of size one": {"hidden_size": 7, "num_attention_heads": 7},
    "head size 64": {"hidden_size": 128, "num_attention_heads": 2},
    "one layer": {"num_hidden_layers": 1},
    "five layers": {"num_hidden_layers": 5},
    "one token type": {"type_vocab_size": 1},
    "sixteen token types": {"type_vocab_size": 16},
    "vocabulary of 8": {"vocab_size": 8},
    "vocabulary of 1001": {"vocab_size": 1001},
    "narrow feed-forward": {"intermediate_size": 3},
    "wide feed-forward": {"intermediate_size": 211},
    "exactly as long as allowed": {"max_position_embeddings": 17},
    "512 positions": {"max_position_embeddings": 512},
    "gelu_new": {"hidden_act": "gelu_new"},
    "gelu_pytorch_tanh": {"hidden_act": "gelu_pytorch_tanh"},
    "relu": {"hidden_act": "relu"},
    "silu": {"hidden_act": "silu"},
    "eps 1e-5": {"layer_norm_eps": 1e-5},
    "eps 0.1": {"layer_norm_eps": 0.1},
    "pad id 5": {"pad_token_id": 5},
    "no pad id": {"pad_token_id": None},
    "dropout": {"hidden_dropout_prob": 0.5, "attention_probs_dropout_prob": 0.3},
    "small weights": {"initializer_range": 0.001},
    "large weights": {"initializer_range": 0.2},
    "three classes": {"id2label": {0: "a", 1: "b", 2: "c"}, "classifier_dropout": 0.2},
    "trained for swapped segments": {"pair_task": "sop"},
}
each_variant = pytest.mark.parametrize("variant", VARIANTS)


def configuration(variant: str) -> BertConfig:
    return BertConfig.from_dict({**SMALL, **VARIANTS[variant]})


def with_labels(given: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    ids = given["input_ids"]
    rows, width = ids.shape
    chosen = (torch.arange(rows * width).view(rows, width) % 3 == 1) & (
        given["attention_mask"] == 1
    )
    pairs = torch.arange(rows) % 2
    return {**given, "labels": ids.masked_fill(~chosen, -100), "next_sentence_label": pairs}


@each_variant
def test_every_output_and_both_losses_equal_transformers(variant, twins, inputs):
    config = configuration(variant)
    ours, theirs = twins(BertForPreTraining, config)
    given = {**inputs(config), "output_hidden_states": True, "output_attentions": True}
    reached = [assert_matches_huggingface(ours, theirs, given, ATOL)]
    reached.append(assert_matches_huggingface(ours, theirs, with_labels(given), ATOL))
    for left_out in ("labels", "next_sentence_label"):
        labelled = with_labels(inputs(config))
        del labelled[left_out]
        output = ours(**labelled)
        logits = theirs(**inputs(config))
        if left_out == "next_sentence_label":
            kept = labelled["labels"] != -100
            expected = torch.nn.functional.cross_entropy(
                logits.prediction_logits[kept], labelled["labels"][kept]
            )
            assert output.nsp_loss is None
        else:
            expected = torch.nn.functional.cross_entropy(
                logits.seq_relationship_logits, labelled["next_sentence_label"]
            )
            assert output.mlm_loss is None
        reached.append((output.loss - expected).abs().item())
    print(f"{variant}: largest difference {max(reached):.3g}")
    assert max(reached) <= ATOL


@each_variant
def test_every_component_alone_equals_transformers(variant, twins, inputs, randomize):
    config = configuration(variant)
    ours, theirs = twins(BertForPreTraining, config)
    ids = inputs(config)
    hidden = torch.randn(5, 17, config.hidden_size, generator=torch.Generator().manual_seed(3))
    blocked = (1.0 - ids["attention_mask"].float())[:, None, None, :] * -1e30
    attended = {"hidden_states": hidden, "attention_bias": blocked}
    layer, their_layer = ours.bert.layers[-1], theirs.bert.encoder.layer[-1]
    reached = [
        assert_matches_huggingface(component, counterpart, given, ATOL)
        for component, counterpart, given in (
            (ours.bert.embeddings, theirs.bert.embeddings, ids["input_ids"]),
            (layer.attention_layer_norm, their_layer.attention.output.LayerNorm, hidden),
            (layer.attention, their_layer.attention, hidden),
            (layer.attention, their_layer, {**attended, "output_attentions": True}),
            (layer.feed_forward, their_layer, hidden),
            (layer, their_layer, hidden),
            (layer, their_layer, attended),
            (ours.bert.pooler, theirs.bert.pooler, hidden),
            (ours.mlm_head, theirs.cls.predictions, hidden),
            (ours.nsp_head, theirs.cls.seq_relationship, hidden[:, 0]),
            (ours.bert, theirs.bert, ids),
        )
    ]
    print(f"{variant}: largest difference {max(reached):.3g}")


@each_variant
def test_gradient_of_every_parameter_equals_transformers(variant, twins, inputs):
    config = configuration(variant)
    ours, theirs = twins(BertForPreTraining, config)
    given = with_labels(inputs(config))
    ours(**given).loss.backward()
    theirs(**given).loss.backward()
    mine = {name: p.grad for name, p in ours.named_parameters()}
    check_gradients(
        huggingface.to_hf(mine, config),
        {name: p.grad for name, p in theirs.named_parameters()},
        variant,
    )


def check_gradients(mine, reference, title):
    assert mine.keys() == reference.keys()
    overall = max(gradient.abs().max().item() for gradient in reference.values())
    worst = 0.0
    for name, expected in reference.items():
        allowed = 1e-4 * expected.abs().max().item() + 1e-7 * overall
        difference = (mine[name] - expected).abs().max().item()
        worst = max(worst, difference / allowed)
        assert difference <= allowed, name
    print(f"{title}: largest gradient difference is {worst:.3g} of what is allowed")


@pytest.mark.parametrize("model_class", MODELS, ids=lambda c: c.__name__)
def test_other_arguments_equal_transformers(model_class, twins, inputs, config):
    ours, theirs = twins(model_class, config)
    given = inputs(config)
    rows, width = given["input_ids"].shape
    embedded = torch.randn(rows, width, config.hidden_size)
    positions = torch.randint(0, config.max_position_embeddings, (rows, width))
    mask = given["attention_mask"]
    for arguments in (
        {"input_ids": given["input_ids"]},
        {"input_ids": None, "inputs_embeds": embedded, "attention_mask": mask},
        {**given, "position_ids": positions},
    ):
        assert_matches_huggingface(ours, theirs, arguments, ATOL)


@pytest.mark.parametrize("model_class", MODELS, ids=lambda c: c.__name__)
def test_our_folder_loads_in_transformers_with_no_key_missing_or_unexpected(
    model_class, transformers, config, randomize, tmp_path
):
    model = randomize(model_class(config), 0.15)
    model.save_pretrained(tmp_path)
    theirs, report = getattr(transformers, model_class.__name__).from_pretrained(
        tmp_path, output_loading_info=True, attn_implementation="eager"
    )
    assert not any(report.values()), report
    ids = torch.randint(0, config.vocab_size, (2, 5))
    assert_matches_huggingface(model, theirs, ids, 1e-6)


@pytest.mark.parametrize("model_class", MODELS, ids=lambda c: c.__name__)
def test_transformers_folder_loads_here(model_class, twins, config, tmp_path):
    _, theirs = twins(model_class, config)
    theirs.save_pretrained(tmp_path)
    ours = model_class.from_pretrained(tmp_path)
    assert ours.config == config
    ids = torch.randint(0, config.vocab_size, (2, 5))
    assert_matches_huggingface(ours, theirs, ids, 1e-6)


@pytest.mark.parametrize("name", ["ordinary", "unusual"])
def test_golden_files_of_transformers_are_reproduced(name):
    config = huggingface.config_from_hf(json.loads((GOLDEN / f"{name}.json").read_text()))
    stored = load_file(GOLDEN / f"{name}.safetensors")
    groups: dict[str, dict[str, torch.Tensor]] = {}
    for key, tensor in stored.items():
        group, _, rest = key.partition(".")
        groups.setdefault(group, {})[rest] = tensor
    model = BertForPreTraining(config).eval()
    model.load_state_dict(huggingface.from_hf(groups["weights"], config))
    output = model(**groups["inputs"], output_hidden_states=True, output_attentions=True)
    output.loss.backward()
    expected = groups["outputs"]
    kept = groups["inputs"]["labels"] != -100
    differences = {
        "loss": output.loss - expected["loss"],
        "words": output.prediction_logits - expected["prediction_logits"][kept],
        "pairs": output.seq_relationship_logits - expected["seq_relationship_logits"],
        "hidden": torch.stack(output.hidden_states) - expected["hidden_states"],
        "attention": torch.stack(output.attentions) - expected["attentions"],
    }
    reached = {title: d.abs().max().item() for title, d in differences.items()}
    print(f"{name}: {reached}")
    assert max(reached.values()) <= ATOL
    mine = {key: p.grad for key, p in model.named_parameters()}
    check_gradients(huggingface.to_hf(mine, config), groups["gradients"], name)


def test_golden_files_are_small():
    assert sum(path.stat().st_size for path in GOLDEN.iterdir() if path.is_file()) <= 300_000


@pytest.mark.parametrize("model_class", MODELS, ids=lambda c: c.__name__)
def test_renaming_there_and_back_changes_nothing(model_class, config, randomize):
    state = randomize(model_class(config), 0.15).state_dict()
    back = huggingface.from_hf(huggingface.to_hf(state, config), config)
    assert back.keys() == state.keys()
    assert all(torch.equal(back[name], state[name]) for name in state)


def test_names_are_transformers_names(transformers, config):
    shape = transformers.BertConfig(**huggingface.config_to_hf(config, "BertForPreTraining"))
    theirs = {name for name, _ in transformers.BertForPreTraining(shape).named_parameters()}
    renamed = huggingface.to_hf(BertForPreTraining(config).state_dict(), config)
    assert renamed.keys() == theirs


def test_tied_decoder_is_stored_once(config, tmp_path):
    renamed = huggingface.to_hf(BertForPreTraining(config).state_dict(), config)
    assert "cls.predictions.decoder.weight" not in renamed
    assert "cls.predictions.decoder.bias" not in renamed
    save_file(renamed, tmp_path / "model.safetensors")


def test_a_part_of_the_names_is_renamed_too(config):
    state = BertForPreTraining(config).state_dict()
    part = {name: tensor for name, tensor in state.items() if "layers.1." in name}
    renamed = huggingface.to_hf(part, config)
    assert all(name.startswith("bert.encoder.layer.1.") for name in renamed)
    back = huggingface.from_hf(renamed, config)
    assert back.keys() == part.keys()


def old_names(state):
    """Spell as files of 2018 to 2021 do."""
    old = {
        name.replace("LayerNorm.weight", "LayerNorm.gamma").replace(
            "LayerNorm.bias", "LayerNorm.beta"
        ): tensor
        for name, tensor in state.items()
    }
    old["bert.embeddings.position_ids"] = torch.arange(23)[None]
    old["cls.predictions.decoder.weight"] = old["bert.embeddings.word_embeddings.weight"]
    return old


@pytest.mark.parametrize("bias_names", [("bias",), ("decoder.bias",), ("bias", "decoder.bias")])
def test_old_spellings_are_understood(bias_names, config, randomize):
    state = randomize(BertForPreTraining(config), 0.15).state_dict()
    old = old_names(huggingface.to_hf(state, config))
    bias = old.pop("cls.predictions.bias")
    old |= {f"cls.predictions.{name}": bias for name in bias_names}
    back = huggingface.from_hf(old, config)
    assert back.keys() == state.keys()
    assert all(torch.equal(back[name], state[name]) for name in state)


def test_encoder_is_placed_with_and_without_prefix(config):
    model = BertForPreTraining(config)
    bare = huggingface.place_encoder(model.state_dict(), prefix="")
    BertModel(config).load_state_dict({k: v for k, v in bare.items() if "head" not in k})
    again = huggingface.place_encoder(bare, prefix="bert.")
    assert again.keys() == model.state_dict().keys()


def test_unknown_names_stay_and_incomplete_projections_are_not_fused(config):
    state = {
        "bert.encoder.layer.0.attention.self.query.weight": torch.zeros(21, 21),
        "something.else": torch.zeros(1),
    }
    assert huggingface.from_hf(state, config).keys() == state.keys()


def test_more_layers_than_the_configuration_are_refused(config):
    state = huggingface.to_hf(BertModel(config).state_dict(), config)
    with pytest.raises(InputError, match="2 layers.*num_hidden_layers=1"):
        huggingface.from_hf(state, config.replace(num_hidden_layers=1))


def test_load_hf_fills_one_component_at_a_time(twins, config):
    ours, theirs = twins(BertForPreTraining, config)
    other = BertForPreTraining(config).eval()
    for index, layer in enumerate(other.bert.layers):
        their_layer = theirs.bert.encoder.layer[index]
        huggingface.load_hf(layer.attention, their_layer.attention)
        huggingface.load_hf(layer.attention_layer_norm, their_layer.attention.output.LayerNorm)
        halves = {"intermediate": their_layer.intermediate, "output": their_layer.output}
        huggingface.load_hf(layer.feed_forward, torch.nn.ModuleDict(halves))
        huggingface.load_hf(layer.feed_forward_layer_norm, their_layer.output.LayerNorm)
    huggingface.load_hf(other.bert.embeddings, theirs.bert.embeddings)
    huggingface.load_hf(other.bert.pooler, theirs.bert.pooler)
    huggingface.load_hf(other.mlm_head, theirs.cls.predictions)
    huggingface.load_hf(other.nsp_head, theirs.cls.seq_relationship)
    state = ours.state_dict()
    assert all(torch.equal(tensor, state[name]) for name, tensor in other.state_dict().items())


def test_load_hf_takes_whole_models_and_names_what_is_lacking(twins, config):
    ours, theirs = twins(BertForPreTraining, config)
    encoder = BertModel(config)
    huggingface.load_hf(encoder, theirs)
    huggingface.load_hf(encoder, theirs.bert)
    huggingface.load_hf(encoder.layers, theirs.bert.encoder)
    assert torch.equal(encoder.pooler.dense.weight, ours.bert.pooler.dense.weight)
    with pytest.raises(InputError, match=r"BertPooler does not hold.*EncoderLayer.*query_key"):
        huggingface.load_hf(encoder.layers[0], theirs.bert.pooler)


@each_variant
def test_config_there_and_back(variant):
    config = configuration(variant)
    values = json.loads(json.dumps(huggingface.config_to_hf(config, "BertModel")))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert huggingface.config_from_hf(values) == config


def test_transformers_own_config_is_read_without_a_warning(transformers):
    values = json.loads(transformers.BertConfig().to_json_string(use_diff=False))
    assert huggingface.config_from_hf(values) == BertConfig(id2label={0: "LABEL_0", 1: "LABEL_1"})


def test_config_without_model_type_is_bert_if_it_has_its_keys():
    values = BertConfig().to_dict()
    assert huggingface.config_from_hf(values) == BertConfig()
    with pytest.raises(InputError, match="model_type must be 'bert'; got None"):
        huggingface.config_from_hf({"vocab_size": 5, "n_embd": 3})


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("position_embedding_type", "relative_key"),
        ("is_decoder", True),
        ("pruned_heads", {"0": [1]}),
        ("tie_word_embeddings", False),
        ("quantization_config", {"bits": 4}),
        ("auto_map", {"AutoModel": "other--code.Model"}),
    ],
)
def test_keys_that_change_the_numbers_are_refused(key, value):
    with pytest.raises(InputError, match=f"config.json: {key} = "):
        huggingface.config_from_hf({"model_type": "bert", key: value})


def test_unknown_keys_give_one_warning_that_names_them():
    values = {"model_type": "bert", "zebra": 1, "apple": 2}
    with pytest.warns(UserWarning, match="unknown keys are ignored: apple, zebra") as caught:
        huggingface.config_from_hf(values)
    assert len(caught) == 1


def test_other_models_and_wrong_types_are_refused():
    with pytest.raises(InputError, match="got 'roberta'"):
        huggingface.config_from_hf({"model_type": "roberta"})
    with pytest.raises(InputError, match="hidden_size must be int; got '768'"):
        huggingface.config_from_hf({"model_type": "bert", "hidden_size": "768"})
    with pytest.raises(InputError, match="hidden_act must be one of"):
        huggingface.config_from_hf({"model_type": "bert", "hidden_act": "mish"})
