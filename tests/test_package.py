"""Pins what is public, that importing it is cheap, and that imports go one way.
Runs anywhere: `pytest tests/test_package.py`."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import bert_scratch

# Each package may import those named here, and itself.
ALLOWED = {
    "data": set(),
    "model": set(),
    "checking": {"data", "model", "testing"},
    "inference": {"data", "model"},
    "training": {"model"},
    "pretraining": {"data", "model", "inference", "training"},
    "finetuning": {"data", "model", "inference", "training"},
    "views": {"data", "model", "inference", "training", "pretraining", "finetuning"},
}
BASE = {"config", "batch", "durable", "extras", "json_values", "output_places", "user_code"}
TORCH_FREE = (
    "corpus",
    "documentation",
    "encoding",
    "mixture",
    "normalisation",
    "segmenter",
    "sentences",
    "shard",
    "store",
    "vocabulary",
    "wordpiece",
)


def imported_modules(path: Path) -> set[str]:
    names = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    return names


def test_public_names_are_sorted_and_resolve() -> None:
    assert bert_scratch.__all__ == sorted(bert_scratch.__all__)
    for name in bert_scratch.__all__:
        assert getattr(bert_scratch, name) is not None


def test_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="BertModle"):
        _ = bert_scratch.BertModle


def test_importing_the_package_does_not_import_torch() -> None:
    code = "import sys, bert_scratch; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


@pytest.mark.parametrize("module", TORCH_FREE)
def test_text_modules_do_not_import_torch(module: str) -> None:
    code = f"import sys, bert_scratch.data.{module}; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


@pytest.mark.parametrize("package", sorted(ALLOWED))
def test_imports_go_one_way(package: str, repository: Path) -> None:
    wrong = []
    for path in sorted((repository / "bert_scratch" / package).rglob("*.py")):
        for name in imported_modules(path):
            parts = name.split(".")
            if parts[0] != "bert_scratch" or len(parts) < 2:
                continue
            if parts[1] not in ALLOWED[package] | BASE | {package}:
                wrong.append(f"{path.name} imports {name}")
    assert wrong == []


def test_base_modules_import_nothing_of_the_package(repository: Path) -> None:
    for name in BASE:
        modules = imported_modules(repository / "bert_scratch" / f"{name}.py")
        own = {module for module in modules if module.startswith("bert_scratch.")}
        assert {module.split(".")[1] for module in own} <= BASE


def test_the_map_of_the_code_names_every_module(repository: Path) -> None:
    named = (repository / "docs" / "architecture.md").read_text(encoding="utf-8")
    modules = {path.name for path in (repository / "bert_scratch").rglob("*.py")} - {"__init__.py"}
    assert [name for name in sorted(modules) if name not in named] == []
