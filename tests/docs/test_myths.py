"""Shows each claim of docs/myths.md, "what tutorials get wrong".
Run alone: `pytest tests/docs/test_myths.py`.
"""

from __future__ import annotations

import math
import re
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from bert_scratch.config import BertConfig
from bert_scratch.data.loader import open_examples
from bert_scratch.data.masking import Masker
from bert_scratch.data.vocabulary import train_tokenizer
from bert_scratch.data.wordpiece import SpecialIds
from bert_scratch.model.encoder import EncoderLayer
from bert_scratch.model.heads import BertForPreTraining
from bert_scratch.pretraining.choices import choose_batch_size

PAGE = Path(__file__).parents[2] / "docs" / "myths.md"
V, S = 100, 12


@pytest.fixture(scope="module")
def config() -> BertConfig:
    return BertConfig(
        vocab_size=V,
        hidden_size=32,
        num_hidden_layers=3,
        num_attention_heads=2,
        intermediate_size=64,
        max_position_embeddings=16,
    )


@pytest.fixture
def model(config: BertConfig) -> BertForPreTraining:
    torch.manual_seed(0)
    return BertForPreTraining(config).eval()


@pytest.fixture(scope="module")
def ids() -> torch.Tensor:
    return torch.randint(5, V, (2, S), generator=torch.Generator().manual_seed(1))


def test_page_names_the_tests_of_this_file() -> None:
    named = set(re.findall(r"`(test_\w+)`", PAGE.read_text(encoding="utf-8")))
    here = {name for name in globals() if name.startswith("test_")}
    assert named == here - {"test_page_names_the_tests_of_this_file"}


def test_positions_are_learned_not_sinusoidal(
    model: BertForPreTraining, config: BertConfig, ids: torch.Tensor
) -> None:
    table = model.bert.embeddings.position_embeddings.weight
    assert table.requires_grad
    model(ids).prediction_logits.square().mean().backward()
    assert table.grad is not None
    assert (table.grad[:S] != 0).any(dim=1).all()
    assert (table.grad[S:] == 0).all()  # rows of their own, not one formula for all
    angles = torch.arange(16)[:, None] / 10000 ** (torch.arange(0, 32, 2) / 32)
    waves = torch.stack([angles.sin(), angles.cos()], dim=2).flatten(1)
    correlation = torch.corrcoef(torch.stack([table.detach().flatten(), waves.flatten()]))
    assert correlation[0, 1].abs() < 0.2
    assert BertConfig.preset("base", vocab_size=V).max_position_embeddings == 512


def test_the_feed_forward_block_has_gelu_not_relu(config: BertConfig) -> None:
    for preset in BertConfig.PRESETS:
        assert BertConfig.preset(preset, vocab_size=V).hidden_act == "gelu"
    activation = EncoderLayer(config).feed_forward.activation
    value = torch.tensor(-0.5)
    expected = -0.25 * (1 + math.erf(-0.5 / math.sqrt(2)))
    assert math.isclose(activation(value).item(), expected, rel_tol=1e-5)
    assert activation(value) < 0  # where ReLU has 0


def test_layers_normalise_after_the_residual(
    model: BertForPreTraining, config: BertConfig, ids: torch.Tensor
) -> None:
    layer = model.bert.layers[0]
    states = model.bert(ids, output_hidden_states=True).hidden_states
    assert states is not None
    for state in states:  # the weights of LayerNorm are 1 and 0 at the start
        assert torch.allclose(state.mean(-1), torch.zeros(2, S), atol=1e-5)
        assert torch.allclose(state.var(-1, correction=0), torch.ones(2, S), atol=1e-4)
    middle = layer.attention_layer_norm(states[0] + layer.attention(states[0]))
    after = layer.feed_forward_layer_norm(middle + layer.feed_forward(middle))
    assert torch.allclose(after, states[1], atol=1e-6)
    normed = layer.attention_layer_norm(states[0])
    pre_norm = states[0] + layer.attention(normed)
    pre_norm = pre_norm + layer.feed_forward(layer.feed_forward_layer_norm(pre_norm))
    assert (pre_norm - states[1]).abs().max() > 0.01


def test_stop_words_and_punctuation_are_kept() -> None:
    text = "To be, or not to be: that is the question."
    tokenizer = train_tokenizer([text] * 20, 200)
    tokens = tokenizer.encode(text).tokens
    assert tokens == [
        "[CLS]", "To", "be", ",", "or", "not", "to", "be", ":", "that", "is", "the", "question",
        ".", "[SEP]",
    ]  # fmt: skip


