"""BERT's WordPiece tokenizer: built, loaded from and saved to folders, and its special ids."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors

from bert_scratch import durable
from bert_scratch.config import InputError, flag_of, read_json_object

SPECIAL_TOKENS = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
MAX_WORD_CHARACTERS = 100
"""Longer words become [UNK], as in transformers (google-research/bert allows 200)."""

TOKENIZER_FILES = ("tokenizer.json", "vocab.txt")
"""Files a tokenizer is loaded from; the first that exists is read."""

_MAX_FILE_BYTES = 1 << 28


class SpecialIds(NamedTuple):
    """The ids of BERT's five special tokens."""

    pad: int
    unk: int
    cls: int
    sep: int
    mask: int


def build_tokenizer(
    vocab: dict[str, int],
    *,
    lowercase: bool,
    strip_accents: bool,
    nfc: bool,
    handle_chinese_chars: bool = True,
) -> Tokenizer:
    """Return BERT's WordPiece tokenizer over a vocabulary.

    Args:
        vocab: token -> id, with the five special tokens.
        lowercase: whether text is lower-cased.
        strip_accents: whether combining marks are removed (in every script).
        nfc: whether text is put into Unicode's composed form, after the other steps.
        handle_chinese_chars: whether each CJK ideograph is a word.

    Source:
        google-research/bert `tokenization.FullTokenizer`; transformers `BertTokenizer`, which
        has no NFC step.
    """
    tokenizer = Tokenizer(
        models.WordPiece(vocab, unk_token="[UNK]", max_input_chars_per_word=MAX_WORD_CHARACTERS)
    )
    bert = normalizers.BertNormalizer(
        clean_text=True,
        handle_chinese_chars=handle_chinese_chars,
        strip_accents=strip_accents,
        lowercase=lowercase,
    )
    # Last, so that it also composes what removing format characters and accents leaves.
    tokenizer.normalizer = normalizers.Sequence([bert, normalizers.NFC()]) if nfc else bert
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.decoder = decoders.WordPiece(prefix="##")
    tokenizer.post_processor = _rows_of_bert(vocab["[CLS]"], vocab["[SEP]"])
    tokenizer.add_special_tokens(list(SPECIAL_TOKENS))
    return tokenizer


def _rows_of_bert(cls: int, sep: int) -> processors.PostProcessor:
    return processors.TemplateProcessing(
        single="[CLS] $A [SEP]",
        pair="[CLS] $A [SEP] $B:1 [SEP]:1",
        special_tokens=[("[CLS]", cls), ("[SEP]", sep)],
    )


def has_tokenizer(folder: Path) -> bool:
    """Tell whether a model folder has a file that `load_tokenizer` reads."""
    return any((folder / name).is_file() for name in TOKENIZER_FILES)


def load_tokenizer(
    path: str | Path, *, lowercase: bool | None = None, strip_accents: bool | None = None
) -> Tokenizer:
    """Load a tokenizer from a Hugging Face or Google folder, a tokenizer.json or a vocab.txt.

    Without a tokenizer.json, `do_lower_case`, `strip_accents` and `tokenize_chinese_chars` are
    taken from tokenizer_config.json beside the vocab.txt. If that does not say, a vocabulary with
    capital letters is taken to be cased and any other uncased, and accents are stripped if text is
    lower-cased, as in google-research/bert.

    Args:
        path: the folder or file.
        lowercase: whether text is lower-cased; only for a vocab.txt without a
            tokenizer_config.json. None: as above.
        strip_accents: whether combining marks are removed, likewise.

    Raises:
        InputError: if there is none, it cannot be read, it lacks a special token, or lowercase or
            strip_accents is given though the files decide it.
    """
    path = Path(path)
    if path.is_dir():
        file = next((f for name in TOKENIZER_FILES if (f := path / name).is_file()), None)
        if file is None:
            raise InputError(f"{path}: holds neither tokenizer.json nor vocab.txt")
    elif path.is_file():
        file = path
    else:
        raise InputError(f"{path}: does not exist; give a folder, a tokenizer.json or a vocab.txt")
    asked = {"lowercase": lowercase, "strip_accents": strip_accents}
    if file.suffix == ".json":
        _check_undecided(asked, file)
        tokenizer = _load_json(file)
    else:
        tokenizer = _load_vocabulary(file, asked)
    special = special_ids(tokenizer, source=str(file))
    # One just trained with `tokenizers` adds none, and transformers would read texts without them.
    empty = tokenizer.encode("", "")
    if (empty.ids, empty.type_ids) != ([special.cls, special.sep, special.sep], [0, 0, 1]):
        tokenizer.post_processor = _rows_of_bert(special.cls, special.sep)
    return tokenizer


