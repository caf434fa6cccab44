"""Turn a raw Wikipedia dump (`*-pages-articles.xml`, compressed or not) into plain articles.

Pages are read one at a time; redirects and pages outside the article namespace are left out.
mwparserfromhell parses the markup. Prose, lists, headings and link texts are kept; templates,
tables, references, files and categories are dropped.
"""

from __future__ import annotations

import html
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO
from xml.parsers import expat

from bert_scratch.config import InputError
from bert_scratch.data.textfile import read_beginning
from bert_scratch.data.unpack import READ_ERRORS, open_bytes, unreadable
from bert_scratch.extras import import_extra

_BEGINNING = re.compile(rb"(\xef\xbb\xbf)?\s*(<\?xml[^>]*>\s*)?(<!--.*?-->\s*)*<mediawiki\b", re.S)
_BLOCK_BYTES = 1 << 16
# Far above any real dump: pages have at most 2 MiB, nesting is 5 deep, there are some 50 names.
_MAX_PAGE_CHARACTERS = 16 << 20
_MAX_TAG_BYTES = 1 << 20
_MAX_DEPTH = 32
_MAX_NAMES = 1_000
_FETCH_AGAIN = "the file is damaged or no Wikipedia dump; fetch it again"
# Parsed markup takes up to 150 times its size, and much time if it is one line.
_MAX_SECTION_CHARACTERS = 1 << 18
_FILE_NAMESPACE, _CATEGORY_NAMESPACE = 6, 14
_NAMESPACE = re.compile(r'<namespace key="(\d+)"[^>]*>([^<]+)</namespace>')


def is_dump(file: Path) -> bool:
    """Tell from its beginning whether an XML file is a MediaWiki dump."""
    return _BEGINNING.match(read_beginning(file, 4096)) is not None


def import_parser() -> Any:
    """Import mwparserfromhell, which reads the markup."""
    return import_extra("mwparserfromhell", "reading Wikipedia dumps", "wiki")


def read_articles(file: Path, start: int, border: int) -> Iterator[str]:
    """Read the articles that begin in a slice of a dump.

    Args:
        file: plain or compressed.
        start: >= 0, byte offset; 0 for a compressed file.
        border: byte offset that the slice's pages begin before.

    Yields:
        The article's text: its title on a line, then one line per paragraph or heading.

    Raises:
        InputError: naming file and byte offset, if it is not a well-formed dump.
    """
    import_parser()
    hidden = _hidden_namespaces(file)
    for title, markup in _pages(file, start, border):
        text = plain_text(markup, hidden)
        if text:
            yield f"{title}\n{text}"


# --- pages ---------------------------------------------------------------------------------


def _pages(file: Path, start: int, border: int) -> Iterator[tuple[str, str]]:
    """Yield (title, markup) of the articles whose pages begin in [start, border)."""
    try:
        with open_bytes(file) as handle:
            offset = start and _find_page(handle, start, border)
            if offset and offset >= border:
                return
            # A slice in the middle of the file lacks the element that encloses all pages.
            root = b"<mediawiki>" if offset else b""
            reader = _PageReader(file, offset - len(root), border)
            reader.feed(root)
            while not reader.is_behind and (block := handle.read(_BLOCK_BYTES)):
                reader.feed(block)
                yield from reader.articles
                reader.articles.clear()
            if not reader.is_behind:
                reader.finish()
    except READ_ERRORS as error:
        raise unreadable(file, error) from error


def _find_page(handle: BinaryIO, start: int, border: int) -> int:
    """Move to the first page that begins at or after start; return its offset, or the border."""
    tag, window = b"<page>", b""
    handle.seek(start)
    offset = start
    while offset < border and (block := handle.read(_BLOCK_BYTES)):
        window += block
        found = window.find(tag)
        if found >= 0:
            handle.seek(offset + found)
            return offset + found
        offset += len(window) - len(tag) + 1
        window = window[1 - len(tag) :]
    return border


