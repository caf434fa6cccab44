"""Pins which words can be added to a vocabulary, and that every other id stays.
Anywhere: `pytest tests/pretraining/test_added_tokens.py`."""

from __future__ import annotations

from pathlib import Path

import pytest
from tokenizers import Tokenizer

from bert_scratch.config import InputError
from bert_scratch.data.wordpiece import SPECIAL_TOKENS, build_tokenizer, save_tokenizer
from bert_scratch.pretraining.added_tokens import pieces_of_added, with_added_tokens
from bert_scratch.pretraining.corpus_settings import CorpusSettings
from bert_scratch.pretraining.pretrain_config import PretrainConfig

VOCAB = (*SPECIAL_TOKENS, "the", "co", "##vid", "##s", "c", "##o", "##v")


@pytest.fixture
def tokenizer() -> Tokenizer:
    return build_tokenizer(
        {token: number for number, token in enumerate(VOCAB)},
        lowercase=True,
        strip_accents=False,
        nfc=True,
    )


def test_added_words_are_found_and_every_other_id_stays(tokenizer: Tokenizer) -> None:
    larger = with_added_tokens(tokenizer, ["covid", "𠮷"])
    assert larger.get_vocab().items() >= tokenizer.get_vocab().items()
    text = "The COVID covids co 𠮷𠮷"
    assert larger.encode(text).tokens == [
        *("[CLS]", "the", "covid", "covid", "##s", "co", "𠮷", "𠮷", "[SEP]"),
    ]
    assert pieces_of_added(tokenizer, larger) == {12: [6, 7], 13: [1]}


def test_words_come_from_files_too(tokenizer: Tokenizer, tmp_path: Path) -> None:
    file = tmp_path / "words.txt"
    file.write_text("\ufeffcovid\nvaccine\n", encoding="utf-8")
    larger = with_added_tokens(tokenizer, [str(file), "virus"])
    assert [larger.id_to_token(number) for number in (12, 13, 14)] == ["covid", "vaccine", "virus"]


def test_transformers_gives_the_enlarged_tokenizer_equal_ids(
    tokenizer: Tokenizer, tmp_path: Path
) -> None:
    from transformers import AutoTokenizer

    larger = with_added_tokens(tokenizer, ["covid"])
    save_tokenizer(larger, tmp_path)
    text = "the Covid covids co"
    assert AutoTokenizer.from_pretrained(tmp_path)(text)["input_ids"] == larger.encode(text).ids
    assert (tmp_path / "vocab.txt").read_text().splitlines() == [*VOCAB, "covid"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("virus\nthe\n", r"words.txt:2: 'the' is in the vocabulary already"),
        ("virus\n\nfever\n", r"words.txt:2: is empty"),
        ("", r"words.txt: holds no words"),
        ("long covid\n", r"words.txt:1: 'long covid' has spaces; only single words"),
        ("Covid\n", r"words.txt:1: the tokenizer makes 'covid' of 'Covid'; write that"),
        ("no\u0301\n", r"words.txt:1: the tokenizer makes 'n\u00f3' of 'no\\u0301'; write that"),
        ("covid-19\n", r"words.txt:1: the tokenizer cuts 'covid-19' into covid - 19"),
        ("##vids\n", r"words.txt:1: the tokenizer cuts '##vids' into # # vids"),
        ("新冠\n", r"words.txt:1: the tokenizer cuts '新冠' into 新 冠"),
        ("virus\nvirus\n", r"words.txt:2: 'virus' is given twice"),
        ("\u200b\n", r"words.txt:1: the tokenizer never finds"),
        ("x" * 101, r"words.txt:1: the tokenizer never finds 'xxx"),
    ],
)
def test_words_that_cannot_be_added_are_named_with_their_line(
    tokenizer: Tokenizer, tmp_path: Path, text: str, message: str
) -> None:
    file = tmp_path / "words.txt"
    file.write_text(text, encoding="utf-8")
    with pytest.raises(InputError, match=message):
        with_added_tokens(tokenizer, [str(file)])


def test_a_mistyped_file_is_no_word(tokenizer: Tokenizer) -> None:
    with pytest.raises(InputError, match=r"--add-tokens: the tokenizer cuts 'word.txt' .*no such"):
        with_added_tokens(tokenizer, ["word.txt"])


@pytest.mark.parametrize("settings", [CorpusSettings, PretrainConfig])
def test_words_need_a_vocabulary_to_be_added_to(settings: type[CorpusSettings]) -> None:
    with pytest.raises(InputError, match=r"--add-tokens needs a vocabulary .*--init-checkpoint"):
        settings(add_tokens=("covid",))
    assert settings(add_tokens=("covid",), tokenizer="vocab.txt").add_tokens == ("covid",)


def test_a_prepared_corpus_has_its_words(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"--add-tokens has no effect with --data"):
        PretrainConfig(data="corpus", init_checkpoint="model", add_tokens=("covid",))
