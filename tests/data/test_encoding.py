"""Pins text to ids: equal to those of `tokenizers`, in bounded memory.

The corpora and the original BERT vocabularies are used where the developers' data is. Run alone:
pytest tests/data/test_encoding.py.
"""

from __future__ import annotations

import gzip
import random
import subprocess
import sys
import threading
import unicodedata
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from tokenizers import AddedToken, Tokenizer, models, normalizers, pre_tokenizers

from bert_scratch.data import encoding
from bert_scratch.data.encoding import TextEncoder, encode_texts
from bert_scratch.data.vocabulary import train_tokenizer
from bert_scratch.data.wordpiece import (
    SPECIAL_TOKENS,
    build_tokenizer,
    load_tokenizer,
    special_ids,
)

LINES = [
    "हिन्दी विकिपीडिया एक मुक्त ज्ञानकोश है।",
    "اللغة العربية هي أكثر اللغات، انتشارًا؟",
    "ภาษาไทยเป็นภาษาที่มีระดับเสียง",
    "Èdè Yorùbá ni èdè tí àwọn ọmọ Yorùbá ń sọ, ẹ̀kọ́.",
    "维基百科是一个自由的百科全书，hello世界！\u3000“ＡＢＣ”、𠀀𠀁",
    "한국어 위키백과 \u1112\u1161\u11ab\u1100\u116e\u11a8",
    "日本語のウィキペディア、か\u3099・\u309a中\u3099",
    "Ebène İstanbul straße ΑΣ. ﬁ e\u0301 \u212b 𝒳 😀👩\u200d👩 x=\u0338y >\u0338 <unk>",
    "“The [MASK] 'quoted'” don't-stop… U.S. 3.14—#hash ##a a_b\u200bc\u00a0d\u00ad\ufffd",
    "a\x00b \x0bc\x0cd\x1ce\x1ff\x85g\u2028h\ti\rj \u037e\u0387\u2329x\u232a,\x00\u0301!",
]
RULES = [
    {"lowercase": False, "strip_accents": False, "nfc": True},
    {"lowercase": True, "strip_accents": False, "nfc": True},
    {"lowercase": True, "strip_accents": True, "nfc": True},
    {"lowercase": True, "strip_accents": True, "nfc": False},
    {"lowercase": False, "strip_accents": False, "nfc": False, "handle_chinese_chars": False},
]


@pytest.fixture(scope="module")
def vocab() -> dict[str, int]:
    """A vocabulary in many scripts."""
    return train_tokenizer([*LINES, "the cat sat on the mat"] * 5, 700).get_vocab()


@pytest.fixture(scope="module")
def tokenizers(vocab: dict[str, int]) -> list[Tokenizer]:
    """Every kind of normalisation over the one vocabulary."""
    return [build_tokenizer(vocab, **rules) for rules in RULES]


def plain_ids(
    tokenizer: Tokenizer, texts: list[str], *, special_is_text: bool = True
) -> list[list[int]]:
    """Return what `tokenizers` itself gives."""
    tokenizer.encode_special_tokens = special_is_text
    encodings = tokenizer.encode_batch_fast(texts, add_special_tokens=False)
    tokenizer.encode_special_tokens = False
    return [encoding.ids for encoding in encodings]


def our_ids(tokenizer: Tokenizer, texts: list[str]) -> list[list[int]]:
    return [ids.tolist() for ids in TextEncoder(tokenizer).encode(texts)]


def are_equal(encoder: TextEncoder, tokenizer: Tokenizer, texts: list[str]) -> bool:
    return [ids.tolist() for ids in encoder.encode(texts)] == plain_ids(tokenizer, texts)


alphabet = st.one_of(
    st.characters(max_codepoint=127),
    st.sampled_from(
        " \n\t\r\u00a0\u3000\u2028\u200b\u200d\u0301\u0323\u0338\u3099\u1100\u1161İßΣéñ中か。’—=😀"
    ),
    st.characters(exclude_categories=["Cs"]),
)
pieces = st.one_of(
    st.text(alphabet, max_size=12),
    st.sampled_from(["the", "cat", *SPECIAL_TOKENS, "##a", "[mask]", " ", "a" * 101, *LINES]),
)
texts = st.lists(st.lists(pieces, max_size=6).map("".join), max_size=4)


