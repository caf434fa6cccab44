"""Pins what a Wikipedia dump becomes: which pages, and which words of their markup.

Run alone: pytest tests/data/test_wikipedia.py. Needs mwparserfromhell.
"""

from __future__ import annotations

import bz2
import html
from pathlib import Path

import pytest

from bert_scratch.config import InputError
from bert_scratch.data import wikipedia
from bert_scratch.data.corpus import read_documents, resolve_sources, slices_of

HEAD = """<mediawiki xmlns="http://www.mediawiki.org/xml/export-0.11/" version="0.11" xml:lang="de">
  <siteinfo>
    <sitename>Wikipedia</sitename>
    <namespaces>
      <namespace key="-1" case="first-letter">Spezial</namespace>
      <namespace key="0" case="first-letter" />
      <namespace key="6" case="first-letter">Datei</namespace>
      <namespace key="14" case="first-letter">Kategorie</namespace>
    </namespaces>
  </siteinfo>
"""


def page(title: str, text: str, ns: int = 0, extra: str = "", model: str = "wikitext") -> str:
    return (
        f"  <page>\n    <title>{html.escape(title)}</title>\n    <ns>{ns}</ns>\n    <id>1</id>\n"
        f"{extra}    <revision>\n      <id>2</id>\n      <contributor>"
        f"<username>A &amp; B</username></contributor>\n      <model>{model}</model>\n"
        f'      <text bytes="{len(text)}" xml:space="preserve">{html.escape(text)}</text>\n'
        "    </revision>\n  </page>\n"
    )


def dump(*pages: str) -> bytes:
    return (HEAD + "".join(pages) + "</mediawiki>\n").encode()


def read_all(path: Path, slice_bytes: int = 1 << 30) -> list[list[str]]:
    sources = resolve_sources([str(path)])
    return [
        document
        for part in slices_of(sources, slice_bytes)
        for document in read_documents(part, sources[part.source_index])
    ]


@pytest.fixture
def articles(tmp_path: Path) -> Path:
    """Twenty articles of several lengths, among pages that are none."""
    pages = []
    for number in range(20):
        pages.append(page(f"Art & {number}", "Ein Satz über '''Öl'''.\n\n" * (1 + number % 5)))
        pages.append(page("Weg", "#REDIRECT [[Ziel]]", extra='    <redirect title="Ziel" />\n'))
        pages.append(page("Diskussion:Art", "Meinungen.", ns=1))
        pages.append(page("Daten", "{}", model="json"))
    path = tmp_path / "dewiki-20260101-pages-articles.xml"
    path.write_bytes(dump(*pages))
    return path


# --- pages ---------------------------------------------------------------------------------


def test_each_article_is_a_document_after_its_title(articles: Path) -> None:
    expected = [[f"Art & {n}"] + ["Ein Satz über Öl."] * (1 + n % 5) for n in range(20)]
    assert read_all(articles) == expected


@pytest.mark.parametrize("slice_bytes", [50, 333, 1000, 5000])
def test_slices_of_a_dump_hold_each_article_once(articles: Path, slice_bytes: int) -> None:
    assert read_all(articles, slice_bytes) == read_all(articles)


@pytest.mark.parametrize(
    "name", ["pages-articles-multistream.xml.bz2", "pages-articles1.xml-p1p41242.bz2"]
)
def test_multistream_bzip2_is_read_to_the_end(articles: Path, tmp_path: Path, name: str) -> None:
    raw = articles.read_bytes()
    streams = [raw[i : i + 700] for i in range(0, len(raw), 700)]
    path = tmp_path / name
    path.write_bytes(b"".join(map(bz2.compress, streams)))
    assert read_all(path) == read_all(articles)


