"""Pins the learned vocabulary: the same bytes every time, its alphabet, its size, its normaliser.

Run alone: pytest tests/data/test_vocabulary.py.
"""

from __future__ import annotations

import gzip
import os
import random
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from bert_scratch.config import InputError
from bert_scratch.data import counting, vocabulary
from bert_scratch.data.encoding import encode_texts
from bert_scratch.data.vocabulary import VocabularyLearner, VocabularyReport, train_tokenizer
from bert_scratch.data.wordpiece import special_ids

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
import hashlib, sys
from pathlib import Path
from bert_scratch.data.vocabulary import VocabularyLearner
texts = Path(sys.argv[1]).read_text(encoding="utf-8").split("\\n")
learner = VocabularyLearner(texts)
for vocab_size in sys.argv[2:]:
    tokenizer, report = learner.learn(int(vocab_size))
    print(report.vocab_size, hashlib.sha256(tokenizer.to_str().encode()).hexdigest())
"""
ENVIRONMENTS = [
    {"TOKENIZERS_PARALLELISM": "true", "RAYON_NUM_THREADS": "2", "PYTHONHASHSEED": "0"},
    {"TOKENIZERS_PARALLELISM": "true", "RAYON_NUM_THREADS": "1", "PYTHONHASHSEED": "1"},
    {"TOKENIZERS_PARALLELISM": "false", "PYTHONHASHSEED": "2"},
    {"TOKENIZERS_PARALLELISM": "true", "PYTHONHASHSEED": "random"},
]


def learned_in_fresh_processes(corpus: Path, repository: Path, *vocab_sizes: int) -> set[str]:
    """The different outputs of SCRIPT: sizes and digests; one where all processes agree."""
    command = [sys.executable, "-c", SCRIPT, str(corpus), *map(str, vocab_sizes)]
    return {
        subprocess.run(
            command,
            env={**os.environ, **environment, "PYTHONPATH": str(repository)},
            capture_output=True,
            check=True,
            text=True,
        ).stdout
        for environment in ENVIRONMENTS
    }


def test_json_is_the_same_bytes_in_fresh_processes(tmp_path: Path, repository: Path) -> None:
    corpus = tmp_path / "corpus.txt"
    corpus.write_text("\n".join([*many_ties(), *CHINESE]), encoding="utf-8")
    outputs = learned_in_fresh_processes(corpus, repository, 300, 700)
    assert len(outputs) == 1
    assert [line.split()[0] for line in outputs.pop().splitlines()] == ["300", "700"]


@pytest.mark.slow
@pytest.mark.parametrize(
    "name", ["wikipedia-en/wikipedia-en-10mb", "wikipedia-zh/wikipedia-zh-20mb"]
)
def test_real_text_gives_the_same_bytes_in_fresh_processes(
    name: str, shared: Path, tmp_path: Path, repository: Path
) -> None:
    with gzip.open(shared / "data" / f"{name}.txt.gz", "rt", encoding="utf-8") as file:
        text = file.read(3_000_000)
    corpus = tmp_path / "corpus.txt"
    corpus.write_text(text, encoding="utf-8")
    outputs = learned_in_fresh_processes(corpus, repository, 1_000, 8_192, 30_522)
    assert len(outputs) == 1
    sizes = [line.split()[0] for line in outputs.pop().splitlines()]
    assert sizes == ["1000", "8192", "30522"]


def test_ids_of_special_tokens_are_0_to_4() -> None:
    assert special_ids(train_tokenizer(many_ties(), 500)) == (0, 1, 2, 3, 4)


def test_vocabulary_has_exactly_the_size_asked_for() -> None:
    learner = VocabularyLearner([*many_ties(), *CHINESE])
    for vocab_size in (30, 100, 257, 300, 301, 555, 1000, 1500, 1999):
        tokenizer, report = learner.learn(vocab_size)
        assert tokenizer.get_vocab_size() == report.vocab_size == vocab_size
        assert sorted(tokenizer.get_vocab().values()) == list(range(vocab_size))


def test_pieces_seen_once_fill_what_frequent_ones_leave() -> None:
    tokenizer, report = VocabularyLearner(["abcd dcba badc"]).learn(22)
    assert report.vocab_size == 22
    assert pieces(tokenizer, "abcd dcba badc") == ["abcd", "dcba", "badc"]


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


def test_characters_cut_are_shown() -> None:
    report = learn(["a b"] * 100 + ["中文字"], 10)
    assert report.characters_cut == 3
    assert "3 rare ones cut (中 字 文)" in report.describe()


def test_words_with_characters_cut_teach_nothing() -> None:
    tokenizer, report = VocabularyLearner([*["ax bx"] * 500, *["bxþbx"] * 3]).learn(14)
    assert report.characters_cut == 1
    assert not {"##bx", "##xb"} & tokenizer.get_vocab().keys()


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


def test_text_drawn_from_more_is_said_so() -> None:
    texts = many_ties(50)
    report = VocabularyLearner(texts, text_bytes=1_000_000_000).learn(300)[1]
    assert report.training_bytes < report.text_bytes == 1_000_000_000
    assert "of 1,000.0 MB, evenly spread" in report.describe()
    assert "evenly spread" not in learn(texts, 300).describe()


def test_of_very_many_words_the_frequent_ones_teach(monkeypatch: pytest.MonkeyPatch) -> None:
    texts = [*many_ties(50), "frequent " * 50]
    rare = next(word for word in texts[0].split() if len(word) > 4)
    assert {"frequent", rare} <= train_tokenizer(texts, 1600).get_vocab().keys()
    monkeypatch.setattr(counting, "MAX_WORDS_WEIGHT", 20)
    vocab = train_tokenizer(texts, 1600).get_vocab()
    assert "frequent" in vocab and rare not in vocab


def test_words_are_met_in_proportion_where_there_are_too_many(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    texts = many_ties()
    all_met = set(train_tokenizer(texts, 600).get_vocab())
    monkeypatch.setattr(vocabulary, "MAX_TRAINING_WORDS", 2_000)
    in_proportion = set(train_tokenizer(texts, 600).get_vocab())
    assert len(in_proportion) == 600
    assert len(all_met & in_proportion) > 500


def test_one_giant_line_is_learned_in_pieces() -> None:
    text = " ".join(many_ties(2000))
    assert learn([text], 400).vocab_size == 400


def test_words_too_long_to_look_up_are_unknown_and_not_learned() -> None:
    assert learn(["x" * 101], 100).unknown_word_share == 1
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


def words_reaching(piece: str, vocab: dict[str, int], normalize) -> Iterator[str]:
    """Words that are cut right before a ## piece and end with it."""
    inside = piece.removeprefix("##")
    for start in (token for token in vocab if len(token) == 1 and f"##{token}" in vocab):
        word = start + inside
        longer = any(word[:end] in vocab for end in range(2, len(word) + 1))
        if not longer and normalize(word) == word:
            yield word


