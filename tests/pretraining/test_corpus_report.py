"""Pins the corpus report: each figure on a corpus where it is known, each warning where it is due.

Run alone: pytest tests/pretraining/test_corpus_report.py.
"""

from __future__ import annotations

import math
import random
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from bert_scratch.config import InputError
from bert_scratch.data.vocabulary import train_tokenizer
from bert_scratch.data.wordpiece import save_tokenizer
from bert_scratch.pretraining import corpus_sample
from bert_scratch.pretraining.characters import CharacterTally, script_of
from bert_scratch.pretraining.corpus_expectation import expected_padding
from bert_scratch.pretraining.corpus_report import CorpusReport, CorpusReportConfig, corpus_report
from bert_scratch.pretraining.corpus_settings import CorpusSettings
from bert_scratch.pretraining.corpus_statistics import Lengths
from bert_scratch.pretraining.prepare import prepare
from bert_scratch.pretraining.repeats import Repeats

WORDS = "river stone cloud meadow winter lantern harbour copper silver orchard".split()


def made_documents(num_documents: int, num_sentences: int, seed: int = 3) -> list[list[str]]:
    """Return documents of which no sentence comes twice."""
    draw = random.Random(seed)
    return [
        [
            f"The {' '.join(draw.choices(WORDS, k=9))} has number {document} {sentence}."
            for sentence in range(num_sentences)
        ]
        for document in range(num_documents)
    ]


def write(path: Path, documents: list[list[str]], between: str = "\n\n") -> Path:
    path.write_text(between.join("\n".join(lines) for lines in documents) + "\n", encoding="utf-8")
    return path


def report_on(*paths: Path, **settings: object) -> CorpusReport:
    fixed = {"documents": "blank-lines", "sentences": "lines"}
    corpus = tuple(map(str, paths))
    return corpus_report(CorpusReportConfig(**{"corpus": corpus, **fixed, **settings}))


def warning(report: CorpusReport, *parts: str) -> str:
    """Return the one warning that holds all parts."""
    (found,) = [line for line in report.warnings if all(part in line for part in parts)]
    return found


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """60 documents of 12 sentences, one a line, blank lines between them; not to be changed."""
    return write(tmp_path_factory.mktemp("text") / "corpus.txt", made_documents(60, 12))


def test_everything_is_counted_exactly(tmp_path: Path) -> None:
    path = write(tmp_path / "a.txt", [["One two.", "Three, four!"], ["Fünf sechs."], ["一二三。"]])
    report = report_on(path)
    assert (report.num_documents, report.num_lines, report.num_sentences) == (3, 4, 4)
    assert report.num_words == 3 + 4 + 3 + 4
    assert report.num_characters == 7 + 11 + 10 + 4
    assert report.num_bytes == path.stat().st_size - 2
    assert report.measured_share == 1
    assert report.sources[0].counts.one_sentence_documents == 2
    assert report.expectation.usable_sentence_share == 2 / 4
    assert report.characters.alphabet_size == len(set("Onetwo.Three,four!Fünfsechs.一二三。"))


def test_report_agrees_with_what_prepare_and_the_store_find(corpus: Path, tmp_path: Path) -> None:
    settings = {"documents": "blank-lines", "sentences": "lines", "num_processes": 1}
    store = prepare(CorpusSettings(corpus=(str(corpus),), **settings), tmp_path / "store")
    report = report_on(corpus)
    expected = report.expectation
    train = store.shards("train")
    assert report.vocabulary.vocab_size == store.vocab_size
    assert report.num_tokens == sum(s.num_tokens for s in [*train, *store.shards("eval")])
    assert expected.facts.train_documents == sum(len(shard.documents) for shard in train)
    assert expected.facts.eval_documents == sum(
        len(shard.documents) for shard in store.shards("eval")
    )
    assert expected.facts.train_tokens == int(store.token_counts.sum())
    assert expected.num_examples == sum(
        math.ceil(shard.num_tokens / (expected.max_seq_length - 3)) for shard in train
    )
    assert expected.num_steps == math.ceil(expected.num_examples / expected.train_batch_size)


