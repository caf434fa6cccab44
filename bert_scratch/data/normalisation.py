"""What BERT's normalisation does to a text, and what each of its options would change.

Lower-casing and accent stripping merge words, which a model can then no longer tell apart. Whether
that helps or harms depends on the script, so it is measured on the given text.
"""

from __future__ import annotations

import re
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from functools import cache

from tokenizers import normalizers

from bert_scratch.config import Settings
from bert_scratch.data.counting import blocks_of, count_text

JOINERS = "\u200c\u200d"
"""ZWNJ and ZWJ, which distinguish words in Persian and in Indic scripts."""

# White space to BERT's cleaning; other controls that Python counts as white space are dropped.
_WHITE_SPACE = re.compile("[\t\n\r\x20\xa0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000]+")
_NUM_EXAMPLES = 5
_RARE_SCRIPT = 0.001


@dataclass(frozen=True, kw_only=True)
class NormalisationEffects(Settings):
    """What each step of BERT's normalisation changes in a text.

    The steps: `cleaning` (invisible characters are dropped) and `nfc` (letters and marks are
    composed) are always done; `lowercase` and `strip_accents` only on request. The effect of
    each of these two is measured on the cleaned and composed text.
    """

    num_words: int
    """Words and punctuation marks, as BERT cuts them."""
    num_spellings: int
    """Different words among them, as spelt in the text."""
    words_changed: dict[str, float]
    """Step -> share of words that it changes."""
    words_changed_by_script: dict[str, dict[str, float]]
    """Step -> script -> share of that script's words that it changes; rare scripts left out."""
    spellings_merged: dict[str, int]
    """Step -> how many fewer spellings there are after it: words no longer told apart."""
    examples: dict[str, tuple[str, ...]]
    """Step -> a few spellings that become one, such as "café/cafe", most frequent first."""
    joiners_dropped: int
    """JOINERS in the text, which cleaning drops."""
    format_characters_dropped: int
    """Other format characters that cleaning drops: soft hyphens, direction marks ..."""
    control_characters_dropped: int
    """Control and private characters and U+FFFD, which cleaning drops too."""


def normalisation_effects(texts: Iterable[str]) -> NormalisationEffects:
    """Measure what cleaning, NFC, lower-casing and accent stripping do to a sample of text.

    Args:
        texts: read once, streamed; if there are too many different words, only the frequent count.

    Source:
        `tokenizers` BertNormalizer (google-research/bert `tokenization.BasicTokenizer`), which is
        itself run on the different words.
    """
    spaced = _bert(handle_chinese_chars=True)
    found = count_text(
        blocks_of(texts), lambda text: _WHITE_SPACE.sub(" ", spaced.normalize_str(text))
    )
    words = found.words
    cleaned = _through(_bert(clean_text=True), words)
    clean_words = _recount(words, cleaned)
    composed = _through(normalizers.NFC(), clean_words)
    final_words = _recount(clean_words, composed)
    changes = {
        "cleaning": (words, cleaned),
        "nfc": (clean_words, composed),
        "lowercase": (final_words, _through(_bert(lowercase=True), final_words)),
        "strip_accents": (final_words, _through(_bert(strip_accents=True), final_words)),
    }
    merged = {step: _merged(*change) for step, change in changes.items()}
    return NormalisationEffects(
        num_words=words.total(),
        num_spellings=len(words),
        words_changed={step: _share_changed(*change) for step, change in changes.items()},
        words_changed_by_script={step: _by_script(*change) for step, change in changes.items()},
        spellings_merged={
            step: sum(len(group) - 1 for group in groups) for step, groups in merged.items()
        },
        examples={step: _examples(groups, changes[step][0]) for step, groups in merged.items()},
        **_dropped(found.characters),
    )


def _bert(**steps: bool) -> normalizers.Normalizer:
    """Return BERT's normaliser with only the named steps."""
    none = dict.fromkeys(
        ("clean_text", "handle_chinese_chars", "strip_accents", "lowercase"), False
    )
    return normalizers.BertNormalizer(**{**none, **steps})