def _check_size(file: Path) -> None:
    """Refuse a file that is too large for a tokenizer, such as a corpus, before reading it."""
    num_bytes = file.stat().st_size
    if num_bytes > _MAX_FILE_BYTES:
        raise InputError(f"{file}: has {num_bytes:,} bytes, far too many for a tokenizer")


def _load_json(file: Path) -> Tokenizer:
    _check_size(file)
    try:
        tokenizer = Tokenizer.from_file(str(file))
    except Exception as error:  # tokenizers raises bare Exception
        raise InputError(f"{file}: is not a tokenizer: {error}") from error
    # Saved settings of earlier use: here the callers pad and truncate themselves.
    tokenizer.no_padding()
    tokenizer.no_truncation()
    return tokenizer


def _check_undecided(asked: Mapping[str, bool | None], file: Path) -> None:
    for name in (name for name, value in asked.items() if value is not None):
        raise InputError(
            f"{flag_of(name)} cannot be combined with this --tokenizer: {file} decides it; leave "
            "it out"
        )


def _load_vocabulary(file: Path, asked: Mapping[str, bool | None]) -> Tokenizer:
    try:
        _check_size(file)
        # Some editors put a byte order mark at the start and empty lines at the end.
        tokens = file.read_text(encoding="utf-8-sig").rstrip("\n").split("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{file}: cannot be read as UTF-8 text: {error}") from error
    vocab = {token: index for index, token in enumerate(tokens)}
    missing = [token for token in SPECIAL_TOKENS if token not in vocab]
    if missing:
        raise InputError(f"{file}: lacks {' '.join(missing)}; is it a BERT vocabulary?")
    settings_file = file.with_name("tokenizer_config.json")
    settings: dict[str, Any] = {}
    if settings_file.is_file():
        _check_undecided(asked, settings_file)
        settings = read_json_object(settings_file)
    for name in ("do_lower_case", "strip_accents", "tokenize_chinese_chars"):
        if not isinstance(settings.get(name), bool | None):
            raise InputError(
                f"{settings_file}: {name} must be true or false, not {settings[name]!r}"
            )
    lowercase = settings.get("do_lower_case", asked["lowercase"])
    if lowercase is None:
        lowercase = not any(t != t.lower() for t in vocab if not t.startswith(("[", "<")))
    strip_accents = settings.get("strip_accents", asked["strip_accents"])
    return build_tokenizer(
        vocab,
        lowercase=lowercase,
        strip_accents=lowercase if strip_accents is None else strip_accents,
        nfc=False,
        handle_chinese_chars=settings.get("tokenize_chinese_chars") is not False,
    )


def save_tokenizer(
    tokenizer: Tokenizer, folder: str | Path, *, model_max_length: int | None = None
) -> None:
    """Write tokenizer.json, tokenizer_config.json, special_tokens_map.json and vocab.txt.

    transformers' AutoTokenizer gives equal ids: the class named in the config takes
    tokenizer.json as it is. (`BertTokenizer` builds its own pipeline and drops the NFC step.)

    Args:
        tokenizer: the tokenizer to save.
        folder: made if absent; files of these names are replaced.
        model_max_length: length at which transformers truncates on request; None: never.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    named = {
        f"{name}_token": token
        for name, token in zip(SpecialIds._fields, SPECIAL_TOKENS, strict=True)
    }
    config: dict[str, Any] = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "model_input_names": ["input_ids", "token_type_ids", "attention_mask"],
        **_normalisation(tokenizer),
        **named,
    }
    if model_max_length is not None:
        config["model_max_length"] = model_max_length
    durable.write_text(folder / "tokenizer.json", tokenizer.to_str(pretty=True) + "\n")
    durable.write_json(folder / "tokenizer_config.json", config)
    durable.write_json(folder / "special_tokens_map.json", named)
    durable.write_text(folder / "vocab.txt", _vocabulary_text(tokenizer))


def _vocabulary_text(tokenizer: Tokenizer) -> str:
    """Return the lines of vocab.txt; an id without a token repeats the token after it.

    The last line of a repeated token counts, so every line keeps its id.
    """
    token_of = {index: token for token, index in tokenizer.get_vocab().items()}
    lines = []
    token = ""
    for index in reversed(range(vocab_size_of(tokenizer))):
        token = token_of.get(index, token)
        lines.append(f"{token}\n")
    return "".join(reversed(lines))


def _normalisation(tokenizer: Tokenizer) -> dict[str, Any]:
    """Return BERT's three normalisation settings under their names in tokenizer_config.json."""
    steps = json.loads(tokenizer.normalizer.__getstate__()) if tokenizer.normalizer else {}
    for step in steps.get("normalizers", [steps]):
        if step.get("type") == "BertNormalizer":
            return {
                "do_lower_case": step["lowercase"],
                "strip_accents": step["strip_accents"],
                "tokenize_chinese_chars": step["handle_chinese_chars"],
            }
    return {}


