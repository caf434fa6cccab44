"""Pins what the encoder promises whatever its weights: published sizes, padding and batching
change nothing, packed rows equal padded ones, backends and dtypes agree, bits are reproducible.

Run alone: `pytest tests/model/test_encoder.py`.
"""

from __future__ import annotations

import itertools
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from bert_scratch.config import BertConfig, InputError
from bert_scratch.model import encoder, layers
from bert_scratch.model.attention import attention, combined_bias
from bert_scratch.model.dropout import Dropout
from bert_scratch.model.encoder import BertModel
from bert_scratch.model.heads import BertForPreTraining
from bert_scratch.model.initial_weights import sinusoids
from bert_scratch.model.layers import MultiHeadAttention, gather_positions

PUBLISHED = {
    "tiny": 4_385_920,
    "mini": 11_170_560,
    "small": 28_763_648,
    "medium": 41_373_184,
    "base": 109_482_240,
    "large": 335_141_888,
}


def num_parameters(model):
    return sum(parameter.numel() for parameter in model.parameters())


@pytest.mark.parametrize("preset", PUBLISHED)
def test_preset_has_the_published_number_of_parameters(preset):
    with torch.device("meta"):
        encoder = BertModel(BertConfig.preset(preset, vocab_size=30522))
    assert num_parameters(encoder) == PUBLISHED[preset]


def test_pretraining_heads_add_their_own_parameters_and_no_second_decoder():
    config = BertConfig.preset("base", vocab_size=30522)
    size = config.hidden_size
    with torch.device("meta"):
        model = BertForPreTraining(config)
    transform = size * size + size + 2 * size
    assert num_parameters(model) - PUBLISHED["base"] == transform + 30522 + 2 * size + 2


@pytest.fixture
def model(config, randomize):
    return randomize(BertModel(config), 0.15)


def test_output_shapes_with_a_different_prime_for_every_dimension(model, config, inputs):
    output = model(**inputs(config), output_hidden_states=True, output_attentions=True)
    assert output.last_hidden_state.shape == (5, 17, 21)
    assert output.pooler_output.shape == (5, 21)
    assert [state.shape for state in output.hidden_states] == 3 * [(5, 17, 21)]
    assert [weights.shape for weights in output.attentions] == 2 * [(5, 3, 17, 17)]
    assert torch.equal(output.hidden_states[-1], output.last_hidden_state)
    assert model(**inputs(config)).hidden_states is None
    assert model(**inputs(config)).attentions is None


def test_asking_for_more_outputs_changes_nothing(model, config, inputs):
    plain = model(**inputs(config))
    full = model(**inputs(config), output_hidden_states=True, output_attentions=True)
    assert torch.equal(plain.last_hidden_state, full.last_hidden_state)
    assert torch.equal(plain.pooler_output, full.pooler_output)


POSITIONS = torch.tensor([0, 3, 16, 17, 40, 40])


@pytest.mark.parametrize(
    "path", ["training", "evaluation", "hidden states", "attentions", "checkpointing", "packed"]
)
def test_output_positions_give_what_all_positions_give_there(model, config, inputs, path):
    model.train(path != "evaluation")
    for part in model.modules():
        if isinstance(part, Dropout):
            part.eval()
    model.activation_checkpointing = path == "checkpointing"
    batch = inputs(config)
    if path == "packed":
        batch, _ = pack(batch)
    options = {f"output_{path.replace(' ', '_')}": True} if "s" == path[-1] else {}
    results = []
    for positions in (POSITIONS, None):
        model.zero_grad()
        output = model(**batch, **options, output_positions=positions)
        states = output.last_hidden_state
        if positions is None:
            states = gather_positions(states, POSITIONS)
        (states.sin().sum() + output.pooler_output.cos().sum()).backward()
        gradients = [parameter.grad.clone() for parameter in model.parameters()]
        results.append((states, output.pooler_output, *gradients))
    for some, every in zip(*results, strict=True):
        torch.testing.assert_close(some, every, atol=1e-5, rtol=1e-4)


def test_in_training_the_last_layer_runs_at_output_positions_alone(model, config, inputs):
    sizes = []
    for layer in model.layers:
        layer.feed_forward.register_forward_hook(lambda *call: sizes.append(call[2].shape))
    model.train()(**inputs(config), output_positions=POSITIONS)
    assert sizes == [(5, 17, 21), (64, 21)]  # 5 + 6, filled up


def test_pooling_layer_can_be_left_out(config):
    output = BertModel(config, add_pooling_layer=False)(torch.zeros(1, 3, dtype=torch.int64))
    assert output.pooler_output is None