def _through(normalizer: normalizers.Normalizer, words: Collection[str]) -> dict[str, str]:
    """Return what each word becomes, normalising all at once."""
    if not words:
        return {}
    # No word has a line end; cleaning makes it a space and the other steps leave it alone.
    together = normalizer.normalize_str("\n".join(words))
    return dict(zip(words, together.replace(" ", "\n").split("\n"), strict=True))


def _recount(words: Mapping[str, int], becomes: Mapping[str, str]) -> Counter[str]:
    """Return the word counts after a step; words with nothing left are dropped."""
    counts: Counter[str] = Counter()
    for word, count in words.items():
        counts[becomes[word]] += count
    del counts[""]
    return counts


def _share_changed(words: Mapping[str, int], becomes: Mapping[str, str]) -> float:
    changed = sum(count for word, count in words.items() if becomes[word] != word)
    return changed / max(1, sum(words.values()))


def _by_script(words: Mapping[str, int], becomes: Mapping[str, str]) -> dict[str, float]:
    """Return the share of each script's words that change, the commonest script first."""
    of_script: defaultdict[str, dict[str, int]] = defaultdict(dict)
    for word, count in words.items():
        of_script[_script(word)][word] = count
    sizes = {script: sum(found.values()) for script, found in of_script.items()}
    least = _RARE_SCRIPT * sum(sizes.values())
    return {
        script: _share_changed(of_script[script], becomes)
        for script in sorted(sizes, key=lambda script: (-sizes[script], script))
        if script and sizes[script] >= least
    }


def _script(word: str) -> str:
    """Return the script of a word's first letter; '' if it has no letter."""
    return next((script_of(letter) for letter in word if letter.isalpha()), "")


@cache
def script_of(letter: str) -> str:
    """Return the script of a letter: the first word of its Unicode name, such as Latin.

    Compatibility forms, such as full-width letters, count as the letters they stand for.
    """
    plain = unicodedata.normalize("NFKC", letter)[0]
    name = unicodedata.name(plain, "") or unicodedata.name(letter, "unnamed")
    first_word = re.split("[ -]", name)[0]
    return "Han" if first_word == "CJK" else first_word.capitalize()


def _merged(words: Mapping[str, int], becomes: Mapping[str, str]) -> list[list[str]]:
    """Return the groups of different spellings that become the same one."""
    groups: defaultdict[str, list[str]] = defaultdict(list)
    for word in words:
        groups[becomes[word]].append(word)
    return [group for word, group in groups.items() if word and len(group) > 1]


def _examples(groups: Iterable[list[str]], words: Mapping[str, int]) -> tuple[str, ...]:
    """Show the groups that merge most: ranked by how frequent their second spelling is."""
    ranked = (sorted(group, key=lambda word: (-words[word], word)) for group in groups)
    chosen = sorted(ranked, key=lambda group: (-words[group[1]], group))[:_NUM_EXAMPLES]
    return tuple("/".join(map(_visible, group)) for group in chosen)


def _visible(word: str) -> str:
    """Spell out characters that a terminal would hide or obey: joiners, control characters."""
    return "".join(c if c.isprintable() else f"\\u{ord(c):04x}" for c in word)


def _dropped(characters: Mapping[str, int]) -> dict[str, int]:
    """Count the characters that cleaning drops, by kind."""
    clean = _bert(clean_text=True)
    kinds = ("joiners_dropped", "format_characters_dropped", "control_characters_dropped")
    counts = dict.fromkeys(kinds, 0)
    for character, count in characters.items():
        if clean.normalize_str(f"a{character}a") != "aa":
            continue
        is_format = unicodedata.category(character) == "Cf"
        kind = 0 if character in JOINERS else 1 if is_format else 2
        counts[kinds[kind]] += count
    return counts