class _PageReader:
    """Collects the articles of the XML fed to it; memory is bounded for any input."""

    def __init__(self, file: Path, offset: int, border: int) -> None:
        self.articles: list[tuple[str, str]] = []
        self.is_behind = False
        """A page beyond the slice has begun."""
        self._file = file
        self._offset = offset
        self._border = border
        self._num_fed = 0
        self._depth = 0
        self._num_characters = 0
        self._pieces: list[str] = []
        self._page: dict[str, str] = {}
        self._parser = expat.ParserCreate()
        self._parser.buffer_text = True
        self._parser.StartElementHandler = self._start
        self._parser.EndElementHandler = self._end
        self._parser.CharacterDataHandler = self._data
        # No dump has one; it could declare entities that grow when expanded.
        self._parser.StartDoctypeDeclHandler = self._refuse_doctype

    def feed(self, block: bytes) -> None:
        """Read the next bytes of the file."""
        try:
            self._parser.Parse(block)
        except expat.ExpatError as error:
            raise self._error(f"is not well-formed XML ({error})") from error
        self._num_fed += len(block)
        unread = self._num_fed - self._parser.CurrentByteIndex
        if unread > _MAX_TAG_BYTES:
            raise self._error(f"has a tag of more than {_MAX_TAG_BYTES >> 20} MiB", _FETCH_AGAIN)
        if len(self._parser.intern or ()) > _MAX_NAMES:
            problem = f"has more than {_MAX_NAMES:,} different names of elements and attributes"
            raise self._error(problem, _FETCH_AGAIN)

    def finish(self) -> None:
        """Say that the file ends here."""
        try:
            self._parser.Parse(b"", True)
        except expat.ExpatError as error:
            raise self._error(f"ends inside the dump ({error})", "fetch it again") from error

    def _start(self, name: str, attributes: dict[str, str]) -> None:
        self._depth += 1
        if self._depth > _MAX_DEPTH:
            raise self._error(f"has elements nested more than {_MAX_DEPTH} deep", _FETCH_AGAIN)
        self._pieces, self._num_characters = [], 0
        if name == "page":
            self._page = {}
            offset = self._offset + self._parser.CurrentByteIndex
            self.is_behind = self.is_behind or offset >= self._border
        elif name == "redirect":
            self._page["redirect"] = attributes.get("title", "")

    def _data(self, text: str) -> None:
        self._pieces.append(text)
        self._num_characters += len(text)
        if self._num_characters > _MAX_PAGE_CHARACTERS:
            problem = f"has a page of more than {_MAX_PAGE_CHARACTERS >> 20} M characters"
            raise self._error(problem, _FETCH_AGAIN)

    def _end(self, name: str) -> None:
        self._depth -= 1
        if name in ("title", "ns", "model", "text"):
            self._page[name] = "".join(self._pieces)
        self._pieces = []
        if name == "page" and not self.is_behind and self._is_article():
            self.articles.append((self._page.get("title", ""), self._page.get("text", "")))

    def _is_article(self) -> bool:
        page = self._page
        is_markup = page.get("model", "wikitext") == "wikitext"
        return page.get("ns", "0") == "0" and is_markup and "redirect" not in page

    def _refuse_doctype(self, *declaration: Any) -> None:
        raise self._error("has a document type declaration, which no Wikipedia dump has")

    def _error(self, problem: str, remedy: str = "") -> InputError:
        offset = self._offset + self._parser.CurrentByteIndex
        place = f"at byte offset {offset}"
        return InputError(f"{self._file}: {problem}, {place}{remedy and f'; {remedy}'}")


def _hidden_namespaces(file: Path) -> frozenset[str]:
    """Return the file and category link prefixes, in English and the dump's language."""
    beginning = read_beginning(file, _BLOCK_BYTES).decode("utf-8", "replace")
    names = {"file", "image", "media", "category"}
    for key, name in _NAMESPACE.findall(beginning):
        if int(key) in (_FILE_NAMESPACE, _CATEGORY_NAMESPACE):
            names.add(html.unescape(name).casefold())
    return frozenset(names)


