"""Split documents into sentences by rule, for Latin, Cyrillic, Greek, CJK, Arabic, Indic and more.

One regular expression finds the places where a sentence may end; a few cheap checks at those
places decide. Nothing is downloaded or learned, so the result depends on the text alone. A line
end always ends a sentence. Stops inside quotes end sentences as they do elsewhere, but a speech
tag ("he said") stays with the words spoken.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator, Sequence

from bert_scratch.config import InputError, did_you_mean
from bert_scratch.data.abbreviations import (
    BEFORE_NUMBER,
    BEFORE_ORDINAL,
    MAYBE_LAST,
    NEVER_LAST,
    NEVER_LAST_IN_CAPITALS,
    STARTERS,
)
from bert_scratch.data.sentence_library import check_library, is_library, split_by_library

LONG_DOCUMENT_BYTES = 80_000
SECTION_BYTES = 20_000
SENTENCE_RULES = ("auto", "lines", "rules")

# A sentence longer than the first number of characters is cut at the next white space, or at the
# second number if there is none.
_LONGEST = (2_000, 3_000)
# Thai and Lao have no stop and Tibetan marks phrases; spaces end phrases and sometimes sentences.
_LONGEST_PHRASE = (80, 400)
_PHRASED = re.compile(r"[\u0e00-\u0fff]")
_SPACE = re.compile(r"\s")
# Not next to numbers, foreign words or the repetition mark, nor before a conjunction.
_PHRASE_END = re.compile(
    r"(?<=[\u0e01-\u0e45\u0e47-\u0eff\u0f00-\u0fff!?\"”])\s+(?=[\"“\u0e00-\u0fff])"
    r"(?!และ|หรือ|แต่|ซึ่ง|โดย|ที่|ได้แก่|เช่น)"
)

_CLOSERS = (
    r"(?:[\"'”’»)\]}」』】》〉）］｝〕]|[“‘«](?=\s|$)|\[\d{1,3}\]|[\u00a0\u202f ][»”](?=\s|$))*"
)
_OPENERS = "\"'“”‘’„‚«»([{「『【《〈（［｛〔¿¡*_-–—•· \u00a0\u202f"
# Stops that end a sentence whatever follows: full-width, danda, Urdu, Armenian, Ethiopic, Khmer,
# Burmese, Tibetan. Others need white space and a check of both neighbours, or two ideographs.
_ALWAYS = "。！？｡।॥۔։።។။༎"
_SPACED = r".!?…؟;\u037e"
_UNSPACED = r"\u3040-\u30ff\u3400-\u9fff"
# A leading set lets `re` skip everything but stops, four times as fast as branches do; the empty
# groups tell which branch matched and where the run of stops ends.
_CANDIDATE = re.compile(
    rf"[{_ALWAYS}．{_SPACED}]"
    rf"(?:(?:(?<=[{_ALWAYS}])|(?<=．)(?!\d))[{_ALWAYS}!?…]*{_CLOSERS}(?P<always>)"
    # A run of stops is examined once, from its first, or a million dots would take a day.
    rf"|(?<=[{_SPACED}])(?<![{_SPACED}][{_SPACED}])[{_SPACED}]*+(?P<run>)"
    rf"(?:{_CLOSERS}\s+(?=\S)|(?<=[{_UNSPACED}]{{2}}.)(?=[{_UNSPACED}“「『])"
    # An ellipsis ends a clause, not a word or two of hesitation.
    rf"|(?:(?<=[{_UNSPACED}]{{4}}…)|(?<=[{_UNSPACED}]{{4}}……))[”」』]?(?=[{_UNSPACED}“「『（])))"
)
# Everything before the last word: faster than searching for a word that ends there.
_BEFORE_LAST_WORD = re.compile(r"(?:.*[\s\"'“”‘’„«»()\[\]{}—–/])?", re.DOTALL)
_FIRST_WORD = re.compile(r"\w\w+|I(?=['’])|\w(?!['’])")
_DOTTED = re.compile(r"(?:[^\W\d_]{1,2}\.-?)+[^\W\d_]{1,2}$")
_SHORT_ABBREVIATION = re.compile(r"(?<![^\s(\"„“«])([^\W\d_]{1,2})\.\s?$")
_ACRONYM = re.compile(r"[A-Z]{2,}$")
_ROMAN = re.compile(r"[IVX]+$")
_INITIAL = re.compile(r"[^\W\d_\uac00-\ud7a3\u3040-\u9fff][^\w.]{0,2}$")
_NUMBER = re.compile(r"[A-Z]{0,3}\d|(?:[IVXLC]{2,}|[VX])\b")
_DAY_AND_DOT = re.compile(r"\d{1,2}\.")
_COLON_OR_DAY = re.compile(r"(?::|\b\d{1,4}\.)$")
# What may follow a Japanese or Chinese closing quote without starting a sentence.
_CONTINUES = tuple("，、,：:；;）」』。的地と")
_CLOSING_QUOTES = tuple("\"'”’»」』")
_GREEK = re.compile(r"[\u0370-\u03ff\u1f00-\u1fff]")
_OWN_STOP = re.compile("[।॥۔։።]")
# A speech tag right after the words spoken where no lower case marks it: a few words and a verb.
_SPEECH = re.compile(
    r"\s*(?:[^\s，。！？：；“”「」、不没沒是地]{0,8}(?:[说說]|(?<!知)道|[问問]|喊|叫|答)[了着]?[，。！]"
    r"|(?:[^\s.,،؟?!।۔]{1,20}\s){1,3}(?:पूछा|कहा|बोला|बोली|बोले|चिल्लाया|चिल्लाई|پوچھا|کہا|بولا|بولی|چلایا"
    r"|پرسید|گفت)"
    r"|(?:پرسید|گفت|سأل|قال|صاح|أجاب|همس|என்று|என்றார்|என்றான்|என்றாள்|라고|하고|이라고|そう[言い])"
    r"|\S{1,20}\s(?:물었|말했|외쳤|대답했)"
    r"|\S{1,20}\s(?:জিজ্ঞাসা|জিজ্ঞেস|বলল|বললেন|চিৎকার)"
    r"|(?<=[?!]..)(?!(?:He|She|They|We|It|You|Nobody|No|When|And|So|But|Then|As|If|While|After"
    r"|Before|There|Here)\b)[A-Z][\w'’.]{0,20}\s(?:[\w'’.]{1,20}\s){0,2}?"
    r"(?:said|asked|cried|exclaimed|replied|answered|shouted|whispered|inquired|demanded"
    r"|muttered|murmured)(?:[.;]|,(?!\s[\"“'‘])|\s(?:\w+ly|in|with|at|to|as|of|again)\b))"
)


def split_sentences(paragraph: str) -> list[str]:
    """Split one paragraph into its sentences.

    A stretch of 2,000 characters without a stop is cut at the next space, or at 3,000. In Thai,
    Lao and Tibetan, where spaces end phrases, one of 80 is cut at the next space that may, or at
    400.

    Args:
        paragraph: text; line ends in it end sentences.

    Returns:
        The sentences, stripped, non-empty, in order; joined they hold every non-space character.
    """
    if "\n" in paragraph:
        return [s for line in paragraph.split("\n") for s in split_sentences(line)]
    # A lower-cased corpus has no capitals to mark sentence starts.
    lowercased = paragraph.islower()
    phrased = not paragraph.isascii() and _PHRASED.search(paragraph) is not None
    enough = _LONGEST_PHRASE[0] if phrased else _LONGEST[0]
    sentences = []
    start = 0
    for match in _CANDIDATE.finditer(paragraph):
        if _ends_sentence(paragraph, match, start, lowercased):
            sentences.append(paragraph[start : match.end()].strip())
            start = match.end()
    sentences.append(paragraph[start:].strip())
    if max(map(len, sentences)) > enough:
        return [piece for sentence in sentences for piece in _cut(sentence)]
    return [sentence for sentence in sentences if sentence]


def _cut(sentence: str) -> list[str]:
    """Cut a sentence that is too long, at white space if it has any."""
    boundary, (enough, longest) = _SPACE, _LONGEST
    if len(_PHRASED.findall(sentence)) > len(sentence) // 2:
        boundary, (enough, longest) = _PHRASE_END, _LONGEST_PHRASE
    pieces = []
    start = 0
    while len(sentence) - start > enough:
        earliest, end = start + enough, start + longest
        space = boundary.search(sentence, earliest, end) or _SPACE.search(sentence, earliest, end)
        end = space.start() if space else end
        # Accents and vowel signs stay with their letter.
        while end > earliest and unicodedata.category(sentence[end : end + 1] or " ")[0] == "M":
            end -= 1
        pieces.append(sentence[start:end].strip())
        start = end
    pieces.append(sentence[start:].strip())
    return [piece for piece in pieces if piece]


def _ends_sentence(text: str, match: re.Match[str], start: int, lowercased: bool) -> bool:
    """Tell whether the candidate ends the sentence that began at start."""
    end = match.end()
    if match["always"] is not None:
        return _full_width_stop_ends(text, match, start)
    following = text[end : end + 40].lstrip(_OPENERS)
    if not following or following[0] in ".!?…":
        return False
    if following[0].islower() and not lowercased and not following[1:2].isupper():
        return False  # but "iPhone" may begin a sentence
    stop = text[match.start() : match.end("run")]
    if stop == ";" or stop == "\u037e":
        return _GREEK.match(text, match.start() - 1) is not None
    if match[0].rstrip().endswith(_CLOSING_QUOTES) and _quotation_goes_on(text, end):
        return False
    if stop[-1] in "!?؟":
        return True
    before = _BEFORE_LAST_WORD.match(text, max(start, match.start() - 24), match.start())
    assert before is not None  # it matches the empty string too
    word = text[before.end() : match.start()]
    if not word:
        return True
    if stop != ".":
        first = _FIRST_WORD.match(following)  # "I... I do not know"
        return first is None or first[0].lower() != word.lower()
    return _word_may_end(text, start, before.end(), word, following)


def _full_width_stop_ends(text: str, match: re.Match[str], start: int) -> bool:
    """Tell whether a stop that needs no space after it ends the sentence."""
    begin, end = match.span()
    stop = text[begin]
    if stop == "．":
        return not text[max(start, begin - 9) : begin].strip().isdigit()  # "４．" numbers a list
    if stop in "！？":
        title = text.rfind("《", max(start, begin - 60), begin)
        if title >= 0 and text.find("》", title, end + 30) >= begin:
            return False
    if match[0][-1] in _ALWAYS:
        return True
    return not _quotation_goes_on(text, end)


def _quotation_goes_on(text: str, end: int) -> bool:
    """Tell whether a sentence continues after a closing quote, with a speech tag for example."""
    return text.startswith(_CONTINUES, end) or _SPEECH.match(text, end) is not None


def _word_may_end(text: str, start: int, place: int, word: str, following: str) -> bool:
    """Tell whether a full stop after this word, which starts at a place, ends the sentence."""
    key = word.lower()
    if (key in BEFORE_NUMBER or key.endswith("str")) and _NUMBER.match(following):
        return False
    if word.isupper() and _ACRONYM.match(word) and word not in NEVER_LAST_IN_CAPITALS:
        # "II. Mehmet" at the start of a sentence is a number.
        return _ROMAN.match(word) is None or bool(
            text[max(start, place - 40) : place].strip(_OPENERS)
        )
    if len(key) <= 2:
        before = _SHORT_ABBREVIATION.search(text, max(start, place - 6), place)
        both = f"{before[1].lower()}.{key}" if before else ""
        key = both if both in NEVER_LAST or both in MAYBE_LAST else key  # "z. B." is "z.B."
    if key in NEVER_LAST or word in NEVER_LAST_IN_CAPITALS:
        return False
    if key.isdigit():
        return _number_may_end(text[max(start, place - 40) : place], key, following)
    if len(key) == 1 and following[1:2] == ".":
        return False
    if (
        (len(key) <= 4 or "." in key)
        and key == word.upper()
        and _OWN_STOP.search(text, max(0, start - 999), start + 999)
    ):
        return False  # where sentences end in danda, a short word with a full stop is abbreviated
    initial = len(word) <= 3 and _INITIAL.match(word) and (word[0].isupper() or not key.islower())
    if initial or key in MAYBE_LAST or ("." in key and _DOTTED.match(key)):
        return _starts_sentence(following)
    return True


def _number_may_end(before: str, number: str, following: str) -> bool:
    """Tell whether a full stop after a number ends the sentence: not in lists, dates, ordinals."""
    before = before.strip(_OPENERS)
    # "1. Introduction" at the start or after a colon; "2001. 3. 5." is a date.
    if not before.strip() or _COLON_OR_DAY.search(before) or _DAY_AND_DOT.match(following):
        return False
    # German: "am 3. Mai".
    return len(number) > 2 or before.rsplit(None, 1)[-1].lower() not in BEFORE_ORDINAL


def _starts_sentence(following: str) -> bool:
    word = _FIRST_WORD.match(following)
    if word is None or following.startswith(".", word.end()):
        return False  # "A. Smith"
    return word[0].lower() in STARTERS


def check_sentence_rule(name: str) -> None:
    """Check a value of --sentences early, without importing a library.

    Raises:
        InputError: if the name is neither a rule nor a library, or the library is not installed.
    """
    if name in SENTENCE_RULES:
        return
    if not is_library(name):
        raise InputError(
            f"--sentences must be one of {', '.join(SENTENCE_RULES)}, pysbd, pysbd:LANGUAGE or "
            f"MODULE:FUNCTION; got {name!r}{did_you_mean(name, (*SENTENCE_RULES, 'pysbd'))}"
        )
    check_library(name)


def split_document(paragraphs: list[str], rule: str) -> list[str]:
    """Return a document's sentences.

    Args:
        paragraphs: lines or paragraphs of text, given to a library one by one.
        rule: "lines" (each is a sentence), "rules", or a library: "pysbd", "pysbd:de" (an ISO
            code; English otherwise) or "module:function" (text -> list of sentences).

    Raises:
        InputError: naming the library, if its sentences do not join to the text.
    """
    if rule == "lines":
        return paragraphs
    if rule == "rules":
        return [sentence for paragraph in paragraphs for sentence in split_sentences(paragraph)]
    return [sentence for paragraph in paragraphs for sentence in split_by_library(paragraph, rule)]


def choose_rule(documents: Sequence[list[str]]) -> tuple[str, str]:
    """Decide `--sentences auto` from a sample of documents.

    If the rules would hardly split any line, lines are sentences already.

    Args:
        documents: a sample, each a list of lines or paragraphs.

    Returns:
        ("lines" | "rules", the sentence of evidence to print).
    """
    lines = [line for document in documents for line in document]
    num_split = sum(len(split_sentences(line)) > 1 for line in lines)
    share = num_split / max(1, len(lines))
    found = f"{share:.0%} of {len(lines):,} sampled lines hold more than one sentence"
    if lines and share < 0.1:
        return "lines", f"{found}, so a line is a sentence (--sentences rules splits them)"
    return "rules", f"{found}, so lines are split by rule (--sentences lines keeps them whole)"


def sections(sentences: list[str]) -> Iterator[list[str]]:
    """Cut a document of more than 80,000 UTF-8 bytes into sections of about 20,000.

    This gives a corpus of a few long documents enough documents to hold out and to draw random
    second segments from. Cuts are at sentence ends; shorter documents come back whole.

    Args:
        sentences: a document's sentences.

    Yields:
        Non-empty runs of consecutive sentences.
    """
    sizes = [len(sentence.encode("utf-8", "surrogatepass")) for sentence in sentences]
    total = sum(sizes)
    if total <= LONG_DOCUMENT_BYTES:
        if sentences:
            yield sentences
        return
    num_sections = round(total / SECTION_BYTES)
    start, size, num_done = 0, 0, 0
    for index, sentence_bytes in enumerate(sizes):
        size += sentence_bytes
        if size * num_sections >= total * (num_done + 1):
            yield sentences[start : index + 1]
            start = index + 1
            num_done = size * num_sections // total
    if start < len(sentences):
        yield sentences[start:]
