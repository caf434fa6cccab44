"""Pins each layer against a float64 reference written out by hand, dropout's exact rate and
reproducibility, and the initial weights.

Run alone: `pytest tests/model/test_layers.py`.
"""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from bert_scratch.config import ACTIVATIONS, BertConfig, InputError
from bert_scratch.model import layers
from bert_scratch.model.dropout import Dropout
from bert_scratch.model.encoder import BertModel, EncoderLayer, Pooler
from bert_scratch.model.layers import (
    ACTIVATION_FUNCTIONS,
    Embeddings,
    FeedForward,
    LayerNorm,
    MultiHeadAttention,
)
from bert_scratch.training.runtime import Runtime

BATCH, LENGTH = 5, 11


def hidden(config, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(BATCH, LENGTH, config.hidden_size, generator=generator)


def layer_norm_by_hand(values, module):
    values = values.double()
    mean = values.mean(-1, keepdim=True)
    variance = ((values - mean) ** 2).mean(-1, keepdim=True)
    return (values - mean) / (variance + module.eps).sqrt() * module.weight + module.bias


@pytest.mark.parametrize("eps", [1e-12, 1e-5, 0.3])
def test_layer_norm_is_the_formula_with_biased_variance_and_eps_inside(eps, config, randomize):
    module = randomize(LayerNorm(config.replace(layer_norm_eps=eps)), 0.5)
    values = hidden(config) * 0.7 + 3.0
    torch.testing.assert_close(
        module(values).double(), layer_norm_by_hand(values, module), atol=1e-5, rtol=0
    )


def test_layer_norm_of_bfloat16_has_float32_statistics(config, randomize):
    module = randomize(LayerNorm(config), 0.5)
    values = (hidden(config) + 20.0).bfloat16()
    with torch.autocast("cpu", torch.bfloat16):
        result = module(values)
    assert result.dtype == torch.bfloat16
    expected = layer_norm_by_hand(values, module)
    torch.testing.assert_close(result.double(), expected, atol=0, rtol=2**-8)


@pytest.mark.filterwarnings("ignore:.*CUDA is not available")
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_layer_norm_on_a_gpu_keeps_the_dtype_whatever_autocast_wants(dtype, config, fake_gpu):
    module = LayerNorm(config)
    with fake_gpu(module) as device:
        values = torch.ones(3, config.hidden_size, dtype=dtype, device=device)
        runtime = Runtime(device=device, dtype=torch.bfloat16, num_threads=1)
        with runtime.autocast():
            assert F.layer_norm(values, values.shape[1:]).dtype == torch.float32
            assert module(values).dtype == dtype


@pytest.mark.gpu
def test_autocast_on_a_gpu_leaves_no_float32_between_layers(config, randomize):
    layer = randomize(EncoderLayer(config), 0.2).cuda().eval()
    values = hidden(config).cuda()
    expected = layer(values)
    with torch.autocast("cuda", dtype=torch.bfloat16):
        output = layer(values.bfloat16())
    assert output.dtype == torch.bfloat16
    torch.testing.assert_close(output.float(), expected, atol=0.1, rtol=0.05)


def gelu_tanh(x):
    return 0.5 * x * (1 + torch.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)))


BY_HAND = {
    "gelu": lambda x: 0.5 * x * (1 + torch.erf(x / math.sqrt(2))),
    "gelu_new": gelu_tanh,
    "gelu_pytorch_tanh": gelu_tanh,
    "relu": lambda x: x.clamp(min=0),
    "silu": lambda x: x / (1 + torch.exp(-x)),
}


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_activation_is_its_formula(name):
    values = torch.linspace(-9, 9, 4001)
    expected = BY_HAND[name](values.double())
    torch.testing.assert_close(
        ACTIVATION_FUNCTIONS[name](values).double(), expected, atol=1e-6, rtol=1e-6
    )


def test_feed_forward_is_its_formula(config, randomize):
    module = randomize(FeedForward(config), 0.15)
    values = hidden(config)
    wide = BY_HAND["gelu"](values.double() @ module.widen.weight.T.double() + module.widen.bias)
    expected = wide @ module.narrow.weight.T.double() + module.narrow.bias
    torch.testing.assert_close(module(values).double(), expected, atol=1e-5, rtol=0)


def attention_by_hand(module, values, bias):
    """Loop over batch, head and query, as the paper reads."""
    size = values.shape[-1]
    query, key, value = (
        values.double() @ weight.T.double() + part
        for weight, part in zip(
            module.query_key_value.weight.split(size),
            module.query_key_value.bias.split(size),
            strict=True,
        )
    )
    width = size // module.num_heads
    heads = []
    for h in range(module.num_heads):
        columns = slice(h * width, (h + 1) * width)
        rows = []
        for b in range(values.shape[0]):
            scores = query[b, :, columns] @ key[b, :, columns].T / math.sqrt(width) + bias[b, 0]
            exponentials = torch.exp(scores - scores.max(-1, keepdim=True).values)
            weights = exponentials / exponentials.sum(-1, keepdim=True)
            rows.append(weights @ value[b, :, columns])
        heads.append(torch.stack(rows))
    return torch.cat(heads, -1) @ module.output.weight.T.double() + module.output.bias


