"""Pins which documents a corpus holds: found files, the `auto` decision on each kind of layout,
wrapped lines, slices that hold each document exactly once, and one clear error per bad input.

Run alone: pytest tests/data/test_corpus.py. The tests on real corpora skip without shared data.
"""

from __future__ import annotations

import bz2
import gzip
import json
import lzma
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st

from bert_scratch.config import InputError
from bert_scratch.data import documents, textfile, unpack
from bert_scratch.data.corpus import Source, read_documents, resolve_sources, slices_of
from bert_scratch.data.corpus_files import check_output_apart

SENTENCES = [f"The {word} was found in a field near the old mill ." for word in "abcdefghij"]


def read_all(
    sources: list[Source], slice_bytes: int = 1 << 20, encoding_errors: str = "strict"
) -> list[list[str]]:
    return [
        document
        for part in slices_of(sources, slice_bytes)
        for document in read_documents(part, sources[part.source_index], encoding_errors)
    ]


def write(path: Path, content: str | bytes) -> str:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return str(path)


def wrap(words: list[str], columns: int) -> str:
    lines = [""]
    for word in words:
        if len(lines[-1]) + 1 + len(word) > columns:
            lines.append(word)
        else:
            lines[-1] = f"{lines[-1]} {word}".strip()
    return "\n".join(lines)


def novel(separator: str) -> str:
    """Return sixty paragraphs of several lengths, wrapped at 60 columns."""
    words = [f"word{'s' * (i % 7)}" for i in range(400)]
    return separator.join(
        wrap(["Then", *words[i : i + 5 + i % 40], "ended."], 60) for i in range(60)
    )


# --- finding files -------------------------------------------------------------------------


def test_folder_is_searched_recursively_in_sorted_order(tmp_path: Path) -> None:
    for name in ("b.txt", "a/c.txt", "a/b.txt.gz", "notes.md", ".hidden/x.txt", "a/.x.txt"):
        text = b"one line\n"
        write(tmp_path / name, gzip.compress(text) if name.endswith("gz") else text)
    (source,) = resolve_sources([str(tmp_path)])
    assert [file.relative_to(tmp_path).as_posix() for file in source.files] == [
        "a/b.txt.gz",
        "a/c.txt",
        "b.txt",
    ]


def test_linked_folders_are_searched_each_once(tmp_path: Path) -> None:
    write(tmp_path / "texts" / "a.txt", "a line\n")
    write(tmp_path / "elsewhere" / "b.txt", "a line\n")
    (tmp_path / "texts" / "linked").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "texts" / "around").symlink_to(tmp_path / "texts")
    (source,) = resolve_sources([str(tmp_path / "texts")])
    assert [str(f.relative_to(tmp_path / "texts")) for f in source.files] == [
        "a.txt", "linked/b.txt",
    ]  # fmt: skip


def test_what_was_made_inside_the_texts_is_none_of_them(tmp_path: Path) -> None:
    for name in ("a.txt", "runs/x/asked_config.json", "runs/x/tokenizer/vocab.txt"):
        write(tmp_path / name, "a line\n")
    for name in ("store/plan.json", "store/tokenizer/vocab.txt", "tokenizer/notes.txt"):
        write(tmp_path / name, "a line\n")
    (source,) = resolve_sources([str(tmp_path)])
    found = [str(file.relative_to(tmp_path)) for file in source.files]
    assert found == ["a.txt", "tokenizer/notes.txt"]


def test_vocabulary_of_a_tokenizer_among_the_texts_is_no_text(tmp_path: Path) -> None:
    for name in ("a.txt", "bert/vocab.txt", "bert/notes.txt", "words/vocab.txt"):
        write(tmp_path / name, "a line\n")
    write(tmp_path / "bert" / "tokenizer_config.json", "{}")
    (source,) = resolve_sources([str(tmp_path)])
    found = [file.relative_to(tmp_path).as_posix() for file in source.files]
    assert found == ["a.txt", "bert/notes.txt", "words/vocab.txt"]


