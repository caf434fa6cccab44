"""Google's preparation of examples from text, transcribed to be timed: plain Python, in memory.

Source: google-research/bert `tokenization.py` (BasicTokenizer, WordpieceTokenizer) and
`create_pretraining_data.py`, step by step and with its defaults: 128 tokens, 20 predictions, 15 %
masked, 10 % short sequences, each document used 10 times with other draws (dupe_factor).
Deviations: words of up to 100 characters are looked up, as in our code (Google's: 200), and no
TFRecord files are written.
"""

from __future__ import annotations

import random
import unicodedata
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

MAX_SEQ_LENGTH = 128
MAX_PREDICTIONS = 20
MASKED_LM_PROB = 0.15
SHORT_SEQ_PROB = 0.1
MAX_WORD_CHARACTERS = 100

Document = list[list[str]]


class Instance(NamedTuple):
    """An example as Google's script holds it before it is written."""

    tokens: list[str]
    segment_ids: list[int]
    is_random_next: bool
    masked_positions: list[int]
    masked_labels: list[str]


class FullTokenizer:
    """Cuts text into words and punctuation marks, then into the longest known pieces."""

    def __init__(self, vocab: Sequence[str], *, do_lower_case: bool) -> None:
        self._do_lower_case = do_lower_case
        self.vocab = {token: index for index, token in enumerate(vocab)}

    def tokenize(self, text: str) -> list[str]:
        """Return the pieces of a text."""
        pieces = []
        for word in self._words(text):
            for piece in self._pieces(word):
                pieces.append(piece)
        return pieces

    def _words(self, text: str) -> list[str]:
        text = _with_spaced_ideographs(_clean(text))
        words: list[str] = []
        for word in text.strip().split():
            if self._do_lower_case:
                word = _without_accents(word.lower())
            words.extend(_split_on_punctuation(word))
        return " ".join(words).strip().split()

    def _pieces(self, text: str) -> list[str]:
        output: list[str] = []
        for word in text.strip().split():
            chars = list(word)
            if len(chars) > MAX_WORD_CHARACTERS:
                output.append("[UNK]")
                continue
            is_bad = False
            start = 0
            pieces = []
            while start < len(chars):
                end = len(chars)
                found = None
                while start < end:
                    piece = "".join(chars[start:end])
                    if start > 0:
                        piece = "##" + piece
                    if piece in self.vocab:
                        found = piece
                        break
                    end -= 1
                if found is None:
                    is_bad = True
                    break
                pieces.append(found)
                start = end
            if is_bad:
                output.append("[UNK]")
            else:
                output.extend(pieces)
        return output


def _clean(text: str) -> str:
    output = []
    for char in text:
        code_point = ord(char)
        if code_point == 0 or code_point == 0xFFFD or _is_control(char):
            continue
        output.append(" " if _is_whitespace(char) else char)
    return "".join(output)


def _with_spaced_ideographs(text: str) -> str:
    output = []
    for char in text:
        if _is_ideograph(ord(char)):
            output += [" ", char, " "]
        else:
            output.append(char)
    return "".join(output)


def _without_accents(text: str) -> str:
    output = []
    for char in unicodedata.normalize("NFD", text):
        if unicodedata.category(char) == "Mn":
            continue
        output.append(char)
    return "".join(output)


def _split_on_punctuation(text: str) -> list[str]:
    start_new_word = True
    output: list[list[str]] = []
    for char in text:
        if _is_punctuation(char):
            output.append([char])
            start_new_word = True
        else:
            if start_new_word:
                output.append([])
            start_new_word = False
            output[-1].append(char)
    return ["".join(chars) for chars in output]


def _is_ideograph(code_point: int) -> bool:
    return (
        0x4E00 <= code_point <= 0x9FFF
        or 0x3400 <= code_point <= 0x4DBF
        or 0x20000 <= code_point <= 0x2A6DF
        or 0x2A700 <= code_point <= 0x2B73F
        or 0x2B740 <= code_point <= 0x2B81F
        or 0x2B820 <= code_point <= 0x2CEAF
        or 0xF900 <= code_point <= 0xFAFF
        or 0x2F800 <= code_point <= 0x2FA1F
    )


def _is_whitespace(char: str) -> bool:
    return char in " \t\n\r" or unicodedata.category(char) == "Zs"


def _is_control(char: str) -> bool:
    return char not in "\t\n\r" and unicodedata.category(char) in ("Cc", "Cf")


def _is_punctuation(char: str) -> bool:
    code_point = ord(char)
    is_ascii_mark = (
        33 <= code_point <= 47
        or 58 <= code_point <= 64
        or 91 <= code_point <= 96
        or 123 <= code_point <= 126
    )
    return is_ascii_mark or unicodedata.category(char).startswith("P")