@pytest.mark.parametrize("backend", ["auto", "explicit", "sdpa"])
def test_multi_head_attention_is_its_formula(backend, config, randomize):
    module = randomize(MultiHeadAttention(config, attention_backend=backend), 0.2)
    values = hidden(config)
    bias = torch.zeros(BATCH, 1, 1, LENGTH)
    bias[1, ..., 7:] = -1e9
    torch.testing.assert_close(
        module(values, bias).double(), attention_by_hand(module, values, bias), atol=1e-5, rtol=0
    )
    without = attention_by_hand(module, values, torch.zeros_like(bias))
    torch.testing.assert_close(module(values).double(), without, atol=1e-5, rtol=0)


def test_unknown_attention_backend_is_refused(config):
    with pytest.raises(InputError, match="attention_backend must be one of.*did you mean 'sdpa'"):
        MultiHeadAttention(config, attention_backend="spda")


def test_every_component_keeps_the_shape(config):
    values = hidden(config)
    shape = values.shape
    for component in (LayerNorm, MultiHeadAttention, FeedForward, EncoderLayer):
        assert component(config)(values).shape == shape
    assert Dropout(0.5)(values).shape == shape
    assert Pooler(config)(values).shape == (BATCH, config.hidden_size)
    assert Embeddings(config)(torch.zeros(BATCH, LENGTH, dtype=torch.int64)).shape == shape
    output, weights = EncoderLayer(config)(values, output_attentions=True)
    assert output.shape == shape
    assert weights.shape == (BATCH, config.num_attention_heads, LENGTH, LENGTH)


def test_embeddings_sum_three_tables_then_normalise(config, randomize):
    module = randomize(Embeddings(config), 0.5)
    ids = torch.randint(0, config.vocab_size, (BATCH, LENGTH))
    segments = torch.randint(0, config.type_vocab_size, (BATCH, LENGTH))
    positions = torch.randint(0, config.max_position_embeddings, (BATCH, LENGTH))
    extra = hidden(config)
    summed = (
        module.word_embeddings.weight[ids].double()
        + module.token_type_embeddings.weight[segments]
        + module.position_embeddings.weight[positions]
        + extra
    )
    result = module(ids, segments, position_ids=positions, extra_embeddings=extra)
    expected = layer_norm_by_hand(summed, module.layer_norm)
    torch.testing.assert_close(result.double(), expected, atol=1e-5, rtol=0)


def test_embeddings_left_out_arguments_have_their_defaults(config, randomize):
    module = randomize(Embeddings(config), 0.5)
    ids = torch.randint(0, config.vocab_size, (BATCH, LENGTH))
    explicit = module(ids, torch.zeros_like(ids), position_ids=torch.arange(LENGTH)[None])
    assert torch.equal(module(ids), explicit)
    words = module.word_embeddings(ids)
    assert torch.equal(module(inputs_embeds=words), explicit)


def test_embeddings_refuse_contradictions_and_too_long_sequences(config):
    module = Embeddings(config)
    ids = torch.zeros(1, 24, dtype=torch.int64)
    with pytest.raises(InputError, match="at most 23 tokens.*got 24"):
        module(ids)
    with pytest.raises(InputError, match="exactly one of input_ids and inputs_embeds"):
        module()
    with pytest.raises(InputError, match="exactly one of input_ids and inputs_embeds"):
        module(ids, inputs_embeds=torch.zeros(1, 24, 21))


@pytest.mark.parametrize("train_pad_row", [False, True])
def test_pad_row_starts_at_zero_and_stays_unless_trained(train_pad_row, config):
    model = BertModel(config, train_pad_row=train_pad_row)
    table = model.embeddings.word_embeddings.weight
    assert bool((table[0] != 0).all()) is train_pad_row
    model(torch.tensor([[2, 5, 0]])).last_hidden_state.square().sum().backward()
    assert bool((table.grad[0] != 0).any()) is train_pad_row
    assert bool((table.grad[5] != 0).any())


@settings(max_examples=40, derandomize=True)
@given(
    p=st.floats(0.0, 0.9),
    shape=st.lists(st.integers(1, 7), min_size=1, max_size=4),
    dtype=st.sampled_from([torch.float32, torch.bfloat16, torch.float64]),
    seed=st.integers(0, 2**31),
)
def test_dropout_zeroes_or_scales_and_depends_on_the_generator_alone(p, shape, dtype, seed):
    module = Dropout(p)
    values = torch.rand(shape, dtype=dtype) + 1.0
    torch.manual_seed(seed)
    dropped = module(values)
    torch.manual_seed(seed)
    assert torch.equal(module(values), dropped)
    scale = 2**16 / (2**16 - round(p * 2**16))
    kept = dropped != 0
    expected = (values.double() * scale).to(dtype)
    torch.testing.assert_close(dropped[kept], expected[kept])
    assert dropped.dtype == dtype