@pytest.mark.parametrize("name", ["a.txt", "wiki_00", "wiki_00.bz2", "dump.xml", "a.jsonl"])
def test_pipe_is_refused_without_waiting_for_it(name: str, tmp_path: Path) -> None:
    folder = tmp_path / "texts"
    folder.mkdir()
    os.mkfifo(folder / name)
    for path in (folder, folder / name):
        with pytest.raises(InputError, match=rf"{name}: is a pipe or device, .* write it to a fi"):
            resolve_sources([str(path)])
    with pytest.raises(InputError, match=rf"{name}: is a pipe or device"):
        check_output_apart([str(folder)], folder)


def test_pipe_without_the_name_of_a_text_is_none(tmp_path: Path) -> None:
    write(tmp_path / "a.txt", "a line\n")
    os.mkfifo(tmp_path / "control")
    (source,) = resolve_sources([str(tmp_path)])
    assert [file.name for file in source.files] == ["a.txt"]


def test_output_folder_that_holds_searched_text_is_refused(tmp_path: Path) -> None:
    write(tmp_path / "texts" / "en" / "a.txt", "a line\n")
    texts, inner = tmp_path / "texts", tmp_path / "texts" / "en"
    for path, output in ((texts, texts), (texts, inner), (tmp_path / "t*", inner)):
        with pytest.raises(InputError, match=r"--output-dir \S+: holds text of --corpus \S+,"):
            check_output_apart([str(path)], output)
    for path, output in ((texts, texts / "run"), (inner, texts), (inner / "a.txt", inner)):
        check_output_apart([str(path)], output)


def test_output_folder_whose_text_is_found_through_a_link_is_refused(tmp_path: Path) -> None:
    write(tmp_path / "elsewhere" / "en" / "a.txt", "a line\n")
    (tmp_path / "texts").mkdir()
    (tmp_path / "texts" / "more").symlink_to(tmp_path / "elsewhere")
    for output in ("elsewhere", "elsewhere/en", "texts/more/en"):
        with pytest.raises(InputError, match=rf"--output-dir \S+{output}: holds text of --corpus"):
            check_output_apart([str(tmp_path / "texts")], tmp_path / output)
    check_output_apart([str(tmp_path / "texts")], tmp_path / "elsewhere" / "run")


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no named pipes")
def test_output_folder_that_is_not_searched_may_hold_anything(tmp_path: Path) -> None:
    write(tmp_path / "texts" / "a.txt", "a line\n")
    output = tmp_path / "output"
    write(output / "b.txt", "a line\n")
    os.mkfifo(output / "pipe.txt")
    (output / "dump.xml").symlink_to(tmp_path / "nowhere")
    check_output_apart([str(tmp_path / "texts")], output)
    check_output_apart([], output)


def test_file_name_that_is_not_utf8_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("a line\n")
    with open(os.fsencode(tmp_path) + b"/na\xefve.txt", "w") as file:
        file.write("a line\n")
    with pytest.raises(InputError, match=r"the name of b'.*na\\xefve.txt' is not UTF-8; rename"):
        resolve_sources([str(tmp_path)])


def test_named_xml_that_is_no_dump_is_refused(tmp_path: Path) -> None:
    path = write(tmp_path / "feed.xml", "<?xml version='1.0'?>\n<rss><p>A text.</p></rss>\n")
    with pytest.raises(InputError, match=r"feed\.xml: is XML, but neither a Wikipedia dump"):
        resolve_sources([path])
    extracted = write(tmp_path / "out.xml", '<doc id="1" title="A">\nA\n\nText.\n</doc>\n')
    assert resolve_sources([extracted])[0].kind == "text"


def test_document_rule_is_said_to_change_nothing_for_objects(tmp_path: Path) -> None:
    path = write(tmp_path / "a.jsonl", '{"text": "One."}\n')
    (source,) = resolve_sources([path], "files")
    assert "--documents files is for plain text and changes nothing here" in source.evidence
    assert "changes nothing" not in resolve_sources([path])[0].evidence


@pytest.mark.parametrize("other", ["a", "a/../a/x.txt", "link.txt", "a/x.txt"])
def test_file_that_two_paths_name_is_refused(other: str, tmp_path: Path) -> None:
    path = write(tmp_path / "a" / "x.txt", "a line\n")
    (tmp_path / "link.txt").symlink_to(path)
    with pytest.raises(InputError, match=r"x.txt is named twice, by .*; give it once"):
        resolve_sources([str(tmp_path / other), path])