# --- markup --------------------------------------------------------------------------------

_COMMENT = re.compile(r"<!--.*?-->", re.S)
_HEADING = re.compile(r"^(={1,6})[ \t]*(\S.*?)[ \t]*\1[ \t]*$", re.M)
_SWITCH = re.compile(r"__[A-Z]+__")
# What a template leaves of "(born 1879)" when the year came from it.
_EMPTY_BRACKETS = re.compile(r" ?\([\s,;:]*\)")
_SPACES = re.compile(r"[ \t\xa0]+")
_HIDDEN_TAGS = frozenset(
    "ref references table gallery math chem score timeline imagemap inputbox categorytree graph "
    "mapframe maplink templatedata section syntaxhighlight source style indicator".split()
)


def plain_text(markup: str, hidden_namespaces: frozenset[str] = frozenset()) -> str:
    """Return the prose of a page, one line per paragraph, list item or heading.

    The markup is parsed section by section, which bounds memory. A heading is kept if its
    section, or one below it, holds text.

    Args:
        markup: of the page.
        hidden_namespaces: in lower case; links that begin with one and a colon are dropped.
    """
    parts = _HEADING.split(_COMMENT.sub("", markup))
    lines: list[list[str]] = []
    kept_level = 0
    # From the end: whether a heading is kept depends on what follows it.
    for index in range(len(parts) - 1, 0, -3):
        level, heading = len(parts[index - 2]), parts[index - 1]
        body = _lines(parts[index], hidden_namespaces)
        if body or kept_level > level:
            lines.append(_lines(heading, hidden_namespaces) + body)
            kept_level = level
        elif kept_level >= level:
            kept_level = level
    lines.append(_lines(parts[0], hidden_namespaces))
    return "\n".join(line for section in reversed(lines) for line in section)


def _lines(markup: str, hidden_namespaces: frozenset[str]) -> list[str]:
    """Return the non-empty lines of a section's prose."""
    pieces: list[str] = []
    start = 0
    while start < len(markup):
        end = markup.rfind("\n", start, start + _MAX_SECTION_CHARACTERS) + 1
        if start + _MAX_SECTION_CHARACTERS >= len(markup) or end <= start:
            end = start + _MAX_SECTION_CHARACTERS
        _collect(import_parser().parse(markup[start:end]), hidden_namespaces, pieces)
        start = end
    text = _EMPTY_BRACKETS.sub("", _SWITCH.sub("", "".join(pieces)))
    lines = (_SPACES.sub(" ", line).strip() for line in text.split("\n"))
    # Table lines remain where the table's beginning or end is missing; drop them.
    return [line for line in lines if line and not line.startswith(("|", "{|"))]


def _collect(code: Any, hidden_namespaces: frozenset[str], pieces: list[str]) -> None:
    """Append the texts of mwparserfromhell's nodes that appear as prose on the page.

    Templates, arguments and comments have none. The library's own strip_code would keep tables,
    references and file captions.
    """
    nodes = import_parser().nodes
    for node in code.nodes:
        if isinstance(node, nodes.Text):
            pieces.append(node.value)
        elif isinstance(node, nodes.Wikilink):
            namespace = str(node.title).partition(":")[0].strip().casefold()
            if namespace not in hidden_namespaces or ":" not in node.title:
                if node.text is None:
                    pieces.append(str(node.title).lstrip(":"))
                else:
                    _collect(node.text, hidden_namespaces, pieces)
        elif isinstance(node, nodes.ExternalLink):
            shown = node.title if node.brackets else node.url
            if shown is not None:
                _collect(shown, hidden_namespaces, pieces)
        elif isinstance(node, nodes.HTMLEntity):
            pieces.append(node.normalize())
        elif isinstance(node, nodes.Tag):
            name = str(node.tag).strip().casefold()
            if name == "br":
                pieces.append("\n")
            elif node.contents is not None and name not in _HIDDEN_TAGS:
                _collect(node.contents, hidden_namespaces, pieces)