def test_padding_changes_nothing(model, config, inputs):
    batch = inputs(config)
    garbled = dict(batch)
    padding = batch["attention_mask"] == 0
    noise = torch.randint(0, config.vocab_size, batch["input_ids"].shape)
    garbled["input_ids"] = torch.where(padding, noise, batch["input_ids"])
    garbled["token_type_ids"] = torch.where(padding, 1, batch["token_type_ids"])
    wider = {name: torch.nn.functional.pad(value, (0, 4)) for name, value in batch.items()}
    expected = model(**batch)
    real = ~padding
    for other, width in ((garbled, 17), (wider, 21)):
        output = model(**other)
        assert output.last_hidden_state.shape[1] == width
        states = output.last_hidden_state[:, :17]
        torch.testing.assert_close(
            states[real], expected.last_hidden_state[real], atol=2e-6, rtol=0
        )
        torch.testing.assert_close(output.pooler_output, expected.pooler_output, atol=2e-6, rtol=0)


def test_a_batch_of_one_is_a_row_of_a_batch(model, config, inputs):
    batch = inputs(config)
    together = model(**batch)
    for row in range(5):
        length = int(batch["attention_mask"][row].sum())
        alone = model(
            batch["input_ids"][row : row + 1, :length],
            batch["token_type_ids"][row : row + 1, :length],
        )
        torch.testing.assert_close(
            alone.last_hidden_state[0], together.last_hidden_state[row, :length], atol=2e-6, rtol=0
        )
        torch.testing.assert_close(
            alone.pooler_output[0], together.pooler_output[row], atol=2e-6, rtol=0
        )


def pack(batch):
    """Join the real tokens of all rows into one row."""
    real = batch["attention_mask"] == 1
    lengths = real.sum(1)
    starts = torch.cat([torch.zeros(1, dtype=torch.int64), lengths.cumsum(0)]).int()
    packed = {name: batch[name][real][None] for name in ("input_ids", "token_type_ids")}
    return {**packed, "row_starts": starts}, real


def test_packed_rows_equal_padded_rows(model, config, inputs):
    batch = inputs(config)
    packed, real = pack(batch)
    expected, output = model(**batch), model(**packed)
    assert output.last_hidden_state.shape == (1, int(real.sum()), 21)
    torch.testing.assert_close(
        output.last_hidden_state[0], expected.last_hidden_state[real], atol=2e-6, rtol=0
    )
    torch.testing.assert_close(output.pooler_output, expected.pooler_output, atol=2e-6, rtol=0)


def test_spare_tokens_after_the_last_packed_row_change_nothing(model, config, inputs):
    packed, _ = pack(inputs(config))
    expected = model(**packed)
    spare = {
        name: torch.nn.functional.pad(packed[name], (0, 3), value=1)
        for name in ("input_ids", "token_type_ids")
    }
    output = model(**spare, row_starts=packed["row_starts"])
    torch.testing.assert_close(
        output.last_hidden_state[:, :-3], expected.last_hidden_state, atol=2e-6, rtol=0
    )
    torch.testing.assert_close(output.pooler_output, expected.pooler_output, atol=2e-6, rtol=0)


def test_packed_rows_take_positions_when_they_are_given(model, config, inputs):
    packed, _ = pack(inputs(config))
    starts = packed["row_starts"].tolist()
    counted = [torch.arange(b - a) for a, b in itertools.pairwise(starts)]
    positions = torch.cat(counted)[None]
    implied = model(**packed).last_hidden_state
    assert torch.equal(model(**packed, position_ids=positions).last_hidden_state, implied)
    other = model(**packed, position_ids=positions + 1).last_hidden_state
    assert (other - implied).abs().max() > 0.01


def row_by_row(query, key, value, rows):
    """What the kernel behind `packed_attention` is to compute."""
    assert rows.bounds.dtype == torch.int32 and rows.bounds[-1] == len(query)
    mixed = []
    for start, end in itertools.pairwise(rows.bounds.tolist()):
        assert end - start <= rows.longest_row
        parts = (part[None, start:end].transpose(1, 2) for part in (query, key, value))
        mixed.append(attention(*parts)[0][0].transpose(0, 1))
    return torch.cat(mixed)


@pytest.fixture
def biases(monkeypatch):
    """The biases that models add to their scores while a test runs."""
    made = []

    def noting(*arguments, **options):
        made.append(combined_bias(*arguments, **options))
        return made[-1]

    monkeypatch.setattr(encoder, "combined_bias", noting)
    return made


