"""No command writes over the file that it reads.
Runs anywhere: `pytest tests/test_output_places.py`."""

from __future__ import annotations

from pathlib import Path

import pytest

from bert_scratch import cli
from bert_scratch.config import InputError
from bert_scratch.output_places import make_place_for


def test_the_input_is_no_place_to_write_to_by_any_path(tmp_path: Path) -> None:
    source = tmp_path / "a.jsonl"
    source.write_text("{}\n")
    (tmp_path / "link.jsonl").symlink_to(source)
    for name in ("a.jsonl", "link.jsonl"):
        with pytest.raises(InputError, match=r"is the file of --input, which would be overwritten"):
            make_place_for(tmp_path / name, source=str(source))
    make_place_for(tmp_path / "b.jsonl", source=str(source))
    make_place_for(source)
    make_place_for(source, source="-")


@pytest.mark.parametrize(
    ("command", "flag"),
    [
        ("corpus-report", "--corpus"),
        ("mlm-report", "--text"),
        ("probe", "--train-file"),
        ("probe", "--eval-file"),
    ],
)
def test_pages_leave_the_file_that_they_are_about_as_it_is(
    command: str, flag: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("matplotlib")
    file, other = tmp_path / "a.txt", str(tmp_path / "b.txt")
    file.write_text("a film\n")
    needed = {"mlm-report": ["--model", other]}
    needed["probe"] = ["--model", other, "--train-file", other]
    flags = [*needed.get(command, []), flag, str(file), "--output-html", str(file)]
    assert cli.main([command, *flags]) == 2
    error = capsys.readouterr().err
    assert f"--output-html {file}: is the file of {flag}, which would be overwritten" in error
    assert file.read_text() == "a film\n"


@pytest.mark.parametrize("command", ["predict", "embed", "word-vectors"])
def test_commands_that_read_and_write_a_file_leave_it_as_it_is(
    command: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "a.jsonl"
    file.write_text('{"text": "a film"}\n')
    flags = ["--model", str(tmp_path), "--input", str(file), "--output", str(file)]
    assert cli.main([command, *flags]) == 2
    assert "is the file of --input" in capsys.readouterr().err
    assert file.read_text() == '{"text": "a film"}\n'