def test_folder_with_text_and_jsonl_gives_two_sources(tmp_path: Path) -> None:
    write(tmp_path / "a.txt", "a line\n")
    write(tmp_path / "b.jsonl", '{"text": "an object"}\n')
    assert [source.kind for source in resolve_sources([str(tmp_path)])] == ["text", "jsonl"]


def test_glob_is_expanded(tmp_path: Path) -> None:
    for name in ("x1.txt", "x2.txt", "y.txt"):
        write(tmp_path / name, "a line\n")
    (source,) = resolve_sources([str(tmp_path / "x*.txt")])
    assert [file.name for file in source.files] == ["x1.txt", "x2.txt"]


def test_named_file_may_have_any_extension(tmp_path: Path) -> None:
    assert read_all(resolve_sources([write(tmp_path / "wiki_00", "a line\n")])) == [["a line"]]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("empty.txt", b"", "holds no text"),
        ("blank.txt", b"\n \r\n\t\n", "holds no text"),
        ("model.bin", b"PK\0\1\2", "is not text"),
        ("image.bin", b"\0\r\1\2", "is not text"),
        ("array.json", b"[]", ".json is not read"),
        ("utf16.txt", "text\n".encode("utf-16"), "is UTF-16"),
        ("utf32.txt", "text\n".encode("utf-32"), "is UTF-32"),
        ("gzip.txt", gzip.compress(b"text\n", mtime=0), "is compressed, .* name it gzip.txt.gz"),
        ("bzip2.txt", bz2.compress(b"text\n"), "is compressed, .* name it bzip2.txt.bz2"),
        ("xz.txt", lzma.compress(b"text\n"), "is compressed, .* name it xz.txt.xz"),
        (
            "twice.txt.gz",
            gzip.compress(gzip.compress(b"text\n", mtime=0), mtime=0),
            "is compressed twice",
        ),
        ("a.parquet.gz", gzip.compress(b"PAR1", mtime=0), "compressed twice"),
        ("mac.txt", b"one\rtwo\r", "carriage returns"),
        ("broken.txt.gz", b"not gzip at all", "cannot be read: .*: fetch or compress it again"),
        (
            "broken.txt.zst",
            b"not Zstandard at all",
            "cannot be read: .*: fetch or compress it again",
        ),
        (
            "cut.txt.gz",
            gzip.compress(b"some text\n" * 1000, mtime=0)[:-20],
            "cut short, .*: fetch or compress it",
        ),
        (
            "cut.txt.bz2",
            bz2.compress(b"some text\n" * 1000)[:-20],
            "cut short, .*: fetch or compress it",
        ),
        (
            "cut.jsonl.xz",
            lzma.compress(b"some text\n" * 1000)[:-20],
            "cut short, .*: fetch or compress it",
        ),
        (
            "cut.txt.zst",
            zstandard.compress(b"some text\n" * 1000)[:-2],
            "cut short, .*: fetch or compress it",
        ),
    ],
)
def test_unusable_file_is_named(tmp_path: Path, name: str, content: bytes, message: str) -> None:
    path = write(tmp_path / name, content)
    with pytest.raises(InputError, match=message) as error:
        resolve_sources([path])
    assert name in str(error.value)


def test_missing_path_is_named() -> None:
    with pytest.raises(InputError, match=r"no/such\*\.txt: does not exist"):
        resolve_sources(["no/such*.txt"])


def test_prepared_corpus_is_no_text(tmp_path: Path) -> None:
    write(tmp_path / "00000.train.tokens", b"\0" * 8)
    write(tmp_path / "vocab.txt", b"[PAD]\n")
    with pytest.raises(InputError, match=r"is a prepared corpus; pretrain takes it as --data"):
        resolve_sources([str(tmp_path)])


def test_folder_without_known_files_says_what_is_known(tmp_path: Path) -> None:
    write(tmp_path / "paper.pdf", b"%PDF")
    with pytest.raises(InputError, match=r"has none of \.txt \.jsonl"):
        resolve_sources([str(tmp_path)])