@pytest.mark.parametrize("starts_are", [torch.int32, torch.int64])
def test_rows_kept_apart_by_a_kernel_equal_padded_rows(
    starts_are, model, config, inputs, biases, monkeypatch
):
    batch = inputs(config)
    packed, real = pack(batch)
    packed["row_starts"] = packed["row_starts"].to(starts_are)
    expected = model(**batch)
    monkeypatch.setattr(layers, "packed_attention", row_by_row)
    monkeypatch.setattr(MultiHeadAttention, "takes_packed_rows", lambda *_: True)
    output = model(**packed, longest_row=17)
    assert biases[1] is None
    torch.testing.assert_close(
        output.last_hidden_state[0], expected.last_hidden_state[real], atol=2e-6, rtol=0
    )
    torch.testing.assert_close(output.pooler_output, expected.pooler_output, atol=2e-6, rtol=0)


@pytest.mark.filterwarnings("ignore:CUDA is not available")
def test_packed_rows_on_a_gpu_go_to_the_kernel_without_a_bias(fake_gpu, biases):
    shape = {"vocab_size": 13, "hidden_size": 16, "num_attention_heads": 2, "intermediate_size": 7}
    model = BertModel(BertConfig(**shape, num_hidden_layers=2)).bfloat16().eval()
    starts = torch.tensor([0, 4, 9], dtype=torch.int32)
    with fake_gpu(model) as device:
        ids = torch.ones(1, 11, dtype=torch.int64, device=device)
        output = model(ids, row_starts=starts.to(device))
    assert output.last_hidden_state.shape == (1, 11, 16)
    assert output.last_hidden_state.is_cuda and output.pooler_output.shape == (2, 16)
    assert biases == [None]


@pytest.mark.parametrize("what", ["output_attentions", "attention_bias", "position_ids"])
def test_what_needs_the_weights_keeps_packed_rows_from_the_kernel(
    what, model, config, inputs, monkeypatch
):
    packed, _ = pack(inputs(config))
    expected = model(**packed).last_hidden_state
    length = expected.shape[1]
    extra = {
        "output_attentions": True,
        "attention_bias": torch.zeros(1, 1, length, length),
        "position_ids": torch.cat(
            [torch.arange(b - a) for a, b in itertools.pairwise(packed["row_starts"].tolist())]
        )[None],
    }
    monkeypatch.setattr(layers, "packed_attention", None)
    monkeypatch.setattr(MultiHeadAttention, "takes_packed_rows", lambda *_: True)
    output = model(**packed, **{what: extra[what]})
    torch.testing.assert_close(output.last_hidden_state, expected, atol=2e-6, rtol=0)


def test_word_vectors_can_be_given_in_place_of_ids(model, config, inputs):
    batch = inputs(config)
    expected = model(**batch).last_hidden_state
    words = model.embeddings.word_embeddings(batch.pop("input_ids"))
    assert torch.equal(model(inputs_embeds=words, **batch).last_hidden_state, expected)


def test_extra_embeddings_are_one_more_summand(model, config, inputs):
    batch = inputs(config)
    extra = torch.randn(5, 17, 21)
    output = model(**batch, extra_embeddings=extra).last_hidden_state
    words = model.embeddings.word_embeddings(batch.pop("input_ids")) + extra
    expected = model(inputs_embeds=words, **batch).last_hidden_state
    torch.testing.assert_close(output, expected, atol=2e-6, rtol=0)


def test_attention_bias_can_stand_for_the_mask(model, config, inputs):
    batch = inputs(config)
    expected = model(**batch).last_hidden_state
    forbidden = (1.0 - batch.pop("attention_mask").float())[:, None, None, :] * -1e30
    bias = forbidden.expand(-1, 3, 17, -1)
    output = model(**batch, attention_bias=bias).last_hidden_state
    torch.testing.assert_close(output, expected, atol=2e-6, rtol=0)


def test_contradicting_inputs_are_refused(model):
    ids = torch.zeros(1, 3, dtype=torch.int64)
    for arguments in ({}, {"input_ids": ids, "inputs_embeds": torch.zeros(1, 3, 21)}):
        with pytest.raises(InputError, match="exactly one of input_ids and inputs_embeds"):
            model(**arguments)
    with pytest.raises(InputError, match="exactly one of input_ids and inputs_embeds"):
        model(row_starts=torch.tensor([0, 3]))