def create_instances(
    path: Path, tokenizer: FullTokenizer, *, dupe_factor: int, seed: int = 12345
) -> list[Instance]:
    """Make examples from a file with a sentence on each line and a blank line between documents."""
    documents: list[Document] = [[]]
    with path.open(encoding="utf-8") as file:
        for line in file:
            line = line.strip()
            if not line:
                documents.append([])
            tokens = tokenizer.tokenize(line)
            if tokens:
                documents[-1].append(tokens)
    documents = [document for document in documents if document]
    rng = random.Random(seed)
    rng.shuffle(documents)
    vocab_words = list(tokenizer.vocab)
    instances: list[Instance] = []
    for _ in range(dupe_factor):
        for index in range(len(documents)):
            instances.extend(_from_document(documents, index, vocab_words, rng))
    rng.shuffle(instances)
    return instances


def _from_document(
    documents: list[Document], index: int, vocab_words: list[str], rng: random.Random
) -> list[Instance]:
    document = documents[index]
    max_num_tokens = MAX_SEQ_LENGTH - 3
    target = rng.randint(2, max_num_tokens) if rng.random() < SHORT_SEQ_PROB else max_num_tokens
    instances = []
    chunk: Document = []
    length = 0
    i = 0
    while i < len(document):
        chunk.append(document[i])
        length += len(document[i])
        if i == len(document) - 1 or length >= target:
            if chunk:
                a_end = rng.randint(1, len(chunk) - 1) if len(chunk) >= 2 else 1
                tokens_a = []
                for sentence in chunk[:a_end]:
                    tokens_a.extend(sentence)
                tokens_b: list[str] = []
                is_random_next = len(chunk) == 1 or rng.random() < 0.5
                if is_random_next:
                    tokens_b = _random_segment(documents, index, target - len(tokens_a), rng)
                    i -= len(chunk) - a_end
                else:
                    for sentence in chunk[a_end:]:
                        tokens_b.extend(sentence)
                _truncate(tokens_a, tokens_b, max_num_tokens, rng)
                instances.append(_instance(tokens_a, tokens_b, is_random_next, vocab_words, rng))
            chunk = []
            length = 0
        i += 1
    return instances


def _random_segment(
    documents: list[Document], index: int, length: int, rng: random.Random
) -> list[str]:
    for _ in range(10):
        other = rng.randint(0, len(documents) - 1)
        if other != index:
            break
    tokens: list[str] = []
    for sentence in documents[other][rng.randint(0, len(documents[other]) - 1) :]:
        tokens += sentence
        if len(tokens) >= length:
            break
    return tokens


def _truncate(a: list[str], b: list[str], max_num_tokens: int, rng: random.Random) -> None:
    while True:
        if len(a) + len(b) <= max_num_tokens:
            break
        longer = a if len(a) > len(b) else b
        if rng.random() < 0.5:
            del longer[0]
        else:
            longer.pop()


def _instance(
    a: list[str], b: list[str], is_random_next: bool, vocab_words: list[str], rng: random.Random
) -> Instance:
    tokens, segment_ids = ["[CLS]"], [0]
    for token in a:
        tokens.append(token)
        segment_ids.append(0)
    tokens.append("[SEP]")
    segment_ids.append(0)
    for token in b:
        tokens.append(token)
        segment_ids.append(1)
    tokens.append("[SEP]")
    segment_ids.append(1)
    tokens, positions, labels = _masked(tokens, vocab_words, rng)
    return Instance(tokens, segment_ids, is_random_next, positions, labels)


def _masked(
    tokens: list[str], vocab_words: list[str], rng: random.Random
) -> tuple[list[str], list[int], list[str]]:
    """Return the tokens with some masked, the masked positions, and the original tokens there."""
    candidates = []
    for i, token in enumerate(tokens):
        if token in ("[CLS]", "[SEP]"):
            continue
        candidates.append([i])
    rng.shuffle(candidates)
    output = list(tokens)
    num_to_predict = min(MAX_PREDICTIONS, max(1, round(len(tokens) * MASKED_LM_PROB)))
    hidden: list[tuple[int, str]] = []
    covered = set()
    for group in candidates:
        if len(hidden) >= num_to_predict:
            break
        if len(hidden) + len(group) > num_to_predict or any(i in covered for i in group):
            continue
        for i in group:
            covered.add(i)
            if rng.random() < 0.8:
                replacement = "[MASK]"
            elif rng.random() < 0.5:
                replacement = tokens[i]
            else:
                replacement = vocab_words[rng.randint(0, len(vocab_words) - 1)]
            output[i] = replacement
            hidden.append((i, tokens[i]))
    hidden.sort()
    return output, [i for i, _ in hidden], [label for _, label in hidden]
