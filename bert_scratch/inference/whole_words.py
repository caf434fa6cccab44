"""The words of a text, the same for every model: their positions, and how to compare them.

Tokenizers differ in their pieces but hardly in what they call a word: the text between white space,
punctuation marks and ideographs, where each mark and ideograph is a word of its own.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable, Sequence

from tokenizers import Tokenizer, models, normalizers, pre_tokenizers

Span = tuple[int, int]


def word_spans(texts: Sequence[str]) -> list[list[Span]]:
    """Return the positions of each text's words, in characters, as (start, end)."""
    encodings = _splitter(fold_letters=False).encode_batch(list(texts), add_special_tokens=False)
    return [encoding.offsets for encoding in encodings]


def folded_words(texts: Sequence[str]) -> list[list[str]]:
    """Return the words of each text in lower case and without accents."""
    splitter = _splitter(fold_letters=True)
    normalised = [splitter.normalizer.normalize_str(text) for text in texts]
    split = splitter.pre_tokenizer.pre_tokenize_str
    return [[word for word, _ in split(text)] for text in normalised]


def fold(word: str) -> str:
    """Return a word in lower case and without accents, so that every model is asked the same.

    A model that lower-cases cannot know whether it was "The" or "the".
    """
    folded: str = _splitter(fold_letters=True).normalizer.normalize_str(word)
    return folded.strip()


def is_word(text: str) -> bool:
    """Tell a word or number from a punctuation mark."""
    return any(character.isalnum() for character in text)


def tokens_of_words(offsets: Iterable[Span], words: Sequence[Span]) -> list[list[int]]:
    """Return which tokens overlap each word.

    Args:
        offsets: of each token, ascending.
        words: positions of words, ascending and disjoint.
    """
    tokens: list[list[int]] = [[] for _ in words]
    word = 0
    for token, (start, end) in enumerate(offsets):
        while word < len(words) and words[word][1] <= start:
            word += 1
        reached = word
        while reached < len(words) and words[reached][0] < end:
            tokens[reached].append(token)
            reached += 1
    return tokens


@functools.cache
def _splitter(*, fold_letters: bool) -> Tokenizer:
    """Return a tokenizer whose tokens are words, all of them unknown."""
    splitter = Tokenizer(models.WordLevel({"[UNK]": 0}, unk_token="[UNK]"))
    splitter.normalizer = normalizers.BertNormalizer(
        clean_text=True,
        handle_chinese_chars=True,
        strip_accents=fold_letters,
        lowercase=fold_letters,
    )
    splitter.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    return splitter
