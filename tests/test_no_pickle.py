"""Pins that no code of the package opens a pickle or runs text, but for the one reader of old
weights. Runs anywhere: `pytest tests/test_no_pickle.py`.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

MODULES = {"pickle", "cPickle", "_pickle", "dill", "cloudpickle", "joblib", "shelve", "marshal"}
CALLS = {"eval", "exec", "compile", "__import__"}
ATTRIBUTES = {("torch", "load"), ("torch", "save"), ("torch.serialization", "load")}
ALLOWED = {"bert_scratch/model/legacy.py": ["torch.load"]}


def uses(tree: ast.AST) -> Iterator[str]:
    """Yield each forbidden thing that a module does."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (a.name for a in node.names if a.name.split(".")[0] in MODULES)
        elif isinstance(node, ast.ImportFrom):
            module = node.module or ""
            names = [alias.name for alias in node.names]
            yield from (module for _ in names if module.split(".")[0] in MODULES)
            yield from (f"{module}.{n}" for n in names if (module, n) in ATTRIBUTES)
        elif isinstance(node, ast.Attribute) and (ast.unparse(node.value), node.attr) in ATTRIBUTES:
            yield ast.unparse(node)
        elif isinstance(node, ast.Call):
            if isinstance(node.func, ast.Name) and node.func.id in CALLS:
                yield node.func.id
            yield from (
                k.arg for k in node.keywords if k.arg in ("allow_pickle", "trust_remote_code")
            )


def sources(repository: Path) -> list[Path]:
    folders = [repository / name for name in ("bert_scratch", "benchmarks", "examples")]
    return [repository / "pretrain.py", *(p for f in folders for p in sorted(f.rglob("*.py")))]


def test_nothing_opens_a_pickle_but_the_legacy_reader(repository: Path) -> None:
    found = {}
    for path in sources(repository):
        used = list(uses(ast.parse(path.read_text(encoding="utf-8"))))
        if used:
            found[path.relative_to(repository).as_posix()] = used
    assert found == ALLOWED


def test_the_legacy_reader_restricts_what_it_opens(repository: Path) -> None:
    tree = ast.parse((repository / "bert_scratch/model/legacy.py").read_text(encoding="utf-8"))
    loads = [
        node
        for node in ast.walk(tree)
        if isinstance(node, ast.Call) and ast.unparse(node.func) == "torch.load"
    ]
    assert len(loads) == 1
    assert "weights_only=True" in [ast.unparse(keyword) for keyword in loads[0].keywords]


@pytest.mark.parametrize(
    "code",
    ["import pickle", "from pickle import loads", "import torch\ntorch.load(f)", "eval(x)",
     "from torch import save", "np.load(f, allow_pickle=True)", "exec('1')"],
)  # fmt: skip
def test_the_search_finds(code: str) -> None:
    assert list(uses(ast.parse(code)))
