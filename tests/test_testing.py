"""Pins the public testing functions: they pass on equal components, name what differs on unequal
ones, accept components that are not ours, and compare whole folders stage by stage.

Run alone: `pytest tests/test_testing.py` (needs transformers).
"""

from __future__ import annotations

import pytest
import torch
from torch import nn

from bert_scratch.cli import main
from bert_scratch.config import BertConfig, InputError
from bert_scratch.model.encoder import BertModel
from bert_scratch.model.heads import (
    BertForMaskedLM,
    BertForNextSentencePrediction,
    BertForPreTraining,
)
from bert_scratch.model.huggingface import config_to_hf, load_hf
from bert_scratch.model.layers import ACTIVATION_FUNCTIONS
from bert_scratch.testing import assert_matches_huggingface, compare_with_huggingface

WORDS = "[PAD] [UNK] [CLS] [SEP] [MASK] the cat sat on a mat dog ran and slept".split()
TEXT = "The cat sat on the mat and slept. A dog ran on the mat and the cat ran."


@pytest.fixture(scope="module")
def transformers():
    return pytest.importorskip("transformers")


@pytest.fixture(scope="module")
def config():
    return BertConfig(
        vocab_size=len(WORDS),
        hidden_size=12,
        num_hidden_layers=2,
        num_attention_heads=3,
        intermediate_size=20,
        max_position_embeddings=29,
        initializer_range=0.3,
    )


@pytest.fixture(scope="module")
def hf_layer(transformers, config):
    torch.manual_seed(0)
    shape = transformers.BertConfig(**config_to_hf(config, "x"), attn_implementation="eager")
    return transformers.BertModel(shape).encoder.layer[0].train()


@pytest.fixture(scope="module")
def tokenizer(transformers):
    tokenizers = pytest.importorskip("tokenizers")
    vocabulary = {word: number for number, word in enumerate(WORDS)}
    plain = tokenizers.Tokenizer(tokenizers.models.WordPiece(vocabulary, unk_token="[UNK]"))
    plain.normalizer = tokenizers.normalizers.Lowercase()
    plain.pre_tokenizer = tokenizers.pre_tokenizers.BertPreTokenizer()
    plain.post_processor = tokenizers.processors.TemplateProcessing(
        single="[CLS] $A [SEP]",
        pair="[CLS] $A [SEP] $B:1 [SEP]:1",
        special_tokens=[("[CLS]", 2), ("[SEP]", 3)],
    )
    names = ("pad", "unk", "cls", "sep", "mask")
    return transformers.PreTrainedTokenizerFast(
        tokenizer_object=plain,
        model_input_names=["input_ids", "token_type_ids", "attention_mask"],
        **{f"{name}_token": f"[{name.upper()}]" for name in names},
    )


def test_equal_components_pass_and_tell_the_largest_difference(hf_layer, config):
    layer = BertModel(config).layers[0]
    load_hf(layer, hf_layer)
    hidden = torch.randn(2, 7, 12)
    assert 0.0 <= assert_matches_huggingface(layer, hf_layer, hidden) <= 1e-5


def test_training_mode_is_put_back(hf_layer, config):
    layer = BertModel(config).layers[0].train()
    layer.feed_forward.eval()
    load_hf(layer, hf_layer)
    assert_matches_huggingface(layer, hf_layer, torch.randn(2, 7, 12))
    assert layer.training
    assert layer.attention.dropout.training
    assert not layer.feed_forward.training
    assert hf_layer.training


def test_unequal_components_fail_with_place_and_values(hf_layer, config):
    layer = BertModel(config).layers[0]
    load_hf(layer, hf_layer)
    with torch.no_grad():
        layer.feed_forward_layer_norm.bias[4] += 0.25
    message = r"EncoderLayer output: max abs difference 0\.25 > 1e-05 at \[\d, \d, 4\]"
    with pytest.raises(AssertionError, match=message):
        assert_matches_huggingface(layer, hf_layer, torch.randn(2, 7, 12))


