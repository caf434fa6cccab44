"""Pins what each character costs, so that vocabularies can be compared. CPU: `pytest
tests/inference/test_bits_per_character.py`."""

from __future__ import annotations

import math
from collections.abc import Sequence

import pytest
import torch
from tokenizers import Tokenizer

from bert_scratch.config import BertConfig
from bert_scratch.data.wordpiece import SPECIAL_TOKENS, build_tokenizer
from bert_scratch.inference.bits_per_character import (
    SentenceBits,
    character_count_bits,
    compressed_bits,
    count_characters,
    joined_bits,
    lost_by,
    sentence_bits,
    uniform_bits,
)
from bert_scratch.inference.pseudo_likelihood import pseudo_log_likelihoods
from bert_scratch.model.heads import BertForPreTraining


def cost(model: BertForPreTraining, tokenizer: Tokenizer, sentences: Sequence[str]) -> SentenceBits:
    return joined_bits(
        list(sentence_bits(model, tokenizer, sentences, count_characters(sentences)))
    )


def made(words: str, *, lowercase: bool) -> tuple[BertForPreTraining, Tokenizer]:
    """A vocabulary, and a model that gives each of its tokens the same probability."""
    tokens = [*SPECIAL_TOKENS, *words.split()]
    vocab = {token: index for index, token in enumerate(tokens)}
    config = BertConfig(
        vocab_size=len(vocab),
        hidden_size=8,
        num_hidden_layers=1,
        num_attention_heads=1,
        intermediate_size=8,
        max_position_embeddings=16,
    )
    model = BertForPreTraining(config).eval()
    with torch.no_grad():
        for parameter in model.mlm_head.parameters():
            parameter.zero_()
    return model, build_tokenizer(vocab, lowercase=lowercase, strip_accents=lowercase, nfc=False)


def test_tokens_cost_their_surprise(model: BertForPreTraining, tokenizer: Tokenizer) -> None:
    sentences = [f"the cat sees {'a dog in ' * n}." for n in range(20)][::-1]
    expected = pseudo_log_likelihoods(model, tokenizer, sentences, within_word_left_to_right=True)
    found = cost(model, tokenizer, sentences)
    assert found.tokens == pytest.approx([-v.sum() / math.log(2) for v in expected], rel=1e-5)
    assert found.characters.tolist() == [len(s.replace(" ", "")) for s in sentences]
    assert found.unread.tolist() == [0] * 20


def test_blind_model_costs_the_logarithm_of_its_vocabulary() -> None:
    model, tokenizer = made("a b ##b", lowercase=False)
    found = cost(model, tokenizer, ["a b", "ab"])
    assert found.tokens == pytest.approx([2 * 3, 2 * 3])
    assert found.per_character().mean == pytest.approx(3)


def test_unknown_word_costs_its_characters_blindly() -> None:
    model, tokenizer = made("a b c", lowercase=False)
    found = cost(model, tokenizer, ["a b", "a qqq"])
    assert found.tokens == pytest.approx([6, 6])
    assert found.unread == pytest.approx([0, 3 * math.log2(3)])


def test_dropped_character_costs_like_an_unknown_one() -> None:
    model, tokenizer = made("a b c", lowercase=False)
    found = cost(model, tokenizer, ["a\u00ad b"])
    assert found.unread == pytest.approx([math.log2(3)])
    assert found.characters.tolist() == [3]


def test_vocabulary_without_capitals_pays_for_restoring_them() -> None:
    model, tokenizer = made("a b", lowercase=True)
    found = cost(model, tokenizer, ["A a a a b"])
    assert found.restoring == pytest.approx([-math.log2(1 / 4) - 3 * math.log2(3 / 4)])
    cased, cased_tokenizer = made("a A b", lowercase=False)
    assert cost(cased, cased_tokenizer, ["A a a a b"]).restoring.tolist() == [0]


@pytest.mark.parametrize(("lowercase", "lost"), [(True, ("case", "accents")), (False, ())])
def test_what_the_normaliser_loses_is_named(lowercase: bool, lost: tuple[str, ...]) -> None:
    assert lost_by(made("a", lowercase=lowercase)[1]) == lost


def test_comparison_is_by_sentence() -> None:
    model, tokenizer = made("a b ##b", lowercase=False)
    larger, larger_tokenizer = made(
        " ".join(f"a b ##b {'c d e f g h i j'}".split()), lowercase=False
    )
    sentences = ["a b", "ab a", "b b a"]
    gain = cost(model, tokenizer, sentences).better_by(cost(larger, larger_tokenizer, sentences))
    assert gain.mean == pytest.approx(1)
    assert gain.standard_error == pytest.approx(0, abs=1e-6)


def test_reference_lines_of_characters() -> None:
    assert uniform_bits(count_characters(["abcd abcd"])) == 2
    # one is added to each count: a 4 of 8, b 2, c and d 1
    assert character_count_bits(["a b c"], {"a": 3, "b": 1}, 4) == pytest.approx((1 + 2 + 3) / 3)
    rest = [f"A sentence about {n} and {n * n}." for n in range(200)]
    known, new = compressed_bits(rest[:50], rest), compressed_bits(["xk7 qz9 vb3 w1m"] * 1, rest)
    assert known < 1 < new
