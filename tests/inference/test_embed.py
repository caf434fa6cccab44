"""Pins vectors of texts, words and tokens against transformers' hidden states and
sentence-transformers, windows over long texts, and that batches change nothing.
CPU, needs transformers and sentence-transformers: `pytest tests/inference/test_embed.py`."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer

from bert_scratch import embed
from bert_scratch.config import BertConfig, InputError
from bert_scratch.inference.embed import EmbedOptions, embeddings
from bert_scratch.inference.encode import Window, windows_of
from bert_scratch.inference.pooling import join_windows, pool_windows
from bert_scratch.model.encoder import BertModel
from bert_scratch.model.folder import read_config
from bert_scratch.model.heads import BertForPreTraining

TEXTS = [
    "the cat sees a dog.",
    "",
    "unbelievable",
    "a garden in the house ! ? é 北京",
    "x",
    "z y x " * 6,
]


@pytest.fixture(scope="module")
def reference(folder: Path, tokenizer: Tokenizer) -> list[torch.Tensor]:
    """For each text [L + 1, S, D], made by transformers one text at a time."""
    transformers = pytest.importorskip("transformers")
    model = transformers.AutoModel.from_pretrained(folder).eval()
    states = []
    with torch.no_grad():
        for text in TEXTS:
            ids = torch.tensor([tokenizer.encode(text).ids])
            states.append(torch.cat(model(ids, output_hidden_states=True).hidden_states))
    return states


def test_every_layer_equals_transformers(
    model: BertForPreTraining, tokenizer: Tokenizer, reference: list[torch.Tensor]
) -> None:
    found = embed(model, tokenizer, TEXTS, layers=("all",), unit="token")
    for vectors, states in zip(found, reference, strict=True):
        expected = states[:, 1:-1].transpose(0, 1)
        assert vectors.shape == tuple(expected.shape)
        np.testing.assert_allclose(vectors, expected.numpy(), atol=1e-5)


@pytest.mark.parametrize("pooling", ["mean", "cls", "max"])
@pytest.mark.parametrize(
    ("layers", "how"),
    [((-1,), "mean"), ((0,), "mean"), ((-2,), "sum"), ((1, 2), "mean"), ((-1, 0), "sum")],
)
def test_text_vectors_equal_the_formula(
    pooling: str,
    layers: tuple[int, ...],
    how: str,
    model: BertForPreTraining,
    tokenizer: Tokenizer,
    reference: list[torch.Tensor],
) -> None:
    found = embed(model, tokenizer, TEXTS, pooling=pooling, layers=layers, layer_combine=how)
    for vector, states in zip(found, reference, strict=True):
        combined = torch.stack([states[layer] for layer in layers])
        combined = combined.mean(0) if how == "mean" else combined.sum(0)
        pooled = {"mean": combined.mean(0), "cls": combined[0], "max": combined.amax(0)}[pooling]
        np.testing.assert_allclose(vector, pooled.numpy(), atol=1e-5)


def test_concatenated_layers_stand_beside_each_other(
    model: BertForPreTraining, tokenizer: Tokenizer
) -> None:
    both = embed(model, tokenizer, TEXTS, layers=(1, 2), layer_combine="concat")
    first, second = (embed(model, tokenizer, TEXTS, layers=(layer,)) for layer in (1, 2))
    np.testing.assert_allclose(both, np.concatenate([first, second], axis=1), atol=1e-6)


def test_stacked_layers_stay_apart(model: BertForPreTraining, tokenizer: Tokenizer) -> None:
    stacked = embed(model, tokenizer, TEXTS, layers=(0, 2), layer_combine="stack")
    assert stacked.shape == (len(TEXTS), 2, model.config.hidden_size)
    last = embed(model, tokenizer, TEXTS, layers=(2,))
    np.testing.assert_allclose(stacked[:, 1], last, atol=1e-6)


def test_sentence_transformers_gives_the_same_vectors(
    folder: Path, model: BertForPreTraining, tokenizer: Tokenizer
) -> None:
    sentence_transformers = pytest.importorskip("sentence_transformers")
    texts = [text for text in TEXTS if text]
    theirs = sentence_transformers.SentenceTransformer(str(folder), device="cpu").encode(texts)
    ours = embed(model, tokenizer, texts)
    cosine = (ours * theirs).sum(1) / np.linalg.norm(ours, axis=1) / np.linalg.norm(theirs, axis=1)
    assert cosine.min() >= 0.999999


def test_word_vectors_are_the_means_of_their_pieces(
    model: BertForPreTraining, tokenizer: Tokenizer
) -> None:
    text = "a believable cat, dogs"
    options = EmbedOptions(unit="word")
    (words,) = embeddings(model, tokenizer, [text], options)
    (tokens,) = embeddings(model, tokenizer, [text], EmbedOptions(unit="token"))
    assert words.offsets is not None and tokens.offsets is not None
    shown = [text[start:end] for start, end in words.offsets]
    assert shown == ["a", "believable", "cat", ",", "dogs"]
    place = words.offsets[1]
    pieces = [
        vector
        for vector, (start, end) in zip(tokens.vectors, tokens.offsets, strict=True)
        if place[0] <= start and end <= place[1]
    ]
    assert len(pieces) == 2
    np.testing.assert_allclose(words.vectors[1], np.mean(pieces, axis=0), atol=1e-6)


@pytest.mark.parametrize("unit", ["text", "token"])
def test_batches_do_not_change_a_vector(
    unit: str, model: BertForPreTraining, tokenizer: Tokenizer
) -> None:
    together = embed(model, tokenizer, TEXTS, unit=unit)
    for text, vectors in zip(TEXTS, together, strict=True):
        (alone,) = embed(model, tokenizer, [text], unit=unit, batch_size=1)
        np.testing.assert_allclose(vectors, alone, atol=1e-5)


def test_normalized_vectors_have_length_one(
    model: BertForPreTraining, tokenizer: Tokenizer
) -> None:
    vectors = embed(model, tokenizer, TEXTS, normalize=True)
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1.0, atol=1e-6)


def test_a_longer_text_is_cut_off_and_counted(
    model: BertForPreTraining, tokenizer: Tokenizer
) -> None:
    text = " ".join(["cat"] * 40)
    options = EmbedOptions(max_seq_length=12)
    (found,) = embeddings(model, tokenizer, [text], options)
    assert found.num_cut == 30
    (start,) = embed(model, tokenizer, [" ".join(["cat"] * 10)])
    np.testing.assert_allclose(found.vectors, start, atol=1e-6)


def test_windows_give_every_token_a_vector(model: BertForPreTraining, tokenizer: Tokenizer) -> None:
    text = "the cat sees a dog in a garden . " * 6
    options = EmbedOptions(unit="token", max_seq_length=16, stride=5)
    (found,) = embeddings(model, tokenizer, [text], options)
    assert found.num_cut == 0
    assert len(found.vectors) == len(tokenizer.encode(text, add_special_tokens=False))


def test_a_text_of_one_window_is_the_same_with_and_without_stride(
    model: BertForPreTraining, tokenizer: Tokenizer
) -> None:
    plain = embed(model, tokenizer, TEXTS)
    np.testing.assert_array_equal(plain, embed(model, tokenizer, TEXTS, stride=3))


def test_the_mean_over_windows_weighs_them_by_length(
    model: BertForPreTraining, tokenizer: Tokenizer
) -> None:
    words = ["the", "cat", "sees", "a", "dog", "in", "a", "garden"]
    (found,) = embed(model, tokenizer, [" ".join(words)], max_seq_length=7, stride=5)
    parts = embed(model, tokenizer, [" ".join(words[:5]), " ".join(words[3:])])
    np.testing.assert_allclose(found, parts.mean(axis=0), atol=1e-6)


@given(length=st.integers(0, 60), max_tokens=st.integers(1, 20), data=st.data())
def test_windows_cover_every_token_and_end_with_the_text(
    length: int, max_tokens: int, data: st.DataObject
) -> None:
    stride = data.draw(st.integers(1, max_tokens))
    windows = list(windows_of([range(length)], max_tokens=max_tokens, stride=stride))
    assert {token for window in windows for token in window.ids} == set(range(length))
    assert all(len(window.ids) <= max_tokens for window in windows)
    starts = [window.start for window in windows]
    assert starts == sorted(set(starts))
    if length > max_tokens:
        assert windows[-1].ids[-1] == length - 1
        assert len(windows[-1].ids) == max_tokens


def test_a_token_takes_the_window_in_which_it_lies_deepest() -> None:
    windows = [Window(0, 0, range(5)), Window(0, 3, range(5))]
    found = [np.full((5, 1), index, np.float32) for index in (0, 1)]
    # tokens 3 and 4 are in both: 3 has one neighbour to its right here, none to its left there
    assert join_windows(windows, found)[:, 0].tolist() == [0, 0, 0, 0, 1, 1, 1, 1]


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"layers": (3,)}, "layers"),
        ({"layers": (-4,)}, "layers"),
        ({"layers": ()}, "--layers"),
        ({"pooling": "avg"}, "--pooling"),
        ({"unit": "sentence"}, "--unit"),
        ({"layer_combine": "add"}, "--layer-combine"),
        ({"max_seq_length": 32}, "--max-seq-length"),
        ({"max_seq_length": 10, "stride": 9}, "--stride"),
        ({"batch_size": 0}, "--batch-size"),
    ],
)
def test_wrong_options_are_named(
    options: dict[str, object], named: str, model: BertForPreTraining, tokenizer: Tokenizer
) -> None:
    with pytest.raises(InputError, match=named):
        embed(model, tokenizer, TEXTS, **options)


def test_a_tokenizer_that_is_not_the_models_is_refused(tokenizer: Tokenizer) -> None:
    small = BertModel(
        BertConfig(
            vocab_size=6,
            hidden_size=8,
            num_hidden_layers=1,
            num_attention_heads=1,
            intermediate_size=8,
        )
    )
    with pytest.raises(InputError, match="the tokenizer is not the model's"):
        embed(small, tokenizer, ["the cat"])


def test_no_texts_give_no_vectors(model: BertForPreTraining, tokenizer: Tokenizer) -> None:
    assert embed(model, tokenizer, []).shape == (0, model.config.hidden_size)
    assert embed(model, tokenizer, [], unit="word") == []


def test_the_model_is_left_as_it_was(model: BertForPreTraining, tokenizer: Tokenizer) -> None:
    model.train()
    embed(model, tokenizer, TEXTS[:1])
    assert model.training
    model.eval()


def test_texts_are_cut_where_the_rows_of_training_ended(
    model: BertForPreTraining, tokenizer: Tokenizer, tmp_path: Path
) -> None:
    trained = BertForPreTraining(model.config.replace(trained_seq_length=8)).eval()
    trained.load_state_dict(model.state_dict())
    text = "z y x " * 6
    (short,) = embeddings(trained, tokenizer, [text], EmbedOptions())
    (whole,) = embeddings(trained, tokenizer, [text], EmbedOptions(max_seq_length=31))
    assert (short.num_cut, whole.num_cut) == (12, 0)
    (named,) = embeddings(model, tokenizer, [text], EmbedOptions(max_seq_length=8))
    np.testing.assert_array_equal(short.vectors, named.vectors)


def test_length_of_training_is_read_from_where_sentence_transformers_keeps_it(
    model: BertForPreTraining, tmp_path: Path
) -> None:
    model.save_pretrained(tmp_path)
    assert read_config(tmp_path).trained_seq_length is None
    (tmp_path / "sentence_bert_config.json").write_text('{"max_seq_length": 9}')
    assert read_config(tmp_path).trained_seq_length == 9
    (tmp_path / "sentence_bert_config.json").write_text('{"max_seq_length": 999}')
    assert read_config(tmp_path).trained_seq_length is None  # the model has 31 positions
    BertForPreTraining(model.config.replace(trained_seq_length=7)).save_pretrained(tmp_path)
    assert read_config(tmp_path).trained_seq_length == 7


@pytest.mark.parametrize(("pooling", "expected"), [("mean", (5 * 1 + 3 * 9) / 8), ("cls", 5.0)])
def test_windows_of_a_mean_weigh_by_their_rows_and_those_of_cls_alike(
    pooling: str, expected: float
) -> None:
    windows = [Window(0, 0, [7, 8, 9]), Window(0, 3, [7])]
    pooled = np.array([[1.0], [9.0]], np.float32)
    assert pool_windows(pooled, windows, pooling)[0, 0] == pytest.approx(expected)


@pytest.mark.parametrize("unit", ["text", "word"])
@pytest.mark.parametrize("layers", [("-1",), ("-1", "-2"), ("all",)])
def test_no_texts_have_the_shape_that_texts_would_have(
    layers: tuple[str, ...], unit: str, model: BertForPreTraining, tokenizer: Tokenizer
) -> None:
    none, one = (
        embed(model, tokenizer, texts, layers=layers, unit=unit) for texts in ([], ["a text"])
    )
    assert len(none) == 0 and len(one) == 1
    if unit == "text":
        assert none.shape[1:] == one.shape[1:] and none.dtype == one.dtype
