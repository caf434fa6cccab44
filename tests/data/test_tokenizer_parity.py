"""Pins that scripts with marks keep them, and have the same ids here and in transformers.

Accent stripping deletes vowels in Hindi and Thai and tones in Yoruba and Vietnamese, so it is
apart from lower-casing, and both are off unless asked for. Needs transformers for some tests.
Run alone: pytest tests/data/test_tokenizer_parity.py.
"""

from __future__ import annotations

import json
import unicodedata
from itertools import product
from pathlib import Path

import pytest
from tokenizers import Tokenizer

from bert_scratch.config import InputError
from bert_scratch.data.encoding import encode_texts
from bert_scratch.data.vocabulary import train_tokenizer
from bert_scratch.data.wordpiece import SPECIAL_TOKENS, load_tokenizer, save_tokenizer, special_ids

ZWNJ, ZWJ = "\u200c", "\u200d"
LINES = {
    "hindi": [
        "मैं हर सुबह नदी के किनारे टहलने जाता हूँ।",
        "क्या आपने यह किताब पढ़ी है? नहीं, अभी नहीं।",
        f"क्{ZWJ}षमा और विद्{ZWNJ}या दोनों चाहिए।",
    ],
    "thai": [
        "เมื่อวานนี้ฉันไปตลาดกับแม่ที่เชียงใหม่",
        "น้ำในแม่น้ำสูงขึ้นเพราะฝนตกหนัก ๆ",
    ],
    "vietnamese": [
        "Tôi thích uống cà phê sữa đá vào mỗi buổi sáng.",
        "Những đứa trẻ đang chơi ở ngoài vườn; trời rất đẹp!",
        "ĐƯỜNG NGUYỄN HUỆ đông người quá",
    ],
    "yoruba": [
        "Ọmọ náà ń ka ìwé rẹ̀ lábẹ́ igi ńlá.",
        "Ẹ kú àárọ̀, ṣé ẹ sùn dáadáa? Ọjà Ọ̀yọ́ ti kún.",
    ],
    "persian": [
        f"من هر روز صبح کتاب می{ZWNJ}خوانم و چای می{ZWNJ}نوشم.",
        f"خانه{ZWNJ}هایِ شهر، کوچک ولی زیبا هستند؛ مُدَرِّس آمد.",
    ],
}
TEXTS = [
    unicodedata.normalize(form, line)
    for lines in LINES.values()
    for line in lines
    for form in ("NFC", "NFD")
]
RULES = [
    {"lowercase": lowercase, "strip_accents": strip_accents}
    for lowercase, strip_accents in product((False, True), repeat=2)
]


@pytest.fixture(scope="module", params=RULES, ids=str)
def rules(request: pytest.FixtureRequest) -> dict[str, bool]:
    """One combination of lower-casing and accent stripping."""
    return dict(request.param)


@pytest.fixture(scope="module")
def tokenizer(rules: dict[str, bool]) -> Tokenizer:
    """A tokenizer learned from all the lines."""
    return train_tokenizer(TEXTS * 3, 500, **rules)


def test_ids_are_the_same_in_transformers(
    tokenizer: Tokenizer, rules: dict[str, bool], tmp_path: Path
) -> None:
    transformers = pytest.importorskip("transformers")
    save_tokenizer(tokenizer, tmp_path)
    theirs = transformers.AutoTokenizer.from_pretrained(tmp_path)
    ours = [ids.tolist() for ids in encode_texts(tokenizer, TEXTS)]
    assert ours == theirs(TEXTS, add_special_tokens=False)["input_ids"]
    assert not any(special_ids(tokenizer).unk in ids for ids in ours)


def test_both_settings_are_saved(
    tokenizer: Tokenizer, rules: dict[str, bool], tmp_path: Path
) -> None:
    save_tokenizer(tokenizer, tmp_path)
    config = json.loads((tmp_path / "tokenizer_config.json").read_text())
    assert config["do_lower_case"] is rules["lowercase"]
    assert config["strip_accents"] is rules["strip_accents"]


def test_composed_and_decomposed_lines_have_the_same_ids(tokenizer: Tokenizer) -> None:
    ids = [ids.tolist() for ids in encode_texts(tokenizer, TEXTS)]
    assert ids[0::2] == ids[1::2]


@pytest.mark.parametrize("language", LINES)
def test_by_default_every_letter_and_mark_is_kept(language: str) -> None:
    tokenizer = train_tokenizer(TEXTS * 3, 500)
    for text in LINES[language]:
        pieces = tokenizer.encode(text, add_special_tokens=False).tokens
        kept = "".join(piece.removeprefix("##") for piece in pieces)
        expected = unicodedata.normalize("NFC", text)
        for dropped in (ZWNJ, ZWJ, " "):
            expected = expected.replace(dropped, "")
        assert kept == expected


def test_lowercasing_alone_keeps_every_mark() -> None:
    tokenizer = train_tokenizer(TEXTS * 3, 500, lowercase=True)
    for text in TEXTS:
        marks = [c for c in unicodedata.normalize("NFD", text) if unicodedata.combining(c)]
        normal = tokenizer.normalizer.normalize_str(text)
        assert [
            c for c in unicodedata.normalize("NFD", normal) if unicodedata.combining(c)
        ] == marks


def write_vocabulary(folder: Path, *tokens: str) -> Path:
    file = folder / "vocab.txt"
    file.write_text("".join(f"{token}\n" for token in (*SPECIAL_TOKENS, *tokens)), encoding="utf-8")
    return file


@pytest.mark.parametrize(
    ("asked", "expected"),
    [
        ({}, "Ébène"),
        ({"lowercase": True}, "ebene"),
        ({"lowercase": True, "strip_accents": False}, "ébène"),
        ({"lowercase": False}, "Ébène"),
        ({"lowercase": False, "strip_accents": True}, "Ebene"),
    ],
)
def test_bare_vocabulary_is_read_as_asked(
    asked: dict[str, bool], expected: str, tmp_path: Path
) -> None:
    file = write_vocabulary(tmp_path, "Ébène", "ébène", "Ebene", "ebene")
    for path in (file, tmp_path):
        assert load_tokenizer(path, **asked).encode("Ébène").tokens[1] == expected


@pytest.mark.parametrize("flag", ["lowercase", "strip_accents"])
def test_tokenizer_that_says_its_rules_cannot_be_given_others(flag: str, tmp_path: Path) -> None:
    save_tokenizer(train_tokenizer(["a b"], 20), tmp_path)
    for path, deciding in (
        (tmp_path, "tokenizer.json"),
        (tmp_path / "tokenizer.json", "tokenizer.json"),
        (tmp_path / "vocab.txt", "tokenizer_config.json"),
    ):
        with pytest.raises(InputError, match=f"--{flag.replace('_', '-')} cannot.*{deciding}"):
            load_tokenizer(path, **{flag: False})