def test_long_documents_are_counted_in_sections(tmp_path: Path) -> None:
    report = report_on(write(tmp_path / "a.txt", made_documents(1, 2_000)))
    assert report.num_documents == 1
    assert report.num_sections == round((report.num_bytes - report.num_lines) / 20_000) > 1
    assert report.expectation.usable_sentence_share == 1


def test_lengths_know_percentiles_and_bins() -> None:
    counts = Counter({1: 50, 2: 30, 3: 10, 9: 9, 1_000: 1})
    lengths = Lengths.of(counts, doubling=True)
    assert lengths.percentiles == {"5": 1, "25": 1, "50": 1, "75": 2, "95": 9, "99": 9}
    assert lengths.longest == 1_000
    assert lengths.mean == pytest.approx((50 + 60 + 30 + 81 + 1_000) / 100)
    bins = [(group.first, group.last, group.count) for group in lengths.histogram]
    assert bins[:5] == [(1, 1, 50), (2, 2, 30), (3, 4, 10), (5, 8, 0), (9, 16, 9)]
    assert bins[-1] == (513, 1_024, 1)
    equal = Lengths.of(counts, doubling=False).histogram
    assert [(group.first, group.last) for group in equal[:2]] == [(1, 1), (2, 2)]
    assert (equal[-1].first, equal[-1].last, equal[-1].count) == (10, 1_000, 1)
    assert sum(group.count for group in equal) == 100


@pytest.mark.parametrize("seq_length", [64, 128, 512])
def test_expected_padding_is_that_of_drawn_windows(seq_length: int) -> None:
    documents = Counter({10: 30, 70: 20, 300: 5, 2_000: 1})
    draw = random.Random(1)
    lengths = draw.choices(list(documents), [n * c for n, c in documents.items()], k=20_000)
    limit = seq_length - 3
    windows = [
        min(length, draw.randint(2, limit) if draw.random() < 0.1 else limit) for length in lengths
    ]
    measured = 1 - (sum(windows) / len(windows) + 3) / seq_length
    assert expected_padding(documents, seq_length) == pytest.approx(measured, abs=0.01)


def test_steps_follow_the_length_asked_for(corpus: Path) -> None:
    short, long = (report_on(corpus, max_seq_length=length).expectation for length in (32, 256))
    assert (short.max_seq_length, long.max_seq_length) == (32, 256)
    assert short.num_examples == math.ceil(short.facts.train_tokens / 29)
    assert long.num_examples == math.ceil(long.facts.train_tokens / 253)


def test_blank_line_between_all_lines_is_named_with_its_mend(tmp_path: Path) -> None:
    lines = [[line] for document in made_documents(4, 30) for line in document]
    report = report_on(write(tmp_path / "a.txt", lines))
    assert "--documents files" in warning(report, "blank line stands between nearly all lines")
    assert "--pair-task none" in warning(report, "100% of the sentences are alone")
    assert report.expectation.pair_task == "none"


@pytest.mark.parametrize("between, why", [("\n", "no blank lines"), ("\n\n", "between all its")])
def test_one_giant_document_is_named_with_its_mend(tmp_path: Path, between: str, why: str) -> None:
    lines = [[line] for line in made_documents(1, 2_000)[0]]
    report = report_on(write(tmp_path / "a.txt", lines, between), documents="auto")
    assert report.sources[0].documents_rule == "files"
    assert "--documents lines" in warning(report, "one document of 0.2 MB", why)


def test_documents_of_one_sentence_ask_for_the_sentence_rule(tmp_path: Path) -> None:
    lines = [[" ".join(document)] for document in made_documents(40, 4)]
    alone = report_on(write(tmp_path / "a.txt", lines, "\n"), documents="lines")
    assert "--sentences rules" in warning(alone, "alone in their document")
    split = report_on(tmp_path / "a.txt", documents="lines", sentences="rules")
    assert not [line for line in split.warnings if "alone" in line]


def test_repeated_lines_and_documents_are_counted(tmp_path: Path) -> None:
    documents = made_documents(20, 5)
    for document in documents:
        document.append("All rights reserved.")
    documents += 10 * [documents[3]]
    report = report_on(write(tmp_path / "a.txt", documents))
    assert report.repeated_documents.share == 10 / 30
    assert report.repeated_documents.most_frequent[0].count == 11
    assert report.repeated_lines.share == (19 + 10 * 6) / 180
    most = report.repeated_lines.most_frequent
    assert (most[0].count, most[0].text) == (30, "All rights reserved.")
    assert [repeated.count for repeated in most[1:]] == 4 * [11]
    assert "awk" in warning(report, "documents that repeat earlier ones")


