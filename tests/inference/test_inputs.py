"""Pins text to model inputs: layout, token types, padding, and what a model cannot take.
Runs anywhere: `pytest tests/inference/test_inputs.py`.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import pytest
import torch
from tokenizers import Tokenizer

from bert_scratch import (
    Augmenter,
    AugmentOptions,
    bert_score,
    embed,
    fill_mask,
    next_sentence,
    pseudo_log_likelihoods,
    pseudo_perplexities,
    similarity,
    static_word_vectors,
)
from bert_scratch.config import BertConfig, InputError
from bert_scratch.data.wordpiece import TokenizerFolder
from bert_scratch.inference.inputs import (
    ModelOptions,
    batches,
    encode_pair,
    pad_batch,
    text_batches,
)
from bert_scratch.model.heads import BertForMaskedLM, BertForPreTraining

CONFIG = BertConfig(vocab_size=64, hidden_size=8, num_attention_heads=2, max_position_embeddings=9)


def tokens_of(tokenizer: Tokenizer, ids: list[int]) -> str:
    return " ".join(tokenizer.id_to_token(i) for i in ids)


def test_single_text_layout(tokenizer: Tokenizer) -> None:
    encoded = encode_pair(tokenizer, "The cats", config=CONFIG)
    assert tokens_of(tokenizer, encoded.ids) == "[CLS] the cat ##s [SEP]"
    assert encoded.token_type_ids == [0, 0, 0, 0, 0]


def test_pair_layout(tokenizer: Tokenizer) -> None:
    encoded = encode_pair(tokenizer, "the", "cat a", config=CONFIG)
    assert tokens_of(tokenizer, encoded.ids) == "[CLS] the [SEP] cat a [SEP]"
    assert encoded.token_type_ids == [0, 0, 0, 1, 1, 1]


def test_mask_is_special_only_when_asked_for(tokenizer: Tokenizer) -> None:
    encoded = encode_pair(tokenizer, "the [MASK]", config=CONFIG, with_masks=True)
    assert tokens_of(tokenizer, encoded.ids) == "[CLS] the [MASK] [SEP]"
    plain = encode_pair(tokenizer, "the [MASK]", config=CONFIG)
    assert "[MASK]" not in tokens_of(tokenizer, plain.ids)


def test_length_limit_counts_special_tokens(tokenizer: Tokenizer) -> None:
    assert len(encode_pair(tokenizer, "a " * 7, config=CONFIG).ids) == 9
    with pytest.raises(InputError, match=r"is 10 tokens long .* at most 9"):
        encode_pair(tokenizer, "a " * 8, config=CONFIG)


def test_token_beyond_the_embedding_is_refused_only_where_it_occurs(tokenizer: Tokenizer) -> None:
    last = tokenizer.get_vocab_size() - 1
    config = CONFIG.replace(vocab_size=last)
    assert encode_pair(tokenizer, "the cat", config=config).ids
    with pytest.raises(InputError, match=f"with id {last}, the model has {last} embeddings"):
        encode_pair(tokenizer, f"the {tokenizer.id_to_token(last)}", config=config)


def test_pair_for_a_model_with_one_token_type_is_refused(tokenizer: Tokenizer) -> None:
    with pytest.raises(InputError, match="two token types"):
        encode_pair(tokenizer, "a", "a", config=CONFIG.replace(type_vocab_size=1))


def test_padding_is_at_the_end_and_masked(tokenizer: Tokenizer) -> None:
    texts = [encode_pair(tokenizer, text, config=CONFIG) for text in ("the", "the cat a")]
    batch = pad_batch(texts, pad_id=0, device=torch.device("cpu"))
    assert batch["input_ids"][0].tolist() == [*texts[0].ids, 0, 0]
    assert batch["attention_mask"].tolist() == [[1, 1, 1, 0, 0], [1, 1, 1, 1, 1]]
    assert all(tensor.shape == (2, 5) and tensor.dtype == torch.int64 for tensor in batch.values())


def test_encoder_is_loaded_from_a_folder_without_a_pooler(
    folder: Path, tmp_path: Path, tokenizer: Tokenizer
) -> None:
    masked = BertForMaskedLM.from_pretrained(folder)
    masked.save_pretrained(tmp_path, TokenizerFolder(tokenizer))
    for dtype in ("float32", "bfloat16"):
        encoder, _ = ModelOptions(model=str(tmp_path), dtype=dtype).load_encoder()
        assert encoder.pooler is None and not encoder.training


def test_padding_changes_no_result(model: BertForPreTraining, tokenizer: Tokenizer) -> None:
    texts = [encode_pair(tokenizer, t, config=model.config) for t in ("the", "the cat a", "x")]
    with torch.no_grad():
        together = model(**pad_batch(texts, pad_id=0, device=torch.device("cpu")))
        for row, text in enumerate(texts):
            alone = model(**pad_batch([text], pad_id=0, device=torch.device("cpu")))
            padded = together.prediction_logits[row, : len(text.ids)]
            torch.testing.assert_close(padded, alone.prediction_logits[0], atol=1e-5, rtol=0)


def test_batches_keep_order_and_rest() -> None:
    assert list(batches(range(5), 2)) == [[0, 1], [2, 3], [4]]


def test_batches_of_long_texts_are_smaller() -> None:
    short, long, huge = "a", "b" * 2**20, "c" * 2**22
    given = [short, short, short, long, long, short, huge, short]
    found = list(text_batches(given, 3))
    assert found == [[short] * 3, [long] * 2, [short], [huge], [short]]
    assert list(text_batches([], 3)) == []


class _Table(list[str]):
    """Iterates over the names of its columns, as pandas' does."""

    ndim = 2


