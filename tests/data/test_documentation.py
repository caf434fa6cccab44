"""Pins what the built-in corpus keeps of docstrings (sentences, in order, once) and what goes
(code, doctests, tables, formulas, types), and that building it is repeatable and imports nothing.

Run alone: pytest tests/data/test_documentation.py; -m slow builds the real one (some 12 s).
"""

from __future__ import annotations

import statistics
import subprocess
import sys
from pathlib import Path

import pytest

from bert_scratch.config import InputError
from bert_scratch.data import documentation
from bert_scratch.data.documentation import build_documentation_corpus, prose

NUMPYDOC = """
    Return the sum of all elements over a given axis.

    This is a longer explanation that is
    wrapped over two lines.

    Parameters
    ----------
    a : array_like
        Elements to sum over the axis.
    axis : None or int, optional
        Axis along which a sum is performed.

    Returns
    -------
    sum_along_axis : ndarray
        An array with the same shape as `a`.

    See Also
    --------
    ndarray.sum : Equivalent method.

    Notes
    -----
    Arithmetic is modular when using integer types [1]_.

    >>> np.sum([0.5, 1.5])
    2.0
    >>> print("This is the output of an example.")
    This is the output of an example.

    ========  ==========
    kind      is it used
    ========  ==========
    """

GOOGLE = """Applies a linear transformation to the incoming data.

    Args:
        in_features (int): size of each input sample that is given
        bias: If set to ``False``, the layer will not learn an additive bias.
            Default: ``True``

    Shape:
        - Input: :math:`(*, H_{in})` where :math:`*` means any number of dimensions.

    .. math::
        y = x A^T + b  and this is no sentence at all

    .. note:: The weights are initialised from :class:`~torch.nn.init` by default.

    Example::

        m = nn.Linear(20, 30)  # This is a comment in the code.
        output = m(input)

    See `the guide <https://example.com>`_ for **all** of the details.
    """


def test_numpydoc_keeps_prose_and_descriptions() -> None:
    assert prose(NUMPYDOC) == [
        "Return the sum of all elements over a given axis.",
        "This is a longer explanation that is wrapped over two lines.",
        "Elements to sum over the axis.",
        "Axis along which a sum is performed.",
        "An array with the same shape as a.",
        "Arithmetic is modular when using integer types.",
    ]


def test_google_style_keeps_prose_and_unwraps_markup() -> None:
    assert prose(GOOGLE) == [
        "Applies a linear transformation to the incoming data.",
        "Size of each input sample that is given.",
        "If set to False, the layer will not learn an additive bias.",
        "The weights are initialised from init by default.",
        "See the guide for all of the details.",
    ]


@pytest.mark.parametrize(
    "docstring",
    [
        "",
        "Linear(in_features, out_features, bias=True) -> Module",
        "foo = bar(baz); return foo[0] + 1 if x else y",
        "```\nThis is in a fence and so it goes.\n```",
        "Too short here.",
        "See::\n\n    This is a literal block and it goes.\n\nToo short.",
        "The value of {input} is put here by format.",
    ],
)
def test_what_is_no_prose_goes(docstring: str) -> None:
    assert prose(docstring) == []


def install(monkeypatch: pytest.MonkeyPatch, root: Path, files: dict[str, str]) -> None:
    """Stand a small package in for the installation."""
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text, encoding="utf-8")
    monkeypatch.setattr(documentation, "_packages", lambda: [("pkg", "1.0", root)])


def long_module(topic: str) -> str:
    sentences = [f"This is sentence number {n} of the text about {topic}." for n in range(60)]
    return '"""' + "\n\n".join(sentences) + '"""\n'


def test_module_is_a_document_with_its_members_in_order(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = '''"""This is the docstring of the module."""
class A:
    """This is the docstring of the class."""
    if True:
        def f(self):
            """This is the docstring of the method."""
def g():
    """This is the docstring of the function."""
add_docstr(h, r"""This is the docstring of the builtin {name}.

Its sentences without a name to fill in stay.""".format(name="h"))
assert False, "This file is read and never run."
'''
    install(monkeypatch, tmp_path / "pkg", {"a.py": source})
    names = ("module", "class", "method", "function")
    expected = [f"This is the docstring of the {name}." for name in names]
    expected.append("Its sentences without a name to fill in stay.")
    text = build_documentation_corpus(tmp_path / "cache").read_text(encoding="utf-8")
    assert text == "\n".join(expected) + "\n\n"


def test_sentences_come_once_and_small_modules_are_put_together(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = {
        "a.py": '"""This is the text of a small module."""',
        "b.py": '"""This is the text of a small module.\n\nThis is the text of another one."""',
        "c.py": long_module("cats"),
        "d.py": long_module("dogs"),
        "sub/e.py": long_module("elks"),
        "tests/f.py": long_module("tests"),
        "broken.py": "def (",
    }
    install(monkeypatch, tmp_path / "pkg", files)
    text = build_documentation_corpus(tmp_path / "cache").read_text(encoding="utf-8")
    documents = [document.split("\n") for document in text.strip().split("\n\n")]
    assert [len(document) for document in documents] == [62, 60, 60]
    assert documents[0][:2] == [
        "This is the text of a small module.",
        "This is the text of another one.",
    ]
    assert "tests" not in text


def test_corpus_is_cached_and_repeatable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    install(monkeypatch, tmp_path / "pkg", {"a.py": long_module("cats")})
    first = build_documentation_corpus(tmp_path / "one")
    second = build_documentation_corpus(tmp_path / "two")
    assert first.name.endswith("-pkg1.0.txt")
    assert first.read_bytes() == second.read_bytes()
    first.write_text("cached")
    assert build_documentation_corpus(tmp_path / "one").read_text() == "cached"
    assert [path.name for path in first.parent.iterdir()] == [first.name]


def test_installation_without_docstrings_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    install(monkeypatch, tmp_path / "pkg", {"a.py": "x = 1"})
    with pytest.raises(InputError, match="--corpus"):
        build_documentation_corpus(tmp_path / "cache")
    assert list((tmp_path / "cache").iterdir()) == []


@pytest.mark.slow
def test_real_corpus_is_large_clean_and_built_without_importing_torch(tmp_path: Path) -> None:
    program = (
        "import sys; from pathlib import Path\n"
        "from bert_scratch.data.documentation import build_documentation_corpus\n"
        f"print(build_documentation_corpus(Path({str(tmp_path)!r})))\n"
        "assert 'torch' not in sys.modules and 'numpy' not in sys.modules"
    )
    result = subprocess.run(
        [sys.executable, "-c", program], check=True, capture_output=True, text=True
    )
    text = Path(result.stdout.strip()).read_text(encoding="utf-8")
    documents = [document.split("\n") for document in text.strip().split("\n\n")]
    sentences = [sentence for document in documents for sentence in document]
    assert len(text.encode()) > 4_000_000
    assert len(documents) > 800
    assert statistics.median(map(len, documents)) >= 15
    assert len(sentences) == len(set(sentences))
    assert sum(">>>" in s or "::" in s for s in sentences) < 0.002 * len(sentences)
