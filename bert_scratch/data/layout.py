"""How a text file is laid out: what separates its documents, and whether its lines are wrapped.

Blank lines separate documents in a Wikipedia extract and paragraphs in a novel; a line end closes
a paragraph in one file and merely wraps at 72 columns in the next. This module looks at the head
of each file and decides; `corpus.py` reads accordingly.
"""

from __future__ import annotations

import re
import statistics
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

MAX_WRAP_COLUMNS = 120
# A line that starts an article: WikiText's " = Title = " and WikiExtractor's <doc ...>.
_TITLE_LINE = re.compile(r"= [^=].*[^=] =|= [^=\s] =|<doc [^>]*>")
_DOC_TAG = re.compile(r"</?doc\b[^>]*>")
_STOPS = tuple(".!?…。！？।۔؟:;\"'”’»)]」』")


@dataclass(frozen=True)
class Layout:
    """What the head of one file shows.

    Attributes:
        rule: the document rule that suits this file alone.
        width: the column its lines are wrapped at, None if they are not wrapped.
        num_lines: non-blank lines in the head.
        num_blocks: runs of lines between blank lines.
        block_paragraphs: median paragraphs per block.
        line_bytes: median UTF-8 length of a line (or joined paragraph).
    """

    rule: str
    width: int | None
    num_lines: int
    num_blocks: int
    block_paragraphs: float
    line_bytes: float


def inspect(head: str) -> Layout:
    """Describe a file by its first lines.

    Args:
        head: the decoded beginning of the file, cut at a line end.
    """
    lines = [line.strip() for line in head.split("\n")]
    width = wrap_width(lines)
    blocks = [join_wrapped(block, width) for block in _blocks(lines)]
    paragraphs = [paragraph for block in blocks for paragraph in block]
    sizes = sorted(len(paragraph.encode("utf-8", "replace")) for paragraph in paragraphs)
    num_paragraphs = [len(block) for block in blocks]
    num_titles = sum(map(is_title, lines))
    return Layout(
        rule="titles" if num_titles >= 2 else _rule(blocks, sizes),
        width=width,
        num_lines=sum(map(bool, lines)),
        num_blocks=len(blocks),
        block_paragraphs=statistics.median(num_paragraphs) if blocks else 0,
        line_bytes=statistics.median(sizes) if sizes else 0,
    )