@pytest.mark.parametrize(
    ("texts", "message"),
    [
        ("one text", "a list of texts; got one string"),
        ({"text": "a"}, "got a dict"),
        (_Table(["text", "label"]), "got a _Table"),
        (["a", float("nan")], "got a float among them, at index 1"),
    ],
)
def test_what_is_no_list_of_texts_is_refused(
    model: BertForPreTraining, tokenizer: Tokenizer, texts: Any, message: str
) -> None:
    augmenter = Augmenter(model, tokenizer, AugmentOptions())
    calls: list[Callable[[], object]] = [
        lambda: embed(model, tokenizer, texts),
        lambda: similarity(model, tokenizer, texts, texts),
        lambda: bert_score(model, tokenizer, texts, texts),
        lambda: pseudo_log_likelihoods(model, tokenizer, texts, within_word_left_to_right=True),
        lambda: list(pseudo_perplexities(model, tokenizer, texts)),
        lambda: static_word_vectors(model, tokenizer, lambda: texts),
        lambda: augmenter.copies(texts),
    ]
    for call in calls:
        with pytest.raises(InputError, match=message):
            call()


@pytest.mark.parametrize("given", [torch.nn.Linear(2, 2), "runs/mine/model"])
def test_model_of_another_library_is_refused(tokenizer: Tokenizer, given: Any) -> None:
    with pytest.raises(InputError, match=r"must be one of bert_scratch, .*; got .*(Linear|str)"):
        embed(given, tokenizer, ["a"])
    with pytest.raises(InputError, match=r"needs a BertForNextSentencePrediction .*(Linear|str)"):
        next_sentence(given, tokenizer, "a", "b")


def test_encoder_without_head_guesses_no_masked_token(
    model: BertForPreTraining, tokenizer: Tokenizer
) -> None:
    with pytest.raises(InputError, match="needs a BertForMaskedLM .*BertModel"):
        fill_mask(cast(Any, model.bert), tokenizer, "the [MASK]")


def test_tokenizer_of_another_library_is_refused(model: BertForPreTraining) -> None:
    with pytest.raises(
        InputError, match=r"must be what load_tokenizer\(FOLDER\) returns; got .*str"
    ):
        embed(model, cast(Any, "runs/mine/model"), ["a"])


def test_pair_without_a_second_text_is_refused(
    model: BertForPreTraining, tokenizer: Tokenizer
) -> None:
    with pytest.raises(InputError, match="got a NoneType among them, at index 1"):
        next_sentence(model, tokenizer, "a", cast(Any, None))


def test_answering_leaves_each_module_in_its_mode(
    model: BertForPreTraining, tokenizer: Tokenizer
) -> None:
    model.train()
    model.bert.eval()
    before = [module.training for module in model.modules()]
    try:
        fill_mask(model, tokenizer, "the [MASK]")
        assert [module.training for module in model.modules()] == before
    finally:
        model.eval()