@pytest.mark.parametrize("vocab_size", [300, 1000])
def test_every_continuing_piece_can_occur(vocab_size: int) -> None:
    texts = [*many_ties(), *CHINESE, "don't stop-me (now)! café €5 “quoted” 100% naïve ﬁn №5 ½"]
    tokenizer = train_tokenizer(texts, vocab_size)
    vocab = tokenizer.get_vocab()
    for piece in (token for token in vocab if token.startswith("##")):
        word = next(words_reaching(piece, vocab, tokenizer.normalizer.normalize_str), None)
        assert word is not None, piece
        assert pieces(tokenizer, word)[-1] == piece


HOSTILE = {
    "one word repeated": "('hello ' * 2_000 for _ in range(20_000))",
    "one giant word": "('x' * 1_000_000 for _ in range(300))",
    "random words": "(' '.join(draw.randbytes(4).hex() for _ in range(99)) for _ in range(20_000))",
}
MEMORY_SCRIPT = """
import random
from bert_scratch.data.vocabulary import VocabularyLearner
draw = random.Random(0)
VocabularyLearner({texts}).learn(30_522)
# Not ru_maxrss, which begins with what the process that started this one held.
print(next(line.split()[1] for line in open("/proc/self/status") if line.startswith("VmHWM")))
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="/proc tells the peak of memory")
@pytest.mark.parametrize("kind", HOSTILE)
def test_hostile_text_is_learned_from_in_little_memory(kind: str, repository: Path) -> None:
    output = subprocess.run(
        [sys.executable, "-c", MEMORY_SCRIPT.format(texts=HOSTILE[kind])],
        env={**os.environ, "PYTHONPATH": str(repository)},
        capture_output=True,
        check=True,
    ).stdout
    assert int(output) < 300_000


def test_one_string_is_no_list_of_texts() -> None:
    with pytest.raises(InputError, match="must be a list of texts; got one string"):
        train_tokenizer("one text", 100)
