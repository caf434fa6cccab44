"""Pins which tokens start a word when a segmenter says what words are, and its errors.

Run alone: pytest tests/data/test_segmenter.py (the cases with jieba need it installed).
"""

from __future__ import annotations

import logging
import re
import subprocess
import sys

import pytest
from tokenizers import Tokenizer

from bert_scratch.config import InputError
from bert_scratch.data.encoding import encode_texts
from bert_scratch.data.segmenter import open_segmenter, word_start_flags
from bert_scratch.data.wordpiece import SPECIAL_TOKENS, build_tokenizer

PIECES = (
    *SPECIAL_TOKENS,
    *"我来到北京大学好国",
    "phone",
    "##s",
    "ok",
    "[",
    "]",
    "mask",
    "e",
    "\u0301",
)


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    vocab = {piece: number for number, piece in enumerate(PIECES)}
    return build_tokenizer(vocab, lowercase=True, strip_accents=False, nfc=True)


def by_two(text: str) -> list[str]:
    """A segmenter whose words are two characters, white space apart."""
    return [part for run in re.split(r"(\s+)", text) for part in re.findall(r"(?s)..?", run)]


def starts(tokenizer: Tokenizer, text: str) -> str:
    """The tokens, a bar before each that starts a word."""
    (ids,) = encode_texts(tokenizer, [text])
    (flags,) = word_start_flags(tokenizer, open_segmenter(f"{__name__}:by_two"), [text], [ids])
    assert len(flags) == len(ids)
    tokens = [tokenizer.id_to_token(int(number)) for number in ids]
    return " ".join(("|" if flag else "") + t for flag, t in zip(flags, tokens, strict=True))


@pytest.fixture(autouse=True)
def importable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, __name__, sys.modules[by_two.__module__])


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("我来到北京", "|我 来 |到 北 |京"),
        ("我 来到北", "|我 |来 到 |北"),
        ("Phones ok", "|phone ##s |ok"),
        ("phones大学", "|phone ##s |大 学"),
        # an ideograph goes on a word only after another ideograph
        ("我[来]到", "|我 |[ |来 |] |到"),
        # an unknown ideograph is one all the same
        ("龘我来到", "|[UNK] 我 |来 到"),
        # a special token written out is text, and what the tokenizer drops has no token
        ("[MASK]大学", "|[ |mask |] |大 学"),
        ("\ufffd好国\u200b", "|好 |国"),
        ("", ""),
    ],
)
def test_words_start_where_the_segmenter_says(
    tokenizer: Tokenizer, text: str, expected: str
) -> None:
    assert starts(tokenizer, text) == expected


def test_texts_are_told_apart(tokenizer: Tokenizer) -> None:
    texts = ["phones", "我来", "", "大学好"]
    segment = open_segmenter(f"{__name__}:by_two")
    flags = word_start_flags(tokenizer, segment, texts, encode_texts(tokenizer, texts))
    assert [f.tolist() for f in flags] == [[True, False], [True, False], [], [True, False, True]]


def stripping(text: str) -> list[str]:
    return text.split()


def failing(text: str) -> list[str]:
    raise RuntimeError("no dictionary")


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("jiebba", "must be jieba or module:function.*got jiebba"),
        ("no_such_module_at_all:cut", "cannot be imported.*no_such_module_at_all"),
        ("re:no_such_function", "cannot be imported.*no_such_function"),
        (":cut", "cannot be imported"),
        ("sys:path", "is not a function"),
    ],
)
def test_wrong_names_are_refused(name: str, message: str) -> None:
    with pytest.raises(InputError, match=f"--word-segmenter.*{message}"):
        open_segmenter(name)


@pytest.mark.parametrize(
    ("function", "message"),
    [("stripping", "must join to the text"), ("failing", "RuntimeError: no dictionary")],
)
def test_a_segmenter_that_goes_wrong_is_named(function: str, message: str) -> None:
    with pytest.raises(InputError, match=f"--word-segmenter .*:{function}.*{message}"):
        open_segmenter(f"{__name__}:{function}")("我 来")


def test_jieba_gives_whole_words_and_says_nothing(capfd, caplog, tmp_path, monkeypatch) -> None:
    pytest.importorskip("jieba")
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    with caplog.at_level(logging.DEBUG):
        segment = open_segmenter("jieba")
        assert segment("我来到北京大学 ok") == ["我", "来到", "北京大学", " ", "ok"]
    assert capfd.readouterr() == ("", "")
    assert not caplog.records
    assert not list(tmp_path.iterdir())


def test_jieba_that_is_missing_is_named_with_its_extra() -> None:
    code = (
        "import sys; sys.modules['jieba'] = None\n"
        "from bert_scratch.config import InputError\n"
        "from bert_scratch.data.segmenter import open_segmenter\n"
        "try: open_segmenter('jieba')\n"
        "except InputError as error: print(error)"
    )
    output = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout
    assert 'pip install "bert-scratch[segment]"' in output