class TokenizerFolder:
    """A tokenizer with the `save_pretrained(folder)` method that model folders need."""

    def __init__(self, tokenizer: Tokenizer, *, model_max_length: int | None = None) -> None:
        self.tokenizer = tokenizer
        self._model_max_length = model_max_length

    def save_pretrained(self, folder: str | Path) -> None:
        """Write the tokenizer's files into a model folder."""
        save_tokenizer(self.tokenizer, folder, model_max_length=self._model_max_length)


def tokenizer_hash(tokenizer: Tokenizer) -> str:
    """Return the SHA-256, in hex, of everything that determines a text's ids."""
    parts = json.loads(tokenizer.to_str())
    deciding = {k: parts[k] for k in ("added_tokens", "normalizer", "pre_tokenizer", "model")}
    text = json.dumps(deciding, sort_keys=True, ensure_ascii=True)
    return hashlib.sha256(text.encode()).hexdigest()


def special_ids(tokenizer: Tokenizer, *, source: str = "the tokenizer") -> SpecialIds:
    """Return the ids of [PAD], [UNK], [CLS], [SEP] and [MASK].

    Args:
        tokenizer: any with BERT's special tokens.
        source: how error messages name it.

    Raises:
        InputError: if one is missing, or it is not a tokenizer of `tokenizers`.
    """
    if not isinstance(tokenizer, Tokenizer):
        raise InputError(
            f"{source} must be what load_tokenizer(FOLDER) returns; got "
            f"{type(tokenizer).__module__}.{type(tokenizer).__name__}"
        )
    # get_vocab() would copy the whole vocabulary, which takes milliseconds on every call.
    found = {token: tokenizer.token_to_id(token) for token in SPECIAL_TOKENS}
    ids = {token: index for token, index in found.items() if index is not None}
    missing = [token for token in SPECIAL_TOKENS if token not in ids]
    if missing:
        raise InputError(f"{source}: lacks {' '.join(missing)}; is it a BERT tokenizer?")
    return SpecialIds(*ids.values())


def vocab_size_of(tokenizer: Tokenizer) -> int:
    """Return the largest id plus one; more than the number of entries if ids are skipped."""
    return max(tokenizer.get_vocab().values()) + 1


def check_vocabulary_fits(tokenizer: Tokenizer, vocab_size: int, *, model: str) -> None:
    """Refuse a tokenizer that has more tokens than a model has embeddings.

    Args:
        tokenizer: of the model's folder.
        vocab_size: rows of the model's word embedding.
        model: how the error names it.

    Raises:
        InputError: if it has.
    """
    num_tokens = vocab_size_of(tokenizer)
    if num_tokens > vocab_size:
        raise InputError(
            f"{model}: its tokenizer has {num_tokens} tokens, its embedding {vocab_size} "
            f"(vocab_size): they do not belong together"
        )


def unselectable_ids(tokenizer: Tokenizer) -> list[int]:
    """Return the ids that are neither masked nor drawn: the five special tokens and [unused...]."""
    unused = [i for token, i in tokenizer.get_vocab().items() if token.startswith("[unused")]
    return sorted({*special_ids(tokenizer), *unused})