def test_folder_holds_dumps_but_no_other_xml(articles: Path) -> None:
    (articles.parent / "pom.xml").write_text("<project>words</project>")
    (source,) = resolve_sources([str(articles.parent)])
    assert (source.kind, source.files) == ("wikipedia", (articles,))
    assert "each article is a document" in source.evidence


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (dump(page("A", "x" * 100))[:-40], "ends inside the dump"),
        (dump(page("A", "x")).replace(b"</title>", b"</titel>"), "not well-formed.*byte offset"),
        (dump(page("A", "x")).replace(b"x<", b"\xe9<"), "not well-formed XML"),
        (dump(page("A", "&undefined;")).replace(b"&amp;undef", b"&undef"), "undefined entity"),
        (HEAD.encode() + b"<a>" * 100, "nested more than 32 deep.*; the file is damaged"),
        (HEAD.encode() + b"".join(b"<a%d/>" % n for n in range(2000)), "more than 1,000 .* names"),
        (HEAD.encode() + b"<page a='" + b"x" * (2 << 20), "more than 1 MiB, .*fetch it"),
    ],
)  # fmt: skip
def test_broken_or_hostile_dump_is_refused(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "a.xml"
    path.write_bytes(content)
    with pytest.raises(InputError, match=rf"a\.xml: .*{message}"):
        read_all(path)


def test_entity_declarations_are_refused_before_they_are_read(tmp_path: Path) -> None:
    """A billion laughs: ten entities, each ten times the one before."""
    path = tmp_path / "a.xml"
    entities = "".join(f'<!ENTITY a{n} "{f"&a{n - 1};" * 10}">' for n in range(1, 10))
    text = f'<!DOCTYPE mediawiki [<!ENTITY a0 "ha">{entities}]>'
    path.write_text(HEAD.replace(">\n", f">{text}\n", 1))
    with pytest.raises(InputError, match=r"a\.xml: "):
        read_all(path)
    parser = wikipedia._PageReader(path, 0, 1 << 30)
    with pytest.raises(InputError, match="document type declaration"):
        parser.feed((text + "<mediawiki>&a9;</mediawiki>").encode())


# --- markup --------------------------------------------------------------------------------

HIDDEN = frozenset({"file", "image", "category", "datei"})


@pytest.mark.parametrize(
    ("markup", "text"),
    [
        ("'''Bold''' and ''italic'' words.", "Bold and italic words."),
        ("A [[link]], a [[target|shown]] and [[word]]s.", "A link, a shown and words."),
        ("See [http://a.b label] or http://a.b/c here.", "See label or http://a.b/c here."),
        ("Gone [http://a.b].", "Gone ."),
        ("Fact.<ref name=a>{{cite|x}} Book</ref> Next<ref name=a /> one.", "Fact. Next one."),
        ("''in <ref>x</ref>italic''", "in italic"),
        ("{{Infobox|a=[[b]]|c={{d|e}}}}Text {{nowrap|gone}} on.", "Text on."),
        ("Before\n{| class=wikitable\n! h\n|-\n| cell || [[x]]\n|}\nAfter", "Before\nAfter"),
        ("[[File:A.jpg|thumb|A [[cat]] sits]]Text", "Text"),
        ("[[datei:A.jpg|mini|Bild]]Text[[Category:Cats|*]]", "Text"),
        ("[[:Category:Cats]] and [[Talk: a life]]", "Category:Cats and Talk: a life"),
        ("* one\n** two\n# three", "one\ntwo\nthree"),
        ("; term : meaning\n: indented", "term meaning\nindented"),
        ("a &amp; b&nbsp;c &mdash; d &#8364;", "a & b c — d €"),
        ("one<br>two<br/>three", "one\ntwo\nthree"),
        ("x <math>a^2</math> y<!-- no\n\n== no == -->z", "x yz"),
        ("<gallery>\nA.jpg|cat\n</gallery>__NOTOC__Text", "Text"),
        ("Shaw ({{lang|x}}; {{IPA|y}}) wrote (much).", "Shaw wrote (much)."),
        ("<blockquote>Said ''so''.</blockquote>", "Said so."),
        ("<nowiki>[[kept]]</nowiki>", "[[kept]]"),
        ("an {{unclosed and [[broken ''text", "an {{unclosed and [[broken ''text"),
        ("H<sub>2</sub>O", "H2O"),
    ],
)  # fmt: skip
def test_markup_becomes_prose(markup: str, text: str) -> None:
    assert wikipedia.plain_text(markup, HIDDEN) == text


def test_headings_stay_where_their_section_holds_text() -> None:
    markup = (
        "Lead.\n== History ==\n=== ''Early'' days ===\nText.\n=== Empty ===\n{{x}}\n"
        "== Deep ==\n=== Empty too ===\n==== Below ====\nMore.\n== References ==\n<references />\n"
    )
    assert wikipedia.plain_text(markup).split("\n") == [
        *("Lead.", "History", "Early days", "Text.", "Deep", "Empty too", "Below", "More."),
    ]
