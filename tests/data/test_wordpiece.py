"""Pins tokenizers built, saved and loaded: identical in transformers, whatever the files hold.

The original BERT vocabularies are compared where the developers' data is. Run alone:
pytest tests/data/test_wordpiece.py.
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from tokenizers import Tokenizer, models, processors

from bert_scratch.config import InputError
from bert_scratch.data.encoding import encode_texts
from bert_scratch.data.vocabulary import train_tokenizer
from bert_scratch.data.wordpiece import (
    SPECIAL_TOKENS,
    SpecialIds,
    TokenizerFolder,
    build_tokenizer,
    load_tokenizer,
    save_tokenizer,
    special_ids,
    tokenizer_hash,
    unselectable_ids,
    vocab_size_of,
)

MIXED = [
    "हिन्दी विकिपीडिया एक मुक्त ज्ञानकोश है।",
    "ภาษาไทยเป็นภาษาที่มีระดับเสียง",
    "Tiếng Việt là ngôn ngữ của người Việt.",
    "Èdè Yorùbá ni èdè tí àwọn ọmọ Yorùbá ń sọ, ẹ̀kọ́.",
    "维基百科是一个自由的百科全书，hello世界！",
    "한국어 위키백과 \u1112\u1161\u11ab\u1100\u116e\u11a8",
    "日本語のウィキペディア、か\u3099",
    "Ебène İstanbul straße ΑΣ ﬁ e\u0301 \u212b 𝒳 😀",
    'The [MASK] "quoted" don\'t-stop U.S. 3.14 #hash ##a a_b\u200bc\u00a0d\u00ad\ufffd',
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
    return train_tokenizer([*MIXED, "the cat sat on the mat"] * 5, 700).get_vocab()


@pytest.fixture(scope="module")
def tokenizers(vocab: dict[str, int]) -> list[Tokenizer]:
    """Every kind of normalisation over the one vocabulary."""
    return [build_tokenizer(vocab, **rules) for rules in RULES]


def our_ids(tokenizer: Tokenizer, texts: list[str]) -> list[list[int]]:
    return [ids.tolist() for ids in encode_texts(tokenizer, texts)]


def test_pairs_are_cls_a_sep_b_sep(tokenizers: list[Tokenizer]) -> None:
    encoding = tokenizers[0].encode("cat", "mat")
    assert encoding.tokens == ["[CLS]", "cat", "[SEP]", "mat", "[SEP]"]
    assert encoding.type_ids == [0, 0, 0, 1, 1]


@pytest.mark.parametrize("kind", range(len(RULES)))
def test_saved_tokenizer_gives_equal_ids_in_transformers(
    tokenizers: list[Tokenizer], kind: int, tmp_path: Path
) -> None:
    transformers = pytest.importorskip("transformers")
    TokenizerFolder(tokenizers[kind]).save_pretrained(tmp_path)
    theirs = transformers.AutoTokenizer.from_pretrained(tmp_path)
    for text in MIXED:
        assert theirs(text)["input_ids"] == tokenizers[kind].encode(text).ids
    assert theirs("cat", "mat")["token_type_ids"] == [0, 0, 0, 1, 1]
    named = (theirs.pad_token_id, theirs.unk_token_id, theirs.cls_token_id)
    assert named == special_ids(tokenizers[kind])[:3]
    assert (theirs.sep_token_id, theirs.mask_token_id) == special_ids(tokenizers[kind])[3:]


@pytest.mark.parametrize("kind", range(len(RULES)))
def test_saved_tokenizer_is_loaded_as_it_was(
    tokenizers: list[Tokenizer], kind: int, tmp_path: Path
) -> None:
    save_tokenizer(tokenizers[kind], tmp_path)
    for path in (tmp_path, tmp_path / "tokenizer.json"):
        assert tokenizer_hash(load_tokenizer(path)) == tokenizer_hash(tokenizers[kind])


@pytest.mark.parametrize("former", [None, processors.TemplateProcessing(single="$A", pair="$A $B")])
def test_tokenizer_that_adds_no_special_tokens_adds_them_once_loaded(
    tokenizers: list[Tokenizer], former: processors.PostProcessor | None, tmp_path: Path
) -> None:
    transformers = pytest.importorskip("transformers")
    bare = Tokenizer.from_str(tokenizers[0].to_str())
    bare.post_processor = former
    bare.save(str(tmp_path / "tokenizer.json"))
    assert bare.encode("cat", "mat").tokens == ["cat", "mat"]
    loaded = load_tokenizer(tmp_path)
    save_tokenizer(loaded, tmp_path)
    theirs = transformers.AutoTokenizer.from_pretrained(tmp_path)("cat", "mat")
    expected = tokenizers[0].encode("cat", "mat")
    for found in (loaded.encode("cat", "mat"), theirs.encodings[0]):
        assert (found.ids, found.type_ids) == (expected.ids, expected.type_ids)


def test_hash_tells_tokenizers_apart(tokenizers: list[Tokenizer]) -> None:
    assert len({tokenizer_hash(tokenizer) for tokenizer in tokenizers}) == len(tokenizers)


def test_padding_and_truncation_of_a_former_user_are_dropped(
    tokenizers: list[Tokenizer], tmp_path: Path
) -> None:
    save_tokenizer(tokenizers[0], tmp_path)
    path = tmp_path / "tokenizer.json"
    used = Tokenizer.from_file(str(path))
    used.enable_truncation(4)
    used.enable_padding(length=10)
    used.save(str(path))
    assert our_ids(load_tokenizer(path), MIXED) == our_ids(tokenizers[0], MIXED)
    assert tokenizer_hash(load_tokenizer(path)) == tokenizer_hash(tokenizers[0])


def write_vocabulary(folder: Path, tokens: list[str], **settings: object) -> Path:
    (folder / "vocab.txt").write_text("".join(f"{token}\n" for token in tokens), encoding="utf-8")
    if settings:
        (folder / "tokenizer_config.json").write_text(json.dumps(settings))
    return folder


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({"do_lower_case": True}, "ebene"),
        ({"do_lower_case": True, "strip_accents": False}, "ébène"),
        ({"do_lower_case": False}, "Ébène"),
        ({"do_lower_case": False, "strip_accents": True}, "Ebene"),
    ],
)
def test_vocabulary_folder_is_read_as_its_configuration_says(
    settings: dict[str, object], expected: str, tmp_path: Path
) -> None:
    tokens = [*SPECIAL_TOKENS, "Ébène", "ébène", "Ebene", "ebene"]
    tokenizer = load_tokenizer(write_vocabulary(tmp_path, tokens, **settings))
    assert tokenizer.encode("Ébène").tokens == ["[CLS]", expected, "[SEP]"]


@pytest.mark.parametrize(("word", "expected"), [("Paris", "Paris"), ("paris", "paris")])
def test_bare_vocabulary_with_capitals_is_cased(word: str, expected: str, tmp_path: Path) -> None:
    folder = write_vocabulary(tmp_path, [*SPECIAL_TOKENS, "[unused1]", word])
    tokenizer = load_tokenizer(folder / "vocab.txt")
    assert tokenizer.encode("Paris", add_special_tokens=False).tokens == [expected]


def test_vocabulary_with_windows_line_ends_is_read(tmp_path: Path) -> None:
    content = "\r\n".join([*SPECIAL_TOKENS, "a"]) + "\r\n"
    (tmp_path / "vocab.txt").write_bytes(content.encode())
    assert load_tokenizer(tmp_path).get_vocab()["a"] == 5


@pytest.mark.parametrize("name", ["uncased", "cased", "chinese", "multilingual-cased"])
def test_original_vocabularies_give_the_ids_of_transformers(name: str, shared: Path) -> None:
    transformers = pytest.importorskip("transformers")
    path = shared / "data" / "vocab" / f"bert-base-{name}" / "vocab.txt"
    ours = load_tokenizer(path)
    lowercase = name in ("uncased", "chinese")
    theirs = transformers.BertTokenizer(str(path), do_lower_case=lowercase)
    expected = theirs(MIXED, add_special_tokens=False, split_special_tokens=True)["input_ids"]
    assert our_ids(ours, MIXED) == expected
    assert [e.ids for e in ours.encode_batch(MIXED)] == theirs(MIXED)["input_ids"]


def test_special_and_unused_ids_are_not_selectable(tmp_path: Path) -> None:
    tokens = ["[PAD]", "[unused0]", "[unused99]", "a", *SPECIAL_TOKENS[1:], "b"]
    tokenizer = load_tokenizer(write_vocabulary(tmp_path, tokens))
    assert special_ids(tokenizer) == SpecialIds(pad=0, unk=4, cls=5, sep=6, mask=7)
    assert unselectable_ids(tokenizer) == [0, 1, 2, 4, 5, 6, 7]


def test_repeated_lines_of_a_vocabulary_still_count_as_ids(tmp_path: Path) -> None:
    tokens = [*SPECIAL_TOKENS, "a", "a", "", "b"]
    tokenizer = load_tokenizer(write_vocabulary(tmp_path, tokens))
    assert vocab_size_of(tokenizer) == 9
    save_tokenizer(tokenizer, tmp_path / "saved")
    again = load_tokenizer(tmp_path / "saved" / "vocab.txt")
    for word, number in (("a", 6), ("b", 8)):
        assert tokenizer.token_to_id(word) == again.token_to_id(word) == number


def test_ids_without_a_token_keep_their_lines(tmp_path: Path) -> None:
    vocab = {**{token: index for index, token in enumerate(SPECIAL_TOKENS)}, "a": 7, "b": 11}
    tokenizer = build_tokenizer(vocab, lowercase=False, strip_accents=False, nfc=False)
    save_tokenizer(tokenizer, tmp_path)
    assert load_tokenizer(tmp_path / "vocab.txt").get_vocab() == tokenizer.get_vocab()


def test_byte_order_mark_and_empty_last_lines_are_no_tokens(tmp_path: Path) -> None:
    content = "\n".join([*SPECIAL_TOKENS, "a"]) + "\n\n\n"
    (tmp_path / "vocab.txt").write_text(content, encoding="utf-8-sig")
    tokenizer = load_tokenizer(tmp_path)
    assert tokenizer.token_to_id("[PAD]") == 0
    assert vocab_size_of(tokenizer) == 6


def test_line_separators_within_a_vocabulary_are_tokens(tmp_path: Path) -> None:
    tokens = [*SPECIAL_TOKENS, "\u2028", "\x85", "a"]
    assert load_tokenizer(write_vocabulary(tmp_path, tokens)).token_to_id("a") == 7


def test_what_is_not_a_tokenizer_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="does not exist"):
        load_tokenizer(tmp_path / "nothing")
    with pytest.raises(InputError, match="neither tokenizer.json nor vocab.txt"):
        load_tokenizer(tmp_path)
    with pytest.raises(InputError, match=r"vocab.txt: lacks \[MASK\]"):
        load_tokenizer(write_vocabulary(tmp_path, list(SPECIAL_TOKENS[:4])))
    (tmp_path / "vocab.txt").write_bytes(b"\xff\xfe")
    with pytest.raises(InputError, match="cannot be read as UTF-8"):
        load_tokenizer(tmp_path)
    (tmp_path / "tokenizer.json").write_text("{}")
    with pytest.raises(InputError, match=r"tokenizer.json: is not a tokenizer"):
        load_tokenizer(tmp_path)


@pytest.mark.parametrize("name", ["do_lower_case", "strip_accents", "tokenize_chinese_chars"])
def test_settings_beside_a_vocabulary_are_checked(name: str, tmp_path: Path) -> None:
    for wrong in ("no", 1):
        write_vocabulary(tmp_path, [*SPECIAL_TOKENS, "a"], **{name: wrong})
        with pytest.raises(InputError, match=f"{name} must be true or false, not {wrong!r}"):
            load_tokenizer(tmp_path)
    write_vocabulary(tmp_path, [*SPECIAL_TOKENS, "a"], **{name: None})
    assert our_ids(load_tokenizer(tmp_path), ["a"]) == [[5]]


def test_a_large_text_is_not_read_as_a_vocabulary(tmp_path: Path) -> None:
    path = tmp_path / "corpus.txt"
    with path.open("wb") as file:
        file.truncate(300_000_000)
    with pytest.raises(InputError, match="corpus.txt: has 300,000,000 bytes"):
        load_tokenizer(path)


def test_tokenizer_without_berts_special_tokens_is_refused(tmp_path: Path) -> None:
    Tokenizer(models.BPE()).save(str(tmp_path / "tokenizer.json"))
    with pytest.raises(InputError, match=r"lacks \[PAD\] \[UNK\] \[CLS\] \[SEP\] \[MASK\]"):
        load_tokenizer(tmp_path)