def test_repeats_are_estimated_well_in_bounded_memory() -> None:
    exact, bounded = Repeats(), Repeats(max_followed=500)
    draw = random.Random(0)
    for _ in range(40_000):
        text = f"text {int(draw.expovariate(1 / 4_000))}"
        exact.add(text)
        bounded.add(text)
    whole, estimated = exact.report(400_000), bounded.report(400_000)
    assert whole.one_followed_in == 1
    assert estimated.one_followed_in > 8
    assert estimated.share == pytest.approx(whole.share, abs=0.03)
    assert estimated.byte_share == pytest.approx(whole.byte_share, rel=0.15)


def test_encoding_problems_are_counted_and_named(tmp_path: Path) -> None:
    text = made_documents(5, 5)
    text[0][0] += " cafÃ© donâ€™t"
    text[1][0] += " a\ufeffb \x07 \ue000 nim\u200c baz"
    path = write(tmp_path / "a.txt", text)
    path.write_bytes(path.read_bytes() + b"caf\xe9 \xff\n")
    report = report_on(path)
    characters = report.characters
    assert characters.replacement_characters == 2
    assert characters.mojibake == 2
    assert {(e.found, e.meant) for e in characters.mojibake_examples} == {("Ã©", "é"), ("â€™", "’")}
    assert characters.control_characters == characters.byte_order_marks == 1
    assert characters.private_or_unassigned == characters.lone_joiners == 1
    for name, mend in (
        ("U+FFFD", "iconv"),
        ('"Ã©" for "é"', "ftfy"),
        ("control characters", "tr "),
        ("byte order marks", "sed "),
    ):
        assert mend in warning(report, name)
    with pytest.raises(InputError, match="byte offset"):
        report_on(path, encoding_errors="strict")


def test_letters_beside_quotes_are_no_wrong_encoding() -> None:
    tally = CharacterTally()
    tally.add("»Gruß« «voilà» São Paulo, Âge, ÑANDÚ, Ðe, NÃO; 100 Å² می‌خواهم क्‍ष")
    assert tally.report().mojibake == 0
    assert tally.report().lone_joiners == 0


def test_scripts_are_shares_of_the_letters() -> None:
    tally = CharacterTally()
    tally.add("abcd Привет 日本 ＡＢ ば 12 !")
    scripts = {"Latin": 6 / 15, "Cyrillic": 6 / 15, "Han": 2 / 15, "Hiragana": 1 / 15}
    assert tally.report().scripts == pytest.approx(scripts)
    assert [script_of(letter) for letter in "ªー𝒜ක"] == ["Latin", "Katakana", "Latin", "Sinhala"]


def test_chinese_is_counted_by_ideographs(tmp_path: Path) -> None:
    sentences = [f"{first}{second}在这里。" for first in "天地人山水" for second in "东南西北"]
    documents = [sentences[start : start + 4] for start in range(0, 20, 4)]
    report = report_on(write(tmp_path / "a.txt", documents))
    assert report.num_words == 20 * 6
    assert report.vocabulary.pieces_per_word == 1
    assert report.characters.scripts == {"Han": 1.0}
    assert report.normalisation.words_changed["lowercase"] == 0


def test_vocabulary_of_another_language_is_named(corpus: Path, tmp_path: Path) -> None:
    save_tokenizer(train_tokenizer(["Привет, мир! Как дела."], 60), tmp_path / "russian")
    report = report_on(corpus, tokenizer=str(tmp_path / "russian"))
    assert report.vocabulary.unknown_word_share > 0.5
    assert report.unknown_characters.num_characters >= 20
    assert "e" in report.unknown_characters.commonest
    assert "leave --tokenizer out" in warning(report, "become [UNK]")


