"""Pins that a plan is what pretraining then does, its verdicts and its errors.

Run alone: pytest tests/pretraining/test_plan.py.
"""

from __future__ import annotations

import json
import random
import re
from pathlib import Path

import pytest

from bert_scratch.cli import main
from bert_scratch.config import InputError
from bert_scratch.pretraining.plan import PlanConfig, PretrainPlan, describe_plan, plan
from bert_scratch.pretraining.plan_outlook import run_duration_s
from bert_scratch.pretraining.pretrain import pretrain
from bert_scratch.pretraining.pretrain_config import PretrainConfig

WORDS = "river stone cloud meadow winter lantern harbour copper silver orchard".split()


def made_documents(num_documents: int, num_sentences: int) -> list[list[str]]:
    """Return documents of which no sentence comes twice."""
    draw = random.Random(3)
    return [
        [
            f"The {' '.join(draw.choices(WORDS, k=9))} has number {document} {sentence}."
            for sentence in range(num_sentences)
        ]
        for document in range(num_documents)
    ]


def write(path: Path, documents: list[list[str]]) -> Path:
    path.write_text("\n\n".join("\n".join(lines) for lines in documents) + "\n", encoding="utf-8")
    return path


def plan_for(path: Path, **settings: object) -> PretrainPlan:
    given = {"documents": "blank-lines", "sentences": "lines", "num_threads": 1, **settings}
    return plan(PlanConfig(corpus=(str(path),), **given))


def lines_of(text: str, *beginnings: str) -> list[str]:
    return [line for line in text.splitlines() if line.startswith(beginnings)]


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """300 documents of 70 sentences: enough to train on; not to be changed."""
    return write(tmp_path_factory.mktemp("text") / "corpus.txt", made_documents(300, 70))


@pytest.fixture(scope="module")
def made(corpus: Path) -> PretrainPlan:
    return plan_for(corpus)


def test_plan_says_what_pretrain_then_announces(
    corpus: Path, made: PretrainPlan, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pretrain(
        PretrainConfig(
            corpus=(str(corpus),),
            documents="blank-lines",
            sentences="lines",
            num_threads=1,
            num_processes=1,
            output_dir=str(tmp_path / "run"),
            dry_run=True,
        )
    )
    announced, planned = capsys.readouterr().out, "\n".join(describe_plan(made))
    same = ("model ", "chosen     --", "verdict ")
    learned = "chosen     --vocab-size", "chosen     --eval-fraction"
    announced_lines = [x for x in lines_of(announced, *same) if not x.startswith(learned)]
    assert lines_of(planned, *same) == announced_lines
    assert lines_of(planned, "corpus ")[-1] == lines_of(announced, "corpus ")[-1]
    for beginning, pattern in (
        ("plan ", r"about ([\d,]+) steps"),
        ("plan ", r"([\d.]+) passes"),
        ("expected ", r"loss ([\d.]+) nats"),
    ):
        numbers = [
            float(re.search(pattern, lines_of(text, beginning)[0]).group(1).replace(",", ""))  # type: ignore[union-attr]
            for text in (planned, announced)
        ]
        assert numbers[0] == pytest.approx(numbers[1], rel=0.02)


def test_sound_corpus_is_to_be_trained_on(corpus: Path, made: PretrainPlan) -> None:
    assert made.outlook.verdict[0].startswith("train: ")
    assert made.command.startswith(f"bert-scratch pretrain --corpus {corpus} --documents blank")
    assert "--init-checkpoint" not in made.command
    names = [candidate.preset for candidate in made.candidates]
    assert made.config.preset == names[-2]
    assert made.disk_bytes > 4 * made.parameters and made.memory_bytes > 16 * made.parameters


def test_time_limit_is_kept_and_handed_on(corpus: Path) -> None:
    short = plan_for(corpus, max_train_seconds=30.0)
    assert short.outlook.duration_s == 30.0
    assert "--max-train-seconds 30" in short.command
    assert short.outlook.num_train_steps >= 1 and short.config.num_train_steps is None
    chosen, planned = lines_of("\n".join(describe_plan(short)), "chosen     --preset", "plan ")
    # the two counts of tokens differ, as the second is of the run's own batches
    assert "M tokens fit in the time by a first timing," in chosen
    assert planned.endswith(" on cpu, timed with these batches")


@pytest.mark.parametrize(
    ("limit", "steps", "duration_s"), [(60.0, None, 60.0), (60.0, 1000, 20.0), (None, 1000, 20.0)]
)
def test_a_run_takes_its_time_limit_only_where_the_steps_follow_from_it(
    limit: float | None, steps: int | None, duration_s: float
) -> None:
    asked = PretrainConfig(max_train_seconds=limit, num_train_steps=steps)
    assert run_duration_s(asked, 20.0) == duration_s


def test_ten_kilobytes_are_continued_from_an_existing_model(tmp_path: Path) -> None:
    small = plan_for(write(tmp_path / "small.txt", made_documents(20, 8)))
    assert small.outlook.verdict[0].startswith("too small: ")
    assert "--init-checkpoint google-bert/bert-base-multilingual-cased" in small.command


def test_chinese_is_continued_from_the_chinese_model(tmp_path: Path) -> None:
    documents = [[f"春天来了第{a}{b}朵花开在山上。" for b in range(8)] for a in range(20)]
    assert "bert-base-chinese" in plan_for(write(tmp_path / "zh.txt", documents)).command


def test_single_document_cannot_be_held_out(tmp_path: Path) -> None:
    single = plan_for(write(tmp_path / "one.txt", [["Only one here.", "And a second line."]]))
    assert single.outlook.verdict[0].startswith("too few documents: 1 for training")


def test_documents_of_one_sentence_are_trained_on_without_pairs(tmp_path: Path) -> None:
    lines = [[line] for lines in made_documents(30, 20) for line in lines]
    alone = plan_for(write(tmp_path / "lines.txt", lines))
    assert alone.config.pair_task == "none"
    assert alone.command.endswith("--pair-task none")


def test_json_is_one_object(corpus: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["plan", "--corpus", str(corpus), "--num-threads", "1", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["settings"]["preset"] == found["preset"]
    assert found["hours"] == found["duration_s"] / 3600
    assert 0 < found["expected_loss"] <= found["facts"]["unigram_entropy"]
    assert found["verdict"] and found["reasons"] and found["candidates"]


def test_corpus_is_needed_and_must_hold_text(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="plan needs --corpus"):
        PlanConfig()
    empty = tmp_path / "empty.txt"
    empty.write_text("\n\n", encoding="utf-8")
    with pytest.raises(InputError, match=r"empty\.txt"):
        plan_for(empty)
    with pytest.raises(InputError, match="--max-train-seconds must be"):
        PlanConfig(corpus=("x",), max_train_seconds=0.0)