@settings(derandomize=True, deadline=None, max_examples=300)
@given(texts=texts, kind=st.integers(0, len(RULES) - 1), block=st.sampled_from([1, 3, 20, 1 << 17]))
@example(texts=["", "\n", " a\n", "\n\n"], kind=0, block=1)
@example(texts=["a \u0301b", "\u0301", "a\u0301 \u0323"], kind=0, block=1)
@example(texts=["[SEP]", "[SEP][SEP]a", "a[SEP"], kind=0, block=3)
def test_ids_are_those_of_tokenizers(
    tokenizers: list[Tokenizer], texts: list[str], kind: int, block: int
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(encoding, "_BLOCK_CHARACTERS", block)
        assert our_ids(tokenizers[kind], texts) == plain_ids(tokenizers[kind], texts)


@settings(derandomize=True, deadline=None, max_examples=200)
@given(texts=texts, kind=st.integers(0, len(RULES) - 1))
def test_spelt_out_tokens_are_those_of_tokenizers(
    tokenizers: list[Tokenizer], texts: list[str], kind: int
) -> None:
    actual = encode_texts(tokenizers[kind], texts, tokens=SPECIAL_TOKENS)
    expected = plain_ids(tokenizers[kind], texts, special_is_text=False)
    assert [ids.tolist() for ids in actual] == expected


def test_only_the_tokens_named_are_special(tokenizers: list[Tokenizer]) -> None:
    [ids] = encode_texts(tokenizers[0], ["[MASK][SEP] [MASK"], tokens=["[MASK]"])
    expected = plain_ids(tokenizers[0], ["[SEP] [MASK"])[0]
    assert ids.tolist() == [special_ids(tokenizers[0]).mask, *expected]


@pytest.mark.parametrize("borders", [",中", pytest.param(",，中\u3000।", marks=pytest.mark.slow)])
def test_no_character_changes_what_is_beyond_a_border(
    tokenizers: list[Tokenizer], borders: str
) -> None:
    codes = [*range(0xD800), *range(0xE000, 0x10000), *range(0x1F600, 0x1F650)]
    for tokenizer in tokenizers if len(borders) > 2 else tokenizers[1:2]:
        encoder = TextEncoder(tokenizer)
        for border in borders:
            lines = [f"e{border}{chr(c)}e{chr(c)}{border}e{chr(c)}" for c in codes]
            assert are_equal(encoder, tokenizer, lines), border


@pytest.mark.parametrize("kind", [0, 3, pytest.param(4, marks=pytest.mark.slow)])
def test_no_border_is_changed_by_its_neighbours(tokenizers: list[Tokenizer], kind: int) -> None:
    units = encoding._units_of(tokenizers[kind])
    assert units is not None
    borders = [chr(c) for c in range(0x10000) if units.border.match(chr(c))]
    marks = [border for border in borders if not "\u3400" < border < "\u9ff0"]
    # All that can come second in a composed character, what BERT drops, and parts of words.
    decompositions = (unicodedata.decomposition(chr(c)).split() for c in range(0x10000))
    seconds = {
        chr(int(parts[1], 16))
        for parts in decompositions
        if len(parts) == 2 and not parts[0].startswith("<")
    }
    encoder = TextEncoder(tokenizers[kind])
    for neighbour in [*seconds, *"\x00\x0b\u200d\ufffdxéか😀\U00020000"]:
        assert are_equal(encoder, tokenizers[kind], [f"e{b}{neighbour}e{b}" for b in marks])
    for neighbour in "\u0301\u3099":
        assert are_equal(encoder, tokenizers[kind], [f"e{b}{neighbour}e{b}" for b in borders])


def random_texts(seed: int, number: int) -> Iterator[str]:
    """Yield texts of every kind of character, words of over 100, special strings and prefixes."""
    draw = random.Random(seed)
    scripts = [(0, 0x80), (0x80, 0x250), (0x2B0, 0x700), (0x900, 0xE00), (0x2000, 0x2070)]
    scripts += [(0x3000, 0x3100), (0x4E00, 0x9FFF), (0xE000, 0x10000), (0x1F300, 0x1FAFF)]
    fixed = [*SPECIAL_TOKENS, "##a", "##", " ", "  ", "\n", "x" * 100, "x" * 101, "é" * 120, "\x00"]
    for _ in range(number):
        start, end = draw.choice([*scripts, (0, 0xD800), (0x10000, 0x110000)])
        parts = [
            draw.choice(fixed) if draw.random() < 0.1 else chr(draw.randrange(start, end))
            for _ in range(draw.randrange(24))
        ]
        yield "".join(parts)


@pytest.mark.parametrize("number", [2000, pytest.param(20_000, marks=pytest.mark.slow)])
def test_random_unicode_has_the_ids_of_tokenizers(tokenizers: list[Tokenizer], number: int) -> None:
    lines = list(random_texts(0, number))
    for tokenizer in tokenizers:
        encoder = TextEncoder(tokenizer)
        for start in range(0, number, 1000):
            assert are_equal(encoder, tokenizer, lines[start : start + 1000])
        spelt = encode_texts(tokenizer, lines, tokens=SPECIAL_TOKENS)
        expected = plain_ids(tokenizer, lines, special_is_text=False)
        assert [ids.tolist() for ids in spelt] == expected


def corpus_lines(shared: Path, pattern: str) -> Iterator[str]:
    for path in sorted((shared / "data").glob(pattern)):
        with gzip.open(path, "rt", encoding="utf-8-sig") as file:
            yield from (line.rstrip("\n") for line in file if line.strip())


@pytest.mark.parametrize(
    "one_in", [100, pytest.param(5, marks=pytest.mark.slow)], ids=["20k lines", "400k lines"]
)
@pytest.mark.parametrize(
    ("name", "corpora"),
    [
        ("cased", "[nw]*-en/*.gz"),
        ("uncased", "[nw]*-en/*.gz"),
        ("chinese", "wikipedia-zh/*.gz"),
        ("multilingual-cased", "wikipedia-zh/*.gz"),
    ],
)
def test_corpora_have_the_ids_of_tokenizers(
    name: str, corpora: str, one_in: int, shared: Path
) -> None:
    tokenizer = load_tokenizer(shared / "data" / "vocab" / f"bert-base-{name}")
    encoder = TextEncoder(tokenizer)
    lines = islice(corpus_lines(shared, corpora), 0, None, one_in)
    num_lines = 0
    while batch := list(islice(lines, 2000)):
        assert are_equal(encoder, tokenizer, batch)
        num_lines += len(batch)
    assert num_lines > 85_000 // one_in


def test_remembered_words_have_the_same_ids(tokenizers: list[Tokenizer]) -> None:
    encoder = TextEncoder(tokenizers[0])
    first, second = ([ids.tolist() for ids in encoder.encode(LINES)] for _ in range(2))
    assert first == second == plain_ids(tokenizers[0], LINES)


def test_words_are_given_to_tokenizers_once(
    tokenizers: list[Tokenizer], monkeypatch: pytest.MonkeyPatch
) -> None:
    encoder = TextEncoder(tokenizers[0])
    encoder.encode(LINES)
    monkeypatch.setattr(encoding, "_encode_plainly", None)
    assert len(encoder.encode([*reversed(LINES), "hello, hello"])) == len(LINES) + 1


def test_memory_of_words_is_bounded(
    tokenizers: list[Tokenizer], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(encoding, "_MAX_UNITS", 20)
    encoder = TextEncoder(tokenizers[0])
    for text in LINES * 2:
        assert encoder.encode([text])[0].tolist() == plain_ids(tokenizers[0], [text])[0]
        assert len(encoder._memory._numbers) <= 20


def test_endless_words_are_given_to_tokenizers_cut(
    tokenizers: list[Tokenizer], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(encoding, "_BLOCK_CHARACTERS", 1000)
    endless = "b" * 5000
    for text in (
        endless,
        f"é{endless} a",
        f"{endless}\u0301{endless}",
        f"中{endless}中",
        "é" * 5000,
    ):
        encoder = TextEncoder(tokenizers[0])
        assert are_equal(encoder, tokenizers[0], ["a", text, "b"])
        longest = max(encoder._memory._numbers, key=len)
        assert "b" * 1001 not in longest


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="peak memory is read from /proc")
def test_random_words_and_giant_texts_take_bounded_memory(tmp_path: Path) -> None:
    vocabulary = "".join(f"{t}\n" for t in (*SPECIAL_TOKENS, "a", "##a", *map(str, range(30_000))))
    (tmp_path / "vocab.txt").write_text(vocabulary)
    program = f"""
import random
from bert_scratch.data.encoding import TextEncoder
from bert_scratch.data.wordpiece import load_tokenizer
encoder = TextEncoder(load_tokenizer({str(tmp_path)!r}))
draw = random.Random(0)
for _ in range(20):
    encoder.encode([str(draw.getrandbits(64)) for _ in range(50_000)])
for text in ("hello, world " * 1_290_000, "a" * (1 << 24)):
    encoder.encode([text])
for line in open("/proc/self/status"):
    if line.startswith("VmHWM"):
        print(line.split()[1])
"""
    command = [sys.executable, "-c", program]
    result = subprocess.run(command, check=True, capture_output=True, text=True)
    assert int(result.stdout) < 300 * 1024


def other_tokenizers(vocab: dict[str, int]) -> dict[str, Tokenizer]:
    """Return tokenizers that look like BERT's, each with something that is not its way."""

    def bert() -> Tokenizer:
        return build_tokenizer(vocab, lowercase=False, strip_accents=False, nfc=True)

    names = (
        "added token, lstrip, single word, normalized, letters only, replaces, prepends, "
        "keeps controls, no normaliser, split at white space, metaspace"
    )
    made = {name: bert() for name in names.split(", ")}
    made["added token"].add_tokens([AddedToken("cat sat", special=False)])
    made["lstrip"].add_special_tokens([AddedToken("[X]", lstrip=True, rstrip=True)])
    made["single word"].add_special_tokens([AddedToken("[X]", single_word=True)])
    made["normalized"].add_special_tokens([AddedToken("[X]", normalized=True)])
    made["letters only"].add_special_tokens(["cat"])
    own = made["replaces"].normalizer
    made["replaces"].normalizer = normalizers.Sequence([own, normalizers.Replace("t s", "x")])
    made["prepends"].normalizer = normalizers.Sequence([own, normalizers.Prepend("the")])
    made["keeps controls"].normalizer = normalizers.BertNormalizer(clean_text=False)
    made["no normaliser"].normalizer = None
    made["split at white space"].pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    made["metaspace"].pre_tokenizer = pre_tokenizers.Metaspace()
    made["no separator"] = Tokenizer(models.WordPiece(vocab, unk_token="[UNK]"))
    made["no separator"].normalizer = own
    made["no separator"].pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    made["byte pairs"] = Tokenizer(models.BPE({**vocab, "ca": len(vocab)}, [("c", "a")]))
    made["byte pairs"].pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    made["endless words"] = bert()
    made["endless words"].model = models.WordPiece(
        vocab, unk_token="[UNK]", max_input_chars_per_word=5000
    )
    return made


def test_tokenizers_that_do_not_work_as_berts_are_used_as_they_are(vocab: dict[str, int]) -> None:
    lines = [
        "the cat sat",
        "the cat sat, the  [X] cat[X]s [x] a\x00b [MASK]",
        "c" * 1500,
        "",
        *LINES,
    ]
    for name, tokenizer in other_tokenizers(vocab).items():
        assert encoding._units_of(tokenizer) is None, name
        assert our_ids(tokenizer, lines) == plain_ids(tokenizer, lines), name


def test_special_tokens_of_a_users_own_are_text(vocab: dict[str, int]) -> None:
    tokenizer = build_tokenizer(vocab, lowercase=True, strip_accents=False, nfc=True)
    tokenizer.add_special_tokens(["[E1]", "<e-2>", "cat.mat"])
    lines = ["the [E1] cat[E1] <e-2>", "[e1]<e-2>", "cat mat", "cat.mat", *LINES]
    assert encoding._units_of(tokenizer) is not None
    assert our_ids(tokenizer, lines) == plain_ids(tokenizer, lines)


def test_vocabulary_without_a_full_stop_gives_the_ids_of_tokenizers(vocab: dict[str, int]) -> None:
    tokens = [token for token in vocab if token != "."]
    without = {token: index for index, token in enumerate(tokens)}
    tokenizer = build_tokenizer(without, lowercase=True, strip_accents=False, nfc=True)
    lines = ["the cat. the mat.", ". ..", *LINES]
    assert our_ids(tokenizer, lines) == plain_ids(tokenizer, lines)


@pytest.mark.parametrize("special_is_text", [False, True])
def test_encoding_leaves_the_tokenizer_as_it_was(
    tokenizers: list[Tokenizer], special_is_text: bool
) -> None:
    tokenizer = tokenizers[0]
    expected = plain_ids(tokenizer, LINES)
    tokenizer.encode_special_tokens = special_is_text
    assert our_ids(tokenizer, LINES) == expected
    assert [ids.tolist() for ids in encode_texts(tokenizer, LINES)] == expected
    assert tokenizer.encode_special_tokens == special_is_text
    tokenizer.encode_special_tokens = False


def test_half_of_a_surrogate_pair_is_refused(tokenizers: list[Tokenizer]) -> None:
    with pytest.raises(UnicodeEncodeError):
        TextEncoder(tokenizers[0]).encode(["a\ud800b"])


def test_no_texts_give_no_arrays(tokenizers: list[Tokenizer]) -> None:
    assert encode_texts(tokenizers[0], []) == []
    assert TextEncoder(tokenizers[0]).encode([]) == []


def test_memory_is_thrown_away_when_words_are_long(
    tokenizer: Tokenizer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(encoding, "_MAX_CHARACTERS", 100)
    encoder = TextEncoder(tokenizer)
    before = encoder._memory
    encoder.encode(["a" * 150])
    assert encoder._memory is not before


def test_threads_that_share_a_tokenizer_leave_it_as_it_was(tokenizers: list[Tokenizer]) -> None:
    entered, leave = ([threading.Event(), threading.Event()] for _ in range(2))

    def use(number: int) -> None:
        with encoding._special_tokens(tokenizers[0], are_text=True):
            entered[number].set()
            leave[number].wait(60)

    threads = [threading.Thread(target=use, args=(number,)) for number in range(2)]
    threads[0].start()
    assert entered[0].wait(60)
    threads[1].start()
    assert not entered[1].wait(0.1)
    for thread, event in zip(threads, leave, strict=True):
        event.set()
        thread.join(60)
    assert not tokenizers[0].encode_special_tokens