def test_unknown_document_rule_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"did you mean 'blank-lines'"):
        resolve_sources([write(tmp_path / "a.txt", "x")], documents="blank-line")


# --- the decision --------------------------------------------------------------------------

EXTRACT = "\n".join(
    f"Title {i}\nA first paragraph of the article. It goes on.\nA second one.\n" for i in range(9)
)
LONG_TEXTS = [" ".join(SENTENCES[i % 3 :]) + f" Text {i} ends." for i in range(60)]
LAYOUTS = {
    "extract": (EXTRACT, "blank-lines", 9),
    "google_example": ("\n\n".join("\n".join(SENTENCES[:4]) for _ in range(5)), "blank-lines", 5),
    "paragraphs_apart": ("\n\n".join(SENTENCES * 5), "files", 1),
    "sentence_a_line": ("\n".join(SENTENCES * 20), "files", 1),
    "text_a_line": ("\n".join(LONG_TEXTS), "lines", 60),
    "text_a_line_apart": ("\n\n".join(LONG_TEXTS), "blank-lines", 60),
    "wrapped_novel": (novel("\n\n"), "files", 1),
    "wrapped_novel_without_blank_lines": (novel("\n"), "files", 1),
    "wikitext": (
        "".join(f" \n = Title {i} = \n \n Text . \n = = Part = = \n \n More . \n" for i in "abc"),
        "titles",
        3,
    ),
    "wikiextractor": (
        "".join(f'<doc id="{i}" title="T">\nT\n\nText.\n\nMore.\n\n</doc>\n' for i in "abc"),
        "titles",
        3,
    ),
}


@pytest.mark.parametrize("name", LAYOUTS)
def test_auto_recognises_layout(tmp_path: Path, name: str) -> None:
    text, rule, num_documents = LAYOUTS[name]
    (source,) = resolve_sources([write(tmp_path / "corpus.txt", text)])
    assert source.documents == rule
    assert len(read_all([source])) == num_documents
    assert "--documents" in source.evidence


def test_evidence_warns_when_blank_lines_separate_sentences(tmp_path: Path) -> None:
    """google-research/bert#125: every sentence a document, so every pair was a random one."""
    (source,) = resolve_sources([write(tmp_path / "a.txt", "\n\n".join(SENTENCES))])
    assert "separate single paragraphs or sentences" in source.evidence


def test_many_small_files_are_documents(tmp_path: Path) -> None:
    for i in range(50):
        write(tmp_path / f"{i:02}.txt", "\n".join(SENTENCES[: 2 + i % 8]))
    (source,) = resolve_sources([str(tmp_path)])
    assert source.documents == "files"
    assert len(read_all([source])) == 50


@pytest.mark.parametrize(("rule", "count"), [("blank-lines", 9), ("files", 1), ("lines", 27)])
def test_chosen_rule_wins(tmp_path: Path, rule: str, count: int) -> None:
    (source,) = resolve_sources([write(tmp_path / "a.txt", EXTRACT)], documents=rule)
    assert len(read_all([source])) == count


# --- wrapped lines -------------------------------------------------------------------------


@pytest.mark.parametrize("separator", ["\n\n", "\n"])
def test_wrapped_lines_are_joined_to_paragraphs(tmp_path: Path, separator: str) -> None:
    (source,) = resolve_sources([write(tmp_path / "novel.txt", novel(separator))])
    (paragraphs,) = read_all([source])
    assert source.wrapped
    # Without blank lines a last line that fills its columns cannot be told from the others.
    assert len(paragraphs) == 60 if separator == "\n\n" else 45 <= len(paragraphs) <= 60
    assert all(p.startswith("Then ") and p.endswith(" ended.") for p in paragraphs)


def test_verse_and_heading_keep_their_lines(tmp_path: Path) -> None:
    lines = ["CHAPTER I", "Awake, my soul,", "And with the sun", "Thy daily stage"]
    text = novel("\n\n") + "\n\n" + "\n".join(lines)
    (paragraphs,) = read_all(resolve_sources([write(tmp_path / "novel.txt", text)]))
    assert paragraphs[-4:] == lines