def _rule(blocks: list[list[str]], sizes: list[int]) -> str:
    """Return the rule for one file from its blocks and the sorted sizes of its paragraphs."""
    # Lines that are texts of their own; a story always has some short paragraphs.
    whole_texts = (
        len(sizes) >= 20 and statistics.median(sizes) >= 400 and sizes[len(sizes) // 10] >= 120
    )
    if len(blocks) < 2:
        return "lines" if whole_texts else "files"
    num_single = sum(len(block) == 1 for block in blocks)
    if num_single >= 0.9 * len(blocks):
        return "blank-lines" if whole_texts else "files"
    if num_single > 0.4 * len(blocks):
        return "files"
    # Long blocks without titles are the parts of one text (a novel's chapters).
    num_titled = sum(len(b[0]) <= 80 and not b[0].endswith(_STOPS) for b in blocks)
    is_long = sum(sizes) > 8_000 * len(blocks)
    return "files" if is_long and num_titled < 0.8 * len(blocks) else "blank-lines"


def decide(layouts: Sequence[Layout]) -> tuple[str, str]:
    """Choose one document rule for a source by the majority of its sampled files.

    Args:
        layouts: one per sampled file, at least one with text.

    Returns:
        (document rule, the sentence of evidence to print).
    """
    votes = Counter(layout.rule for layout in layouts if layout.num_lines)
    rule = votes.most_common(1)[0][0]
    agreeing = [layout for layout in layouts if layout.rule == rule and layout.num_lines]
    where = f"{votes[rule]} of {votes.total()} sampled file{'s' if votes.total() > 1 else ''}"
    return rule, f"{_reason(rule, agreeing)} ({where}); --documents {_OVERRIDE[rule]}"


_OVERRIDE = {
    "titles": "files makes each file one document",
    "blank-lines": "files makes each file one document",
    "lines": "files makes each file one document",
    "files": "blank-lines or --documents lines cuts files into documents",
}


def _reason(rule: str, layouts: list[Layout]) -> str:
    """Say in one clause why the files that voted for the rule did."""
    blocks = sum(layout.num_blocks for layout in layouts)
    per_block = statistics.median(layout.block_paragraphs for layout in layouts)
    line_bytes = statistics.median(layout.line_bytes for layout in layouts)
    if rule == "titles":
        return "lines like ' = Title = ' or '<doc ...>' begin articles: each is a document"
    if rule == "lines":
        return (
            f"no blank lines, and lines are long (median {line_bytes:,.0f} bytes, few short ones): "
            "each line is a document"
        )
    if rule == "blank-lines":
        return (
            f"blank lines separate blocks of median {per_block:g} lines "
            f"({line_bytes:,.0f} bytes each): each block is a document"
        )
    if blocks <= len(layouts):
        return "no blank lines: each file is a document"
    if per_block <= 1:
        return (
            f"blank lines separate single paragraphs or sentences (median {line_bytes:,.0f} bytes),"
            " not documents: each file is a document"
        )
    return "blank lines are rare or irregular: each file is a document"


def is_title(line: str) -> bool:
    """Tell whether a stripped line begins an article."""
    return line[:1] in ("=", "<") and _TITLE_LINE.fullmatch(line) is not None


def is_doc_tag(line: str) -> bool:
    """Tell whether a stripped line is a tag that WikiExtractor puts around an article."""
    return line[:1] == "<" and _DOC_TAG.fullmatch(line) is not None


def wrap_width(lines: Sequence[str]) -> int | None:
    """Return the column that lines were wrapped at, or None if each line is a paragraph.

    Lines are wrapped if nearly all are short and of similar length, and most end without a stop
    where the next word would not have fitted or is in lower case.

    Args:
        lines: stripped lines of a file's head, blank ones included.
    """
    lengths = sorted(len(line) for line in lines if line)
    pairs = [(line, after) for line, after in pairwise(lines) if line and after]
    if len(pairs) < 5:
        return None
    width = lengths[int(0.95 * len(lengths))]
    if not 20 <= width <= MAX_WRAP_COLUMNS or lengths[len(lengths) // 2] < 0.6 * width:
        return None
    num_wrapped = sum(
        not line.endswith(_STOPS) and (_is_full(line, after, 0.95 * width) or after[0].islower())
        for line, after in pairs
    )
    return width if num_wrapped >= 0.5 * len(pairs) else None


def join_wrapped(lines: Sequence[str], width: int | None) -> list[str]:
    """Join the wrapped lines of one block into paragraphs.

    A line break is kept where the next word would have fitted well within the width: it was
    meant (a heading, a verse, the last line of a paragraph). Hyphens at line ends stay.

    Args:
        lines: stripped, non-empty lines.
        width: from `wrap_width`; None returns the lines as they are.
    """
    if width is None:
        return list(lines)
    paragraphs: list[list[str]] = []
    before = ""
    for line in lines:
        if before and (_is_full(before, line, 0.8 * width) or _goes_on(before, line)):
            if not (_is_unspaced(before[-1]) and _is_unspaced(line[0])):
                paragraphs[-1].append(" ")
            paragraphs[-1].append(line)
        else:
            paragraphs.append([line])
        before = line
    return ["".join(parts) for parts in paragraphs]


def _is_full(line: str, after: str, width: float) -> bool:
    """Tell whether the next line's first word would have passed the width."""
    first_word = 1 if _is_unspaced(after[0]) else len(after.split(None, 1)[0])
    return len(line) + 1 + first_word > width


def _goes_on(line: str, after: str) -> bool:
    return after[0].islower() and not line.endswith(_STOPS)


def _is_unspaced(character: str) -> bool:
    """Tell whether the character belongs to a script written without spaces (CJK, Thai, ...)."""
    return (
        "\u2e80" <= character <= "\uabff"
        or "\uf900" <= character <= "\uffef"
        or ("\u0e00" <= character <= "\u0eff" or character >= "\U00020000")
    )


def _blocks(lines: Sequence[str]) -> list[list[str]]:
    """Return the runs of non-blank lines."""
    blocks: list[list[str]] = [[]]
    for line in lines:
        if line:
            blocks[-1].append(line)
        elif blocks[-1]:
            blocks.append([])
    return [block for block in blocks if block]
