"""The figures of usefulness are right: draws, baselines, sums, and what a second start skips.
Runs anywhere: `pytest tests/benchmarks/test_usefulness.py`."""

from __future__ import annotations

import argparse
import gzip
import json
import random
from pathlib import Path
from typing import Any

import pytest

from bert_scratch.finetuning.labelled_rows import read_labelled_texts
from bert_scratch.finetuning.questions import Question, read_questions
from bert_scratch.finetuning.tagged_text import read_tagged_texts
from bert_scratch.finetuning.task_settings import TaskSettings

GOOD, BAD, OTHERS = ("good", "fine"), ("bad", "poor"), ("a", "film", "plot", "the", "is", "very")


@pytest.fixture(scope="module")
def usefulness(repository: Path) -> Any:
    """The benchmarks, which find each other beside themselves as scripts do."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(repository / "benchmarks"))
        import cheap_baselines
        import usefulness
        import usefulness_sets

        yield argparse.Namespace(run=usefulness, sets=usefulness_sets, baselines=cheap_baselines)


def reviews(num_rows: int, seed: int) -> list[tuple[str, int]]:
    draw = random.Random(seed)
    rows = []
    for _ in range(num_rows):
        label = draw.randrange(2)
        words = [*draw.choices(OTHERS, k=5), draw.choice((BAD, GOOD)[label])]
        draw.shuffle(words)
        rows.append((" ".join(words), label))
    return rows


def write_reviews(path: Path, rows: list[tuple[str, int]]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("sentence\tlabel\n" + "".join(f"{text}\t{label}\n" for text, label in rows))
    return path


def cells_of(usefulness: Any, name: str, ours: list[float], others: list[float]) -> list[Any]:
    values = {"ours": ours, "cheap baseline": others[:1]}
    values |= {"random weights": others, "Hugging Face": others}
    return [
        {"set": name, "metric": "accuracy", "arm": arm, "seed": seed, "value": value}
        for arm in usefulness.run.ARMS
        for seed, value in enumerate(values[arm], start=1)
    ]


def test_a_gain_is_over_the_best_of_the_others_and_losses_are_named(
    usefulness: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    cells = cells_of(usefulness, "one", [0.80, 0.84], [0.70, 0.72])
    cells += cells_of(usefulness, "two", [0.50, 0.50], [0.56, 0.50])
    rows = usefulness.run.table(cells)
    assert [row["ours"] for row in rows] == ["82.0 ± 2.8", "50.0 ± 0.0"]
    assert [row["cheap baseline"] for row in rows] == ["70.0", "56.0"]
    assert [row["gain"] for row in rows] == pytest.approx([11.0, -6.0])
    options = argparse.Namespace(
        train_seconds=9.0, language="en", threads=1, max_train_rows=10, seeds=2, json=None
    )
    usefulness.run.report(options, cells)
    printed = capsys.readouterr().out
    assert "three others: +2.5" in printed and "lost: two by 6.0" in printed


def test_the_baseline_is_chosen_without_the_labels_it_is_measured_on(
    usefulness: Any, tmp_path: Path
) -> None:
    train = write_reviews(tmp_path / "train.tsv", reviews(60, 0))
    held_out = reviews(21, 1)
    flipped = [(text, 1 - label) for text, label in held_out]
    right, wrong = (
        usefulness.baselines.baseline("classification", "accuracy", train, file)
        for file in (
            write_reviews(tmp_path / "right.tsv", held_out),
            write_reviews(tmp_path / "wrong.tsv", flipped),
        )
    )
    assert right["choice"] == wrong["choice"]
    assert right["value"] == 1.0 and wrong["value"] == 0.0


def test_pairs_are_told_apart_by_what_they_share(usefulness: Any, tmp_path: Path) -> None:
    draw = random.Random(0)
    lines = ["text_a\ttext_b\tlabel"]
    for number in range(60):
        words = [f"w{draw.randrange(40)}" for _ in range(6)]
        other = draw.sample(words, 6) if number % 2 else [f"w{draw.randrange(40)}" for _ in words]
        lines.append(f"{' '.join(words)}\t{' '.join(other)}\t{number % 2}")
    file = tmp_path / "pairs.tsv"
    file.write_text("\n".join(lines) + "\n")
    assert usefulness.baselines.baseline("classification", "f1", file, file)["value"] > 0.9


def test_the_tagger_learns_entities_from_their_neighbours(usefulness: Any, tmp_path: Path) -> None:
    draw = random.Random(0)

    def columns(first_name: int) -> str:
        names = [f"Name{first_name + number}" for number in range(30)]
        return "".join(f"mr O\n{name} B-PER\n{draw.choice(OTHERS)} O\n\n" for name in names)

    train, held_out = tmp_path / "train.txt", tmp_path / "eval.txt"
    train.write_text(columns(0))
    held_out.write_text(columns(100))
    result = usefulness.baselines.baseline("token-classification", "f1", train, held_out)
    assert result["value"] == 1.0


def test_an_answer_is_near_the_words_of_the_question(usefulness: Any) -> None:
    question = Question(
        place="here",
        id="1",
        question="Who wrote Emma?",
        context="The town has a mill. The novel Emma was written, or wrote itself, by Jane Austen.",
    )
    rarity = {"the": 0.1, "a": 0.1, ".": 0.0, ",": 0.0, "was": 0.1, "has": 0.1}
    answer = usefulness.baselines.closest_words(question, rarity, 3.0, half=2)
    assert "Emma" not in answer and answer in question.context and "town" not in answer


@pytest.mark.parametrize(
    ("kind", "text", "task"),
    [
        ("table", "sentence\tlabel\n" + "good film\t1\nbad film\t0\n" * 5, "classification"),
        ("lines", "src\t1\t\tgood film\nsrc\t0\t*\tfilm good\n" * 5, "classification"),
        ("sentences", "Mr O\nX B-PER\n\nY B-PER\n\n" * 5, "token-classification"),
    ],
)
def test_a_draw_keeps_the_format_and_the_number_asked_for(
    usefulness: Any, tmp_path: Path, kind: str, text: str, task: str
) -> None:
    file = tmp_path / "drawn.tsv"
    cut = usefulness.sets.CUTS[kind](text)
    file.write_text(cut.text(usefulness.sets.some(cut.rows, 4)))
    read = read_labelled_texts if task == "classification" else read_tagged_texts
    assert len(read(str(file), TaskSettings(task=task), labels_needed=True)) == 4


def test_rows_that_choose_are_not_learned_from(usefulness: Any, tmp_path: Path) -> None:
    data = tmp_path / "data"
    write_reviews(data / "glue" / "SST-2" / "train.tsv", reviews(64, 0))
    write_reviews(data / "glue" / "SST-2" / "dev.tsv", reviews(20, 1))
    drawn = usefulness.sets.draw(usefulness.sets.SETS["SST-2"], data, tmp_path / "drawn", 40)
    lines = {
        name: getattr(drawn, name).read_text().splitlines()
        for name in ("drawn", "train", "choose", "evaluate")
    }
    counts = {"drawn": 40, "train": 36, "choose": 4, "evaluate": 20}
    assert {name: len(found) - 1 for name, found in lines.items()} == counts
    assert sorted(lines["train"][1:] + lines["choose"][1:]) == sorted(lines["drawn"][1:])
    assert (data / "glue" / "SST-2" / "dev.tsv").read_text() == drawn.evaluate.read_text()


def test_no_article_is_both_learned_from_and_asked_about(usefulness: Any, tmp_path: Path) -> None:
    def paragraph(name: str) -> dict[str, Any]:
        asked = {"id": name, "question": "Who?", "answers": [{"text": name, "answer_start": 0}]}
        return {"context": f"{name} did it.", "qas": [asked]}

    articles = [{"paragraphs": [paragraph(f"n{number}")]} for number in range(10)]
    parts = usefulness.sets.apart(json.dumps({"data": articles}))
    names = []
    for part in parts:
        cut = usefulness.sets.cut_questions(part)
        (tmp_path / "part.json").write_text(cut.text(cut.rows))
        found = read_questions(str(tmp_path / "part.json"), labels_needed=True)
        names.append({question.id for question in found})
    assert [len(part) for part in names] == [8, 2] and not names[0] & names[1]


@pytest.fixture
def options(tmp_path: Path) -> argparse.Namespace:
    """Asks for one small set and a corpus that is read in a moment."""
    data = tmp_path / "data"
    write_reviews(data / "glue" / "SST-2" / "train.tsv", reviews(64, 0))
    write_reviews(data / "glue" / "SST-2" / "dev.tsv", reviews(20, 1))
    draw = random.Random(2)
    lines = [" ".join(draw.choices([*OTHERS, *GOOD, *BAD], k=9)) + "." for _ in range(4000)]
    text = "\n".join(line + "\n" * (number % 8 == 7) for number, line in enumerate(lines))
    (data / "wikipedia-en").mkdir()
    packed = data / "wikipedia-en" / "wikipedia-en-60mb.txt.gz"
    packed.write_bytes(gzip.compress(text.encode()))
    return argparse.Namespace(
        data=str(data),
        train_seconds=2.0,
        language="en",
        sets=["SST-2"],
        seeds=1,
        max_train_rows=48,
        threads=1,
    )


@pytest.mark.slow
def test_a_second_start_runs_only_the_cells_that_are_missing(
    usefulness: Any, options: argparse.Namespace, tmp_path: Path
) -> None:
    cells = usefulness.run.run_cells(options, tmp_path / "work")
    assert [cell["arm"] for cell in cells] == list(usefulness.run.ARMS)
    assert all(0 <= cell["value"] <= 1 for cell in cells)
    file = tmp_path / "work" / "cells.jsonl"
    lines = file.read_text().splitlines()
    model = tmp_path / "work" / "en-2s" / "hugging-face" / "model.safetensors"
    written_at = model.stat().st_mtime_ns
    file.write_text("\n".join([lines[0], *lines[2:]]) + "\n")
    assert usefulness.run.run_cells(options, tmp_path / "work") == cells
    assert file.read_text().splitlines() == [lines[0], *lines[2:], lines[1]]
    assert model.stat().st_mtime_ns == written_at
