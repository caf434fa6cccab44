"""The labelled sets that `usefulness.py` fine-tunes on: where they lie, and a draw of their rows.

A draw is written in the set's own format, so that every arm reads the same rows in its own way.
Every tenth row is set aside for choosing: `finetune` keeps the model that is best on these, and
the baselines, which choose by cross-validation, learn from all rows.
Evaluation uses the test file if it has labels, otherwise the dev file; nothing is chosen by it.
SQuAD's train file and CMRC's are not among the data: one fifth of SQuAD's dev articles is held
out, and CMRC is trained on its dev file and evaluated on its trial file.
"""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from bert_scratch.finetuning.benchmark_suite import METRICS

DRAW_SEED = 0
CHOSEN_BY = 10
"""One training row in this many is not learned from; it chooses among a run's models."""
HELD_OUT_ARTICLES = 5
"""One article in this many is held out, if a set has one file for both."""


@dataclass(frozen=True)
class LabelledSet:
    """A set as stored in the data folder."""

    name: str
    language: str
    task: str
    metric: str
    train: str
    evaluate: str
    kind: str
    """table (with a header), lines, sentences (separated by blank lines) or questions."""


def _glue(name: str, kind: str = "table") -> LabelledSet:
    metric = METRICS.get(name.lower(), "accuracy")
    files = (f"glue/{name}/train.tsv", f"glue/{name}/dev.tsv")
    return LabelledSet(name, "en", "classification", metric, *files, kind)


def _entities(name: str, language: str, train: str, evaluate: str, kind: str) -> LabelledSet:
    return LabelledSet(name, language, "token-classification", "f1", train, evaluate, kind)


def _questions(name: str, language: str, train: str, evaluate: str) -> LabelledSet:
    return LabelledSet(name, language, "question-answering", "f1", train, evaluate, "questions")


SETS = {
    each.name: each
    for each in (
        _glue("SST-2"),
        _glue("MRPC"),
        _glue("CoLA", "lines"),
        _entities("CoNLL-2003", "en", "conll2003/eng.train", "conll2003/eng.testb", "sentences"),
        _questions("SQuAD", "en", "squad-v1.1/dev-v1.1.json", "squad-v1.1/dev-v1.1.json"),
        LabelledSet(
            *("ChnSentiCorp", "zh", "classification", "accuracy"),
            *("chnsenticorp/train.tsv", "chnsenticorp/test.tsv", "table"),
        ),
        _entities("CLUENER", "zh", "cluener/train.json", "cluener/dev.json", "lines"),
        _entities(
            *("resume-ner", "zh", "resume-ner/train.char.bmes"),
            *("resume-ner/test.char.bmes", "sentences"),
        ),
        _questions("CMRC", "zh", "cmrc2018/cmrc2018_dev.json", "cmrc2018/cmrc2018_trial.json"),
    )
}


@dataclass(frozen=True)
class DrawnSet:
    """A set with a limited number of training rows, as files in the set's own format."""

    source: LabelledSet
    drawn: Path
    """All the rows to learn from."""
    train: Path
    """Nine of ten of the rows."""
    choose: Path
    """Every tenth row, which decides the best of a run's models."""
    evaluate: Path
    """The rows to evaluate on."""


def draw(source: LabelledSet, data: Path, folder: Path, max_rows: int) -> DrawnSet:
    """Write a draw of the training rows, and the rows to evaluate on.

    Args:
        source: the set.
        data: the folder of all sets.
        folder: folder for the files to be written.
        max_rows: most texts, sentences or questions; a smaller file is used whole.
    """
    folder.mkdir(parents=True, exist_ok=True)
    ending = Path(source.train).suffix
    names = ("drawn", "train", "choose", "eval")
    drawn = DrawnSet(source, *(folder / f"{name}{ending}" for name in names))
    train = (data / source.train).read_text(encoding="utf-8-sig")
    evaluate = (data / source.evaluate).read_text(encoding="utf-8-sig")
    if source.train == source.evaluate:
        train, evaluate = apart(train)
    cut = CUTS[source.kind](train)
    rows = some(cut.rows, max_rows)
    kept = [row for place, row in enumerate(rows) if place % CHOSEN_BY]
    drawn.drawn.write_text(cut.text(rows), encoding="utf-8")
    drawn.train.write_text(cut.text(kept), encoding="utf-8")
    drawn.choose.write_text(cut.text(rows[::CHOSEN_BY]), encoding="utf-8")
    drawn.evaluate.write_text(evaluate, encoding="utf-8")
    return drawn


def apart(text: str) -> tuple[str, str]:
    """Cut a file of questions in two, article by article."""
    articles = json.loads(text)["data"]
    held_out = articles[::HELD_OUT_ARTICLES]
    rest = [article for place, article in enumerate(articles) if place % HELD_OUT_ARTICLES]
    return json.dumps({"data": rest}), json.dumps({"data": held_out})


def some(rows: Sequence[str], max_rows: int) -> list[str]:
    """Return a draw of rows, always the same, in the order of the file."""
    places = range(len(rows))
    if len(rows) > max_rows:
        places = sorted(random.Random(DRAW_SEED).sample(places, max_rows))
    return [rows[place] for place in places]


@dataclass(frozen=True)
class Cut:
    """A file cut into rows."""

    rows: list[str]
    head: str = ""
    between: str = "\n"
    tail: str = "\n"

    def text(self, rows: Sequence[str]) -> str:
        """Return a file of some of the rows."""
        return self.head + self.between.join(rows) + self.tail


def cut_table(text: str) -> Cut:
    header, *rows = text.rstrip("\n").split("\n")
    return Cut(rows, head=header + "\n")


def cut_lines(text: str) -> Cut:
    return Cut(text.rstrip("\n").split("\n"))


def cut_sentences(text: str) -> Cut:
    blocks = text.replace("\r", "").strip("\n").split("\n\n")
    return Cut([block for block in blocks if block.strip()], between="\n\n")


def cut_questions(text: str) -> Cut:
    paragraphs = [p for article in json.loads(text)["data"] for p in article["paragraphs"]]
    rows = [
        json.dumps({"context": paragraph["context"], "qas": [question]}, ensure_ascii=False)
        for paragraph in paragraphs
        for question in paragraph["qas"]
    ]
    return Cut(rows, head='{"data": [{"paragraphs": [', between=", ", tail="]}]}\n")


CUTS: dict[str, Callable[[str], Cut]] = {
    "table": cut_table,
    "lines": cut_lines,
    "sentences": cut_sentences,
    "questions": cut_questions,
}