def test_nan_is_a_difference(hf_layer, config):
    layer = BertModel(config).layers[0]
    load_hf(layer, hf_layer)
    with torch.no_grad():
        layer.feed_forward_layer_norm.bias[4] = torch.nan
    with pytest.raises(AssertionError, match="max abs difference nan"):
        assert_matches_huggingface(layer, hf_layer, torch.randn(2, 7, 12))


def test_another_shape_is_a_difference(hf_layer):
    class Halved(nn.Module):
        def forward(self, hidden_states):
            return hidden_states[:, ::2]

    with pytest.raises(AssertionError, match=r"shape \[2, 4, 12\], Hugging Face has \[2, 7, 12\]"):
        assert_matches_huggingface(Halved(), hf_layer, torch.randn(2, 7, 12))


def test_components_of_other_people_are_accepted(hf_layer):
    class Mine(nn.Module):
        def __init__(self):
            super().__init__()
            self.norm = nn.LayerNorm(12, eps=1e-12)

        def forward(self, hidden_states):
            return self.norm(hidden_states)

    theirs = hf_layer.output.LayerNorm
    mine = Mine()
    mine.norm.load_state_dict(theirs.state_dict())
    assert_matches_huggingface(mine, theirs, torch.randn(2, 7, 12))


CLASSES = (BertForPreTraining, BertForMaskedLM, BertForNextSentencePrediction, BertModel)


@pytest.mark.parametrize("model_class", CLASSES, ids=lambda c: c.__name__)
def test_folder_is_compared_stage_by_stage(model_class, config, tokenizer, tmp_path):
    torch.manual_seed(3)
    model_class(config).save_pretrained(tmp_path, tokenizer)
    comparison = compare_with_huggingface(tmp_path, TEXT)
    assert comparison.architecture == model_class.__name__
    assert comparison.max_difference <= 1e-5
    names = [stage.name for stage in comparison.stages]
    assert names[:5] == [
        "embeddings",
        "layer 0 attention",
        "layer 0 feed-forward",
        "layer 1 attention",
        "layer 1 feed-forward",
    ]
    both = ["pooler, before tanh", "word scores", "pair scores", "loss"]
    if model_class is BertForPreTraining:
        assert names[5:] == both
    assert all(stage.magnitude > 0 for stage in comparison.stages)
    table = str(comparison).splitlines()
    assert len(table) == len(names) + 2
    assert table[2].startswith("embeddings ")


def test_comparison_finds_a_component_that_differs(config, tokenizer, tmp_path, monkeypatch):
    torch.manual_seed(3)
    BertForPreTraining(config).save_pretrained(tmp_path, tokenizer)
    monkeypatch.setitem(ACTIVATION_FUNCTIONS, "gelu", torch.relu)
    comparison = compare_with_huggingface(tmp_path, TEXT)
    differences = {stage.name: stage.difference for stage in comparison.stages}
    assert differences["layer 0 attention"] <= 1e-5
    assert differences["layer 0 feed-forward"] > 1e-3


def test_tokenizer_too_large_for_the_model_is_named(config, tokenizer, tmp_path):
    BertModel(config.replace(vocab_size=10)).save_pretrained(tmp_path, tokenizer)
    with pytest.raises(InputError, match="the tokenizer gives ids up to 1[0-4].*vocab_size=10"):
        compare_with_huggingface(tmp_path, TEXT)


@pytest.mark.parametrize("limit", ["nan", "-1"])
def test_limit_that_decides_nothing_is_refused(limit, config, tmp_path, capsys):
    BertModel(config).save_pretrained(tmp_path)
    assert main(["compare-hf", "--model", str(tmp_path), "--max-difference", limit]) == 2
    assert "--max-difference must be >= 0" in capsys.readouterr().err


def test_text_without_words_is_refused(config, tokenizer, tmp_path):
    BertModel(config).save_pretrained(tmp_path, tokenizer)
    with pytest.raises(InputError, match="no words to compare on; got ' '"):
        compare_with_huggingface(tmp_path, " ")
