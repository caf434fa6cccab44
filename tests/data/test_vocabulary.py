"""Pins the learned vocabulary: the same bytes every time, its alphabet, its size, its normaliser.

Run alone: pytest tests/data/test_vocabulary.py.
"""

from __future__ import annotations

import os
import random
import subprocess
import sys
from pathlib import Path

import pytest

from bert_scratch.config import InputError
from bert_scratch.data import vocabulary
from bert_scratch.data.vocabulary import VocabularyLearner, VocabularyReport, train_tokenizer
from bert_scratch.data.wordpiece import encode_texts, special_ids

CHINESE = [
    "维基百科是一个自由的百科全书。",
    "数学是研究数量的科学，也研究结构。",
    "今天的天气很好，我们去公园。",
] * 4


def many_ties(num_texts: int = 400) -> list[str]:
    """Texts in several scripts in which very many pairs of pieces are equally frequent."""
    draw = random.Random(3)
    letters = "abcdefghijklmnopqrstuvwxyzéüñабвгдежзиклмнопрстуहिन्दीภาษาไทย한국어ひらがな"
    words = ["".join(draw.choices(letters, k=draw.randint(2, 9))) for _ in range(600)]
    return [" ".join(draw.choices(words, k=12)) for _ in range(num_texts)]


def pieces(tokenizer, text: str) -> list[str]:
    return [tokenizer.id_to_token(number) for number in encode_texts(tokenizer, [text])[0].tolist()]


def learn(texts: list[str], vocab_size: int, **rules: bool) -> VocabularyReport:
    return VocabularyLearner(texts, **rules).learn(vocab_size)[1]


SCRIPT = """
import sys
from pathlib import Path
from bert_scratch.data.vocabulary import train_tokenizer
texts = Path(sys.argv[1]).read_text(encoding="utf-8").split("\\n")
sys.stdout.buffer.write(train_tokenizer(texts, 700).to_str().encode())
"""


def test_json_is_the_same_bytes_in_fresh_processes(tmp_path: Path, repository: Path) -> None:
    corpus = tmp_path / "corpus.txt"
    corpus.write_text("\n".join(many_ties()), encoding="utf-8")
    outputs = set()
    for parallel in ("true", "false", "true", "false"):
        environment = {
            **os.environ,
            "TOKENIZERS_PARALLELISM": parallel,
            "PYTHONPATH": str(repository),
        }
        command = [sys.executable, "-c", SCRIPT, str(corpus)]
        outputs.add(
            subprocess.run(command, env=environment, capture_output=True, check=True).stdout
        )
    assert len(outputs) == 1
    assert len(outputs.pop()) > 10_000


def test_ids_of_special_tokens_are_0_to_4() -> None:
    assert special_ids(train_tokenizer(many_ties(), 500)) == (0, 1, 2, 3, 4)


@pytest.mark.parametrize("vocab_size", [300, 555, 1000])
def test_vocabulary_has_exactly_the_size_asked_for(vocab_size: int) -> None:
    tokenizer = train_tokenizer(many_ties(), vocab_size)
    assert tokenizer.get_vocab_size() == vocab_size
    assert sorted(tokenizer.get_vocab().values()) == list(range(vocab_size))


def test_text_that_cannot_fill_the_vocabulary_is_said_so() -> None:
    report = learn(["one two one two"], 1000)
    assert report.vocab_size < 1000 == report.requested_vocab_size
    assert "cannot fill the 1,000 asked for" in report.describe()


def test_only_characters_inside_words_have_continuing_forms() -> None:
    vocab = train_tokenizer([*CHINESE, "don't stop-me (now)! café €5 “quoted”"], 400).get_vocab()
    single = {token[2:] for token in vocab if token.startswith("##") and len(token) == 3}
    assert single == set("dontstopmenowcaféquoted€5")
    assert {"维", "。", "“", "'", "!"} <= vocab.keys()


