"""Find word starts in text written without spaces, using a segmenter.

BERT makes each ideograph a token, so for whole-word masks something else must say which of them
form a word: `jieba` for Chinese, or any function the user supplies.
"""

from __future__ import annotations

import functools
import importlib
import re
import warnings
from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt
from tokenizers import Tokenizer

from bert_scratch.config import InputError
from bert_scratch.data.encoding import encode_with_offsets
from bert_scratch.data.wordpiece import vocab_size_of
from bert_scratch.extras import import_extra

Segment = Callable[[str], list[str]]
"""Splits a text into words, white space and punctuation included: joined they are the text."""

# google-research/bert `tokenization._is_chinese_char`
_IDEOGRAPHS = "\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0002a6df\U0002a700-\U0002ceaf\U0002f800-\U0002fa1f"  # noqa: E501
_IDEOGRAPH = re.compile(f"[{_IDEOGRAPHS}]")
_SEVERAL_IDEOGRAPHS = re.compile(f"[{_IDEOGRAPHS}]{{2,}}")


def check_segmenter(name: str | None) -> None:
    """Check a value of --word-segmenter early, without importing anything.

    Raises:
        InputError: if it is neither None, jieba nor module:function.
    """
    if name is not None and name != "jieba" and ":" not in name:
        raise InputError(
            f"--word-segmenter must be jieba or module:function, such as my_words:split; got {name}"
        )


def open_segmenter(name: str) -> Segment:
    """Return a function from a text to its words.

    Args:
        name: `jieba`, or `module:function` for an importable function from a text to its words.

    Raises:
        InputError: if there is no such segmenter. The returned function raises it if the
            segmenter fails or its words do not join to the text.
    """
    check_segmenter(name)
    cut = _jieba() if name == "jieba" else _imported(name)

    def segment(text: str) -> list[str]:
        try:
            words = list(cut(text))
            whole = "".join(words)
        except Exception as error:
            raise InputError(
                f"--word-segmenter {name} fails on the text {text[:60]!r}: "
                f"{type(error).__name__}: {error}"
            ) from error
        if whole != text:
            raise InputError(
                f"--word-segmenter {name}: its words must join to the text, white space included; "
                f"for {text[:60]!r} it gave {words[:10]}"
            )
        return words

    return segment


def _jieba() -> Segment:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # jieba's import triggers warnings about its own packages
        jieba = import_extra("jieba", "--word-segmenter jieba", "segment")
        cutter = jieba.Tokenizer()
        # its own initialisation uses a cache file in the temporary folder that all users share,
        # and logs about it
        cutter.FREQ, cutter.total = cutter.gen_pfdict(cutter.get_dict_file())
    cutter.initialized = True
    cut: Segment = cutter.lcut
    return cut


def _imported(name: str) -> Segment:
    module_name, _, function_name = name.partition(":")
    try:
        function = getattr(importlib.import_module(module_name), function_name)
    except Exception as error:  # importing runs the user's code, which may raise anything
        raise InputError(
            f"--word-segmenter {name}: cannot be imported ({type(error).__name__}: {error}); is "
            "the module installed, or its folder on PYTHONPATH?"
        ) from error
    if not callable(function):
        raise InputError(f"--word-segmenter {name}: is not a function")
    found: Segment = function
    return found


def word_start_flags(
    tokenizer: Tokenizer,
    segment: Segment,
    texts: Sequence[str],
    ids_per_text: Sequence[npt.NDArray[np.integer]],
) -> list[npt.NDArray[np.bool_]]:
    """Tell for each token whether it starts a word.

    Every token does, except a `##` piece and an ideograph that follows another one within a word
    of the segmenter.

    Args:
        tokenizer: the one that gave the ids.
        segment: from `open_segmenter`; called only for texts with ideographs.
        texts: any number of strings.
        ids_per_text: the token ids of each text, without [CLS] and [SEP].

    Returns:
        One [n] bool array per text.

    Raises:
        InputError: if the segmenter fails.
    """
    starts_word = _starts_word(tokenizer)
    flags = [starts_word[ids] for ids in ids_per_text]
    chosen = [number for number, text in enumerate(texts) if _IDEOGRAPH.search(text)]
    encodings = encode_with_offsets(tokenizer, [texts[number] for number in chosen])
    for number, encoding in zip(chosen, encodings, strict=True):
        characters = np.array([start for start, _ in encoding.offsets], np.int64)
        flags[number] &= ~_inside_words(segment(texts[number]))[characters]
    return flags


def continuing_ids(tokenizer: Tokenizer) -> list[int]:
    """Return the ids of the tokens that continue a word, the `##` pieces."""
    vocab = tokenizer.get_vocab()
    return sorted(number for token, number in vocab.items() if token.startswith("##"))


def ideograph_ids(tokenizer: Tokenizer) -> list[int]:
    """Return the ids of the tokens that are a single ideograph."""
    vocab = tokenizer.get_vocab()
    return sorted(number for token, number in vocab.items() if _IDEOGRAPH.fullmatch(token))


@functools.lru_cache(maxsize=1)
def _starts_word(tokenizer: Tokenizer) -> npt.NDArray[np.bool_]:
    """Tell for each id whether its token can start a word."""
    flags = np.ones(vocab_size_of(tokenizer), bool)
    flags[continuing_ids(tokenizer)] = False
    return flags


def _inside_words(words: Sequence[str]) -> npt.NDArray[np.bool_]:
    """Mark the ideographs of a text that follow another one in the same word."""
    inside = np.zeros(sum(map(len, words)), bool)
    place = 0
    for word in words:
        for run in _SEVERAL_IDEOGRAPHS.finditer(word):
            inside[place + run.start() + 1 : place + run.end()] = True
        place += len(word)
    return inside