def test_every_token_sees_both_sides(model: BertForPreTraining, ids: torch.Tensor) -> None:
    weights = model.bert(ids, output_attentions=True).attentions
    assert weights is not None
    for layer in weights:
        assert (layer > 0).all()  # later tokens, too
    changed = ids.clone()
    changed[:, -1] = (ids[:, -1] + 1) % V
    first = model.bert(ids).last_hidden_state[:, 0]
    assert (model.bert(changed).last_hidden_state[:, 0] - first).abs().max() > 1e-4


def test_what_is_called_decoder_is_the_word_embedding(model: BertForPreTraining) -> None:
    named = {
        name for name, _ in model.named_parameters(remove_duplicate=False) if "decoder" in name
    }
    assert named == {"mlm_head.decoder.weight", "mlm_head.decoder.bias"}
    assert model.mlm_head.decoder.weight is model.bert.embeddings.word_embeddings.weight
    assert not any("cross" in name for name, _ in model.named_modules())


def test_the_largest_chosen_batch_is_that_of_the_paper() -> None:
    assert choose_batch_size(1e13, seq_length=512).value == 256
    for length in (64, 128, 512):
        chosen = [choose_batch_size(tokens, seq_length=length).value for tokens in (1e6, 1e9, 1e13)]
        assert chosen == sorted(chosen)
        assert int(chosen[-1]) * length == 131_072


def test_last_hidden_state_is_the_last_layer_alone(
    model: BertForPreTraining, config: BertConfig, ids: torch.Tensor
) -> None:
    output = model.bert(ids, output_hidden_states=True)
    assert output.hidden_states is not None
    assert len(output.hidden_states) == config.num_hidden_layers + 1
    assert output.last_hidden_state.shape == (2, S, 32)
    assert torch.equal(output.hidden_states[-1], output.last_hidden_state)
    assert torch.equal(output.hidden_states[0], model.bert.embeddings(ids))
    for earlier in output.hidden_states[:-1]:
        assert (earlier - output.last_hidden_state).abs().max() > 0.01


def shard_of_counting_tokens(num_documents: int, sentences: int, length: int) -> SimpleNamespace:
    """A shard in memory whose tokens are 0, 1, 2, ..."""
    tokens = np.arange(num_documents * sentences * length, dtype=np.uint32)
    return SimpleNamespace(
        num_tokens=len(tokens),
        num_documents=num_documents,
        num_one_sentence_documents=0,
        sentences=np.arange(length, len(tokens) + 1, length).astype(np.uint32),
        documents=np.arange(sentences, num_documents * sentences + 1, sentences).astype(np.uint32),
        read=lambda start, end: tokens[start:end],
    )


def test_label_zero_means_that_b_follows_a() -> None:
    examples = open_examples(
        [shard_of_counting_tokens(40, 10, 8)],
        max_seq_length=32,
        short_seq_prob=0.1,
        pair_task="nsp",
        pair_sampling="balanced",
        seed=3,
        split="train",
    )
    slots = np.arange(examples.facts.num_examples)
    batch = examples.batch(np.zeros_like(slots), slots)
    ends = np.cumsum(batch.segment_lengths)
    last_of_a = batch.tokens[ends[0::2] - 1]
    first_of_b = batch.tokens[ends[0::2]]
    follows = first_of_b == last_of_a + 1
    assert set(batch.labels.tolist()) == {0, 1}
    assert follows[batch.labels == 0].all()
    assert not follows[batch.labels == 1].any()
    document = 80
    assert (first_of_b // document != last_of_a // document)[batch.labels == 1].all()


def test_four_fifths_of_predicted_tokens_show_mask() -> None:
    special = SpecialIds(pad=0, unk=1, cls=2, sep=3, mask=4)
    masker = Masker(vocab_size=1000, special_ids=special, unselectable_ids=range(5), seed=7)
    rows = torch.randint(5, 1000, (2000, 100), generator=torch.Generator().manual_seed(0))
    names = torch.stack([torch.zeros(2000, dtype=torch.int64), torch.arange(2000)], dim=1)
    shown, positions, labels = masker.mask(rows, torch.full((2000,), 100), names)
    assert len(positions) == 2000 * 15
    there = shown.flatten()[positions]
    masked = (there == special.mask).double().mean().item()
    kept = (there == labels).double().mean().item()
    assert abs(masked - 0.8) < 0.01  # four standard errors of 30,000 draws
    assert abs(kept - 0.1) < 0.01