@settings(max_examples=15, derandomize=True)
@given(lengths=st.lists(st.integers(1, 9), min_size=1, max_size=4), seed=st.integers(0, 99))
def test_backends_agree_in_outputs_and_gradients(lengths, seed):
    torch.manual_seed(seed)
    shape = {"vocab_size": 13, "hidden_size": 10, "num_attention_heads": 2, "intermediate_size": 7}
    config = BertConfig(
        **shape, num_hidden_layers=2, max_position_embeddings=9, initializer_range=0.3
    )
    width = max(lengths)
    mask = (torch.arange(width) < torch.tensor(lengths)[:, None]).long()
    ids = torch.randint(0, 13, mask.shape)
    explicit = BertModel(config, attention_backend="explicit").eval()
    fused = BertModel(config, attention_backend="sdpa").eval()
    fused.load_state_dict(explicit.state_dict())
    outputs = [model(ids, attention_mask=mask) for model in (explicit, fused)]
    real = mask == 1
    states = [output.last_hidden_state[real] for output in outputs]
    torch.testing.assert_close(states[0], states[1], atol=1e-5, rtol=0)
    for state in states:
        state.pow(3).sum().backward()
    for mine, other in zip(explicit.parameters(), fused.parameters(), strict=True):
        if mine.grad is not None:
            scale = mine.grad.abs().max().item()
            torch.testing.assert_close(mine.grad, other.grad, atol=1e-4 * scale + 1e-5, rtol=0)


def test_training_step_has_the_same_bits_every_time(config, inputs):
    torch.use_deterministic_algorithms(True)
    torch.manual_seed(0)
    model = BertForPreTraining(config).train()
    batch = inputs(config, rows=16)
    positions = torch.arange(0, 16 * 17, 3)
    labels = batch["input_ids"].flatten()[positions]
    gradients = []
    for _ in range(2):
        torch.manual_seed(1)
        model.zero_grad()
        output = model(
            **batch,
            masked_positions=positions,
            labels=labels,
            next_sentence_label=torch.arange(16) % 2,
        )
        output.loss.backward()
        gradients.append([parameter.grad.clone() for parameter in model.parameters()])
    assert all(torch.equal(a, b) for a, b in zip(*gradients, strict=True))


def test_dropout_is_on_in_training_and_off_in_evaluation(config, inputs):
    model = BertModel(config).train()
    batch = inputs(config)
    states = [model(**batch).last_hidden_state for _ in range(2)]
    assert not torch.equal(*states)
    model.eval()
    states = [model(**batch).last_hidden_state for _ in range(2)]
    assert torch.equal(*states)


def test_bfloat16_autocast_stays_near_float32(model, config, inputs):
    batch = inputs(config)
    expected = model(**batch).last_hidden_state
    with torch.autocast("cpu", torch.bfloat16):
        output = model(**batch).last_hidden_state
    assert output.dtype == torch.bfloat16
    assert (output - expected).abs().max() < 0.1


def test_all_padding_row_is_finite_with_finite_gradients(model, config, inputs):
    batch = inputs(config)
    batch["attention_mask"][2] = 0
    output = model(**batch)
    output.last_hidden_state.sum().backward()
    assert output.last_hidden_state.isfinite().all()
    assert all(p.grad.isfinite().all() for p in model.parameters() if p.grad is not None)


def test_mimetic_weights_let_near_positions_attend_to_each_other():
    config = BertConfig.preset("tiny", vocab_size=50, initializer_range=0.0625)
    torch.manual_seed(0)
    model = BertModel(config, initializer="mimetic").eval()
    ids = torch.randint(5, 50, (4, 64))
    weights = model(ids, output_attentions=True).attentions[0].mean(dim=(0, 1))
    distance = (torch.arange(64)[:, None] - torch.arange(64)).abs()
    near, far = weights[distance == 1].mean(), weights[distance >= 32].mean()
    assert near > 3 * far


def test_sinusoids_are_those_of_the_transformer():
    rows = sinusoids(5, 6)
    for position in range(5):
        for pair in range(3):
            angle = position / 10_000 ** (2 * pair / 6)
            assert rows[position, 2 * pair].item() == pytest.approx(math.sin(angle), abs=1e-6)
            assert rows[position, 2 * pair + 1].item() == pytest.approx(math.cos(angle), abs=1e-6)


def test_hidden_states_are_whole_in_training_too(config, inputs) -> None:
    model, positions = BertModel(config).train(), torch.tensor([1, 20, 40])
    output = model(**inputs(config), output_positions=positions, output_hidden_states=True)
    whole = (5, 17, config.hidden_size)
    assert [tuple(states.shape) for states in output.hidden_states] == [whole] * 3