def test_wrapped_chinese_is_joined_without_spaces(tmp_path: Path) -> None:
    text = "".join(f"第{i}个人从山上走下来看见了河边的村子。" for i in range(40))
    lines = "\n".join(text[i : i + 30] for i in range(0, len(text), 30))
    (source,) = resolve_sources([write(tmp_path / "zh.txt", lines)])
    assert source.wrapped
    assert read_all([source]) == [[text]]


# --- slices --------------------------------------------------------------------------------

PIECES = [
    *("\n", "\r\n", "\n\n", " \n", "\u3000\n", "a", "word word word", "é漢字。", "\U0001f600"),
    *("= T =\n", '<doc id="1">\n', "</doc>\n", "\u2028", "\u0085x", "\ufeff", "x" * 70 + "\n"),
]


@settings(max_examples=150, deadline=None, derandomize=True)
@given(
    pieces=st.lists(st.sampled_from(PIECES), min_size=1, max_size=25),
    rule=st.sampled_from(["blank-lines", "files", "lines", "titles"]),
    wrapped=st.booleans(),
    slice_bytes=st.sampled_from([1, 2, 3, 7, 20]),
    line_bytes=st.sampled_from([1 << 20, 16, 7]),
    part_lines=st.sampled_from([1 << 18, 2]),
)
def test_slices_hold_each_document_once(
    tmp_path_factory: pytest.TempPathFactory,
    pieces: list[str],
    rule: str,
    wrapped: bool,
    slice_bytes: int,
    line_bytes: int,
    part_lines: int,
) -> None:
    """Also where lines are cut and documents come in parts."""
    path = tmp_path_factory.getbasetemp() / "slices.txt"
    path.write_bytes("".join(pieces).encode())
    sources = [Source(str(path), (path,), "text", rule, wrapped, "")]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(documents, "MAX_PART_LINES", part_lines)
        patch.setattr(textfile, "MAX_LINE_BYTES", line_bytes)
        patch.setattr(textfile, "_BLOCK_BYTES", line_bytes)
        whole = read_all(sources)
        assert read_all(sources, slice_bytes) == whole
        # Where blocks begin and end shows in nothing.
        patch.setattr(textfile, "_BLOCK_BYTES", min(line_bytes, 5))
        assert read_all(sources) == whole
        assert read_all(sources, slice_bytes) == whole
    if not wrapped and line_bytes == 1 << 20 and "\ufeff" not in pieces:
        kept = [line for document in whole for line in document]
        lines = (line.strip() for line in "".join(pieces).split("\n"))
        assert kept == [line for line in lines if line and line not in ('<doc id="1">', "</doc>")]


@pytest.mark.parametrize("slice_bytes", [1, 5, 64])
def test_jsonl_slices_hold_each_object_once(tmp_path: Path, slice_bytes: int) -> None:
    rows = [{"id": i, "text": f"Zeile {i}: äöü\n\nEnde."} for i in range(20)]
    text = "\r\n".join(json.dumps(row, ensure_ascii=False) for row in rows)
    sources = resolve_sources([write(tmp_path / "a.jsonl", text)])
    expected = [[f"Zeile {i}: äöü", "Ende."] for i in range(20)]
    assert read_all(sources, slice_bytes) == expected


def test_compressed_file_is_one_slice_with_the_same_documents(tmp_path: Path) -> None:
    plain = resolve_sources([write(tmp_path / "a.txt", EXTRACT)])
    packed = resolve_sources([write(tmp_path / "b.txt.gz", gzip.compress(EXTRACT.encode()))])
    assert len(slices_of(packed, 10)) == 1
    assert len(slices_of(plain, 10)) > 1
    assert read_all(packed) == read_all(plain)


def test_file_order_is_slice_order(tmp_path: Path) -> None:
    for name in ("b", "a"):
        write(tmp_path / f"{name}.txt", "first line\nsecond line\n")
    parts = slices_of(resolve_sources([str(tmp_path)], "lines"), 10)
    assert [(part.file.name, part.start) for part in parts] == [
        *(("a.txt", start) for start in (0, 10, 20)),
        *(("b.txt", start) for start in (0, 10, 20)),
    ]


