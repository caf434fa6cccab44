"""Documents to sentences, by rule: Latin, Cyrillic, Greek, CJK, Arabic, Indic and other scripts.

One regular expression finds the places where a sentence may end; a few cheap checks at those
places decide. Nothing is downloaded and nothing is learned, so the result depends on the text
alone. A line end always ends a sentence.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

LONG_DOCUMENT_BYTES = 80_000
SECTION_BYTES = 20_000

_CLOSERS = (
    r"(?:[\"'”’»)\]}」』】》〉）］｝〕]|[“‘«](?=\s|$)|\[\d{1,3}\]|[\u00a0\u202f ][»”](?=\s|$))*"
)
_OPENERS = "\"'“”‘’„‚«»([{「『【《〈（［｛〔¿¡*_-–—•· \u00a0\u202f"
# Stops that end a sentence whatever follows: full-width, danda, Urdu, Armenian, Ethiopic, Khmer,
# Burmese, Tibetan. The others need white space and a look at both neighbours, or two ideographs.
_ALWAYS = "。！？｡।॥۔։።។။༎"
_UNSPACED = r"\u3040-\u30ff\u3400-\u9fff"
_CANDIDATE = re.compile(
    rf"(?P<always>(?:[{_ALWAYS}]|．(?!\d))[{_ALWAYS}!?…]*{_CLOSERS})"
    rf"|(?P<stop>[.!?…؟;\u037e]+)"
    rf"(?:{_CLOSERS}\s+(?=\S)|(?<=[{_UNSPACED}].)(?=[{_UNSPACED}]))"
)
_LAST_WORD = re.compile(r"[^\s\"'“”‘’„«»()\[\]{}—–/]*$")
_FIRST_WORD = re.compile(r"\w+(?:['’]\w+)?")
_DOTTED = re.compile(r"(?:[^\W\d_]{1,2}\.-?)+[^\W\d_]{1,2}$")
# What may follow a Japanese or Chinese closing quote without starting a sentence.
_CONTINUES = tuple("，、,：:；;）」』。的地と")
_GREEK = re.compile(r"[\u0370-\u03ff\u1f00-\u1fff]")


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


# Never the last word of a sentence (titles, and words that announce something).
_NEVER_LAST = _words(
    """
    mr mrs ms messrs dr drs prof rev hon gen col sgt capt cpt lt cmdr adm maj gov sen rep pres supt
    st ste mt ft fr vs viz cf e.g i.e eg ie approx esp resp incl dept ed eds trans repr
    mme mmes mlle mlles mgr z.b d.h u.a o.ä s.o s.u hrn bzw vgl sog ggf evtl inkl
    zzgl ca geb gest hl abb tab sra srta sres dña dra dott sig prof.ssa
    c.-à-d p.ex env av т.е т.к т.н т.о им ул пр пер проф акад ген св тов гр см ср напр
    डॉ श्री प्रो कु श्रीमती κ.κ κος βλ π.χ δηλ
    """
)
# The last word of a sentence only when what follows looks like the start of one.
_MAYBE_LAST = _words(
    """
    inc ltd co corp bros jr sr etc al v u.s u.k u.n u.s.a a.m p.m b.c a.d b.c.e c.e ph.d m.d b.a m.a
    d.c e.u usw u.s.w etc jh jhd jr. ee.uu s.a s.l ud uds vd vds usd gmbh ag kg mio mrd
    г гг в вв т.д т.п др пр р руб коп тыс млн млрд н.э км кг κ κ.ά κτλ κ.λπ π.χ μ.χ
    """
)
# An abbreviation only before a number.
_BEFORE_NUMBER = _words(
    """
    no nos fig figs vol vols ch chap sec sect pp p pt pts eq eqs art nr núm num pág págs cap
    abb kap bd s f ff jan feb mar apr jun jul aug sep sept oct nov dec n nº abs ziff
    b c d рис стр гл табл ст п с № σελ άρθ αρ
    """
)
_BEFORE_ORDINAL = _words("am im vom zum zur der die das dem den des ab bis seit jeder jede jedes")
_STARTERS = _words(
    """
    the a an this that these those he she it we they you i his her its their our my in on at for
    from by with as when while after before since if although though but and or so yet then there
    here however what who why how which where no not all some many most one two both each other
    another such to during under over between among within despite because until once even only
    later today meanwhile moreover furthermore thus therefore instead finally first second
    der die das ein eine er sie es wir ihr ich im am zum zur bei mit nach von vor auf aus für
    diese dieser dieses wenn als aber und doch auch so da dann damit dabei hier
    le la les un une il elle ils elles nous vous je ce cette ces dans en au aux pour par avec
    mais et ou donc puis si quand selon après avant depuis
    el los las una unos ella ellos nosotros yo este esta estos ese del al para por con pero y
    cuando según después antes desde también
    он она оно они мы вы я это этот эта эти в во на но и а с со к по из за от до у о об при для
    как когда если после потом так там здесь его её их
    ο η το οι τα ένας μια αυτός αυτή αυτό στο στη στην στον με για από και αλλά όταν αν
    """
)


def split_sentences(paragraph: str) -> list[str]:
    """Split one paragraph into its sentences.

    A sentence without any stop is left whole, however long; pairs are cut to length later.

    Args:
        paragraph: text; line ends in it end sentences.

    Returns:
        The sentences, stripped, non-empty, in order; joined they hold every non-space character.
    """
    if "\n" in paragraph:
        return [s for line in paragraph.split("\n") for s in split_sentences(line)]
    # A lower-cased corpus has no capital to wait for.
    lowercased = paragraph.islower()
    sentences = []
    start = 0
    for match in _CANDIDATE.finditer(paragraph):
        if _ends_sentence(paragraph, match, start, lowercased):
            sentence = paragraph[start : match.end()].strip()
            start = match.end()
            if sentence:
                sentences.append(sentence)
    rest = paragraph[start:].strip()
    if rest:
        sentences.append(rest)
    return sentences


def _ends_sentence(text: str, match: re.Match[str], start: int, lowercased: bool) -> bool:
    """Tell whether the candidate is the end of the sentence that began at start."""
    end = match.end()
    if match["always"]:
        return not text.startswith(_CONTINUES, end) if match["always"][-1] not in _ALWAYS else True
    following = text[end : end + 40].lstrip(_OPENERS)
    if not following or following[0] in ".!?…" or (following[0].islower() and not lowercased):
        return False
    stop = match["stop"]
    if stop == ";" or stop == "\u037e":
        return _GREEK.match(text, match.start() - 1) is not None
    if stop != ".":
        return True
    word = _LAST_WORD.search(text, max(start, match.start() - 24), match.start())
    return not word or not word[0] or _word_may_end(text, start, word, following)


def _word_may_end(text: str, start: int, word: re.Match[str], following: str) -> bool:
    """Tell whether a full stop after this word ends the sentence, given what follows."""
    key = word[0].lower()
    if len(key) > 1 and key.isascii() and word[0].isupper() and word[0].isalpha():
        return True  # an acronym
    if key in _NEVER_LAST:
        return False
    if following[0].isdigit() and (key in _BEFORE_NUMBER or key.endswith("str")):
        return False
    if key.isdigit():
        # "1. Introduction" at the start of a sentence; German ordinals ("am 3. Mai").
        before = text[start : word.start()].lower().strip(_OPENERS)
        return bool(before) and before.rsplit(None, 1)[-1] not in _BEFORE_ORDINAL
    if len(key) == 1 and following[1:2] == ".":
        return False
    initial = len(key) == 1 and key.isalpha() and (word[0].isupper() or not key.islower())
    if initial or key in _MAYBE_LAST or _DOTTED.match(key):
        return _starts_sentence(following)
    return True


def _starts_sentence(following: str) -> bool:
    word = _FIRST_WORD.match(following)
    return word is not None and word[0].lower() in _STARTERS


def split_document(paragraphs: list[str], rule: str) -> list[str]:
    """Return a document's sentences: each line one sentence (`lines`), or split by `rules`."""
    if rule == "lines":
        return paragraphs
    assert rule == "rules", rule
    return [sentence for paragraph in paragraphs for sentence in split_sentences(paragraph)]


def choose_rule(documents: Sequence[list[str]]) -> tuple[str, str]:
    """Decide `--sentences auto` from a sample of documents.

    Lines that the rules would hardly ever split are sentences already.

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

    So that a corpus of a few long documents still has documents to hold out and to draw random
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