def test_rarest_characters_are_cut_when_the_alphabet_does_not_fit() -> None:
    frequent = [chr(0x4E00 + i) for i in range(30)]
    rare = [chr(0x5E00 + i) for i in range(30)]
    tokenizer, report = VocabularyLearner(frequent * 100 + rare).learn(40)
    vocab = tokenizer.get_vocab()
    assert set(frequent) <= vocab.keys()
    assert report.vocab_size <= 40
    assert report.characters_cut == 30
    assert report.cut_share == pytest.approx(30 / 3030)
    assert report.unknown_word_share == report.unknown_token_share == pytest.approx(30 / 3030)


def test_rare_characters_are_kept_while_they_take_little_room() -> None:
    report = learn([*(["the cat sat on the mat"] * 10_000), "ð þ ŋ ə"], 400)
    assert report.characters_cut == 0 == report.unknown_word_share


def test_cut_characters_do_not_join_their_neighbours() -> None:
    frequent = ["xa bx"] * 500
    tokenizer, report = VocabularyLearner([*frequent, *["xaþbx"] * 3]).learn(14)
    assert report.characters_cut == 1
    assert "##ab" not in tokenizer.get_vocab()


@pytest.mark.parametrize(
    ("lowercase", "strip_accents", "expected"),
    [
        (False, False, "Ébène"),
        (True, False, "ébène"),
        (False, True, "Ebene"),
        (True, True, "ebene"),
    ],
)
def test_lowercase_and_strip_accents_are_apart(
    lowercase: bool, strip_accents: bool, expected: str
) -> None:
    tokenizer = train_tokenizer(
        ["Ébène Ébène"] * 50, 60, lowercase=lowercase, strip_accents=strip_accents
    )
    assert pieces(tokenizer, "Ébène") == [expected]


@pytest.mark.parametrize("word", ["हिन्दी", "ที่", "ẹ̀kọ́", "Việt", "가나다"])
def test_lowercasing_keeps_vowel_signs_and_tones(word: str) -> None:
    tokenizer = train_tokenizer([word] * 50, 60, lowercase=True)
    assert tokenizer.normalizer.normalize_str(word) == word.lower()


def test_composed_and_decomposed_text_have_the_same_ids() -> None:
    tokenizer = train_tokenizer(["café für Việt 가나"] * 20, 100)
    composed, decomposed = "café Việt 가", "cafe\u0301 Vie\u0323\u0302t \u1100\u1161"
    assert pieces(tokenizer, composed) == pieces(tokenizer, decomposed)
    assert "[UNK]" not in pieces(tokenizer, composed)


def test_literal_hash_signs_and_special_tokens_are_text() -> None:
    tokenizer = train_tokenizer(["## a ##b [MASK] [SEP] ab"] * 20, 60)
    assert pieces(tokenizer, "##b") == ["#", "#", "b"]
    assert pieces(tokenizer, "[MASK]")[0] == "["
    assert not {special_ids(tokenizer).mask} & set(
        encode_texts(tokenizer, ["a [MASK]"])[0].tolist()
    )


def test_large_text_is_sampled_evenly_and_the_same_every_time(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(vocabulary, "MAX_TRAINING_BYTES", 200_000)
    texts = many_ties(3000)
    report = learn(texts, 300)
    assert 100_000 < report.training_bytes <= 200_000
    # what is joined by line ends inside a block, and nothing between blocks
    assert 0 <= sum(len(text.encode()) + 1 for text in texts) - report.text_bytes < 100
    assert learn(texts, 300) == report


def test_one_giant_line_is_learned_in_pieces() -> None:
    text = " ".join(many_ties(2000))
    assert learn([text], 400).vocab_size == 400


def test_words_too_long_to_look_up_are_not_learned() -> None:
    vocab = train_tokenizer(["x" * 5000, "x" * 5000, "short short"], 100).get_vocab()
    assert "##xx" not in vocab and "short" in vocab


@pytest.mark.parametrize("texts", [[], [""], ["   ", "\n\t"], ["\u200b"]])
def test_text_without_words_is_refused(texts: list[str]) -> None:
    with pytest.raises(InputError, match="no words"):
        train_tokenizer(texts, 100)


@pytest.mark.parametrize("vocab_size", [0, 5, 6])
def test_vocabulary_without_room_is_refused(vocab_size: int) -> None:
    with pytest.raises(InputError, match="--vocab-size"):
        train_tokenizer(["ab ab"], vocab_size)