# --- long lines and documents --------------------------------------------------------------


def test_giant_line_is_cut_at_white_space(tmp_path: Path) -> None:
    words = [f"word{'s' * (n % 50)}{n}" for n in range(120_000)]
    path = write(tmp_path / "a.txt", f"before\n\n{' '.join(words)}\nnext\n\nafter\n")
    first, (*pieces, following), last = read_all(resolve_sources([path], "blank-lines"))
    assert (first, following, last) == (["before"], "next", ["after"])
    assert len(pieces) == 4
    assert " ".join(pieces).split(" ") == words
    lines = read_all(resolve_sources([path], "lines"))
    assert lines == [["before"], pieces, ["next"], ["after"]]


@pytest.mark.parametrize("letter", ["x", "é", "漢", "\U0001f600"])
def test_giant_line_without_white_space_is_cut_between_characters(
    tmp_path: Path, letter: str
) -> None:
    path = write(tmp_path / "a.txt", "y" + letter * (1 << 20))
    (pieces,) = read_all(resolve_sources([path], "lines"))
    assert "".join(pieces) == "y" + letter * (1 << 20)
    assert all((1 << 20) - 4 <= len(piece.encode()) <= 1 << 20 for piece in pieces[:-1])


def test_objects_long_text_is_cut_like_a_line_of_a_file(tmp_path: Path) -> None:
    text = "漢字 " * 700_000
    (pieces,) = read_all(resolve_sources([write(tmp_path / "a.txt", text)], "lines"))
    path = write(tmp_path / "a.jsonl", json.dumps({"text": text}, ensure_ascii=False))
    assert read_all(resolve_sources([path])) == [pieces]