@pytest.mark.parametrize("p", [0.1, 0.5, 0.003])
def test_dropout_rate_is_exact_in_each_of_the_four_lanes(p):
    torch.manual_seed(1)
    count = 2**22
    dropped = (Dropout(p)(torch.ones(count)) == 0).view(-1, 4).double().mean(0)
    four_sigma = 4 * math.sqrt(p * (1 - p) / (count / 4))
    assert (dropped - p).abs().max() <= four_sigma + 2**-17


def test_dropout_neighbours_are_independent():
    torch.manual_seed(2)
    dropped = (Dropout(0.5)(torch.ones(2**20)) == 0).double() - 0.5
    for distance in (1, 2, 3, 4, 5):
        correlation = 4 * (dropped[distance:] * dropped[:-distance]).mean()
        assert abs(correlation) < 5 / 2**10


def test_dropout_passes_the_gradient_where_it_passes_the_value():
    values = torch.ones(1001, requires_grad=True)
    dropped = Dropout(0.3)(values)
    dropped.sum().backward()
    assert torch.equal(values.grad, dropped.detach())


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_dropout_added_to_a_residual_is_their_sum(dtype):
    residual, values = torch.randn(2, 4099, dtype=dtype).unbind()
    for module in (Dropout(0.3), Dropout(0.3).eval(), Dropout(0.0)):
        torch.manual_seed(5)
        added = module.added_to(residual, values)
        torch.manual_seed(5)
        dropped = module(values)
        tolerance = 4 * torch.finfo(dtype).eps  # each rounds once more or less, at values up to 4
        torch.testing.assert_close(added, residual + dropped, atol=tolerance, rtol=tolerance)
        assert torch.equal(added[dropped == 0], residual[dropped == 0])


def test_dropout_does_nothing_in_evaluation_or_at_rate_zero():
    values = torch.rand(7)
    state = torch.get_rng_state()
    assert Dropout(0.5).eval()(values) is values
    assert Dropout(0.0)(values) is values
    assert torch.equal(torch.get_rng_state(), state)


def matrices(model):
    return [
        (name, part.weight)
        for name, part in model.named_modules()
        if isinstance(part, torch.nn.Linear | torch.nn.Embedding)
    ]


@pytest.mark.parametrize(("initializer", "share"), [("normal", 1.0), ("truncated_normal", 0.8796)])
def test_initial_weights_have_the_configured_spread(initializer, share):
    config = BertConfig.preset("tiny", vocab_size=3001, initializer_range=0.05)
    model = BertModel(config, initializer=initializer)
    for name, weight in matrices(model):
        if weight.numel() < 10_000:
            continue
        values = weight[1:] if "word" in name else weight
        assert abs(values.mean()) < 0.002, name
        assert abs(values.std() / 0.05 - share) < 0.03, name
        if initializer == "truncated_normal":
            assert weight.abs().max() <= 0.1
        else:
            assert weight.abs().max() > 0.15


def test_initial_biases_are_zero_and_layer_norms_neutral(config):
    for name, parameter in BertModel(config).named_parameters():
        if name.endswith("bias"):
            assert not parameter.any(), name
        elif "layer_norm" in name:
            assert bool((parameter == 1).all()), name


def test_initial_weights_depend_on_the_default_generator_alone(config):
    torch.manual_seed(5)
    first = BertModel(config).state_dict()
    torch.manual_seed(5)
    second = BertModel(config).state_dict()
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_unknown_initializer_is_refused(config):
    with pytest.raises(InputError, match="initializer must be one of normal, truncated_normal"):
        BertModel(config, initializer="xavier")


@pytest.mark.parametrize("backend", ["explicit", "sdpa"])
def test_dropout_acts_on_the_weights_in_training_alone(backend: str, config: BertConfig) -> None:
    changed = config.replace(attention_probs_dropout_prob=0.5)
    module = MultiHeadAttention(changed, attention_backend=backend)
    hidden_states = torch.randn(2, 7, config.hidden_size)
    assert not torch.equal(module(hidden_states), module(hidden_states))
    module.eval()
    assert torch.equal(module(hidden_states), module(hidden_states))


def test_dropout_keeps_rows_from_the_kernel_that_has_none(
    config: BertConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(layers, "has_packed_attention", lambda *_: True)
    module = MultiHeadAttention(config.replace(attention_probs_dropout_prob=0.1))
    hidden_states = torch.zeros(1, 4, config.hidden_size)
    assert not module.train().takes_packed_rows(hidden_states)
    assert module.eval().takes_packed_rows(hidden_states)