@pytest.mark.parametrize(
    ("vocab_size", "advice"), [(2_000, "give more text: this one cannot fill"), (60, "raise --vo")]
)
def test_larger_vocabulary_is_advised_only_where_the_text_can_fill_it(
    vocab_size: int, advice: str, tmp_path: Path
) -> None:
    # each document has a letter of its own, which is unknown where it is held out
    letters = [chr(0x4E00 + number) for number in range(200)]
    documents = [[f"One two three {letter}.", "Four five six."] for letter in letters]
    path = write(tmp_path / "a.txt", documents)
    report = report_on(path, vocab_size=vocab_size, eval_fraction=0.5)
    assert advice in warning(report, "become [UNK]")


def test_pieces_per_word_stand_beside_those_of_other_vocabularies(
    corpus: Path, tmp_path: Path
) -> None:
    save_tokenizer(train_tokenizer([corpus.read_text()], 60), tmp_path / "small")
    report = report_on(corpus, compare_tokenizer=(str(tmp_path / "small"),))
    (other,) = report.compared
    assert other.name.endswith("small") and other.vocab_size <= 60
    assert other.num_words == report.vocabulary.num_words
    assert other.pieces_per_word > report.vocabulary.pieces_per_word


def test_what_normalising_would_change_is_reported(tmp_path: Path) -> None:
    path = write(tmp_path / "a.txt", [["the The", "café cafe"], ["می\u200cخواهم", "x y"]])
    effects = report_on(path).normalisation
    assert effects.words_changed["lowercase"] == 1 / 7
    assert effects.spellings_merged["strip_accents"] == 1
    assert effects.joiners_dropped == 1


def test_sound_corpus_gives_no_warning(tmp_path: Path) -> None:
    report = report_on(write(tmp_path / "a.txt", made_documents(300, 70)))
    assert report.warnings == []


def test_small_corpus_is_warned_of(corpus: Path, tmp_path: Path) -> None:
    assert warning(report_on(corpus), "too small", "200,000")
    single = report_on(write(tmp_path / "a.txt", [["Only one here."]]))
    assert warning(single, "too few documents")


@pytest.mark.parametrize("num_files", [1, 300])
def test_large_corpora_are_estimated_from_an_even_share(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, num_files: int
) -> None:
    documents = made_documents(900, 6)
    for file in range(num_files):
        write(tmp_path / f"{file:03}.txt", documents[file::num_files])
    whole = report_on(tmp_path)
    monkeypatch.setattr(corpus_sample, "MAX_SAMPLED_BYTES", whole.num_bytes // 4)
    sampled = report_on(tmp_path)
    assert sampled.measured_share == pytest.approx(0.25, abs=0.01)
    assert sampled.sources[0].counts.documents < 300
    for name in ("num_documents", "num_sentences", "num_bytes"):
        assert getattr(sampled, name) == pytest.approx(getattr(whole, name), rel=0.05)
    steps = sampled.expectation.num_steps
    assert steps == pytest.approx(whole.expectation.num_steps, rel=0.08)
    assert sampled.to_dict() == report_on(tmp_path).to_dict()


@pytest.mark.parametrize(
    "settings, message",
    [
        ({"max_seq_length": 4}, "--max-seq-length must be >= 8"),
        ({"tokenizer": "x", "vocab_size": 100}, "--vocab-size cannot be combined"),
        ({"compare_tokenizer": ("nowhere",)}, "nowhere: does not exist"),
        ({"documents": "lnies"}, "did you mean 'lines'"),
    ],
)
def test_wrong_settings_are_refused(
    corpus: Path, settings: dict[str, object], message: str
) -> None:
    with pytest.raises(InputError, match=message):
        report_on(corpus, **settings)


@pytest.mark.parametrize("text", ["", "\n\n\n", "\n\n".join("\u200b" * n for n in range(1, 9))])
def test_corpus_without_words_is_refused(tmp_path: Path, corpus: Path, text: str) -> None:
    (tmp_path / "empty.txt").write_text(text, encoding="utf-8")
    save_tokenizer(train_tokenizer([corpus.read_text()], 60), tmp_path / "tokenizer")
    for tokenizer in (None, str(tmp_path / "tokenizer")):
        with pytest.raises(InputError, match="hold"):
            report_on(tmp_path / "empty.txt", tokenizer=tokenizer)


def test_importing_the_report_does_not_import_torch() -> None:
    code = "import sys, bert_scratch.pretraining.corpus_report; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