def test_object_too_long_to_read_is_named(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    with path.open("wb") as file:
        file.write(b'{"text": "one"}\n{"text": "')
        file.writelines([b"word " * 200_000] * 34)
        file.write(b'"}\n')
    with pytest.raises(InputError, match=r"a\.jsonl, line 2: is longer than 32 MiB"):
        read_all(resolve_sources([str(path)]))


def test_document_over_16_mib_comes_in_consecutive_parts(tmp_path: Path) -> None:
    lines = [f"line {n} " + "x" * 1000 for n in range(40_000)]
    path = write(tmp_path / "a.txt", "\n".join(lines))
    parts = read_all(resolve_sources([path], "files"))
    assert [line for part in parts for line in part] == lines
    sizes = [sum(map(len, part)) for part in parts]
    assert len(parts) == 3
    assert all(16 << 20 <= size < (16 << 20) + 2000 for size in sizes[:-1])


# --- compression ---------------------------------------------------------------------------

PACKERS: dict[str, Callable[[bytes], bytes]] = {
    ".gz": gzip.compress,
    ".bz2": bz2.compress,
    ".xz": lzma.compress,
    ".zst": zstandard.compress,
}


@pytest.mark.parametrize("suffix", PACKERS)
@pytest.mark.parametrize("name", ["a.txt", "a.jsonl", "wiki_00"])
def test_compressed_file_holds_the_same_documents(tmp_path: Path, name: str, suffix: str) -> None:
    text = EXTRACT if name == "a.txt" else '{"id": "1", "text": "T\\n\\nOne."}\n' * 300
    plain = resolve_sources([write(tmp_path / name, text)])
    raw = text.encode()
    parts = [raw[i : i + 400] for i in range(0, len(raw), 400)]
    packed = write(tmp_path / "packed" / (name + suffix), b"".join(map(PACKERS[suffix], parts)))
    # The folder is searched for every known name; concatenated members are read to the end.
    sources = resolve_sources([str(Path(packed).parent)])
    assert [str(file) for source in sources for file in source.files] == [packed]
    assert read_all(sources) == read_all(plain)
    assert len(slices_of(sources, 10)) == 1


@pytest.mark.parametrize("suffix", PACKERS)
def test_damage_anywhere_in_a_compressed_file_is_named(tmp_path: Path, suffix: str) -> None:
    text = "".join(f"line {n * n}\n" for n in range(50_000)).encode()
    raw = bytearray(PACKERS[suffix](text))
    half = write(tmp_path / f"half.txt{suffix}", bytes(raw[: len(raw) // 2]))
    with pytest.raises(InputError, match="half.txt.*: cannot be read"):
        read_all(resolve_sources([half], "lines"))
    raw[len(raw) // 2 : len(raw) // 2 + 2000] = bytes(2000)
    bad = write(tmp_path / f"bad.txt{suffix}", bytes(raw))
    with pytest.raises(InputError, match=r"bad\.txt.*: (cannot be read|has )"):
        read_all(resolve_sources([bad], "lines"))


def test_encoding_error_in_a_compressed_file_counts_unpacked_bytes(tmp_path: Path) -> None:
    path = write(tmp_path / "a.txt.xz", lzma.compress(b"good line\nbad \xe9t\xe9\n"))
    with pytest.raises(InputError, match="line 2: .*byte offset 14 of the unpacked text"):
        read_all(resolve_sources([path]))


@pytest.mark.parametrize("suffix", PACKERS)
def test_decompression_bomb_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, suffix: str
) -> None:
    monkeypatch.setattr(unpack, "UNCHECKED_BYTES", 1 << 20)
    path = write(tmp_path / f"a.txt{suffix}", PACKERS[suffix](b"word\n" * 400_000))
    with pytest.raises(InputError, match="unpacks to more than 200 times its size"):
        read_all(resolve_sources([path], "lines"))


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="/proc tells the peak of memory")
@pytest.mark.parametrize("unit", [b"\0", b"\n", b"word ", b"x", b"ab\n", "\U0001f600".encode()])
def test_memory_is_bounded_for_text_that_packs_well(tmp_path: Path, unit: bytes) -> None:
    """Up to a quarter of a GB, read past the ratio limit, in a process of its own."""
    path = tmp_path / "a.txt.zst"
    with zstandard.open(path, "wb") as file:
        for _ in range(32 if unit == b"ab\n" else 256):
            file.write(unit * ((1 << 20) // len(unit)))
    code = (
        "import sys\n"
        "from bert_scratch.data import corpus, unpack\n"
        "unpack.MAX_RATIO = 10**9\n"
        "sources = [corpus.Source('a', (corpus.Path(sys.argv[1]),), 'text', 'files', False, '')]\n"
        "for part in corpus.slices_of(sources):\n"
        "    for document in corpus.read_documents(part, sources[0], 'replace'):\n"
        "        pass\n"
        # not ru_maxrss, which begins with what the process that started this one held
        "lines = open('/proc/self/status')\n"
        "print(next(line.split()[1] for line in lines if line.startswith('VmHWM')))\n"
    )
    run = subprocess.run([sys.executable, "-c", code, path], capture_output=True, check=True)
    assert int(run.stdout) * 1024 < 300e6


# --- bytes ---------------------------------------------------------------------------------


def test_byte_order_mark_and_crlf_are_dropped(tmp_path: Path) -> None:
    path = write(tmp_path / "a.txt", b"\xef\xbb\xbfone\r\ntwo\r\n\r\nthree\r\nfour\r\n")
    documents = read_all(resolve_sources([path], "blank-lines"))
    assert documents == [["one", "two"], ["three", "four"]]


def test_unicode_line_separators_do_not_end_lines(tmp_path: Path) -> None:
    path = write(tmp_path / "a.txt", "one\u2028still one\u0085and\x0con\ntwo\n")
    documents = read_all(resolve_sources([path], "lines"))
    assert documents == [["one\u2028still one\u0085and\x0con"], ["two"]]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"good line\nbad \xe9t\xe9\n", r"line 2: has .*0xe9.*Windows-1252\?\), at byte offset 14"),
        (b"good\n" + "中文文本".encode("gb18030"), r"line 2: has .*GB18030.*at byte offset 5"),
        (b"good\nzero\0byte\n", "line 2: has a NUL byte, at byte offset 9"),
        (
            "good\ntext".encode("utf-16-le"),
            r"line 1: has a NUL byte \(UTF-16\?\), at byte offset 1",
        ),
        (b"x" * (1 << 20) + b" y\n" * 99 + b"z\xff", "line 100: has .*at byte offset 1048874"),
        (b"lone \xed\xa0\x80 surrogate\n", "line 1: has .*0xed.*at byte offset 5"),
    ],
)
def test_encoding_error_names_file_line_and_offset(
    tmp_path: Path, content: bytes, message: str
) -> None:
    sources = resolve_sources([write(tmp_path / "bad.txt", content)])
    with pytest.raises(InputError, match=r"bad\.txt, " + message):
        read_all(sources)


def test_encoding_error_offset_holds_in_later_slices(tmp_path: Path) -> None:
    sources = resolve_sources([write(tmp_path / "a.txt", b"x\n" * 50 + b"\xff\n")], "lines")
    with pytest.raises(InputError, match="at byte offset 100"):
        read_all(sources, slice_bytes=7)


def test_replace_marks_what_cannot_be_decoded(tmp_path: Path) -> None:
    sources = resolve_sources([write(tmp_path / "a.txt", b"caf\xe9 au\0lait\n")])
    assert read_all(sources, encoding_errors="replace") == [["caf\ufffd au\ufffdlait"]]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ('{"content": "x", "id": 1}', r"line 2: .*found 'content', 'id'"),
        ('["text"]', "line 2: .*found list"),
        ('{"text": "x"', "line 2: is not valid JSON"),
        ('{"text": null}', 'line 2: needs an object .*; its "text" is null$'),
        ('{"text": 3}', 'its "text" is a number$'),
        ('{"text": ["x"]}', 'its "text" is a list$'),
        ('{"text": "a\\u0000b"}', "line 2: holds an escaped NUL"),
        ('{"text": "a\\ud800b"}', "line 2: holds an escaped NUL or lone surrogate"),
    ],
)
def test_jsonl_error_names_the_line(tmp_path: Path, line: str, message: str) -> None:
    sources = resolve_sources([write(tmp_path / "a.jsonl", f'{{"text": "fine"}}\n{line}\n')])
    with pytest.raises(InputError, match=message):
        read_all(sources)


