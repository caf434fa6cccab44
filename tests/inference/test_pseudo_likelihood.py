"""Pins pseudo-log-likelihoods: each token's probability with it, and the later pieces of its word,
masked, beside transformers one text and one token at a time; batches and long texts.
Needs transformers. Run alone: `pytest tests/inference/test_pseudo_likelihood.py`.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from tokenizers import Tokenizer

from bert_scratch.config import InputError
from bert_scratch.data.encoding import encode_with_offsets
from bert_scratch.inference.pseudo_likelihood import pseudo_log_likelihoods
from bert_scratch.model.heads import BertForMaskedLM, BertForPreTraining

TEXTS = [
    "the cat sees unables in a garden.",
    "",
    "believers, cats! unq",
    "北京 é x",
    "dog",
    "the [MASK] house",
]


def reference(folder: Path, tokenizer: Tokenizer, text: str, *, left_to_right: bool) -> list[float]:
    """The definition, one forward pass a token."""
    transformers = pytest.importorskip("transformers")
    theirs = transformers.BertForMaskedLM.from_pretrained(folder).eval()
    (encoding,) = encode_with_offsets(tokenizer, [text])
    cls, sep, mask = (tokenizer.token_to_id(f"[{name}]") for name in ("CLS", "SEP", "MASK"))
    found = []
    for place, (token, word) in enumerate(zip(encoding.ids, encoding.word_ids, strict=True)):
        same_word = [word == other for other in encoding.word_ids]
        ids = [
            mask if i == place or (left_to_right and i > place and same_word[i]) else other
            for i, other in enumerate(encoding.ids)
        ]
        with torch.no_grad():
            logits = theirs(torch.tensor([[cls, *ids, sep]])).logits
        found.append(logits[0, place + 1].log_softmax(-1)[token].item())
    return found


@pytest.mark.parametrize("left_to_right", [False, True])
@pytest.mark.parametrize("tokens_per_batch", [1, 40, 8192])
def test_equals_the_definition(
    left_to_right: bool,
    tokens_per_batch: int,
    folder: Path,
    model: BertForPreTraining,
    tokenizer: Tokenizer,
) -> None:
    found = pseudo_log_likelihoods(
        model,
        tokenizer,
        TEXTS,
        within_word_left_to_right=left_to_right,
        tokens_per_batch=tokens_per_batch,
    )
    for text, values in zip(TEXTS, found, strict=True):
        assert values.dtype == np.float32
        expected = reference(folder, tokenizer, text, left_to_right=left_to_right)
        np.testing.assert_allclose(values, expected, atol=2e-5)
    assert [len(values) for values in found] == [10, 0, 8, 4, 1, 5]


def test_only_first_pieces_of_longer_words_lose_sight(
    model: BertForPreTraining, tokenizer: Tokenizer
) -> None:
    (plain,), (hidden,) = (
        pseudo_log_likelihoods(
            model, tokenizer, ["the believers dog"], within_word_left_to_right=choice
        )
        for choice in (False, True)
    )
    differs = np.abs(plain - hidden) > 1e-4
    assert differs.tolist() == [False, True, True, False, False], "the believ ##er ##s dog"


def test_tokens_of_a_longer_text_see_as_many_around_them_as_fit(
    model: BertForPreTraining, tokenizer: Tokenizer
) -> None:
    words = ["the", "cat", "x", "dog", "y", "z", "a"] * 9
    (found,) = pseudo_log_likelihoods(
        model, tokenizer, [" ".join(words)], within_word_left_to_right=False
    )
    assert len(found) == len(words) == 63
    room = model.config.max_position_embeddings - 2
    for token, start in ((0, 0), (14, 0), (30, 16), (62, 63 - room)):
        (alone,) = pseudo_log_likelihoods(
            model,
            tokenizer,
            [" ".join(words[start : start + room])],
            within_word_left_to_right=False,
        )
        np.testing.assert_allclose(found[token], alone[token - start], atol=2e-5)


def test_models_with_and_without_the_pair_head_agree(
    model: BertForPreTraining, folder: Path, tokenizer: Tokenizer
) -> None:
    small = BertForMaskedLM.from_pretrained(folder)
    first, second = (
        pseudo_log_likelihoods(one, tokenizer, TEXTS, within_word_left_to_right=True)
        for one in (model, small)
    )
    for ours, theirs in zip(first, second, strict=True):
        np.testing.assert_allclose(ours, theirs, atol=1e-6)


def test_no_texts_are_no_arrays(model: BertForPreTraining, tokenizer: Tokenizer) -> None:
    assert pseudo_log_likelihoods(model, tokenizer, [], within_word_left_to_right=True) == []


def test_a_token_without_embedding_is_refused(
    folder: Path, tokenizer: Tokenizer, model: BertForPreTraining
) -> None:
    small = BertForMaskedLM(model.config.replace(vocab_size=8))
    with pytest.raises(InputError, match="the tokenizer is not the model's"):
        pseudo_log_likelihoods(small, tokenizer, ["garden"], within_word_left_to_right=True)