def test_jsonl_objects_without_words_are_no_documents(tmp_path: Path) -> None:
    text = '{"text": ""}\n\n{"text": " \\n "}\n{"text": "a\\n\\nb"}\n'
    assert read_all(resolve_sources([write(tmp_path / "a.jsonl", text)])) == [["a", "b"]]


# --- samples and real corpora --------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "rule", "num_documents"),
    [
        ("blank-lines.txt", "blank-lines", 6),
        ("chinese.txt", "blank-lines", 6),
        ("articles.jsonl", "lines", 6),
        ("folder", "files", 5),
    ],
)
def test_samples_are_understood(repository: Path, name: str, rule: str, num_documents: int) -> None:
    (source,) = resolve_sources([str(repository / "data" / "samples" / name)])
    assert source.documents == rule
    assert len(read_all([source])) == num_documents


@pytest.mark.parametrize(
    ("name", "rule", "num_documents"),
    [
        ("wikipedia-en/wikipedia-en-10mb.txt.gz", "blank-lines", 546),
        ("wikipedia-zh", "blank-lines", 7532),
        ("cluecorpus-zh", "blank-lines", 2500),
        ("wikitext-2", "titles", 122),
        ("wikipedia-en/wikiextractor-sample.xml", "titles", 72),
    ],
)
def test_real_corpus_is_understood(shared: Path, name: str, rule: str, num_documents: int) -> None:
    (source,) = resolve_sources([str(shared / "data" / name)])
    assert source.documents == rule
    assert len(read_all([source])) == num_documents


def test_every_novel_alone_is_one_document(shared: Path) -> None:
    novels = sorted((shared / "data" / "novels-en").glob("*.txt.gz"))
    rules = {source.documents for source in resolve_sources([str(path) for path in novels])}
    assert rules == {"files"}


def test_novels_are_joined_only_where_wrapped(shared: Path) -> None:
    (source,) = resolve_sources([str(shared / "data" / "novels-en" / "*_[AD]*_1859.txt.gz")])
    (adam_bede,) = read_all([source])
    sentence = "This is what I undertake to do for you, reader."
    assert any(sentence in paragraph for paragraph in adam_bede)
    assert "Thy daily stage of duty run;" in adam_bede
